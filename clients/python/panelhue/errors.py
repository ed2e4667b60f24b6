"""Every error that the client raises.

PanelhueError
├── UsageError              an argument makes no sense; nothing was sent
├── BookError               a book, archive or page file cannot be used
├── Disagreement            the server's messages contradict the contract
└── ServerError             a server answered with an error status
    ├── InvalidInput        fix the request; `violations` says where
    ├── NotFound            no such series, reference or back-end
    ├── AlreadyExists       the name is taken
    ├── FailedState         change something first
    ├── Conflict            read again, then retry
    ├── Overloaded          wait `retry_after` seconds, then retry
    ├── Unavailable         starting or draining; retry
    │   └── Unreachable     nobody answers at the address
    ├── CorruptData         restore
    ├── Unauthenticated     give a token
    ├── Denied              get the right
    ├── Timeout             the deadline has passed
    ├── Cancelled           the call was cancelled
    └── Internal            the server's own mistake; its log has the text
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc

DOMAIN = "panelhue"


@dataclass(frozen=True)
class Violation:
    """One field of a request that is wrong."""

    field: str  # path in the request message
    description: str  # a sentence that states expected and actual


@dataclass(frozen=True)
class QuotaViolation:
    """One quota that a request would pass."""

    subject: str  # what the quota holds for, such as "series:blue"
    description: str  # a sentence that states the quota and what was asked for


class PanelhueError(Exception):
    """Any failure that this package raises on purpose.

    Args:
        message: one sentence for people.
        reason: stable UPPER_SNAKE_CASE name for programs to branch on.
        metadata: short facts for programs.
        violations: the request's wrong fields.
        retry_after: seconds after which a retry makes sense; None says nothing about it.
        quota: the quotas that are used up.
    """

    default_reason = "ERROR"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
        quota: Sequence[QuotaViolation] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.quota = tuple(quota)

    def explained(self) -> str:
        """The message, then each violation, of the request or of a quota, on a line of its own; nothing twice."""
        said = [f"{one.field}: {one.description}" for one in self.violations]
        said += [f"{one.subject}: {one.description}" for one in self.quota]
        return "\n".join([self.message, *(f"  {one}" for one in said if one != self.message)])


class UsageError(PanelhueError):
    """An argument makes no sense; nothing was sent."""

    default_reason = "USAGE"


class BookError(PanelhueError):
    """A book, archive or page file cannot be used."""

    default_reason = "BOOK_UNREADABLE"


class Disagreement(PanelhueError):
    """The server's messages contradict the contract, such as a picture with other bytes than announced."""

    default_reason = "CONTRACT_BROKEN"


class ServerError(PanelhueError):
    """A server answered with an error status."""


class InvalidInput(ServerError):
    """The request is wrong in itself."""


class NotFound(ServerError):
    """What the request names does not exist."""


class AlreadyExists(ServerError):
    """What the request would create exists."""


class FailedState(ServerError):
    """Right request, wrong moment."""


class Conflict(ServerError):
    """Somebody else changed it in between."""


class Overloaded(ServerError):
    """A queue, a map or a quota is full."""


class Unavailable(ServerError):
    """The server is starting, draining, or gone for a moment."""


class Unreachable(Unavailable):
    """Nobody answers at the address."""

    default_reason = "UNREACHABLE"


class CorruptData(ServerError):
    """What is stored does not match its checksum."""


class Unauthenticated(ServerError):
    """The call carries no valid token."""


class Denied(ServerError):
    """The token does not allow this."""


class Timeout(ServerError):
    """The deadline, a page's limit or the server's idle limit has passed."""


class Cancelled(ServerError):
    """The call was cancelled."""


class Internal(ServerError):
    """The server's own mistake."""


BY_STATUS: Mapping[str, type[ServerError]] = {
    "INVALID_ARGUMENT": InvalidInput,
    "OUT_OF_RANGE": InvalidInput,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": AlreadyExists,
    "FAILED_PRECONDITION": FailedState,
    "ABORTED": Conflict,
    "RESOURCE_EXHAUSTED": Overloaded,
    "UNAVAILABLE": Unavailable,
    "DATA_LOSS": CorruptData,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": Denied,
    "DEADLINE_EXCEEDED": Timeout,
    "CANCELLED": Cancelled,
}

_CODE_NAMES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


def status_name(code: int) -> str:
    """Name of a google.rpc.Code, such as "NOT_FOUND" for 5; "UNKNOWN" for a number that it does not have."""
    return _CODE_NAMES[code] if 0 <= code < len(_CODE_NAMES) else "UNKNOWN"


def of_status(status: str, message: str, **more: Any) -> ServerError:
    """The error for a status name; `more` are the fields of `PanelhueError`."""
    return BY_STATUS.get(status, Internal)(message, **{"reason": status, **more})


def of_rpc(error: grpc.RpcError, target: str) -> ServerError:
    """The error for a failed call, with what its google.rpc details tell.

    Args:
        error: as gRPC raised it.
        target: the address, for the message.
    """
    status = error.code().name if hasattr(error, "code") and error.code() is not None else "UNKNOWN"
    message = (error.details() if hasattr(error, "details") else None) or status
    details = _details(error)
    if status == "UNAVAILABLE" and "reason" not in details:
        return Unreachable(f"no Panelhue server answers at {target}: {message}", metadata={"target": target})
    return of_status(status, message, **details)


def _details(error: grpc.RpcError) -> dict[str, Any]:
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    try:
        status = rpc_status.from_call(error)
    except ValueError:  # the details disagree with the status: a proxy's work, not ours
        return {}
    found: dict[str, Any] = {}
    for packed in status.details if status is not None else ():
        info, request, retry, quota = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
            error_details_pb2.QuotaFailure(),
        )
        if packed.Unpack(info):
            found |= {"reason": info.reason, "metadata": dict(info.metadata)}
        elif packed.Unpack(request):
            found["violations"] = [Violation(one.field, one.description) for one in request.field_violations]
        elif packed.Unpack(retry):
            found["retry_after"] = retry.retry_delay.ToTimedelta().total_seconds()
        elif packed.Unpack(quota):
            found["quota"] = [QuotaViolation(one.subject, one.description) for one in quota.violations]
    return found
