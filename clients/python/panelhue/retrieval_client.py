"""Clients of the retrieval server, blocking and asyncio; the same names, types and errors in both."""

from __future__ import annotations

import grpc

from panelhue._aio import AsyncConnection
from panelhue._channel import UNARY_SECONDS, settings_of
from panelhue._reference_calls import ReferenceCalls
from panelhue._search_calls import SearchCalls
from panelhue._series_calls import SeriesCalls
from panelhue._sync import Connection
from panelhue.retries import Retry
from panelhue.retrieval.v1 import retrieval_pb2_grpc as pb_grpc

CALLER_KEY = "panelhue-caller"  # metadata; quotas per caller go by it


class RetrievalClient(Connection, SeriesCalls, SearchCalls, ReferenceCalls):
    """The pools of a retrieval server. A context manager; safe to use from several threads.

    Every method raises a `PanelhueError` whose class follows the server's status: those that it lists, and
    `Unavailable` or `Timeout` where no answer came over all attempts.

    Args:
        target: address, such as "127.0.0.1:50051".
        timeout: deadline of each call that moves no pictures, with all its attempts, seconds.
        credentials: for an encrypted channel; None: plain text.
        caller: name under which a server with quotas per caller counts what is added; empty: this machine's address.
        retry: how a call that failed for the moment is made again; None: `Retry()`.
        token: what a server that asks for one was started with; "": none.
    """

    _STUB = pb_grpc.RetrievalServiceStub

    def __init__(
        self,
        target: str,
        *,
        timeout: float = UNARY_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
        caller: str = "",
        retry: Retry | None = None,
        token: str = "",
    ) -> None:
        self._open(settings_of(target, timeout, retry, credentials, token, *_caller(caller)))


class AsyncRetrievalClient(AsyncConnection, SeriesCalls, SearchCalls, ReferenceCalls):
    """The pools of a retrieval server, for one event loop. An async context manager; many tasks may use it.

    Methods are those of `RetrievalClient`: what gives a value there is awaited here, and what gives an iterator there
    is iterated over with `async for`. Cancelling the task cancels the call on the server.

    Args:
        target: address, such as "127.0.0.1:50051".
        timeout: deadline of each call that moves no pictures, with all its attempts, seconds.
        credentials: for an encrypted channel; None: plain text.
        caller: name under which a server with quotas per caller counts what is added; empty: this machine's address.
        retry: how a call that failed for the moment is made again; None: `Retry()`.
        token: what a server that asks for one was started with; "": none.
    """

    _STUB = pb_grpc.RetrievalServiceStub

    def __init__(
        self,
        target: str,
        *,
        timeout: float = UNARY_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
        caller: str = "",
        retry: Retry | None = None,
        token: str = "",
    ) -> None:
        self._open(settings_of(target, timeout, retry, credentials, token, *_caller(caller)))


def _caller(caller: str) -> tuple[tuple[str, str], ...]:
    return ((CALLER_KEY, caller),) if caller else ()
