"""The pages of one call: read as far ahead as the window allows, worked on side by side, answered in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import structlog

from colorizer.backend import Card
from colorizer.lanes import Lane, Run, as_page_error
from colorizer.peek import picture_size
from colorizer.tasks import (
    Accepted,
    Context,
    Event,
    Failed,
    Finished,
    Options,
    PageOutcome,
    PageRequest,
    PageTask,
)
from colorizer.types import Swatch
from serving.errors import ServiceError

_OUTBOX = 64  # events that may wait for a slow reader; beyond that progress and previews are left out
_OF_THE_STREAM = ("QUEUE_FULL", "BACKEND_UNAVAILABLE")  # reasons that end a stream if its first page meets them

log = structlog.get_logger("panelhue.colorizer")


@dataclass(frozen=True)
class EngineLimits:
    """Bounds of every stream."""

    queue: int = 16  # pages of all streams that may wait for a worker of one device
    readahead: int = 2  # pages of one stream between its header and its answer; Plan.window may raise it
    queue_seconds: float = 300.0  # the longest that a later page waits for a place in the queue
    page_seconds: float = 600.0  # the longest that a page may compute
    load_seconds: float = 600.0  # the longest that a back-end may load


@dataclass(frozen=True)
class Plan:
    """A stream's options, checked against the back-end that it names."""

    card: Card
    options: Options
    lanes: tuple[str, ...]  # those that can run it
    page_seconds: float

    def window(self, readahead: int) -> int:
        """Pages between header and answer: those that are computed together, and as many that are ready to be next.

        So a stream holds at most so many pages with their contexts in memory.
        """
        return readahead if self.card.batch <= 1 else max(readahead, 2 * self.card.batch)


@runtime_checkable
class Provider(Protocol):
    """Where a stream gets what a page needs; the engine is one."""

    @property
    def limits(self) -> EngineLimits:
        """Bounds of every stream."""
        ...

    async def take_place(self, plan: Plan, *, at_once: bool) -> Lane:
        """A lane with a place in it; give it back with its `leave`.

        Raises:
            Overloaded: QUEUE_FULL, at once or after the longest wait.
        """
        ...

    async def context(self, plan: Plan, page: PageRequest) -> Context:
        """The page's own context, or the series', or none.

        Raises:
            ServiceError: RETRIEVAL_FAILED, INVALID_CONTEXT.
        """
        ...


class Stream:
    """The pages of one call."""

    def __init__(self, provider: Provider, plan: Plan, pages: AsyncIterator[PageRequest]) -> None:
        self._provider = provider
        self._plan = plan
        self._outbox: asyncio.Queue[Event | None] = asyncio.Queue()
        self._window = asyncio.Semaphore(plan.window(provider.limits.readahead))
        self._feeding = asyncio.create_task(self._feed(pages))

    def cancel(self) -> None:
        """Ends it; workers stop within one step."""
        self._feeding.cancel()

    async def events(self) -> AsyncIterator[Event]:
        """The events of all pages; each page's last one (Finished or Failed) comes in the order of the pages.

        Raises:
            Overloaded: QUEUE_FULL at the first page.
            FailedState: BACKEND_UNAVAILABLE, the back-end could not be loaded for the first page.
            Unavailable: BACKEND_UNAVAILABLE, the back-end's process is down for a moment at the first page.
            ServiceError: whatever the pages' iterator raises, once the pages before are answered.
        """
        try:
            while (event := await self._outbox.get()) is not None:
                yield event
                if isinstance(event, Finished | Failed):
                    self._window.release()
            await self._feeding
        finally:
            self._feeding.cancel()

    async def _feed(self, pages: AsyncIterator[PageRequest]) -> None:
        """Answers all pages, then marks the end; a failure of the stream waits for the pages before it."""
        failure: ServiceError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                before: asyncio.Event | None = None
                try:
                    while True:
                        await self._window.acquire()
                        page = await anext(pages)
                        done = asyncio.Event()
                        group.create_task(self._answer(page, before, done))
                        before = done
                except StopAsyncIteration:
                    pass
                except ServiceError as error:
                    failure = error
        except* ServiceError as group_error:
            failure = _first(group_error)
        finally:
            self._outbox.put_nowait(None)
        if failure:
            raise failure

    async def _answer(self, page: PageRequest, before: asyncio.Event | None, done: asyncio.Event) -> None:
        event: Event
        try:
            event = await self._colorize(page, first=before is None)
        except Exception as error:
            if before is None and isinstance(error, ServiceError) and error.reason in _OF_THE_STREAM:
                raise
            log.info("page.failed", page=page.key, request_id=self._plan.options.request_id, why=str(error))
            event = Failed(page.key, as_page_error(error))
        if before:
            await before.wait()
        self._outbox.put_nowait(event)
        done.set()

    async def _colorize(self, page: PageRequest, *, first: bool) -> Finished:
        if page.failure:
            raise page.failure
        began = time.monotonic_ns()
        provider, plan = self._provider, self._plan
        lane = await provider.take_place(plan, at_once=first)
        try:
            context = await provider.context(plan, page)
            seed = plan.options.seed if page.seed is None else page.seed
            task = _task(plan, page, context, seed)
            size = await asyncio.to_thread(picture_size, page.data)
            run = Run(self.tell, page.key, size, plan.page_seconds, provider.limits.load_seconds)
            outcome = await run.through(lane.pool, task)
            lane.took((time.monotonic_ns() - run.began) / 1e9)
        finally:
            lane.leave()
        log.info(
            "page",
            page=page.key,
            request_id=plan.options.request_id,
            backend=plan.card.name,
            hits=len(context.hits),
            already_colour=outcome.already_colour,
            ms=round((time.monotonic_ns() - began) / 1e6, 1),
        )
        if outcome.already_colour:
            context = Context(generation=context.generation)
            outcome = replace(outcome, used=())
        return Finished(
            key=page.key,
            backend=plan.card.name,
            backend_version=plan.card.version,
            weights_licence=plan.card.weights_licence,
            seed=seed,
            outcome=outcome,
            context=replace(context, pictures={}),
            depth=_depth(context, outcome),
            queue_ns=run.began - run.queued,
            total_ns=time.monotonic_ns() - began,
        )

    def tell(self, event: Event) -> None:
        """Sends an event on, unless the reader is too slow for it."""
        if self._outbox.qsize() < _OUTBOX or isinstance(event, Accepted):
            self._outbox.put_nowait(event)


def _task(plan: Plan, page: PageRequest, context: Context, seed: int) -> PageTask:
    return PageTask(
        backend=plan.card.name,
        data=page.data,
        hits=tuple(replace(hit, echo=b"") for hit in context.hits),
        pictures=context.pictures,
        hints=page.hints,
        palette=_palette(plan.options.palette, context.palette),
        seed=seed,
        options=plan.options,
        spare=page.context is None,
    )


def _palette(own: Sequence[Swatch], series: Sequence[Swatch]) -> tuple[Swatch, ...]:
    """The request's colours, then those of the series that it does not name."""
    names = {swatch.name for swatch in own}
    return (*own, *(swatch for swatch in series if swatch.name not in names))


def _depth(context: Context, outcome: PageOutcome) -> int:
    """Provenance depth that the page would have as a reference."""
    if outcome.already_colour:
        return 0
    return 1 + max((hit.depth for hit, used in zip(context.hits, outcome.used, strict=True) if used), default=0)


def _first(group: BaseExceptionGroup[ServiceError]) -> ServiceError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ServiceError)
    return error
