"""The request streams of the service: which message may follow which, and work that runs ahead of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from panelhue.retrieval.v1 import retrieval_pb2 as pb
from retrieval.codec.references import MAX_BATCH, decode_draft
from retrieval.types import Draft
from serving.chunks import PictureAssembler
from serving.errors import FailedState, InvalidInput, NotFound, Overloaded, ServiceError
from serving.fields import Fields
from serving.workers import RemoteError

STREAM_ENDS = (FailedState, NotFound, Overloaded)  # what no other picture of the stream would survive either

T = TypeVar("T")


@dataclass(frozen=True)
class Incoming:
    """One picture of an AddReferences stream, whole; or why it is lost."""

    key: str
    draft: Draft | None = None
    data: bytes = b""
    error: InvalidInput | None = None


def broken(expected: str, got: str) -> InvalidInput:
    """The error for a stream whose messages come in another order than agreed."""
    return InvalidInput(f"expected {expected}, got {got}", reason="BAD_STREAM")


async def first(messages: AsyncIterator[Any]) -> Any:
    """The stream's options, which must come first.

    Raises:
        InvalidInput: BAD_STREAM, something else did, or nothing.
    """
    async for message in messages:
        kind = message.WhichOneof("message")
        if kind != "options":
            raise broken("options as the stream's first message", kind or "an empty message")
        return message.options
    raise broken("options as the stream's first message", "an empty stream")


async def incoming(messages: AsyncIterator[pb.AddReferencesRequest], max_bytes: int) -> AsyncIterator[Incoming]:
    """The pictures of an AddReferences stream behind its options, one after the other.

    Args:
        messages: the stream; its silence is already limited.
        max_bytes: largest picture.

    Raises:
        InvalidInput: BAD_STREAM or BAD_CHUNK, the order of messages is broken.
    """
    assembler = PictureAssembler(max_bytes)
    key: str | None = None  # of the picture that is open
    draft: Draft | None = None
    wrong: InvalidInput | None = None
    async for message in messages:
        match message.WhichOneof("message"):
            case "header" if key is None:
                assembler.begin(message.header.picture)
                key, draft, wrong = message.header.picture.key, None, None
                try:
                    draft = decode_draft(message.header.reference)
                except InvalidInput as error:
                    wrong = error
            case "header":
                raise broken(f"the last chunk of picture {key!r}", "the header of another picture")
            case "chunk":
                try:
                    data = assembler.add(message.chunk)
                except InvalidInput as error:
                    if "key" not in error.metadata:
                        raise
                    yield Incoming(error.metadata["key"], error=wrong or error)
                    key = None
                    continue
                if data is not None:
                    yield Incoming(message.chunk.key, draft, b"" if wrong else data, wrong)
                    key = None
                    del data
            case other:
                raise broken("a header or a chunk", other or "an empty message")
    if key is not None:
        raise broken(f"the last chunk of picture {key!r}", "the end of the stream")


async def import_batches(messages: AsyncIterator[pb.ImportReferencesRequest]) -> AsyncIterator[pb.ImportBatch]:
    """The batches of an ImportReferences stream behind its options.

    Raises:
        InvalidInput: BAD_STREAM, the order of messages is broken; or a batch of none, or of too many references.
    """
    async for message in messages:
        kind = message.WhichOneof("message")
        if kind != "batch":
            raise broken("a batch", kind or "an empty message")
        f, count = Fields(), len(message.batch.references)
        f.require(1 <= count <= MAX_BATCH, "batch.references", f"must have 1 to {MAX_BATCH} entries, got {count}")
        f.done()
        yield message.batch


def rejects(error: Exception) -> bool:
    """Whether an error is about one picture, so that the stream goes on."""
    if isinstance(error, ServiceError):
        in_worker = error.metadata.get("stage") == "reference" and not isinstance(error, STREAM_ENDS)
        return in_worker or isinstance(error, InvalidInput) or error.reason == "OUT_OF_MEMORY"
    return isinstance(error, RemoteError)  # a mistake of ours met in a worker, by this picture


async def page_bytes(
    messages: AsyncIterator[pb.RetrieveContextRequest], options: pb.RetrieveContextOptions, max_bytes: int
) -> bytes:
    """The page of a RetrieveContext stream behind its options.

    Raises:
        InvalidInput: BAD_STREAM or BAD_CHUNK; SIZE_MISMATCH or IMAGE_TOO_LARGE.
    """
    assembler = PictureAssembler(max_bytes)
    assembler.begin(options.page)
    async for message in messages:
        kind = message.WhichOneof("message")
        if kind != "chunk":
            raise broken("a chunk of the page", kind or "an empty message")
        data = assembler.add(message.chunk)
        if data is not None:
            return data
    raise broken("the last chunk of the page", "the end of the stream")


async def ahead(source: AsyncIterator[Coroutine[Any, Any, T]], window: int) -> AsyncGenerator[T, None]:
    """The results of `source`'s coroutines, in their order; up to `window` run while earlier results are waited for.

    The source is asked for no more than that, so that a slow consumer slows the producer down. An error of the source
    comes after the results that were asked for before it.

    Args:
        source: makes work.
        window: coroutines taken whose result was not consumed, at least 1.
    """
    slots = asyncio.Semaphore(window)
    tasks: asyncio.Queue[asyncio.Task[T] | None] = asyncio.Queue()
    running: set[asyncio.Task[T]] = set()

    async def take() -> None:
        try:
            await slots.acquire()
            async for work in source:
                task = asyncio.ensure_future(work)
                running.add(task)
                tasks.put_nowait(task)
                await slots.acquire()
        finally:
            tasks.put_nowait(None)

    taking = asyncio.ensure_future(take())
    try:
        while (task := await tasks.get()) is not None:
            yield await task
            running.discard(task)
            del task
            slots.release()
        await taking
    finally:
        for other in (taking, *running):
            other.cancel()
        await asyncio.gather(taking, *running, return_exceptions=True)
