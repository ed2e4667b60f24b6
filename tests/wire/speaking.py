"""What the tests say to the retrieval server, and the pictures they say it with."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status
from PIL import Image

from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from panelhue.retrieval.v1 import retrieval_pb2_grpc as pb_grpc
from serving.chunks import split_picture


def picture(seed: int, width: int = 64, height: int = 96) -> bytes:
    """A small colour PNG, another one for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 5, 3), dtype=np.uint8))
    out = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


def grey(data: bytes) -> bytes:
    """The same picture without its colour."""
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("L").save(out, "PNG")
    return out.getvalue()


def id_of(data: bytes) -> str:
    """The reference id of these bytes."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def stub_of(address: str) -> Iterator[pb_grpc.RetrievalServiceStub]:
    """A stub that is closed again."""
    with grpc.insecure_channel(address) as channel:
        yield pb_grpc.RetrievalServiceStub(channel)


def header(key: str, reference: pb.Reference | None = None, size: int = 0) -> pb.AddReferencesRequest:
    """Begins a picture."""
    announced = common.PictureHeader(key=key, byte_size=size)
    return pb.AddReferencesRequest(header=pb.ReferenceHeader(picture=announced, reference=reference))


def chunks(key: str, data: bytes) -> Iterator[pb.AddReferencesRequest]:
    """Continues a picture to its end."""
    for chunk in split_picture(key, data):
        yield pb.AddReferencesRequest(chunk=chunk)


def adding(series_id: str, pictures: Iterable[bytes | tuple[bytes, pb.Reference]]) -> Iterator[pb.AddReferencesRequest]:
    """A whole AddReferences stream; keys are "0", "1" …"""
    yield pb.AddReferencesRequest(options=pb.AddReferencesOptions(series_id=series_id))
    for place, item in enumerate(pictures):
        data, reference = item if isinstance(item, tuple) else (item, None)
        yield header(str(place), reference)
        yield from chunks(str(place), data)


def asking(series_id: str, page: bytes, **options: object) -> Iterator[pb.RetrieveContextRequest]:
    """A whole RetrieveContext stream for a page."""
    announced = common.PictureHeader(key="page", byte_size=len(page))
    yield pb.RetrieveContextRequest(
        options=pb.RetrieveContextOptions(series_id=series_id, page=announced, **options)  # type: ignore[arg-type]
    )
    for chunk in split_picture("page", page):
        yield pb.RetrieveContextRequest(chunk=chunk)


def answer(responses: Iterable[pb.RetrieveContextResponse]) -> tuple[pb.ContextSummary, dict[str, bytes]]:
    """The summary of a RetrieveContext call and its pictures by key."""
    summary: pb.ContextSummary | None = None
    pictures: dict[str, bytes] = {}
    for response in responses:
        kind = response.WhichOneof("message")
        assert (summary is None) == (kind == "summary"), "the summary comes first, once"
        if kind == "summary":
            summary = response.summary
        elif kind == "picture":
            pictures[response.picture.key] = b""
        else:
            pictures[response.chunk.key] += response.chunk.data
    assert summary is not None
    return summary, pictures


def new_series(stub: pb_grpc.RetrievalServiceStub, test: str) -> str:
    """The id of a new, empty series that is named after a test."""
    name = test.lower().replace("_", "-")[-50:].strip("-.[]")
    made: str = stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(display_name=name))).series.id
    return made


def get(stub: pb_grpc.RetrievalServiceStub, series: str) -> pb.Series:
    """The series as it is."""
    return stub.GetSeries(pb.GetSeriesRequest(series_id=series)).series


def fill(stub: pb_grpc.RetrievalServiceStub, series: str) -> str:
    """Eight references: chapters 1000 to 7000 and one without, tags by parity, two of them made."""
    items = []
    for n in range(8):
        reference = pb.Reference(page=n, tags=["even" if n % 2 == 0 else "odd", f"n{n}"])
        if n:
            reference.chapter = n * 1000
        if n >= 6:
            reference.provenance.origin = common.ORIGIN_GENERATED
            reference.provenance.backend = "exemplar"
        items.append((picture(n), reference))
    statuses = [response.status for response in stub.AddReferences(adding(series, items))]
    assert statuses == [pb.AddReferencesResponse.STATUS_ADDED] * 8
    return series


class Refusal:
    """An error as a caller sees it."""

    code: grpc.StatusCode
    reason: str
    message: str
    fields: tuple[str, ...]


@contextmanager
def refused(code: grpc.StatusCode, reason: str) -> Iterator[Refusal]:
    """The call in the block fails with this status and this ErrorInfo."""
    refusal = Refusal()
    with pytest.raises(grpc.RpcError) as caught:
        yield refusal
    status = rpc_status.from_call(caught.value)
    assert status is not None, caught.value
    info, bad = ErrorInfo(), BadRequest()
    for detail in status.details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(BadRequest.DESCRIPTOR):
            detail.Unpack(bad)
    refusal.code, refusal.reason, refusal.message = caught.value.code(), info.reason, status.message
    refusal.fields = tuple(violation.field for violation in bad.field_violations)
    assert (refusal.code, refusal.reason, info.domain) == (code, reason, "panelhue"), status


@pytest.fixture
def stub(retrieval_server):
    with stub_of(retrieval_server.address) as made:
        yield made


@pytest.fixture
def series(stub, request):
    """The id of a new, empty series."""
    return new_series(stub, request.node.name)


@pytest.fixture
def pool(stub, series):
    """The id of a series of eight references that a test may change: see `fill`."""
    return fill(stub, series)
