"""Every error that Panelhue raises on purpose.

    ServiceError
    ├── InvalidInput            the request itself is wrong; fix it
    │   └── ShapeMismatch       an array has another shape than the series or back-end needs
    ├── NotFound                no such series, reference, back-end
    ├── AlreadyExists           the name is taken
    ├── FailedState             right request, wrong moment; change something first
    ├── Conflict                somebody else changed it in between; read again, then retry
    ├── Overloaded              a queue, a map or a quota is full; back off or make room
    ├── Unavailable             not ready yet, or gone for a moment; retry
    ├── CorruptData             what is stored does not match its checksum; restore
    ├── Unauthenticated         no token, or a wrong one
    ├── Denied                  the token does not allow this
    ├── Timeout                 a page or an idle stream took longer than its limit
    └── Cancelled               the caller has gone; stop within one step

Choose by what the caller should do next, not by where it failed. `serving.status` maps each to a gRPC status;
this module imports nothing, so that engines can raise without knowing the wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """One field of a request that is wrong."""

    field: str  # path in the request message, such as "series.display_name"
    description: str  # a sentence that states expected and actual


@dataclass(frozen=True)
class QuotaViolation:
    """One quota that a request would pass."""

    subject: str  # what the quota holds for, such as "series:blue"
    description: str  # a sentence that states the quota and what was asked for


class ServiceError(Exception):
    """Any failure that a caller can be told about.

    Args:
        message: one sentence stating expected and actual; it travels to the caller.
        reason: stable UPPER_SNAKE_CASE name for programs to branch on; the class's own when None.
        violations: the request's wrong fields, each with its own sentence.
        retry_after: seconds after which a retry makes sense; None says nothing about it.
        metadata: short facts for programs, such as {"expected": "512", "actual": "768"}.
    """

    default_reason = "ERROR"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})


class InvalidInput(ServiceError):
    """The request is wrong in itself; sending it again cannot help."""

    default_reason = "INVALID_INPUT"


class ShapeMismatch(InvalidInput):
    """An array has another shape than is needed."""

    default_reason = "SHAPE_MISMATCH"


class NotFound(ServiceError):
    """What the request names does not exist."""

    default_reason = "NOT_FOUND"


class AlreadyExists(ServiceError):
    """What the request would create exists."""

    default_reason = "ALREADY_EXISTS"


class FailedState(ServiceError):
    """The system is in a state in which this cannot be done; change that first."""

    default_reason = "FAILED_STATE"


class Conflict(ServiceError):
    """Another change came in between; read again, then retry."""

    default_reason = "CONFLICT"


class Overloaded(ServiceError):
    """A bounded resource is full; back off for `retry_after` seconds, or make room.

    Args:
        message, reason, violations, retry_after, metadata: as `ServiceError`.
        quota: the quotas that are used up, each with its own sentence.
    """

    default_reason = "OVERLOADED"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
        metadata: dict[str, str] | None = None,
        quota: Sequence[QuotaViolation] = (),
    ) -> None:
        super().__init__(message, reason=reason, violations=violations, retry_after=retry_after, metadata=metadata)
        self.quota = tuple(quota)


class Unavailable(ServiceError):
    """Not ready yet, or gone for a moment; retry."""

    default_reason = "UNAVAILABLE"


class CorruptData(ServiceError):
    """Stored data does not match its checksum."""

    default_reason = "CORRUPT_DATA"


class Unauthenticated(ServiceError):
    """The call carries no valid token."""

    default_reason = "UNAUTHENTICATED"


class Denied(ServiceError):
    """The call's token does not allow this."""

    default_reason = "DENIED"


class Timeout(ServiceError):
    """A page, or a silent stream, took longer than its limit."""

    default_reason = "TIMEOUT"


class Cancelled(ServiceError):
    """The caller has gone, or asked to stop."""

    default_reason = "CANCELLED"
