"""Clients of the colouriser server, blocking and asyncio; the same names, types and errors in both."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass, field

from panelhue import types as t
from panelhue._aio import AsyncConnection
from panelhue._calls import Call, asked, exchanged
from panelhue._exchange import Answer, Exchange, Items
from panelhue._messages import decode_backend, decode_colorizer_info, encode_options
from panelhue._streams import EventReceiver, checked_key, page_messages
from panelhue._sync import Connection
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from panelhue.errors import Disagreement, ServerError, Timeout, UsageError
from panelhue.retries import may_pass

WINDOW = 2  # one page is worked on while the next one travels


class ColorizeCalls:
    """What both clients of a colouriser server can be asked.

    `timeout` is a call's deadline with all its attempts, seconds; None: the client's.
    """

    @asked
    def backends(self, *, timeout: float | None = None) -> Call[tuple[t.Backend, ...]]:
        """The cards of all back-ends, by name."""
        return Call("ListBackends", pb.ListBackendsRequest(), _cards, timeout)

    @asked
    def backend(self, name: str, *, timeout: float | None = None) -> Call[t.Backend]:
        """One back-end's card; `is_default` is not told here.

        Raises:
            NotFound: there is none of this name.
        """
        return Call("GetBackend", pb.GetBackendRequest(name=name), _card, timeout)

    @asked
    def info(self, *, timeout: float | None = None) -> Call[t.ColorizerInfo]:
        """Versions, limits and load of the server."""
        return Call("GetServerInfo", pb.GetServerInfoRequest(), decode_colorizer_info, timeout)

    @exchanged
    def colorize(
        self,
        pages: Items[t.PageFile],
        options: t.ColorizeOptions | None = None,
        *,
        window: int = WINDOW,
        timeout: float | None = None,
    ) -> Exchange[t.PageFile, t.Event]:
        """What happens to the pages, as it happens; each ends in `Finished` or `Failed`.

        A page is read when it is its turn. One that cannot be read, or whose context cannot be had, is `Failed` with
        the reason FILE_UNREADABLE or CONTEXT_UNAVAILABLE, and the rest goes on. Leaving the iterator early cancels the
        call and frees the server's worker within one step.

        Where the stream breaks off, it is made again with the pages that have no end yet, and their events begin anew;
        pages that fail for the moment (a full queue, a worker that died) are sent again behind the others. See `Retry`.

        Args:
            pages: may be a generator, which is run in another thread; an asyncio client also takes an async one.
            options: what holds for all of them; None: the server's defaults. `page_timeout` bounds each page.
            window: pages under way at once, at least 1. They finish in order.
            timeout: deadline of the whole call with all its attempts, seconds; None: none.

        Raises:
            UsageError: a key is empty, too long or there twice.
            NotFound: no such back-end or series.
            FailedState: the back-end cannot be loaded, or a series is named and the server has no retrieval server.
            InvalidInput: an option is wrong.
            Overloaded: the queue was full at the first page, over all attempts.
            ServerError: the whole call failed, over all attempts; pages without an end by then have none.
        """
        if window < 1:
            raise UsageError(f"window must be at least 1, got {window}")
        return _Colorizing("ColorizePages", pages, timeout, window, options=options or t.ColorizeOptions())


class ColorizerClient(Connection, ColorizeCalls):
    """The back-ends of a colouriser server. A context manager; safe to use from several threads.

    Every method raises a `PanelhueError` whose class follows the server's status: those that it lists, and
    `Unavailable` or `Timeout` where no answer came over all attempts.

    Args:
        target: address, such as "127.0.0.1:50052".
        timeout: deadline of each call that moves no pictures, with all its attempts, seconds.
        credentials: for an encrypted channel; None: plain text.
        retry: how a call that failed for the moment is made again; None: `Retry()`.
        token: what a server that asks for one was started with; "": none.
    """

    _STUB = pb_grpc.ColorizerServiceStub


class AsyncColorizerClient(AsyncConnection, ColorizeCalls):
    """The back-ends of a colouriser server, for one event loop. An async context manager; many tasks may use it.

    Methods are those of `ColorizerClient`: what gives a value there is awaited here, and `colorize` is iterated over
    with `async for`. Cancelling the task cancels the call and frees the server's worker within one step.

    Args:
        target: address, such as "127.0.0.1:50052".
        timeout: deadline of each call that moves no pictures, with all its attempts, seconds.
        credentials: for an encrypted channel; None: plain text.
        retry: how a call that failed for the moment is made again; None: `Retry()`.
        token: what a server that asks for one was started with; "": none.
    """

    _STUB = pb_grpc.ColorizerServiceStub


def _cards(answer: pb.ListBackendsResponse) -> tuple[t.Backend, ...]:
    return tuple(decode_backend(one, answer.default_backend) for one in answer.backends)


def _card(answer: pb.GetBackendResponse) -> t.Backend:
    return decode_backend(answer.backend, "")


@dataclass
class _Colorizing(Exchange[t.PageFile, t.Event]):
    options: t.ColorizeOptions = field(default_factory=t.ColorizeOptions)
    places: dict[str, int] = field(default_factory=dict)  # of the pages, by their key

    def admit(self, place: int, item: t.PageFile) -> None:
        if checked_key(item.key) in self.places:
            raise UsageError(f"two pages have the key {item.key!r}")
        self.places[item.key] = place

    def name(self, item: t.PageFile) -> str:
        return item.key

    def attempt(self) -> _ColorizeAttempt:
        return _ColorizeAttempt(self)

    def source(self, item: t.PageFile) -> t.Source:
        return item.data

    def context(self, item: t.PageFile, data: bytes) -> t.Context | Awaitable[t.Context] | None:
        return item.context(data) if callable(item.context) else item.context

    def failed(self, item: t.PageFile, error: Exception) -> t.Failed:
        if isinstance(error, ServerError):
            message = f"no context: {error}"
            passes = isinstance(error, Timeout) or may_pass(error, repeatable=True)
            failure = t.Failure("CONTEXT_UNAVAILABLE", message, status="UNAVAILABLE", retryable=passes)
            return t.Failed(item.key, failure)
        return t.Failed(item.key, t.Failure(reason="FILE_UNREADABLE", message=str(error)))

    def failure(self, out: t.Event) -> t.Failure | None:
        return out.failure if isinstance(out, t.Failed) and out.failure.retryable else None


@dataclass
class _ColorizeAttempt:
    exchange: _Colorizing
    receiver: EventReceiver = field(default_factory=EventReceiver)

    def opening(self) -> pb.ColorizePagesRequest:
        return pb.ColorizePagesRequest(options=encode_options(self.exchange.options))

    def send(
        self, _place: int, item: t.PageFile, data: bytes, context: t.Context | None
    ) -> Iterable[pb.ColorizePagesRequest]:
        return page_messages(item, data, context)

    def rest(self) -> Iterable[pb.ColorizePagesRequest]:
        return ()

    def take(self, message: pb.ColorizePagesResponse) -> Iterator[Answer[t.Event]]:
        event = self.receiver.feed(message)
        if event is None:
            return
        if event.key not in self.exchange.places:
            raise Disagreement(f"the server told of page {event.key!r}, which it was not sent")
        settles = isinstance(event, t.Finished | t.Failed)
        yield self.exchange.places[event.key] if settles else None, event
