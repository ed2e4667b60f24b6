"""A client of the colouriser server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType

import grpc

from panelhue import types as t
from panelhue._channel import UNARY_SECONDS, Sender, channel_options, stream, translated
from panelhue._messages import decode_backend, decode_colorizer_info, encode_options
from panelhue._streams import EventReceiver, checked_key, page_messages
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from panelhue.errors import BookError, Disagreement, ServerError, UsageError

SERVICE = "panelhue.colorizer.v1.ColorizerService"
IDEMPOTENT = ("ListBackends", "GetBackend", "GetServerInfo")
WINDOW = 2  # one page is worked on while the next one travels


class ColorizerClient:
    """The back-ends of a colouriser server. A context manager; safe to use from several threads.

    Every method raises a `PanelhueError` whose class follows the server's status.

    Args:
        target: address, such as "127.0.0.1:50052".
        timeout: deadline of each call that moves no pictures, seconds.
        credentials: for an encrypted channel; None: plain text.
    """

    def __init__(
        self, target: str, *, timeout: float = UNARY_SECONDS, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.target = target
        self._timeout = timeout
        options = channel_options(SERVICE, IDEMPOTENT)
        self._channel = (
            grpc.secure_channel(target, credentials, options)
            if credentials is not None
            else grpc.insecure_channel(target, options)
        )
        self._stub = pb_grpc.ColorizerServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def __enter__(self) -> ColorizerClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the channel and every call on it."""
        self._channel.close()

    def backends(self) -> tuple[t.Backend, ...]:
        """The cards of all back-ends, by name."""
        with translated(self.target):
            answer = self._stub.ListBackends(pb.ListBackendsRequest(), timeout=self._timeout)
        return tuple(decode_backend(one, answer.default_backend) for one in answer.backends)

    def backend(self, name: str) -> t.Backend:
        """One back-end's card; `is_default` is not told here."""
        with translated(self.target):
            answer = self._stub.GetBackend(pb.GetBackendRequest(name=name), timeout=self._timeout)
        return decode_backend(answer.backend, "")

    def info(self) -> t.ColorizerInfo:
        """Versions, limits and load of the server."""
        with translated(self.target):
            return decode_colorizer_info(self._stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=self._timeout))

    def colorize(
        self,
        pages: Iterable[t.PageFile],
        options: t.ColorizeOptions | None = None,
        *,
        window: int = WINDOW,
        timeout: float | None = None,
    ) -> Iterator[t.Event]:
        """What happens to the pages, as it happens; each ends in `Finished` or `Failed`.

        A page is read when it is its turn. One that cannot be read, or whose context cannot be had, is `Failed` with
        the reason FILE_UNREADABLE or CONTEXT_UNAVAILABLE, and the rest goes on. Leaving the iterator early cancels the
        call and frees the server's worker within one step.

        Args:
            pages: may be a generator; it is run in another thread.
            options: what holds for all of them; None: the server's defaults.
            window: pages under way at once, at least 1. They finish in order.
            timeout: deadline of the whole call, seconds; None: none, as each page has the server's own.

        Raises:
            ServerError: the whole call failed; pages without an answer by then have none.
            UsageError: a key is empty, too long or there twice.
        """
        if window < 1:
            raise UsageError(f"window must be at least 1, got {window}")
        waiting: set[str] = set()

        def requests(sender: Sender[pb.ColorizePagesRequest, t.Event]) -> Iterator[pb.ColorizePagesRequest]:
            yield pb.ColorizePagesRequest(options=encode_options(options or t.ColorizeOptions()))
            seen: set[str] = set()
            for page in pages:
                if checked_key(page.key) in seen:
                    raise UsageError(f"two pages have the key {page.key!r}")
                seen.add(page.key)
                if not sender.enter():
                    return
                try:
                    messages = list(page_messages(page, t.read_source(page.data)))
                except (OSError, BookError, ServerError) as error:
                    sender.local.append(_failed(page.key, error))
                    sender.leave()
                    continue
                waiting.add(page.key)
                yield from messages

        sender: Sender[pb.ColorizePagesRequest, t.Event] = Sender(requests, window)
        answers: Iterator[pb.ColorizePagesResponse] = stream(self._stub.ColorizePages, sender, self.target, timeout)
        receiver = EventReceiver()
        for answer in answers:
            while sender.local:
                yield sender.local.popleft()
            event = receiver.feed(answer)
            if isinstance(event, t.Finished | t.Failed):
                waiting.discard(event.key)
                sender.leave()
            if event is not None:
                yield event
        yield from sender.local
        if waiting:
            raise Disagreement(f"the server ended the stream without an answer for page {min(waiting)!r}")


def _failed(key: str, error: Exception) -> t.Failed:
    if isinstance(error, ServerError):
        message = f"no context: {error}"
        return t.Failed(key, t.Failure("CONTEXT_UNAVAILABLE", message, status="UNAVAILABLE", retryable=True))
    return t.Failed(key, t.Failure(reason="FILE_UNREADABLE", message=str(error)))
