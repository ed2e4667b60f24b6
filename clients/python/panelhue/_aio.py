"""Asyncio clients: how described calls are made, made again, and ended. The twin of `_sync`.

A channel belongs to the event loop in which its first call is made. Cancelling a task that waits for a call cancels the
call on the server as well; so does closing the iterator of a stream.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import grpc
from grpc import aio

from panelhue._aio_reading import Reader
from panelhue._aio_sending import Feed, Sender
from panelhue._calls import Call, Followed, Gathered, Listing, Several, check_ended
from panelhue._channel import (
    UNARY_SECONDS,
    Settings,
    channel_options,
    closed_error,
    left_error,
    settings_of,
    translated,
)
from panelhue._exchange import Answer, CallersError, Exchange, Ledger
from panelhue.errors import PanelhueError, ServerError
from panelhue.retries import Retry, Tries

T = TypeVar("T")
Item = TypeVar("Item")
Out = TypeVar("Out")


class _Channel:
    """A channel that is made in the loop of its first call, and shared by a client and those made with `using`."""

    def __init__(self, settings: Settings, stub: Callable[[aio.Channel], Any]) -> None:
        self._settings, self._make = settings, stub
        self._channel: aio.Channel | None = None
        self._stub: Any = None
        self.closed = asyncio.Event()

    @property
    def stub(self) -> Any:
        if self.closed.is_set():
            raise closed_error(self._settings.target)
        if self._channel is None:
            target, credentials, options = self._settings.target, self._settings.credentials, channel_options()
            self._channel = (
                aio.secure_channel(target, credentials, options)
                if credentials is not None
                else aio.insecure_channel(target, options)
            )
            self._stub = self._make(self._channel)
        return self._stub

    async def close(self) -> None:
        self.closed.set()
        if self._channel is not None:
            await self._channel.close()


class AsyncConnection:
    """A channel to one service, for one event loop. An async context manager; any number of tasks may use it.

    Args:
        target: address, such as "127.0.0.1:50051".
        timeout: deadline of each call that moves no pictures, with all its attempts, seconds.
        credentials: for an encrypted channel; None: plain text.
        retry: how a call that failed for the moment is made again; None: `Retry()`.
        token: what a server that asks for one was started with; "": none.
    """

    _STUB: ClassVar[Any]  # the stub's class

    def __init__(
        self,
        target: str,
        *,
        timeout: float = UNARY_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
        retry: Retry | None = None,
        token: str = "",
    ) -> None:
        self._open(settings_of(target, timeout, retry, credentials, token))

    def _open(self, settings: Settings) -> None:
        self._settings = settings
        self._channel = _Channel(settings, type(self)._STUB)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def target(self) -> str:
        """The server's address."""
        return self._settings.target

    async def close(self) -> None:
        """Ends the channel and every call on it; a pause before another attempt ends too."""
        await self._channel.close()

    def using(self, *, timeout: float | None = None, retry: Retry | None = None) -> Self:
        """The same client on the same channel with other settings; None leaves one as it is. Closing one closes both.

        Args:
            timeout: deadline of each call that moves no pictures, seconds.
            retry: such as `Retry.none()`.
        """
        other = copy.copy(self)
        old = self._settings
        other._settings = replace(old, timeout=timeout or old.timeout, retry=retry or old.retry)
        return other

    # -- how calls are made

    def _tries(self, method: str, timeout: float | None) -> Tries:
        return Tries(self._settings.retry, method, self.target, timeout)

    def _rpc(self, method: str) -> Callable[..., Any]:
        rpc: Callable[..., Any] = getattr(self._channel.stub, method)
        return rpc

    async def _wait(self, seconds: float | None, error: PanelhueError) -> None:
        """Pauses before another attempt; raises the error if there is to be none."""
        if seconds is None:
            raise error
        try:
            await asyncio.wait_for(self._channel.closed.wait(), seconds)
        except TimeoutError:
            return
        raise left_error(self.target) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns gRPC's errors into ours; a task's own cancellation stays what it is."""
        with translated(self.target):
            try:
                yield
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                raise left_error(self.target) from error  # grpc.aio tells in this way that the channel was closed

    async def _ask(self, call: Call[T] | Gathered[T] | Several[T]) -> T:
        if isinstance(call, Several):
            return call.join([await self._ask(one) for one in call.calls()])
        own = isinstance(call, Call) and not call.own_timeout
        tries = self._tries(call.method, self._settings.timeout if own and call.timeout is None else call.timeout)
        repeatable = call.repeatable if isinstance(call, Call) else True
        while True:
            try:
                return await self._asked(call, tries.remaining)
            except ServerError as error:
                await self._wait(tries.pause(error, repeatable), error)

    async def _asked(self, call: Call[T] | Gathered[T], timeout: float | None) -> T:
        if isinstance(call, Call):
            rpc = self._rpc(call.method)
            with self._translated():
                answer = await rpc(call.request, timeout=timeout, metadata=self._settings.metadata)
            return call.decode(answer)
        receiver = call.receiver()
        async with aclosing(self._messages(call.method, call.request, timeout)) as answers:
            async for message in answers:
                receiver.feed(message)
        return receiver.finish()

    async def _messages(self, method: str, request: Any, timeout: float | None) -> AsyncGenerator[Any, None]:
        """The answers to one request or to a function that gives requests; leaving early cancels the call."""
        given = request() if callable(request) else request
        call = self._rpc(method)(given, timeout=timeout, metadata=self._settings.metadata)
        reader = Reader(call, self.target)
        try:
            while (message := await self._read(reader)) is not aio.EOF:
                yield message
        finally:
            call.cancel()

    async def _read(self, reader: Reader) -> Any:
        with self._translated():
            return await reader.read()

    async def _list(self, listing: Listing[T]) -> AsyncGenerator[T, None]:
        token = ""
        while True:
            entries, token = await self._ask(listing.page(token))
            for entry in entries:
                yield entry
            if not token:
                return

    async def _follow(self, call: Followed[T]) -> AsyncGenerator[T, None]:
        tries, last = self._tries(call.method, call.timeout), None
        while True:
            try:
                async with aclosing(self._messages(call.method, call.request, tries.remaining)) as answers:
                    async for last in answers:
                        yield call.decode(last)
                check_ended(call, last)
                return
            except ServerError as error:
                if last is not None:  # what came would come again
                    raise
                await self._wait(tries.pause(error, call.repeatable), error)

    async def _exchange(self, exchange: Exchange[Item, Out]) -> AsyncGenerator[Out, None]:
        tries = self._tries(exchange.method, exchange.timeout)
        feed = Feed(Ledger(exchange, self._settings.retry.attempts))
        ledger = feed.ledger
        try:
            while True:
                try:
                    async with aclosing(self._attempt(feed, tries.remaining)) as answers:
                        async for place, out in answers:
                            if place is not None and not ledger.settle(place, out):
                                continue
                            if place is not None:
                                tries.progressed()
                            yield out
                    error = ledger.end_of_stream()
                    if error is None:
                        return
                    pause = tries.pause(error, True, len(ledger.waiting))
                    if pause is None:
                        for out in ledger.give_up():
                            yield out
                        return
                except CallersError as theirs:
                    raise theirs.error from None
                except ServerError as broken:
                    if ledger.over:  # only the stream's end did not come
                        return
                    error, pause = broken, tries.pause(broken, True, len(ledger.waiting))
                await self._wait(pause, error)
                ledger.again()
        finally:
            await feed.close()

    async def _attempt(self, feed: Feed[Item, Out], timeout: float | None) -> AsyncGenerator[Answer[Out], None]:
        exchange = feed.ledger.exchange
        attempt = exchange.attempt()
        sender = Sender(feed, attempt)
        call = self._rpc(exchange.method)(timeout=timeout, metadata=self._settings.metadata)
        reader = Reader(call, self.target)
        writing = asyncio.create_task(sender.write(call))
        try:
            while (message := await self._read(reader)) is not aio.EOF:
                while sender.local:
                    yield sender.local.popleft()
                for place, out in attempt.take(message):
                    if place is not None:
                        sender.leave()
                    yield place, out
            while sender.local:
                yield sender.local.popleft()
        except PanelhueError:
            if sender.failure is None:
                raise
        finally:
            call.cancel()
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        if sender.failure is not None:
            raise CallersError(sender.failure)
