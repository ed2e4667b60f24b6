"""The order of messages in streams: what is sent for a picture or page, and what is made of the answers.

No transport is known here: senders are generators of messages, and receivers are fed one message at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from panelhue import types as t
from panelhue._messages import (
    decode_failure,
    decode_hit,
    decode_page_result,
    decode_space,
    decode_swatches,
    decode_timing,
    encode_bound,
    encode_hit,
    encode_reference,
)
from panelhue.colorizer.v1 import colorizer_pb2 as colorizer
from panelhue.common.v1 import common_pb2 as common
from panelhue.errors import Disagreement, UsageError
from panelhue.retrieval.v1 import retrieval_pb2 as retrieval

CHUNK_BYTES = 262_144  # as the contract says
MAX_KEY_BYTES = 256


def chunks_of(key: str, data: bytes) -> Iterator[common.PictureChunk]:
    """A picture's chunks; the last one is marked, also where there are no bytes."""
    view = memoryview(data)
    for start in range(0, max(1, len(data)), CHUNK_BYTES):
        piece = view[start : start + CHUNK_BYTES]
        yield common.PictureChunk(key=key, data=bytes(piece), last=start + CHUNK_BYTES >= len(data))


def reference_messages(key: str, file: t.ReferenceFile, data: bytes) -> Iterator[retrieval.AddReferencesRequest]:
    """What is sent for one picture of AddReferences."""
    header = retrieval.ReferenceHeader(
        picture=common.PictureHeader(key=key, byte_size=len(data)), reference=encode_reference(file)
    )
    yield retrieval.AddReferencesRequest(header=header)
    for chunk in chunks_of(key, data):
        yield retrieval.AddReferencesRequest(chunk=chunk)


def page_messages(page: t.PageFile, data: bytes, context: t.Context | None) -> Iterator[colorizer.ColorizePagesRequest]:
    """What is sent for one page of ColorizePages, with the context that it was given or that was made of it."""
    yield colorizer.ColorizePagesRequest(
        page=colorizer.PageHeader(
            picture=common.PictureHeader(key=page.key, byte_size=len(data)),
            hints=[colorizer.Hint(x=one.x, y=one.y, radius=one.radius, rgb=one.rgb) for one in page.hints],
            seed=page.seed,
            bound=encode_bound(page.bound) if page.bound is not None else None,
        )
    )
    for chunk in chunks_of(page.key, data):
        yield colorizer.ColorizePagesRequest(chunk=chunk)
    if context is not None:
        yield from _context_messages(page.key, context)
    yield colorizer.ColorizePagesRequest(end=colorizer.PageEnd(page_key=page.key))


def _context_messages(page_key: str, context: t.Context) -> Iterator[colorizer.ColorizePagesRequest]:
    # Keys are unique among a stream's open pictures, so a context's own are made to differ from those of pages.
    keys = {
        key: f"{hashlib.sha256(page_key.encode()).hexdigest()[:16]}/{place}"
        for place, key in enumerate(context.pictures)
    }
    hits = []
    for hit in context.hits:
        message = encode_hit(hit)
        message.picture_key = keys.get(hit.picture_key, "")
        hits.append(message)
    yield colorizer.ColorizePagesRequest(
        context=colorizer.PageContext(page_key=page_key, hits=hits, generation=context.generation)
    )
    for key, picture in context.pictures.items():
        yield colorizer.ColorizePagesRequest(
            context_picture=common.PictureHeader(
                key=keys[key], media_type=picture.media_type, byte_size=len(picture.data)
            )
        )
        for chunk in chunks_of(keys[key], picture.data):
            yield colorizer.ColorizePagesRequest(chunk=chunk)


def checked_key(key: str) -> str:
    """The key, if the contract allows it.

    Raises:
        UsageError: it is empty or longer than 256 bytes.
    """
    if not 1 <= len(key.encode()) <= MAX_KEY_BYTES:
        raise UsageError(f"a page's key has 1 to {MAX_KEY_BYTES} bytes, got {len(key.encode())}: {key[:60]!r}")
    return key


class Pictures:
    """Puts the pictures of a stream together from their headers and chunks."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[common.PictureHeader, list[bytes]]] = {}

    def begin(self, header: common.PictureHeader) -> None:
        """Takes a header.

        Raises:
            Disagreement: a picture of this key is open.
        """
        if header.key in self._open:
            raise Disagreement(f"the server began picture {header.key!r} again before its last chunk")
        self._open[header.key] = (header, [])

    def add(self, chunk: common.PictureChunk) -> t.Picture | None:
        """The whole picture with its last chunk; None before that.

        Raises:
            Disagreement: no picture of this key is open, or it has other bytes than announced.
        """
        if chunk.key not in self._open:
            raise Disagreement(f"the server sent a chunk of {chunk.key!r}, which it had not begun")
        header, pieces = self._open[chunk.key]
        pieces.append(chunk.data)
        if not chunk.last:
            return None
        del self._open[chunk.key]
        data = b"".join(pieces)
        if header.byte_size and header.byte_size != len(data):
            raise Disagreement(f"picture {header.key!r} has {header.byte_size} bytes as announced, got {len(data)}")
        return t.Picture(header.key, header.media_type, data, header.width, header.height)

    def close(self) -> None:
        """Checks that nothing is missing at the stream's end.

        Raises:
            Disagreement: a picture is open.
        """
        if self._open:
            raise Disagreement(f"the stream ended inside picture {next(iter(self._open))!r}")


@dataclass
class ContextReceiver:
    """Makes a context of what RetrieveContext sends."""

    _summary: retrieval.ContextSummary | None = None
    _pictures: Pictures = field(default_factory=Pictures)
    _done: dict[str, t.Picture] = field(default_factory=dict)

    def feed(self, message: retrieval.RetrieveContextResponse) -> None:
        """Takes the next message."""
        kind = message.WhichOneof("message")
        if kind == "summary":
            self._summary = message.summary
        elif kind == "picture":
            self._pictures.begin(message.picture)
        elif kind == "chunk" and (picture := self._pictures.add(message.chunk)):
            self._done[picture.key] = picture

    def finish(self) -> t.Context:
        """The context, at the stream's end.

        Raises:
            Disagreement: the summary, a picture, or a part of one is missing.
        """
        self._pictures.close()
        if self._summary is None:
            raise Disagreement("the server ended RetrieveContext without a summary")
        hits = tuple(decode_hit(hit) for hit in self._summary.hits)
        if missing := {hit.picture_key for hit in hits if hit.picture_key} - self._done.keys():
            raise Disagreement(f"a hit points to picture {min(missing)!r}, which did not come")
        return t.Context(
            hits=hits,
            pictures=self._done,
            generation=self._summary.generation,
            embedding_space=decode_space(self._summary.embedding_space),
            candidates=self._summary.candidates,
            palette=decode_swatches(self._summary.palette),
            page_width=self._summary.page_width,
            page_height=self._summary.page_height,
            timing=decode_timing(self._summary.timing),
        )


class EventReceiver:
    """Makes events of what ColorizePages sends."""

    def __init__(self) -> None:
        self._pictures = Pictures()
        self._previews: set[str] = set()
        self._finished: dict[str, t.Picture] = {}

    def feed(self, message: colorizer.ColorizePagesResponse) -> t.Event | None:
        """The event that this message completes, if any.

        Raises:
            Disagreement: the order is not the contract's, or the bytes are not those of the stated hash.
        """
        kind = message.WhichOneof("message")
        if kind == "accepted":
            one = message.accepted
            return t.Accepted(one.page_key, one.width, one.height, one.queue_position)
        if kind == "queued":
            return t.Queued(message.queued.page_key, message.queued.position)
        if kind == "progress":
            return t.Progress(message.progress.page_key, message.progress.step, message.progress.steps)
        if kind == "result":
            return self._finish(message.result)
        if kind == "error":
            return t.Failed(message.error.page_key, decode_failure(message.error.failure))
        if kind in ("preview", "picture"):
            header = message.preview if kind == "preview" else message.picture
            self._pictures.begin(header)
            (self._previews.add if kind == "preview" else self._previews.discard)(header.key)
            return None
        return self._chunk(message.chunk) if kind == "chunk" else None  # a newer server's message says nothing to us

    def _chunk(self, chunk: common.PictureChunk) -> t.Event | None:
        picture = self._pictures.add(chunk)
        if picture is None:
            return None
        if picture.key in self._previews:
            return t.Preview(picture.key, picture)
        self._finished[picture.key] = picture
        return None

    def _finish(self, message: colorizer.PageResult) -> t.Finished:
        picture = self._finished.pop(message.page_key, None)
        if picture is None:
            raise Disagreement(f"the server sent the result of {message.page_key!r} before its picture")
        digest = hashlib.sha256(picture.data).hexdigest()
        if message.sha256 and message.sha256 != digest:
            raise Disagreement(
                f"the picture of {message.page_key!r} has SHA-256 {message.sha256} as stated, got {digest}"
            )
        return t.Finished(message.page_key, picture, decode_page_result(message))
