"""Channels and calls: options, retries, deadlines, and errors as `PanelhueError`."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

import grpc

from panelhue.errors import PanelhueError, of_rpc

UNARY_SECONDS = 30.0  # deadline of calls that move no pictures
MAX_MESSAGE_BYTES = 4 * 1024 * 1024

Metadata: TypeAlias = tuple[tuple[str, str], ...]
Request = TypeVar("Request")
Response = TypeVar("Response")
Local = TypeVar("Local")


def channel_options(service: str, idempotent: Iterable[str]) -> list[tuple[str, Any]]:
    """Options of a channel whose idempotent calls are tried again when the server is unavailable.

    Args:
        service: full name, such as "panelhue.retrieval.v1.RetrievalService".
        idempotent: names of its RPCs that may be sent twice.
    """
    policy = {
        "methodConfig": [
            {
                "name": [{"service": service, "method": method} for method in idempotent],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
    return [
        ("grpc.service_config", json.dumps(policy)),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 60_000),  # no more often than the servers allow
        ("grpc.keepalive_timeout_ms", 20_000),
    ]


@contextmanager
def translated(target: str) -> Iterator[None]:
    """Turns gRPC's errors into ours."""
    try:
        yield
    except grpc.RpcError as error:
        raise of_rpc(error, target) from error


class Connection:
    """A channel to one service. A context manager; safe to use from several threads.

    Args:
        target: address, such as "127.0.0.1:50051".
        service: full name of the service.
        idempotent: names of its RPCs that may be sent twice.
        timeout: deadline of short calls, seconds.
        credentials: for an encrypted channel; None: plain text.
    """

    def __init__(
        self,
        target: str,
        service: str,
        idempotent: Iterable[str],
        timeout: float,
        credentials: grpc.ChannelCredentials | None,
    ) -> None:
        self.target = target
        self._timeout = timeout
        options = channel_options(service, idempotent)
        self._channel = (
            grpc.secure_channel(target, credentials, options)
            if credentials is not None
            else grpc.insecure_channel(target, options)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the channel and every call on it."""
        self._channel.close()

    def _ask(self, method: Callable[..., Response], request: object) -> Response:
        """The answer to a short call."""
        with translated(self.target):
            return method(request, timeout=self._timeout)


class Sender(Generic[Request, Local]):
    """The requests of a stream that gRPC pulls in a thread of its own, at the pace of the wire.

    An exception of the caller's iterator is kept and raised in the caller's thread; gRPC alone would only log it.

    Args:
        make: gets this sender and yields the requests.
        window: units under way at most, for `enter`; None: no limit beside the wire's own.
    """

    def __init__(self, make: Callable[[Sender[Request, Local]], Iterator[Request]], window: int | None = None) -> None:
        self._make = make
        self._window = threading.Semaphore(window) if window else None
        self._stopped = threading.Event()
        self.failure: BaseException | None = None
        self.local: deque[Local] = deque()  # answers that need no server
        self.cancel: Callable[[], Any] = lambda: None

    def __iter__(self) -> Iterator[Request]:
        try:
            yield from self._make(self)
        except GeneratorExit:  # gRPC has let go of us
            raise
        except BaseException as error:  # whatever the caller's code raises is the caller's
            self.failure = error
            self.cancel()

    def enter(self) -> bool:
        """Waits for a place in the window; False when the call has ended meanwhile."""
        while self._window is not None and not self._window.acquire(timeout=0.1):
            if self._stopped.is_set():
                return False
        return not self._stopped.is_set()

    def leave(self) -> None:
        """Gives a place back."""
        if self._window is not None:
            self._window.release()

    def stop(self) -> None:
        """Ends the sending."""
        self._stopped.set()


def stream(
    method: Callable[..., Any],
    sender: Sender[Request, Local],
    target: str,
    timeout: float | None,
    metadata: Metadata = (),
) -> Iterator[Response]:
    """The answers to a stream of requests; leaving the iterator early cancels the call.

    Raises:
        PanelhueError: the call failed.
        BaseException: what the caller's iterator raised.
    """
    with translated(target):
        call = method(iter(sender), timeout=timeout, metadata=metadata)
    sender.cancel = call.cancel
    try:
        with translated(target):
            yield from call
    except PanelhueError:
        if sender.failure is None:
            raise
    finally:
        sender.stop()
        call.cancel()
    if sender.failure is not None:
        raise sender.failure


def answers(method: Callable[..., Any], request: object, target: str, timeout: float | None) -> Iterator[Response]:
    """The answers to one request; leaving the iterator early cancels the call.

    Raises:
        PanelhueError: the call failed.
    """
    with translated(target):
        call = method(request, timeout=timeout)
    try:
        with translated(target):
            yield from call
    finally:
        call.cancel()
