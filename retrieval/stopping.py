"""The end of the server, as work that takes long meets it: between its steps it asks whether it has come."""

from __future__ import annotations

import threading

from serving.errors import Unavailable


class Stop:
    """Set once, when the server ends. Any thread may ask."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """From now on `check` raises."""
        self._event.set()

    def check(self) -> None:
        """Returns while the server goes on.

        Raises:
            Unavailable: DRAINING.
        """
        if self._event.is_set():
            raise draining()


def draining() -> Unavailable:
    """The error for work that the server's end has cut short."""
    return Unavailable("the server is shutting down and takes no more work", reason="DRAINING", retry_after=2.0)
