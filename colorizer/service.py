"""gRPC in, engine, gRPC out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TypeVar

from grpc import aio

from colorizer.backend import Listing
from colorizer.codec import decode_options, encode_backend, encode_event
from colorizer.engine import Engine
from colorizer.pages import PageAssembler
from colorizer.streams import Plan
from colorizer.tasks import Failed, Finished, PageRequest
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from serving.errors import InvalidInput, Timeout, Unavailable
from serving.images import ImageLimits

SERVICE = "panelhue.colorizer.v1.ColorizerService"

T = TypeVar("T")


class ColorizerServicer(pb_grpc.ColorizerServiceServicer):
    """ColorizerService over an engine.

    Args:
        engine: does the work.
        limits: largest picture taken.
        max_context_bytes: of all context pictures of a page together.
        idle_seconds: how long a client may be silent while nothing of it is under way.
        version: Panelhue's.
    """

    def __init__(
        self, engine: Engine, limits: ImageLimits, max_context_bytes: int, idle_seconds: float, version: str
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._max_context_bytes = max_context_bytes
        self._idle_seconds = idle_seconds
        self._version = version

    async def ListBackends(  # noqa: N802 - the contract's name
        self,
        request: pb.ListBackendsRequest,  # noqa: ARG002
        context: aio.ServicerContext,  # noqa: ARG002 - gRPC's signature
    ) -> pb.ListBackendsResponse:
        """The cards of all back-ends."""
        listings = await self._engine.listings()
        return pb.ListBackendsResponse(
            backends=[self._encoded(listing) for listing in listings], default_backend=self._engine.default_backend
        )

    async def GetBackend(  # noqa: N802
        self,
        request: pb.GetBackendRequest,
        context: aio.ServicerContext,  # noqa: ARG002
    ) -> pb.GetBackendResponse:
        """The card of one back-end."""
        return pb.GetBackendResponse(backend=self._encoded(await self._engine.listing(request.name)))

    def _encoded(self, listing: Listing) -> pb.Backend:
        """The card, with the server's own limits where they are narrower."""
        card, limits = listing.card, self._limits
        return encode_backend(
            replace(
                listing,
                card=replace(
                    card,
                    min_side=max(card.min_side, limits.min_side),
                    max_pixels=min(card.max_pixels, limits.max_pixels),
                ),
            )
        )

    async def GetServerInfo(  # noqa: N802
        self,
        request: pb.GetServerInfoRequest,  # noqa: ARG002
        context: aio.ServicerContext,  # noqa: ARG002
    ) -> pb.GetServerInfoResponse:
        """Versions, limits and load."""
        queued, places, workers = self._engine.load
        return pb.GetServerInfoResponse(
            version=self._version,
            queue_length=queued,
            queue_capacity=places,
            workers=workers,
            has_retrieval=self._engine.has_retrieval,
            max_picture_bytes=self._limits.max_bytes,
            max_picture_pixels=self._limits.max_pixels,
        )

    async def ColorizePages(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ColorizePagesRequest], context: aio.ServicerContext
    ) -> AsyncIterator[pb.ColorizePagesResponse]:
        """Colourises the pages of a stream."""
        inflow = _Inflow(request_iterator, self._idle_seconds, self._engine.draining)
        first = await inflow.next()
        if first is None or first.WhichOneof("message") != "options":
            got = "the end" if first is None else first.WhichOneof("message") or "an empty message"
            raise InvalidInput(f"a stream must begin with options, got {got}", reason="BAD_ORDER")
        plan = await self._engine.plan(decode_options(first.options))
        assembler = PageAssembler(self._limits.max_bytes, self._max_context_bytes)
        stream = self._engine.colorize(plan, self._pages(inflow, assembler, plan))
        context.add_done_callback(lambda _: stream.cancel())  # however the call ends, its workers are free at once
        async for event in stream.events():
            for message in encode_event(event):
                if isinstance(event, Finished | Failed) and message.WhichOneof("message") in ("result", "error"):
                    # Before it is sent, so that a client that has it may use the key again.
                    assembler.answered(event.key)
                    inflow.busy -= 1
                    inflow.touch()
                yield message

    async def _pages(self, inflow: _Inflow, assembler: PageAssembler, plan: Plan) -> AsyncIterator[PageRequest]:
        fresh = True
        while (message := await inflow.next(may_drain=assembler.open_key is None)) is not None:
            page = assembler.add(message)
            if fresh and message.WhichOneof("message") == "page":
                fresh = False
                self._engine.refuse_when_full(plan)
            if page is not None:
                inflow.busy += 1
                yield page
        assembler.finish()


class _Inflow:
    """A client's messages with a limit on its silence, and an early end when the server drains.

    Time in which pages of the client are under way does not count as silence.
    """

    def __init__(
        self, messages: AsyncIterator[pb.ColorizePagesRequest], seconds: float, draining: asyncio.Event
    ) -> None:
        self.busy = 0  # pages handed on and not answered
        self._messages = messages.__aiter__()
        self._seconds = seconds
        self._draining = draining
        self._since = 0.0
        self.touch()

    def touch(self) -> None:
        """The silence begins anew."""
        self._since = asyncio.get_running_loop().time()

    async def next(self, *, may_drain: bool = True) -> pb.ColorizePagesRequest | None:
        """The next message, or None when the client has closed its side.

        Raises:
            Timeout: IDLE_TIMEOUT.
            Unavailable: DRAINING, if `may_drain`.
        """
        self.touch()
        message = asyncio.ensure_future(_next_or_none(self._messages))
        drained = asyncio.ensure_future(self._draining.wait())
        try:
            while not message.done():
                if may_drain and drained.done():
                    raise Unavailable(
                        "the server is shutting down and takes no more pages", reason="DRAINING", retry_after=2.0
                    )
                await asyncio.wait(
                    {message} if drained.done() else {message, drained},
                    timeout=self._patience(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not message.done() and not drained.done() and not self.busy and self._patience() <= 0:
                    raise Timeout(f"no message for {self._seconds:g} s; the stream is closed", reason="IDLE_TIMEOUT")
            return message.result()
        finally:
            message.cancel()
            drained.cancel()

    def _patience(self) -> float:
        """Seconds until the client has been silent for too long."""
        if self.busy:
            return self._seconds
        return max(0.0, self._since + self._seconds - asyncio.get_running_loop().time())


async def _next_or_none(messages: AsyncIterator[T]) -> T | None:
    return await anext(messages, None)
