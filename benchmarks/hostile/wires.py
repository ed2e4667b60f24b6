"""Plays the talks: streams that no client of ours sends, each followed by a sound one that must be answered."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from benchmarks.hostile.ground import LONGEST, Ground
from benchmarks.hostile.play import Row
from benchmarks.hostile.talks import PAGE, Talk, announced, piece
from benchmarks.hostile.watch import begin_peaks, busy_seconds, peak_bytes, stalled_seconds
from panelhue.colorizer.v1 import colorizer_pb2 as cz
from panelhue.colorizer.v1 import colorizer_pb2_grpc as cz_grpc
from panelhue.retrieval.v1 import retrieval_pb2 as rt
from panelhue.retrieval.v1 import retrieval_pb2_grpc as rt_grpc

PATIENCE = 60.0  # seconds


def spoken(ground: Ground, talks: Iterable[Talk], series: str) -> Iterator[Row]:
    """The row of each talk."""
    retrieval, colorizer = ground.servers.retrieval, ground.servers.colorizer
    with grpc.insecure_channel(retrieval.address) as one, grpc.insecure_channel(colorizer.address) as other:
        pool = rt_grpc.RetrievalServiceStub(one)  # type: ignore[no-untyped-call]  # generated
        painter = cz_grpc.ColorizerServiceStub(other)  # type: ignore[no-untyped-call]  # generated
        _ensure(pool, series)
        for talk in talks:
            stub = painter if talk.call == "ColorizePages" else pool
            workers = ground.workers()
            for server in (retrieval, colorizer):
                begin_peaks(server)
            stalled = stalled_seconds()
            start, before = time.monotonic(), busy_seconds(retrieval) + busy_seconds(colorizer)
            outcome, answered = _answer(getattr(stub, talk.call), talk, series)
            seconds = time.monotonic() - start
            stalled = stalled_seconds() - stalled
            busy = busy_seconds(retrieval) + busy_seconds(colorizer) - before
            faults = [] if answered else [outcome]
            faults += [f"{seconds:.0f} s"] * (busy > LONGEST or seconds - stalled > LONGEST)
            faults += _sound(painter)
            gone = len(workers - ground.workers())
            faults += [f"{gone} workers died"] * bool(gone)
            held = (peak_bytes(retrieval) + peak_bytes(colorizer)) / 1e6
            asked = talk.call != "ColorizePages"
            yield Row(
                group="wire",
                name=f"{talk.call}: {talk.name}",
                ingest=outcome if asked else "",
                colorize="" if asked else outcome,
                seconds=seconds,
                stalled_seconds=stalled,
                cpu_seconds=busy,
                sharing=1,
                client_mb=0.0,
                servers_mb=held,
                faults=faults,
            )


def _ensure(pool: rt_grpc.RetrievalServiceStub, series: str) -> None:
    try:
        pool.CreateSeries(rt.CreateSeriesRequest(series=rt.Series(id=series)))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise


def _answer(method: grpc.StreamStreamMultiCallable, talk: Talk, series: str) -> tuple[str, bool]:
    """What came back, and whether that is an answer that a server may give."""
    said: dict[str, int] = {}
    try:
        for message in method(talk.requests(series), timeout=PATIENCE):
            for word in _words(message):
                said[word] = said.get(word, 0) + 1
    except grpc.RpcError as error:
        status = error.code().name
        said[f"{status}: {_reason(error)}"] = 1
        # The transport refuses what is above its limit with a reason of its own.
        return _told(said), status not in ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED")
    return _told(said) or "nothing", True


def _told(said: dict[str, int]) -> str:
    return ", ".join(word if count == 1 else f"{count} {word}" for word, count in said.items())


def _words(message: object) -> Iterator[str]:
    if isinstance(message, rt.AddReferencesResponse):
        yield message.failure.reason or rt.AddReferencesResponse.Status.Name(message.status)
    elif isinstance(message, cz.ColorizePagesResponse):
        kind = message.WhichOneof("message")
        if kind == "error":
            yield message.error.failure.reason
        elif kind == "result":
            yield "result"
    elif isinstance(message, rt.RetrieveContextResponse) and message.WhichOneof("message") == "summary":
        yield "context"


def _reason(error: grpc.RpcError) -> str:
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return str(error.details() or "")[:80]


def _sound(painter: cz_grpc.ColorizerServiceStub) -> list[str]:
    options = cz.ColorizeOptions(backend="tint", colour_pages=cz.ColorizeOptions.COLOUR_PAGES_RECOLOUR)
    messages = [
        cz.ColorizePagesRequest(options=options),
        cz.ColorizePagesRequest(page=cz.PageHeader(picture=announced())),
        cz.ColorizePagesRequest(chunk=piece(data=PAGE)),
        cz.ColorizePagesRequest(end=cz.PageEnd(page_key="p")),
    ]
    try:
        kinds = [one.WhichOneof("message") for one in painter.ColorizePages(iter(messages), timeout=PATIENCE)]
    except grpc.RpcError as error:
        return [f"then a sound page failed: {error.details()}"]
    return [] if "result" in kinds else ["then a sound page had no result"]
