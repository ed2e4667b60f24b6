"""Those who wait, without a thread, until nobody has a series' folder alone."""

from __future__ import annotations

import threading
from collections.abc import Callable

Act = Callable[[], None]  # quick, and called by any thread


class Waiters:
    """Which folders somebody has alone, and who is told when that is over. No call makes its caller wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for a few assignments: event loops ask for it
        self._acts: dict[str, list[Act]] = {}  # by the series whose folder somebody has alone
        self._stopped = False

    def begin(self, series_id: str) -> None:
        """Notes that somebody has the series' folder alone."""
        with self._lock:
            self._acts[series_id] = []

    def end(self, series_id: str) -> None:
        """Tells those who wait that nobody has it alone any more."""
        with self._lock:
            acts = self._acts.pop(series_id, [])
        for act in acts:
            act()

    def stop(self) -> None:
        """Tells everybody: from now on nobody is to wait, but to find out that it is refused."""
        with self._lock:
            self._stopped = True
            acts = [act for waiting in self._acts.values() for act in waiting]
        for act in acts:
            act()

    def held(self, series_id: str) -> bool:
        """Whether somebody has the series' folder alone, and waiting for it makes sense."""
        return series_id in self._acts and not self._stopped

    def add(self, series_id: str, act: Act) -> bool:
        """As `held`; and then `act` is called when that is over."""
        with self._lock:
            held = self.held(series_id)
            if held:
                self._acts[series_id].append(act)
            return held
