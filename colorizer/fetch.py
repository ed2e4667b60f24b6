"""Contexts from the retrieval server, through its stubs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
from grpc import aio

from colorizer.codec import decode_hit, in_order, unpack_rgb
from colorizer.statuses import kind_of, reason_of
from colorizer.tasks import Context, SeriesQuery
from colorizer.types import Swatch
from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from panelhue.retrieval.v1 import retrieval_pb2_grpc as pb_grpc
from serving import errors
from serving.chunks import PictureAssembler, split_picture
from serving.errors import ServiceError
from serving.given_status import GivenStatus

REASON = "RETRIEVAL_FAILED"
_OF_THE_PAGE = ("IMAGE_UNREADABLE", "IMAGE_TOO_LARGE", "IMAGE_TOO_SMALL")


class ContextSource:
    """A connection to the retrieval server.

    Args:
        target: its address, "HOST:PORT".
        max_picture_bytes: largest reference that is taken.
        max_context_bytes: of all references of one page together.
    """

    def __init__(self, target: str, max_picture_bytes: int, max_context_bytes: int) -> None:
        self._target = target
        self._max_picture_bytes = max_picture_bytes
        self._max_context_bytes = max_context_bytes
        self._channel = aio.insecure_channel(
            target,
            options=[
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 5_000),
            ],
        )
        self._stub = pb_grpc.RetrievalServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def fetch(self, query: SeriesQuery, page: bytes, timeout: float, request_id: str = "") -> Context:
        """The context of a page, with every distinct reference once as it was added.

        Args:
            query: series, bound and number of hits.
            page: the page's bytes.
            timeout: seconds for all of it.
            request_id: for the other server's log.

        Raises:
            Timeout: PAGE_TIMEOUT, `timeout` is over.
            ServiceError: RETRIEVAL_FAILED, of the kind of the cause, with the cause's reason in its metadata.
        """
        call = self._stub.RetrieveContext(_requests(query, page, request_id), timeout=timeout)
        status = GivenStatus(call)
        try:
            return await self._read(call)
        except aio.AioRpcError as error:
            raise self._translated(await status.of(error), timeout) from error
        except ServiceError as error:
            raise self._failed(type(error), error.message, error.reason) from error
        finally:
            call.cancel()

    async def _read(self, call: AsyncIterator[pb.RetrieveContextResponse]) -> Context:
        assembler = PictureAssembler(self._max_picture_bytes)
        pictures: dict[str, bytes] = {}
        context: Context | None = None
        room = self._max_context_bytes
        async for message in call:
            kind = message.WhichOneof("message")
            if kind == "summary":
                context = _decode_summary(message.summary)
            elif kind == "picture":
                assembler.begin(message.picture)
            elif kind == "chunk":
                room -= len(message.chunk.data)
                if room < 0:
                    raise errors.Overloaded(
                        f"a page's references must have at most {self._max_context_bytes} bytes together, got more"
                    )
                data = assembler.add(message.chunk)
                if data is not None:
                    pictures[message.chunk.key] = data
        if context is None:
            raise errors.CorruptData("the retrieval server must answer with a summary, got none")
        missing = {hit.picture for hit in context.hits} - pictures.keys()
        if missing:
            raise errors.CorruptData(f"the retrieval server names {len(missing)} pictures that it did not send")
        return replace(context, pictures=pictures)

    def _translated(self, error: aio.AioRpcError, timeout: float) -> ServiceError:
        """The same failure as a page's error; a page that cannot be read, or is out of time, is named as such."""
        cause = reason_of(error)
        if cause in _OF_THE_PAGE:
            return errors.InvalidInput(error.details() or cause, reason=cause)
        if cause == grpc.StatusCode.DEADLINE_EXCEEDED.name:  # ours: the other server's own limits have other reasons
            message = f"a page's context must come within {timeout:g} s, and this one's did not"
            return errors.Timeout(message, reason="PAGE_TIMEOUT", metadata={"cause": cause})
        return self._failed(kind_of(error.code()), error.details() or error.code().name, cause)

    def _failed(self, kind: type[ServiceError], message: str, cause: str) -> ServiceError:
        return kind(
            f"no context from the retrieval server at {self._target}: {message}",
            reason=REASON,
            metadata={"cause": cause},
        )


async def _requests(query: SeriesQuery, page: bytes, request_id: str) -> AsyncIterator[pb.RetrieveContextRequest]:
    key = "page"
    options = pb.RetrieveContextOptions(
        series_id=query.series_id,
        page=common.PictureHeader(key=key, byte_size=len(page)),
        hits_per_corner=query.hits_per_corner,
        bound=common.Bound.FromString(query.bound),
        pixels=pb.RetrieveContextOptions.PIXELS_REFERENCES,
        min_generation=query.min_generation,
        request_id=request_id,
    )
    yield pb.RetrieveContextRequest(options=options)
    for chunk in split_picture(key, page):
        yield pb.RetrieveContextRequest(chunk=chunk)
        await asyncio.sleep(0)  # a big page must not hold the loop


def _decode_summary(summary: pb.ContextSummary) -> Context:
    return Context(
        hits=in_order(decode_hit(hit) for hit in summary.hits),
        generation=summary.generation,
        palette=tuple(Swatch(swatch.name, unpack_rgb(swatch.rgb)) for swatch in summary.palette),
        embed_ns=summary.timing.embed_ns,
        search_ns=summary.timing.search_ns,
    )
