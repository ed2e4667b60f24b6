"""The sending side of an asyncio exchange: which items go out next, and at what pace. The twin of `_sending`."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import grpc

from panelhue import types as t
from panelhue._exchange import Answer, Attempt, Items, Ledger
from panelhue.errors import BookError, ServerError

END = object()  # after the last item
Item = TypeVar("Item")
Out = TypeVar("Out")


class Feed(Generic[Item, Out]):
    """The items of an exchange for one attempt after the other: first those without an answer, then new ones.

    The caller's iterator is drawn from in a task of its own that outlives an attempt that breaks off, as cancelling it
    would end the iterator; a blocking iterator in a thread.

    Args:
        ledger: of the exchange.
    """

    def __init__(self, ledger: Ledger[Item, Out]) -> None:
        self.ledger = ledger
        self._items = drawn(ledger.exchange.items)
        self._pulling: asyncio.Future[Any] | None = None

    async def after(self, place: int) -> tuple[int, Item] | None:
        """The next item behind `place`; None: there is none."""
        if (found := self.ledger.after(place)) is not None or self.ledger.exhausted:
            return found
        if self._pulling is None:
            self._pulling = asyncio.ensure_future(self._pull())
        item = await asyncio.shield(self._pulling)  # raises what the caller's iterator has raised, each time
        self._pulling = None
        if item is END:
            self.ledger.exhausted = True
            return None
        return self.ledger.enter(item)

    async def _pull(self) -> Any:
        return await anext(self._items, END)

    async def close(self) -> None:
        """Lets go of the caller's iterator."""
        if self._pulling is not None:
            self._pulling.cancel()
            await asyncio.gather(self._pulling, return_exceptions=True)
        await self._items.aclose()


async def drawn(items: Items[Item]) -> AsyncGenerator[Item, None]:
    """The items of any iterable, without holding up the event loop."""
    if isinstance(items, Sequence):
        for item in items:
            yield item
    elif isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        blocking: Iterator[Item] = iter(items)
        while (one := await asyncio.to_thread(_next, blocking)) is not END:
            yield one


def _next(items: Iterator[Any]) -> Any:
    return next(items, END)


class Sender(Generic[Item, Out]):
    """Writes the requests of one attempt, at the pace of the wire.

    Args:
        feed: gives the items.
        attempt: encodes them.
    """

    def __init__(self, feed: Feed[Item, Out], attempt: Attempt[Item, Out]) -> None:
        self._feed, self._exchange, self._attempt = feed, feed.ledger.exchange, attempt
        window = self._exchange.window
        self._window = asyncio.Semaphore(window) if window else None
        self.failure: BaseException | None = None
        self.local: deque[Answer[Out]] = deque()  # answers that need no server

    async def write(self, call: Any) -> None:
        """Writes everything and closes this side; what the caller's code raises is kept, and ends the call."""
        try:
            async for message in self._messages():
                await call.write(message)
            await call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # the call is over, and whoever reads its answers learns why
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.failure = error
            call.cancel()

    async def _messages(self) -> AsyncGenerator[Any, None]:
        yield self._attempt.opening()
        place = -1
        while (found := await self._feed.after(place)) is not None:
            place, item = found
            if self._window is not None:
                await self._window.acquire()
            for message in await self._encoded(place, item):
                yield message
        for message in self._attempt.rest():
            yield message

    async def _encoded(self, place: int, item: Item) -> Iterable[Any]:
        try:
            data = await asyncio.to_thread(t.read_source, self._exchange.source(item))
            context = await asyncio.to_thread(self._exchange.context, item, data)
            if inspect.isawaitable(context):
                context = await context
            return self._attempt.send(place, item, data, context)
        except (OSError, BookError, ServerError) as error:
            self.local.append((place, self._exchange.failed(item, error)))
            self.leave()
            return ()

    def leave(self) -> None:
        """Gives a place in the window back."""
        if self._window is not None:
            self._window.release()
