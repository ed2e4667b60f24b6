"""All desks of a studio: found by their tokens, cleared away when they were left alone."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from panelhue.studio.desk import Desk

MOST_DESKS = 64  # at once; the one that was left alone longest goes first
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
        self._desks: dict[str, tuple[Desk, float]] = {}  # the longest untouched first

    def open(self, token: str = "") -> Desk:
        """The desk of that token, or a new one where there is none (any more)."""
        with self._lock:
            desk, _ = self._desks.pop(token, (None, 0.0))
            if desk is None:
                token = secrets.token_urlsafe(18)
                desk = Desk(token, self.root / "desks" / token)
            self._desks[token] = (desk, self._clock())
            old = list(self._outdated())
        for one in old:
            one.close()
        return desk

    def find(self, token: str) -> Desk | None:
        """The desk of that token; None: there is none."""
        with self._lock:
            return self._desks[token][0] if token in self._desks else None

    def _outdated(self) -> Iterable[Desk]:
        since = self._clock() - KEEP_SECONDS
        for token, (desk, touched) in list(self._desks.items())[:-1]:
            if touched < since or len(self._desks) > MOST_DESKS:
                del self._desks[token]
                yield desk

    def close(self) -> None:
        """Closes every desk."""
        with self._lock:
            desks, self._desks = list(self._desks.values()), {}
        for desk, _ in desks:
            desk.close()
