"""What one caller may add to a server within an hour.

A caller is whoever says so: the metadata key `panelhue-caller`, or else the host that the call comes from. That keeps
one user's mistake from filling the disk for the others. It is no security boundary: nothing stops a client from using
another name.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from serving.errors import Overloaded, QuotaViolation

CALLER_KEY = "panelhue-caller"
MAX_CALLER_BYTES = 128  # of a caller's name; what is beyond is cut off
WINDOW_SECONDS = 3600
STEP_SECONDS = 60  # what is added within one is forgotten together, at the latest this long after its hour
MAX_CALLERS = 10_000  # that are remembered; the least recently seen is forgotten, and begins anew


def caller_of(metadata: Iterable[tuple[str, str | bytes]], peer: str) -> str:
    """The name of a call's caller.

    Args:
        metadata: the call's.
        peer: as gRPC gives it, such as "ipv4:10.0.0.7:51234" or "ipv6:%5B::1%5D:51234".
    """
    for key, value in metadata:
        if key == CALLER_KEY and value:
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            return text.encode()[:MAX_CALLER_BYTES].decode(errors="ignore")
    kind, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer


@dataclass
class _Step:
    """What a caller added within one step."""

    number: int  # of the step, since the clock's zero
    references: int = 0
    bytes: int = 0


@dataclass
class _Use:
    """What a caller added within the hour."""

    steps: deque[_Step] = field(default_factory=deque)  # oldest first; at most 61
    references: int = 0
    bytes: int = 0

    def forget(self, before: int) -> None:
        while self.steps and self.steps[0].number < before:
            step = self.steps.popleft()
            self.references -= step.references
            self.bytes -= step.bytes

    def add(self, number: int, references: int, size: int) -> None:
        if not self.steps or self.steps[-1].number != number:
            self.steps.append(_Step(number))
        self.steps[-1].references += references
        self.steps[-1].bytes += size
        self.references += references
        self.bytes += size


class CallerQuotas:
    """Counts what callers add, and refuses what is beyond. Used by one thread.

    Args:
        max_references: that one caller may add within an hour; 0: no limit.
        max_bytes: of their files; 0: no limit.
        clock: seconds, never going back.
        max_callers: that are remembered.
    """

    def __init__(
        self,
        max_references: int,
        max_bytes: int,
        *,
        clock: Callable[[], float],
        max_callers: int = MAX_CALLERS,
    ) -> None:
        self._max_references, self._max_bytes = max_references, max_bytes
        self._clock, self._max_callers = clock, max_callers
        self._uses: OrderedDict[str, _Use] = OrderedDict()  # least recently seen first

    @property
    def callers(self) -> int:
        """How many are remembered."""
        return len(self._uses)

    @property
    def limited(self) -> bool:
        """Whether there is a quota at all."""
        return bool(self._max_references or self._max_bytes)

    def check(self, caller: str, references: int, size: int) -> None:
        """Returns and counts if the caller may add this; what was refused is not counted.

        Args:
            caller: as `caller_of` names it.
            references: how many it adds.
            size: bytes of their files.

        Raises:
            Overloaded: QUOTA_EXCEEDED, with the quotas that it would pass, and when there will be room.
        """
        if not self.limited:
            return
        now = int(self._clock() // STEP_SECONDS)
        use = self._seen(caller)
        use.forget(now - WINDOW_SECONDS // STEP_SECONDS)
        violations = [
            QuotaViolation(
                f"caller:{caller}", f"at most {limit} {what} are added within an hour, got {used} and {more} more"
            )
            for what, limit, used, more in (
                ("references", self._max_references, use.references, references),
                ("bytes", self._max_bytes, use.bytes, size),
            )
            if limit and used + more > limit
        ]
        if violations:
            raise Overloaded(
                "; ".join(one.description for one in violations),
                reason="QUOTA_EXCEEDED",
                retry_after=self._wait(use, references, size),
                quota=violations,
            )
        use.add(now, references, size)

    def give_back(self, caller: str, references: int, size: int) -> None:
        """Takes back what was counted of something that was not added after all."""
        use = self._uses.get(caller)
        for step in reversed(use.steps if use else ()):
            assert use is not None  # it has steps
            fewer, smaller = min(references, step.references), min(size, step.bytes)
            step.references, step.bytes = step.references - fewer, step.bytes - smaller
            use.references, use.bytes = use.references - fewer, use.bytes - smaller
            references, size = references - fewer, size - smaller

    def _seen(self, caller: str) -> _Use:
        use = self._uses.setdefault(caller, _Use())
        self._uses.move_to_end(caller)
        if len(self._uses) > self._max_callers:
            self._uses.popitem(last=False)
        return use

    def _wait(self, use: _Use, references: int, size: int) -> float | None:
        """Seconds until enough is forgotten; None if that will never be, since it is too much by itself."""
        most_references, most_bytes = self._max_references or math.inf, self._max_bytes or math.inf
        if references > most_references or size > most_bytes:
            return None
        used_references, used_bytes = use.references, use.bytes
        for step in use.steps:
            used_references, used_bytes = used_references - step.references, used_bytes - step.bytes
            if used_references + references <= most_references and used_bytes + size <= most_bytes:
                over = (step.number + 1) * STEP_SECONDS + WINDOW_SECONDS
                return max(1.0, float(over - self._clock()))
        raise AssertionError("everything is forgotten, and there is still no room")
