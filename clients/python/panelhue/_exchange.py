"""Streams of pictures that are answered one by one: which of them still wait, and what is made of the answers.

No transport is known here. `Exchange` says what a stream is; `Ledger` keeps what has no answer yet, so that a stream
that broke off goes on with just that.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from panelhue import types as t
from panelhue.errors import Disagreement, ServerError, Unavailable

Item = TypeVar("Item")
Out = TypeVar("Out")
ItemIn = TypeVar("ItemIn", contravariant=True)
OutOf = TypeVar("OutOf", covariant=True)
Message: TypeAlias = Any  # the stubs' messages share no useful type
Answer: TypeAlias = tuple[int | None, Out]  # the place of the item that it settles; None: it settles none
Items: TypeAlias = Iterable[Item] | AsyncIterable[Item]


class CallersError(Exception):
    """Carries what the caller's iterator raised past the handling of servers' errors."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class Attempt(Protocol[ItemIn, OutOf]):
    """One stream of an exchange: encodes items, decodes answers. Pure; both sides may run in different threads."""

    def opening(self) -> Message:
        """The first message."""

    def send(self, place: int, item: ItemIn, data: bytes, context: t.Context | None, /) -> Iterable[Message]:
        """The messages for an item; some may be held back.

        Raises:
            BookError: it cannot be sent.
        """

    def rest(self) -> Iterable[Message]:
        """What was held back, when no more items come."""

    def take(self, message: Message) -> Iterator[Answer[OutOf]]:
        """The answers that this message completes.

        Raises:
            Disagreement: it contradicts the contract.
        """


@dataclass
class Exchange(ABC, Generic[Item, Out]):
    """A stream of items, each of which is answered."""

    method: str  # the RPC's name
    items: Items[Item]
    timeout: float | None  # of the whole call, seconds; None: none
    window: int | None = None  # items under way at most; None: as many as the wire takes

    @abstractmethod
    def attempt(self) -> Attempt[Item, Out]:
        """A new stream."""

    @abstractmethod
    def source(self, item: Item) -> t.Source:
        """Where the item's bytes come from."""

    @abstractmethod
    def failed(self, item: Item, error: Exception) -> Out:
        """The answer to an item that cannot be sent."""

    def admit(self, place: int, item: Item) -> None:
        """Takes note of an item that was handed in.

        Raises:
            UsageError: it makes no sense.
        """

    def forget(self, place: int) -> None:
        """Takes note that an item has its final answer."""

    def context(self, item: Item, data: bytes) -> t.Context | Awaitable[t.Context] | None:
        """What goes along with an item."""

    def failure(self, out: Out) -> t.Failure | None:
        """Why the answer is one that may be better another time; None: it is final."""

    def name(self, item: Item) -> str:
        """The item's name, for messages."""
        return str(getattr(item, "name", item))


@dataclass
class Ledger(Generic[Item, Out]):
    """The items of an exchange by their place, and which have no answer yet. Safe to use from several threads.

    Args:
        exchange: whose items they are.
        attempts: how often an item is sent that failed for the moment.
    """

    exchange: Exchange[Item, Out]
    attempts: int
    waiting: dict[int, Item] = field(default_factory=dict)  # in their order
    exhausted: bool = False  # no more items come
    withheld: dict[int, tuple[Out, t.Failure]] = field(default_factory=dict)  # answers of this attempt that may pass
    _count: int = 0
    _tried: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, item: Item) -> tuple[int, Item]:
        """The item with its place, after it was handed in."""
        self.exchange.admit(self._count, item)
        with self._lock:
            place = self._count
            self._count += 1
            self.waiting[place] = item
        return place, item

    def after(self, place: int) -> tuple[int, Item] | None:
        """The next item behind `place` that was handed in and waits for an answer."""
        with self._lock:
            if place >= self._count - 1:
                return None
            return next(((one, item) for one, item in self.waiting.items() if one > place), None)

    def settle(self, place: int, out: Out) -> bool:
        """Takes the answer to an item; whether it is final. If not, it is kept and the item stays.

        Raises:
            Disagreement: the item has its answer already.
        """
        with self._lock:
            if place not in self.waiting or place in self.withheld:
                raise Disagreement("the server answered twice for one picture")
            self._tried[place] = self._tried.get(place, 0) + 1
            failure = self.exchange.failure(out)
            if failure is not None and self._tried[place] < self.attempts:
                self.withheld[place] = (out, failure)
                return False
            del self.waiting[place], self._tried[place]
            self.exchange.forget(place)
            return True

    @property
    def over(self) -> bool:
        """Whether every item was handed in and has its answer."""
        return self.exhausted and not self.waiting

    def end_of_stream(self) -> ServerError | None:
        """Why another attempt is needed although the stream ended well; None: all is answered.

        Raises:
            Disagreement: an item has no answer.
        """
        with self._lock:
            for place, item in self.waiting.items():
                if place not in self.withheld:
                    name = self.exchange.name(item)
                    raise Disagreement(f"the server ended the stream without an answer for {name!r}")
            if not self.withheld:
                return None
            _, failure = next(iter(self.withheld.values()))
            return Unavailable(failure.message, reason=failure.reason, metadata=failure.metadata)

    def again(self) -> None:
        """A new attempt begins."""
        with self._lock:
            self.withheld.clear()

    def give_up(self) -> list[Out]:
        """The answers that were kept, when there is no other attempt."""
        return [out for out, _ in self.withheld.values()]
