"""When a failed call is made again, and after which pause."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from panelhue.errors import Conflict, Overloaded, PanelhueError, Unavailable, Unreachable, UsageError

log = logging.getLogger("panelhue.client")


@dataclass(frozen=True)
class Retrying:
    """A call has failed and will be made again; what a hook is told."""

    method: str  # such as "GetSeries"
    target: str  # the server's address
    attempt: int  # the one that failed, from 1; from 1 again whenever a stream has got on since
    attempts: int  # as many will be made at most
    seconds: float  # the pause before the next one
    error: PanelhueError
    waiting: int = 0  # of a stream: pictures taken from the caller and not answered yet, which are sent again


@dataclass(frozen=True)
class Retry:
    """How often, and after which pauses, a call that failed for the moment is made again.

    A pause lies between half of its bound and the bound, at random, so that many clients do not come back together.
    The bound is `first` seconds and grows by `factor` up to `most`. Where the server says how long to wait (RetryInfo),
    the pause is never shorter: what it says, and up to half a bound more. Nobody waits in vain: if the pause would end
    after `within` or after the call's deadline, the failure is raised at once.

    Made again is only what may be: see docs/CLIENT.md. A stream goes on with the pictures that have no answer yet, and
    starts to count anew whenever one has come.

    Raises:
        UsageError: a number makes no sense.
    """

    attempts: int = 5  # of one call, the first included, at least 1
    first: float = 0.2  # seconds, at least 0
    most: float = 10.0  # seconds, at least `first`
    factor: float = 2.0  # at least 1
    within: float | None = 60.0  # seconds from the first failure to the last attempt; None: no such bound
    on_retry: Callable[[Retrying], None] | None = field(default=None, repr=False, compare=False)  # may raise to give up

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise UsageError(f"attempts must be at least 1, got {self.attempts}")
        if not 0 <= self.first <= self.most < float("inf"):
            raise UsageError(f"pauses must be 0 <= first <= most, in seconds, got {self.first} and {self.most}")
        if not 1 <= self.factor < float("inf"):
            raise UsageError(f"factor must be at least 1, got {self.factor}")
        if self.within is not None and not self.within >= 0:
            raise UsageError(f"within must be at least 0 seconds, or None, got {self.within}")

    @classmethod
    def none(cls) -> Retry:
        """Every failure is raised at once."""
        return cls(attempts=1)

    def bound(self, attempt: int) -> float:
        """The longest pause after the given attempt (from 1) where the server names none, seconds."""
        bound = self.first
        for _ in range(attempt - 1):
            if bound == 0 or bound >= self.most or self.factor == 1:
                break
            bound *= self.factor
        return min(bound, self.most)

    def pause(self, attempt: int, told: float | None, chance: float) -> float:
        """Seconds to wait after a failed attempt.

        Args:
            attempt: which one it was, from 1.
            told: what the server says, seconds; None: nothing.
            chance: a random number in [0, 1].
        """
        half = self.bound(attempt) / 2
        return (half if told is None else max(0.0, told)) + half * chance


def may_pass(error: PanelhueError, repeatable: bool) -> bool:
    """Whether the same call may succeed in a while, and may be made again.

    Args:
        error: of the call.
        repeatable: whether making it twice is the same as making it once. If not, only a call that the server itself
            has refused, saying when to come back, is made again: then nothing was done.
    """
    told = error.retry_after is not None
    if isinstance(error, Unavailable):
        return repeatable or (told and not isinstance(error, Unreachable))
    return isinstance(error, Overloaded | Conflict) and told


class Tries:
    """The attempts at one call.

    Args:
        retry: how they are made.
        method: for hooks and the log.
        target: likewise.
        timeout: seconds from now until the call's deadline; None: none.
        clock: monotonic seconds.
        chance: gives random numbers in [0, 1).
    """

    def __init__(
        self,
        retry: Retry,
        method: str,
        target: str,
        timeout: float | None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._retry, self._method, self._target = retry, method, target
        self._clock, self._chance = clock, chance
        self._deadline = None if timeout is None else clock() + timeout
        self._failed = 0
        self._since: float | None = None  # the first failure of this row of them

    @property
    def remaining(self) -> float | None:
        """Seconds until the call's deadline, at least 0; None: there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - self._clock())

    def progressed(self) -> None:
        """The stream has got on: attempts are counted from here."""
        self._failed, self._since = 0, None

    def pause(self, error: PanelhueError, repeatable: bool, waiting: int = 0) -> float | None:
        """Seconds to wait before the next attempt; None: there is none. Tells the hook and the log.

        Args:
            error: of this attempt.
            repeatable: see `may_pass`.
            waiting: see `Retrying`.
        """
        now, retry = self._clock(), self._retry
        self._failed += 1
        self._since = now if self._since is None else self._since
        if self._failed >= retry.attempts or not may_pass(error, repeatable):
            return None
        seconds = retry.pause(self._failed, error.retry_after, self._chance())
        late = retry.within is not None and now + seconds > self._since + retry.within
        if late or (self._deadline is not None and now + seconds >= self._deadline):
            return None
        told = Retrying(self._method, self._target, self._failed, retry.attempts, seconds, error, waiting)
        log.info(
            "%s at %s failed (%s: %s); attempt %d of %d in %.2f s",
            *(told.method, told.target, error.reason, error.message, told.attempt + 1, told.attempts, told.seconds),
        )
        if retry.on_retry is not None:
            retry.on_retry(told)
        return seconds
