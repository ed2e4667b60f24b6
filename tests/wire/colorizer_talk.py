"""Speaks ColorizePages for the tests: builds the requests, collects the answers by page."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status
from PIL import Image

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from panelhue.common.v1 import common_pb2 as common
from serving.chunks import split_picture

Request = pb.ColorizePagesRequest


def encoded(pixels: np.ndarray, kind: str = "PNG", **how: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **how)
    return out.getvalue()


def grey_page(width: int = 60, height: int = 80, seed: int = 0) -> bytes:
    return encoded(np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8))


def colour_picture(rgb: Sequence[int] = (200, 80, 20), width: int = 60, height: int = 80) -> np.ndarray:
    """Half of it in `rgb`, half white."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: height // 2] = rgb
    return pixels


def decoded(data: bytes, mode: str = "RGB") -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode, f"expected {mode}, got {image.mode}"
        return np.array(image)


def options(**fields: object) -> pb.ColorizePagesRequest:
    return Request(options=pb.ColorizeOptions(**fields))


def picture(key: str, data: bytes) -> Iterator[pb.ColorizePagesRequest]:
    return (Request(chunk=chunk) for chunk in split_picture(key, data))


def page(
    key: str,
    data: bytes | None = None,
    hits: Sequence[common.Hit] | None = None,
    pictures: dict[str, bytes] | None = None,
    byte_size: int = 0,
    **header: object,
) -> Iterator[pb.ColorizePagesRequest]:
    data = grey_page() if data is None else data
    yield Request(page=pb.PageHeader(picture=common.PictureHeader(key=key, byte_size=byte_size), **header))
    yield from picture(key, data)
    if hits is not None:
        yield Request(context=pb.PageContext(page_key=key, hits=hits, generation=41))
    for name, file in (pictures or {}).items():
        yield Request(context_picture=common.PictureHeader(key=name))
        yield from picture(name, file)
    yield Request(end=pb.PageEnd(page_key=key))


def hit(corner: int = 1, rank: int = 0, **fields: object) -> common.Hit:
    return common.Hit(
        corner=corner, rank=rank, **{"score": 0.9, "reference_id": "ab" * 32, "picture_key": "r", **fields}
    )


@dataclass
class Answer:
    """All that came back for one page."""

    accepted: list[pb.PageAccepted] = field(default_factory=list)
    queued: list[pb.PageQueued] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)
    previews: list[tuple[common.PictureHeader, bytes]] = field(default_factory=list)
    header: common.PictureHeader | None = None
    data: bytes = b""
    result: pb.PageResult | None = None
    error: common.Failure | None = None

    @property
    def reason(self) -> str:
        return self.error.reason if self.error else ""


@dataclass
class Answers:
    """All pages of a stream, in the order in which they ended."""

    pages: dict[str, Answer] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    status: grpc.RpcError | None = None

    def take(self, message: pb.ColorizePagesResponse) -> None:
        kind = message.WhichOneof("message")
        body = getattr(message, kind)
        key = body.key if kind in ("preview", "picture", "chunk") else body.page_key
        answer = self.pages.setdefault(key, Answer())
        assert answer.result is None, f"{kind} of {key} came after its result"
        assert answer.error is None, f"{kind} of {key} came after its error"
        if kind == "accepted":
            answer.accepted.append(body)
        elif kind == "queued":
            answer.queued.append(body)
        elif kind == "progress":
            answer.progress.append((body.step, body.steps))
        elif kind == "preview":
            answer.previews.append((body, b""))
        elif kind == "picture":
            answer.header = body
        elif kind == "chunk" and answer.header is None:
            answer.previews[-1] = (answer.previews[-1][0], answer.previews[-1][1] + body.data)
        elif kind == "chunk":
            answer.data += body.data
        elif kind == "result":
            assert hashlib.sha256(answer.data).hexdigest() == body.sha256
            assert answer.header
            assert answer.header.byte_size == len(answer.data)
            answer.result = body
            self.ended.append(key)
        else:
            answer.error = body.failure
            self.ended.append(key)


def converse(stub: pb_grpc.ColorizerServiceStub, requests: Iterable[pb.ColorizePagesRequest]) -> Answers:
    """Sends everything and reads to the end; a failed stream's status is kept beside what came before it."""
    answers = Answers()
    try:
        for message in stub.ColorizePages(iter(requests), timeout=400):
            answers.take(message)
    except grpc.RpcError as error:
        answers.status = error
    return answers


def colorize(
    stub: pb_grpc.ColorizerServiceStub, *pages: Iterable[pb.ColorizePagesRequest], **fields: object
) -> Answers:
    """The answers to whole pages; the stream itself must succeed."""

    def requests() -> Iterator[pb.ColorizePagesRequest]:
        yield options(**fields)
        for one in pages:
            yield from one

    answers = converse(stub, requests())
    assert answers.status is None, answers.status
    return answers


@dataclass
class Status:
    """A failed call, taken apart."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    retry_seconds: float | None = None


def status_of(error: grpc.RpcError | None) -> Status:
    assert error is not None, "the call succeeded"
    status = Status(error.code(), error.details())
    rich = rpc_status.from_call(error)
    for detail in rich.details if rich else ():
        info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
        if detail.Unpack(info):
            status.reason, status.domain, status.metadata = info.reason, info.domain, dict(info.metadata)
        elif detail.Unpack(bad):
            status.fields = [violation.field for violation in bad.field_violations]
        elif detail.Unpack(retry):
            status.retry_seconds = retry.retry_delay.ToMilliseconds() / 1000
    return status
