"""Ways for pages: a pool that works on them, its bounded places, and one page's way through it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import structlog

from colorizer.backend import Card, Listing
from colorizer.tasks import (
    Accepted,
    Event,
    Held,
    Loading,
    PageOutcome,
    PageTask,
    Preview,
    Previewed,
    Progressed,
    Queued,
    Started,
    Stepped,
    Trouble,
)
from serving.errors import FailedState, Overloaded, ServiceError, Timeout, Unavailable

log = structlog.get_logger("panelhue.colorizer")


@runtime_checkable
class Pool(Protocol):
    """What works on pages: worker processes of this server, or a back-end in a process of its own."""

    @property
    def workers(self) -> int:
        """Pages that can be worked on at the same time."""
        ...

    async def run(
        self,
        request: PageTask,
        *,
        on_event: Callable[[Any], None] | None = None,
        on_position: Callable[[int], None] | None = None,
    ) -> Any:
        """The PageOutcome of a task; cancelling the caller stops the work.

        Args:
            request: the page.
            on_event: called with Started, Loading, Held, Trouble, Stepped and Preview, all of them before the outcome.
            on_position: called with the number of pages before this one, at least once.
        """
        ...


@runtime_checkable
class Remote(Pool, Protocol):
    """A pool that is one back-end out of process, and knows its card."""

    async def listing(self, *, wake: bool = False) -> Listing:
        """The card as it is known now; `wake` starts the process for a card that is not known yet."""
        ...

    async def card(self) -> Card:
        """The card for pages that are about to come.

        Raises:
            FailedState: BACKEND_UNAVAILABLE, until somebody changes something.
            Unavailable: BACKEND_UNAVAILABLE, for a moment.
        """
        ...


class Lane:
    """A pool and the places for its pages.

    Args:
        pool: works on the pages; it must take `queue` + its workers at a time.
        queue: pages that may wait.
    """

    def __init__(self, pool: Pool, queue: int) -> None:
        self.pool = pool
        self.capacity = pool.workers + queue
        self.taken = 0
        self._places = asyncio.Semaphore(self.capacity)
        self._usual_seconds = 2.0  # moving mean of a page

    @property
    def locked(self) -> bool:
        """Whether no place is free."""
        return self._places.locked()

    def full(self) -> Overloaded:
        """The refusal of one more page."""
        wait = min(60.0, max(1.0, self._usual_seconds * self.taken / self.pool.workers / 2))
        return Overloaded(
            f"the queue holds at most {self.capacity} pages, and is full; try again in {wait:.0f} s",
            reason="QUEUE_FULL",
            retry_after=wait,
        )

    async def take_place(self, seconds: float) -> None:
        """Waits for a place; give it back with `leave`.

        Raises:
            Overloaded: QUEUE_FULL, none became free within `seconds`; at once where that is 0.
        """
        if self._places.locked() and seconds <= 0:
            raise self.full()
        try:
            async with asyncio.timeout(seconds or None):
                await self._places.acquire()
        except TimeoutError:
            raise self.full() from None
        self.taken += 1

    def leave(self) -> None:
        """Gives a place back."""
        self.taken -= 1
        self._places.release()

    def took(self, seconds: float) -> None:
        """Learns how long a page took."""
        self._usual_seconds += 0.2 * (seconds - self._usual_seconds)


class Run:
    """One page's way through a pool.

    Args:
        tell: takes the events of the page.
        key: the page's.
        size: width, height, pixels; (0, 0) where they are not known.
        seconds: the longest that it may compute.
        load_seconds: the longest that a back-end may load for it.
    """

    def __init__(
        self, tell: Callable[[Event], None], key: str, size: tuple[int, int], seconds: float, load_seconds: float
    ) -> None:
        self.queued = self.began = time.monotonic_ns()
        self._tell = tell
        self._key = key
        self._size = size
        self._seconds = seconds
        self._load_seconds = load_seconds
        self._limit = asyncio.timeout(None)
        self._accepted = False

    async def through(self, pool: Pool, task: PageTask) -> PageOutcome:
        """What the pool made of it.

        Raises:
            Timeout: PAGE_TIMEOUT; the time in the queue and the loading of a back-end do not count.
            ServiceError: from the pool.
        """
        try:
            async with self._limit:
                outcome = await pool.run(task, on_event=self._on_event, on_position=self._on_position)
        except TimeoutError:
            raise Timeout(
                f"a page must be computed within {self._seconds:g} s, and this one was not", reason="PAGE_TIMEOUT"
            ) from None
        assert isinstance(outcome, PageOutcome)
        return outcome

    def _on_position(self, position: int) -> None:
        if self._accepted:
            self._tell(Queued(self._key, position))
        else:
            self._accepted = True
            self._tell(Accepted(self._key, *self._size, position))

    def _on_event(self, event: Started | Loading | Held | Trouble | Stepped | Preview) -> None:
        now = asyncio.get_running_loop().time()
        match event:
            case Started():
                self.began = self.began if self._limit.when() else time.monotonic_ns()
                self._limit.reschedule(now + self._seconds)
            case Loading():
                self._limit.reschedule(now + self._load_seconds)
            case Held(position):
                self._limit.reschedule(None)
                self._on_position(position)
            case Stepped(step, steps):
                self._tell(Progressed(self._key, step, steps))
            case Preview():
                self._tell(Previewed(self._key, event))
            case Trouble(backend, trace):
                log.error("backend.failed", page=self._key, backend=backend, trace=trace)


def as_page_error(error: Exception) -> Exception:
    """The same failure under a reason that a page's error may have."""
    if isinstance(error, FailedState) and error.reason == "BACKEND_UNAVAILABLE":
        return ServiceError(error.message, reason="BACKEND_FAILED")
    if isinstance(error, Unavailable) and error.reason == "BACKEND_UNAVAILABLE":
        return Unavailable(error.message, reason="WORKER_DIED", retry_after=error.retry_after)
    if isinstance(error, FailedState) and error.reason == "WORKER_START_FAILED":
        return Unavailable(error.message, reason="WORKER_DIED", retry_after=error.retry_after)
    return error
