"""Blocking clients: how described calls are made, made again, and ended."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import grpc

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
from panelhue._sending import Feed, Sender
from panelhue.errors import PanelhueError, ServerError, UsageError
from panelhue.retries import Retry, Tries

T = TypeVar("T")
Item = TypeVar("Item")
Out = TypeVar("Out")


class Connection:
    """A channel to one service. A context manager; safe to use from several threads.

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
        self._closed = threading.Event()
        credentials, options = settings.credentials, channel_options()
        self._channel = (
            grpc.secure_channel(settings.target, credentials, options)
            if credentials is not None
            else grpc.insecure_channel(settings.target, options)
        )
        self._stub = type(self)._STUB(self._channel)

    @classmethod
    def _of(cls, settings: Settings) -> Self:
        """A client with ready-made settings."""
        client = cls.__new__(cls)
        client._open(settings)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def target(self) -> str:
        """The server's address."""
        return self._settings.target

    def close(self) -> None:
        """Ends the channel and every call on it, from any thread; a pause before another attempt ends too."""
        self._closed.set()
        self._channel.close()

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
        if self._closed.is_set():
            raise closed_error(self.target)
        rpc: Callable[..., Any] = getattr(self._stub, method)
        return rpc

    def _wait(self, seconds: float | None, error: PanelhueError) -> None:
        """Pauses before another attempt; raises the error if there is to be none."""
        if seconds is None:
            raise error
        if self._closed.wait(seconds):
            raise left_error(self.target) from error

    def _ask(self, call: Call[T] | Gathered[T] | Several[T]) -> T:
        if isinstance(call, Several):
            return call.join([self._ask(one) for one in call.calls()])
        own = isinstance(call, Call) and not call.own_timeout
        tries = self._tries(call.method, self._settings.timeout if own and call.timeout is None else call.timeout)
        repeatable = call.repeatable if isinstance(call, Call) else True
        while True:
            try:
                return self._asked(call, tries.remaining)
            except ServerError as error:
                self._wait(tries.pause(error, repeatable), error)

    def _asked(self, call: Call[T] | Gathered[T], timeout: float | None) -> T:
        if isinstance(call, Call):
            with translated(self.target):
                answer = self._rpc(call.method)(call.request, timeout=timeout, metadata=self._settings.metadata)
            return call.decode(answer)
        receiver = call.receiver()
        for message in self._messages(call.method, call.request, timeout):
            receiver.feed(message)
        return receiver.finish()

    def _messages(self, method: str, request: Any, timeout: float | None) -> Generator[Any, None, None]:
        """The answers to one request or to a function that gives requests; leaving early cancels the call."""
        given = iter(request()) if callable(request) else request
        with translated(self.target):
            call = self._rpc(method)(given, timeout=timeout, metadata=self._settings.metadata)
        try:
            with translated(self.target):
                yield from call
        finally:
            call.cancel()

    def _list(self, listing: Listing[T]) -> Generator[T, None, None]:
        token = ""
        while True:
            entries, token = self._ask(listing.page(token))
            yield from entries
            if not token:
                return

    def _follow(self, call: Followed[T]) -> Generator[T, None, None]:
        tries, last = self._tries(call.method, call.timeout), None
        while True:
            try:
                with closing(self._messages(call.method, call.request, tries.remaining)) as answers:
                    for last in answers:
                        yield call.decode(last)
                check_ended(call, last)
                return
            except ServerError as error:
                if last is not None:  # what came would come again
                    raise
                self._wait(tries.pause(error, call.repeatable), error)

    def _exchange(self, exchange: Exchange[Item, Out]) -> Generator[Out, None, None]:
        if not isinstance(exchange.items, Iterable):
            raise UsageError(f"a blocking client takes an iterable, got {type(exchange.items).__name__}")
        return self._exchanged(exchange, iter(exchange.items))

    def _exchanged(self, exchange: Exchange[Item, Out], items: Iterator[Item]) -> Generator[Out, None, None]:
        tries = self._tries(exchange.method, exchange.timeout)
        feed = Feed(Ledger(exchange, self._settings.retry.attempts), items)
        ledger = feed.ledger
        while True:
            try:
                with closing(self._attempt(feed, tries.remaining)) as answers:
                    for place, out in answers:
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
                    yield from ledger.give_up()
                    return
            except CallersError as theirs:
                raise theirs.error from None
            except ServerError as broken:
                if ledger.over:  # only the stream's end did not come
                    return
                error, pause = broken, tries.pause(broken, True, len(ledger.waiting))
            self._wait(pause, error)
            ledger.again()

    def _attempt(self, feed: Feed[Item, Out], timeout: float | None) -> Generator[Answer[Out], None, None]:
        exchange = feed.ledger.exchange
        attempt = exchange.attempt()
        sender = Sender(feed, attempt)
        with translated(self.target):
            call = self._rpc(exchange.method)(iter(sender), timeout=timeout, metadata=self._settings.metadata)
        sender.cancel = call.cancel
        try:
            with translated(self.target):
                for message in call:
                    while sender.local:
                        yield sender.local.popleft()
                    for place, out in attempt.take(message):
                        if place is not None:
                            sender.leave()
                        yield place, out
            yield from sender.local
        except PanelhueError:
            if sender.failure is None:
                raise
        finally:
            sender.stop()
            call.cancel()
        if sender.failure is not None:
            raise CallersError(sender.failure)
