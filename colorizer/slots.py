"""Which pages of a back-end out of process are in flight, and whose time runs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from colorizer.tasks import Loading, Started


class PageClock:
    """Says when a page's time runs: not while it waits over there, nor while a fresh process loads its weights.

    Args:
        tell: takes Started and Loading.
        running: whether the time runs from the first.
    """

    def __init__(self, tell: Callable[[Any], None], *, running: bool) -> None:
        self._tell = tell
        self._running = False
        if running:
            self.runs()

    def runs(self) -> None:
        """The page is being worked on."""
        if not self._running:
            self._running = True
            self._tell(Started())

    def waits(self, position: int) -> None:
        """So many pages are before it."""
        if position and self._running:
            self._running = False
            self._tell(Loading())


class Slots:
    """Pages in flight, first come first served; those that wait are told their places.

    Args:
        size: of them, at least 1.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = 0
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[int], None]]] = deque()

    async def take(self, place: Callable[[int], None]) -> None:
        """Waits for a slot; `place` is told at once, and at every change, how many wait before it."""
        if self._taken < self.size:
            self._taken += 1
            place(0)
            return
        entry = (asyncio.get_running_loop().create_future(), place)
        self._waiting.append(entry)
        place(len(self._waiting) - 1)
        try:
            await entry[0]
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._tell_all()
            elif not entry[0].cancelled():
                self.give()  # it was granted in the same moment
            raise

    def give(self) -> None:
        """Gives a slot back."""
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                self._tell_all()
                return
        self._taken -= 1

    def _tell_all(self) -> None:
        for position, (_, place) in enumerate(self._waiting):
            place(position)
