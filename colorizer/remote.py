"""One back-end out of process, as the engine sees it: pages go in, outcomes come out, one stream for each page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import grpc
from grpc import aio

from colorizer.backend import Card, Listing
from colorizer.device_lost import REASON as GPU_LOST
from colorizer.device_lost import device_lost
from colorizer.line import Line, Session
from colorizer.relay import Answer, decode_card, options_of, page_key, page_requests
from colorizer.slots import PageClock, Slots
from colorizer.statuses import reason_of, retry_seconds_of
from colorizer.tasks import Loading, PageOutcome, PageTask, Preview, Started, Stepped
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from serving.errors import FailedState, Overloaded, ServiceError, Unavailable
from serving.given_status import GivenStatus

_PROBE_SECONDS = 5.0  # the longest wait for a card
_END_SECONDS = 1.0  # the longest wait for the end of a stream whose page is done
_RETRY_SECONDS = 2.0
UNAVAILABLE = "BACKEND_UNAVAILABLE"


class RemoteBackend:
    """Meets `lanes.Remote`.

    Args:
        name: of the back-end on this server.
        line: to the process that runs it.
        known: its card before it is up; None: not known.
        check: what is missing here before it can be started, as a sentence; "": nothing.
        sums: sha256 of the weights that it would load, by file.
        max_pages: that it works on at a time.
        ahead: further ones that are in flight to it, so that its next batch is whole when it begins.
        backend: its name over there; "": the same.
        idle_seconds: after so long without a page its process is ended; 0: never.
        max_bytes: largest picture that is taken from it.
    """

    def __init__(
        self,
        name: str,
        line: Line,
        *,
        known: Card | None = None,
        check: Callable[[], str] = str,
        sums: Callable[[], Mapping[str, str]] = dict,
        max_pages: int = 1,
        ahead: int = 0,
        backend: str = "",
        idle_seconds: float = 0.0,
        max_bytes: int = 1 << 30,
    ) -> None:
        self._name = name
        self._line = line
        self._card = known
        self._check = check
        self._sums = sums
        self._backend = backend or name
        self._idle_seconds = idle_seconds
        self._max_bytes = max_bytes
        self._greeted: Session | None = None
        self._greeting = asyncio.Lock()
        self._batch = known.batch if known else 1  # no card that comes over the wire tells it
        self._pages = max_pages
        self._slots = Slots(max_pages + ahead)
        self._running = 0
        self._idle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def workers(self) -> int:
        """Pages that can be worked on at the same time."""
        return self._pages

    async def start(self) -> None:
        """Starts what is to be started with the server."""
        await self._line.start()

    async def close(self) -> None:
        """Ends the process; call it when no page is under way."""
        if self._idle:
            self._idle.cancel()
        await self._line.close()
        for task in self._tasks:
            task.cancel()

    async def listing(self, *, wake: bool = False) -> Listing:
        """The card as it is known now.

        Args:
            wake: starts the process for a card that is not known yet; takes the sums of weights that are here.
        """
        session = self._line.current
        try:
            if session is None and self._card is None and wake:
                session = await self._line.session()
                self._rest_later()
            if session:
                return await self._ask(session)
        except ServiceError as error:
            return Listing(self._card or self._blank(), error.message)
        missing, card = await asyncio.to_thread(self._check), self._card or self._blank()
        if wake and not missing and (sums := await asyncio.to_thread(self._sums)):
            card = replace(card, weights_sha256=sums)
        return Listing(card, missing or self._line.trouble)

    def _blank(self) -> Card:
        return Card(self._name, "", "Runs in a process of its own; its card comes with the first start.")

    async def card(self) -> Card:
        """The card for pages that are about to come; one that is not known yet is asked for.

        Raises:
            FailedState: BACKEND_UNAVAILABLE.
            Unavailable: BACKEND_UNAVAILABLE.
        """
        session = self._line.current
        if session is None and self._card is not None:
            if missing := await asyncio.to_thread(self._check):
                raise self._failed_state(missing)
            return self._card
        listing = await self._ask(session or await self._line.session())
        if listing.missing:
            raise self._failed_state(listing.missing)
        return listing.card

    def _failed_state(self, why: str) -> FailedState:
        return FailedState(why, reason=UNAVAILABLE, metadata={"backend": self._name})

    async def _ask(self, session: Session) -> Listing:
        """Its card as it says itself.

        Raises:
            Unavailable: BACKEND_UNAVAILABLE, it does not answer.
            FailedState: BACKEND_UNAVAILABLE, it refuses.
        """
        request = pb.GetBackendRequest(name=self._backend)
        try:
            response = await session.stub.GetBackend(request, metadata=session.metadata, timeout=_PROBE_SECONDS)
        except aio.AioRpcError as error:
            said = f"{error.code().name}: {error.details()}"
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                message = f"back-end {self._name!r} does not answer: {said}"
                raise Unavailable(message, reason=UNAVAILABLE, retry_after=_RETRY_SECONDS) from error
            raise self._failed_state(f"back-end {self._name!r} does not give its card: {said}") from error
        listing = decode_card(response.backend, self._name)
        listing = replace(listing, card=replace(listing.card, batch=self._batch))
        self._card = listing.card
        return listing

    async def run(
        self,
        request: PageTask,
        *,
        on_event: Callable[[Any], None] | None = None,
        on_position: Callable[[int], None] | None = None,
    ) -> PageOutcome:
        """The outcome of a page; cancelling the caller cancels the page's stream.

        Raises:
            Unavailable: WORKER_DIED, the connection broke; BACKEND_UNAVAILABLE, the process is down.
            FailedState: BACKEND_UNAVAILABLE.
            ServiceError: the page's failure as the other side told it, or BACKEND_FAILED.
        """
        tell, place = on_event or _nobody, on_position or _nobody
        await self._slots.take(place)
        self._running += 1
        if self._idle:
            self._idle.cancel()
        session: Session | None = None
        try:
            tell(Started())
            tell(Loading())
            session = await self._up()
            outcome = await self._converse(session, request, tell, place)
        except asyncio.CancelledError:
            self._left(session)
            raise
        except BaseException:
            self._left(None)
            raise
        self._line.served(session)
        self._left(None)
        return outcome

    def _left(self, stopping: Session | None) -> None:
        """Gives the page's slot back; where a stream was cut off, only when its work has stopped."""
        self._running -= 1
        self._rest_later()
        if stopping is None:
            self._slots.give()
        else:
            self._spawn(self._give_when_stopped(stopping))

    def _rest_later(self) -> None:
        """Ends an idle process when its time has come."""
        if self._idle:
            self._idle.cancel()
        if not self._running and self._idle_seconds:
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._spawn_rest)

    async def _give_when_stopped(self, session: Session) -> None:
        try:
            await self._line.stopped(session, lambda: self._running)
        finally:
            self._slots.give()

    def _spawn_rest(self) -> None:
        if not self._running:
            self._spawn(self._line.rest())

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _up(self) -> Session:
        """The connection; the card is read anew at each start."""
        session = await self._line.session()
        async with self._greeting:
            if self._greeted is not session:
                if missing := (await self._ask(session)).missing:
                    raise self._failed_state(missing)
                self._greeted = session
        return session

    async def _converse(
        self, session: Session, task: PageTask, tell: Callable[[Any], None], place: Callable[[int], None]
    ) -> PageOutcome:
        answer = Answer(task, page_key(task), max_bytes=self._max_bytes)
        clock = PageClock(tell, running=session.warm)
        call = session.stub.ColorizePages(self._requests(task), metadata=session.metadata)
        status = GivenStatus(call)
        try:
            messages = call.__aiter__()
            async for message in messages:
                event = answer.take(message)
                kind = message.WhichOneof("message")
                if kind in ("accepted", "queued"):
                    clock.waits(answer.position or 0)
                if kind == "queued":
                    place(answer.position or 0)
                if kind in ("progress", "preview", "picture"):
                    session.warm = True
                    clock.runs()
                if isinstance(event, Stepped | Preview):
                    tell(event)
                if answer.outcome:
                    await _end_of(messages)
                    return answer.outcome
            raise ServiceError(f"back-end {self._name!r} ended the stream without an answer", reason="BACKEND_FAILED")
        except aio.AioRpcError as error:
            raise await self._translated(await status.of(error), session) from error
        except ServiceError as error:
            if error.reason == GPU_LOST or device_lost(error.message):
                self._line.condemn(session, error.message)
            raise
        finally:
            call.cancel()

    async def _requests(self, task: PageTask) -> AsyncIterator[pb.ColorizePagesRequest]:
        options = options_of(task)
        options.backend = self._backend
        yield pb.ColorizePagesRequest(options=options)
        for request in page_requests(task, page_key(task)):
            yield request
            await asyncio.sleep(0)  # a big page must not hold the loop

    async def _translated(self, error: aio.AioRpcError, session: Session) -> ServiceError:
        """A stream's failure as its page's."""
        cause, text = reason_of(error), error.details() or error.code().name
        if cause == "QUEUE_FULL":
            return Overloaded(text, reason=cause, retry_after=retry_seconds_of(error))
        if cause == UNAVAILABLE and error.code() is grpc.StatusCode.UNAVAILABLE:
            return Unavailable(text, reason=cause, retry_after=retry_seconds_of(error) or _RETRY_SECONDS)
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) or "RST_STREAM" in text:
            why = await self._line.epitaph(session) or text
            message = f"back-end {self._name!r} was lost in the middle of this page: {why}"
            return Unavailable(message, reason="WORKER_DIED", retry_after=1.0, metadata={"cause": cause})
        refused = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)
        if cause in (UNAVAILABLE, "BACKEND_NOT_FOUND") or error.code() in refused:
            return self._failed_state(f"back-end {self._name!r} refuses the page: {text}")
        message = f"back-end {self._name!r} failed: {text}"
        return ServiceError(message, reason="BACKEND_FAILED", metadata={"cause": cause})


def _nobody(_: object) -> None:
    """Takes what nobody waits for."""


async def _end_of(messages: AsyncIterator[object]) -> None:
    """Lets the other side end its stream by itself, which its log shows as a call that went well."""
    with contextlib.suppress(TimeoutError, aio.AioRpcError):
        async with asyncio.timeout(_END_SECONDS):
            await anext(messages, None)
