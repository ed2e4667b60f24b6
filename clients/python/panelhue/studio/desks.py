"""All desks of a studio: found by their tokens, cleared away when they were left alone."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from panelhue.studio.desk import Desk

MOST_DESKS = 64  # at once; the one that was left alone longest goes first, and none at which pages are coloured
KEEP_SECONDS = 12 * 3600.0  # an untouched desk's life: a tab may sleep over night


class Desks:
    """All desks of a studio, in one folder.

    Args:
        root: their folder; gone at the end.
        clock: seconds that only grow.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.root, self._clock = root, clock
        self._lock = threading.Lock()
        self._desks: dict[str, Desk] = {}

    def open(self, token: str = "") -> Desk:
        """The desk of that token, or a new one where there is none (any more)."""
        with self._lock:
            desk = self._desks.get(token)
            if desk is None:
                token = secrets.token_urlsafe(18)
                desk = self._desks[token] = Desk(token, self.root / "desks" / token, self._clock)
            desk.touch()
            old = list(self._outdated(desk))
        for one in old:
            one.close()
        return desk

    def find(self, token: str) -> Desk | None:
        """The desk of that token; None: there is none."""
        with self._lock:
            return self._desks.get(token)

    def _outdated(self, opened: Desk) -> Iterable[Desk]:
        """Desks that give way, and are forgotten: never one where pages are being coloured, whoever looks at it."""
        idle = [one for one in self._desks.values() if one.run is None and one is not opened]
        since, over = self._clock() - KEEP_SECONDS, len(self._desks) - MOST_DESKS
        for place, desk in enumerate(sorted(idle, key=lambda one: one.touched)):
            if desk.touched < since or place < over:
                del self._desks[desk.token]
                yield desk

    def close(self) -> None:
        """Closes every desk."""
        with self._lock:
            desks, self._desks = list(self._desks.values()), {}
        for desk in desks:
            desk.close()
