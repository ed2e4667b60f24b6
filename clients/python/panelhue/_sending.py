"""The sending side of a blocking exchange: which items go out next, and at what pace."""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from panelhue import types as t
from panelhue._exchange import Answer, Attempt, Ledger
from panelhue.errors import BookError, ServerError, UsageError

Item = TypeVar("Item")
Out = TypeVar("Out")


class Feed(Generic[Item, Out]):
    """The items of an exchange for one attempt after the other: first those without an answer, then new ones.

    Args:
        ledger: of the exchange.
        items: the caller's; taken by one thread at a time, also where the thread of an attempt that broke off is late.
    """

    def __init__(self, ledger: Ledger[Item, Out], items: Iterator[Item]) -> None:
        self.ledger = ledger
        self._items = items
        self._pulling = threading.Lock()
        self._failure: BaseException | None = None  # of the caller's iterator, which has ended with it

    def after(self, place: int, running: Callable[[], bool]) -> tuple[int, Item] | None:
        """The next item behind `place`; None: there is none, or the attempt does not run any more."""
        if (found := self.ledger.after(place)) is not None:
            return found
        with self._pulling:
            if (found := self.ledger.after(place)) is not None or not running() or self.ledger.exhausted:
                return found
            if self._failure is not None:
                raise self._failure
            try:
                return self.ledger.enter(next(self._items))
            except StopIteration:
                self.ledger.exhausted = True
                return None
            except BaseException as error:
                self._failure = error
                raise


class Sender(Generic[Item, Out]):
    """The requests of one attempt, which gRPC pulls in a thread of its own, at the pace of the wire.

    An exception of the caller's iterator is kept and raised in the caller's thread; gRPC alone would only log it.

    Args:
        feed: gives the items.
        attempt: encodes them.
    """

    def __init__(self, feed: Feed[Item, Out], attempt: Attempt[Item, Out]) -> None:
        self._feed, self._exchange, self._attempt = feed, feed.ledger.exchange, attempt
        window = self._exchange.window
        self._window = threading.Semaphore(window) if window else None
        self._stopped = threading.Event()
        self.failure: BaseException | None = None
        self.local: deque[Answer[Out]] = deque()  # answers that need no server
        self.cancel: Callable[[], Any] = lambda: None

    def __iter__(self) -> Iterator[Any]:
        try:
            yield self._attempt.opening()
            place = -1
            while self.running() and (found := self._feed.after(place, self.running)) is not None:
                place, item = found
                if not self._enter():
                    return
                yield from self._encoded(place, item)
            yield from self._attempt.rest()
        except GeneratorExit:  # gRPC has let go of us
            raise
        except BaseException as error:  # whatever the caller's code raises is the caller's
            self.failure = error
            self.cancel()

    def _encoded(self, place: int, item: Item) -> Iterable[Any]:
        try:
            data = t.read_source(self._exchange.source(item))
            context = self._exchange.context(item, data)
            if inspect.isawaitable(context):
                raise UsageError("a blocking client takes contexts that are not to be awaited, got an awaitable one")
            return self._attempt.send(place, item, data, context)
        except (OSError, BookError, ServerError) as error:
            self.local.append((place, self._exchange.failed(item, error)))
            self.leave()
            return ()

    def running(self) -> bool:
        """Whether the attempt has not ended."""
        return not self._stopped.is_set()

    def _enter(self) -> bool:
        """Waits for a place in the window; False when the call has ended meanwhile."""
        while self._window is not None and not self._window.acquire(timeout=0.1):
            if not self.running():
                return False
        return self.running()

    def leave(self) -> None:
        """Gives a place in the window back."""
        if self._window is not None:
            self._window.release()

    def stop(self) -> None:
        """Ends the sending."""
        self._stopped.set()
