"""Threads that share out the work of one page, with results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

MOST = 4  # threads; what is shared out here gains little from more

A = TypeVar("A")
R = TypeVar("R")


class Hands:
    """Some threads; numpy and its like hold no lock while they count.

    Args:
        count: of threads; None: a thread a core that this process may use, at most MOST.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or min(MOST, len(os.sched_getaffinity(0)))
        self._threads = ThreadPoolExecutor(self.count, "hands") if self.count > 1 else None

    def each(self, work: Callable[[A], R], items: Iterable[A]) -> Generator[R, None, None]:
        """`work` of each item, in the order of the items; no more than twice as many as threads are begun ahead.

        What `work` raises is raised in its turn. Who leaves early closes the iterator: nothing is left running then.
        """
        if self._threads is None:
            yield from map(work, items)
            return
        begun: deque[Future[R]] = deque()
        try:
            for item in items:
                begun.append(self._threads.submit(work, item))
                if len(begun) > 2 * self.count:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            wait([future for future in begun if not future.cancel()])

    def close(self) -> None:
        """Ends the threads."""
        if self._threads is not None:
            self._threads.shutdown()
