"""A server in this process that fails as it is told, and both kinds of clients behind one face."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent import futures
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from panelhue import types as t
from panelhue.colorizer.v1 import colorizer_pb2 as colorizer
from panelhue.colorizer.v1 import colorizer_pb2_grpc as colorizer_grpc
from panelhue.colorizer_client import AsyncColorizerClient, ColorizerClient
from panelhue.common.v1 import common_pb2 as common
from panelhue.retries import Retry, Retrying
from panelhue.retrieval.v1 import retrieval_pb2 as retrieval
from panelhue.retrieval.v1 import retrieval_pb2_grpc as retrieval_grpc
from panelhue.retrieval_client import AsyncRetrievalClient, RetrievalClient

PATIENCE = 120.0  # seconds for what is there at once on a machine that has time
DEADLINES = (0.2, 2.0, 20.0, 60.0)  # seconds; the first that lets a call reach the server


def status(name: str, retry_after: float | None = None, reason: str = "BUSY") -> status_pb2.Status:
    """A failed call's status as our servers send it."""
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason, domain="panelhue")]
    if retry_after is not None:
        details.append(error_details_pb2.RetryInfo())
        details[-1].retry_delay.FromMilliseconds(round(retry_after * 1000))
    packed = [Packed() for _ in details]
    for into, detail in zip(packed, details, strict=True):
        into.Pack(detail)
    return status_pb2.Status(code=code_pb2.Code.Value(name), message=f"it is {name}", details=packed)


@dataclass
class Script:
    """What the server does next, and what it has seen."""

    failures: list[status_pb2.Status] = field(default_factory=list)  # of calls, one each
    breaks: list[int] = field(default_factory=list)  # answers after which a stream is UNAVAILABLE, one each
    page_failures: dict[str, int] = field(default_factory=dict)  # how often a page fails for the moment
    hold: bool = False  # whether calls are answered only when they are cancelled
    calls: list[Any] = field(default_factory=list)  # requests of short calls
    streams: list[list[str]] = field(default_factory=list)  # names of what came in each stream
    metadata: list[dict[str, Any]] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)  # a call, by whichever side


class Server(retrieval_grpc.RetrievalServiceServicer, colorizer_grpc.ColorizerServiceServicer):
    """Both services."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def begin(self, context: grpc.ServicerContext) -> None:
        self.script.metadata.append(dict(context.invocation_metadata()))
        over = threading.Event()
        for act in (over.set, self.script.ended.set):
            if not context.add_callback(act):  # it is over already
                act()
        self.script.begun.set()
        if self.script.failures:
            context.abort_with_status(rpc_status.to_status(self.script.failures.pop(0)))
        if self.script.hold:
            over.wait(PATIENCE)

    def GetSeries(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - gRPC's name
        self.script.calls.append(request)
        self.begin(context)
        return retrieval.GetSeriesResponse(series=retrieval.Series(id=request.series_id))

    def CreateSeries(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.script.calls.append(request)
        self.begin(context)
        return retrieval.CreateSeriesResponse(series=request.series)

    def DeleteSeries(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.script.calls.append(request)
        self.begin(context)
        return retrieval.DeleteSeriesResponse(references_deleted=3)

    def ListSeries(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.script.calls.append(request)
        self.begin(context)
        following = {"": "2", "2": "3", "3": ""}[request.page_token]
        made = retrieval.Series(id=f"s{request.page_token}")
        return retrieval.ListSeriesResponse(series=[made], next_page_token=following)

    def DownloadReference(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.script.streams.append([request.reference_id])
        self.begin(context)
        yield retrieval.DownloadReferenceResponse(picture=common.PictureHeader(key="k", byte_size=6))
        yield retrieval.DownloadReferenceResponse(chunk=common.PictureChunk(key="k", data=b"abc"))
        self.step(context, 1)
        yield retrieval.DownloadReferenceResponse(chunk=common.PictureChunk(key="k", data=b"def", last=True))

    def step(self, context: grpc.ServicerContext, answered: int) -> None:
        """Breaks the stream off if it is time."""
        if self.script.breaks and self.script.breaks[0] <= answered:
            self.script.breaks.pop(0)
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    def AddReferences(self, requests: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        seen: list[str] = []
        self.script.streams.append(seen)
        self.begin(context)
        for request in requests:
            if request.WhichOneof("message") == "header":
                key = request.header.picture.key
            if request.WhichOneof("message") == "chunk":
                seen.append(request.chunk.data.decode())
                self.step(context, len(seen) - 1)
                yield retrieval.AddReferencesResponse(key=key, status=1)
        self.step(context, len(seen))

    def ImportReferences(self, requests: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        seen: list[str] = []
        self.script.streams.append(seen)
        self.begin(context)
        for request in requests:
            if request.WhichOneof("message") == "batch":
                self.step(context, len(seen))
                seen += [one.data.decode() for one in request.batch.references]
                made = [retrieval.AddReferencesResponse(key=one.key, status=1) for one in request.batch.references]
                yield retrieval.ImportReferencesResponse(results=made)

    def ColorizePages(self, requests: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        seen: list[str] = []
        self.script.streams.append(seen)
        self.begin(context)
        for request in requests:
            if request.WhichOneof("message") == "chunk":
                data = request.chunk.data
            if request.WhichOneof("message") == "end":
                seen.append(request.end.page_key)
                self.step(context, len(seen) - 1)
                yield from self.page(request.end.page_key, data)

    def page(self, key: str, data: bytes) -> Iterator[Any]:
        yield colorizer.ColorizePagesResponse(accepted=colorizer.PageAccepted(page_key=key))
        if self.script.page_failures.get(key):
            self.script.page_failures[key] -= 1
            failure = common.Failure(code=8, reason="QUEUE_FULL", message="the queue is full", retryable=True)
            yield colorizer.ColorizePagesResponse(error=colorizer.PageError(page_key=key, failure=failure))
            return
        yield colorizer.ColorizePagesResponse(picture=common.PictureHeader(key=key, media_type="image/png"))
        yield colorizer.ColorizePagesResponse(chunk=common.PictureChunk(key=key, data=data, last=True))
        digest = hashlib.sha256(data).hexdigest()
        yield colorizer.ColorizePagesResponse(result=colorizer.PageResult(page_key=key, sha256=digest))


def late(script: Script, ask: Callable[[float], None]) -> None:
    """Makes a call that is held, with ever longer deadlines until it reached the server; returns when it ended there.

    Args:
        script: of the server.
        ask: makes the call, with a deadline in seconds, and returns when it was told that it is over.
    """
    script.hold = True
    for seconds in DEADLINES:
        ask(seconds)
        if script.begun.is_set():
            break
    assert script.ended.wait(PATIENCE)


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """The address of a server that does what the script says."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    servicer = Server(script)
    retrieval_grpc.add_RetrievalServiceServicer_to_server(servicer, server)
    colorizer_grpc.add_ColorizerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        script.ended.set()
        server.stop(None).wait()


class Blocking:
    """Calls through a blocking client."""

    retrieval, colorizer = RetrievalClient, ColorizerClient

    def one(self, kind: Any, target: str, ask: Callable[[Any], Any], **settings: Any) -> Any:
        """What a method that gives a value gives."""
        with kind(target, **settings) as client:
            return ask(client)

    def all(
        self, kind: Any, target: str, ask: Callable[[Any], Iterable[Any]], most: int = 1000, **settings: Any
    ) -> Any:
        """What a method that gives an iterator gives, `most` of it; then it is left."""
        found: list[Any] = []
        with kind(target, **settings) as client, closing(ask(client)) as given:  # type: ignore[type-var]
            for one in given:
                found.append(one)
                if len(found) == most:
                    break
        return found


class Asyncio:
    """Calls through an asyncio client, in a loop of their own."""

    retrieval, colorizer = AsyncRetrievalClient, AsyncColorizerClient

    def one(self, kind: Any, target: str, ask: Callable[[Any], Awaitable[Any]], **settings: Any) -> Any:
        """What a method that is awaited gives."""

        async def asked() -> Any:
            async with kind(target, **settings) as client:
                return await ask(client)

        return asyncio.run(asked())

    def all(
        self, kind: Any, target: str, ask: Callable[[Any], AsyncIterator[Any]], most: int = 1000, **settings: Any
    ) -> Any:
        """What a method under `async for` gives, `most` of it; then it is left."""

        async def asked() -> Any:
            found: list[Any] = []
            async with kind(target, **settings) as client, aclosing(ask(client)) as given:  # type: ignore[type-var]
                async for one in given:
                    found.append(one)
                    if len(found) == most:
                        break
            return found

        return asyncio.run(asked())


Kind: TypeAlias = Blocking | Asyncio
QUICK = Retry(attempts=3, first=0.01)


def hooked(**numbers: Any) -> tuple[Retry, list[Retrying]]:
    told: list[Retrying] = []
    return Retry(**{"attempts": 3, "first": 0.01, **numbers}, on_retry=told.append), told


def pages(*keys: str) -> list[t.PageFile]:
    return [t.PageFile(key, f"data of {key}".encode()) for key in keys]


def ends(events: list[t.Event]) -> list[tuple[str, str]]:
    return [(event.key, type(event).__name__) for event in events if isinstance(event, t.Finished | t.Failed)]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def target(script: Script) -> Iterator[str]:
    with serving(script) as address:
        yield address
