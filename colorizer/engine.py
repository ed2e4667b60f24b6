"""The use case: pages in, events out, in order, through bounded queues and worker processes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import structlog

from colorizer.backend import Card, Listing, Registry
from colorizer.lanes import Lane, Pool, Remote, Run, as_page_error
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
    SeriesQuery,
)
from colorizer.types import Swatch
from serving.errors import FailedState, InvalidInput, NotFound, ServiceError, Violation

_OUTBOX = 64  # events that may wait for a slow reader; beyond that progress and previews are left out
_OF_THE_STREAM = ("QUEUE_FULL", "BACKEND_UNAVAILABLE")  # reasons that end a stream if its first page meets them

log = structlog.get_logger("panelhue.colorizer")


@runtime_checkable
class Source(Protocol):
    """Where contexts of a series come from."""

    async def fetch(self, query: SeriesQuery, page: bytes, timeout: float, request_id: str = "") -> Context:
        """The context of a page."""
        ...


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


class Engine:
    """Colourises the pages of many streams.

    Args:
        registry: the back-ends.
        pools: workers by device, such as {"cpu": …}; each must have room for `limits.queue` + its workers in its queue.
        remotes: back-ends out of process by name, likewise; they go before those of `registry`.
        source: where contexts of a series come from; None: nowhere.
        limits: bounds of every stream.
        default_backend: for streams that name none.
    """

    def __init__(
        self,
        registry: Registry,
        pools: Mapping[str, Pool],
        source: Source | None,
        limits: EngineLimits,
        default_backend: str,
        remotes: Mapping[str, Remote] | None = None,
    ) -> None:
        self._registry = registry
        self._remotes = dict(remotes or {})
        self._devices = {name: Lane(pool, limits.queue) for name, pool in pools.items()}
        self._lanes = self._devices | {
            _lane_of(name): Lane(remote, limits.queue) for name, remote in self._remotes.items()
        }
        self._source = source
        self._limits = limits
        self.default_backend = default_backend
        self.draining = asyncio.Event()

    @property
    def has_retrieval(self) -> bool:
        """Whether it can fetch contexts itself."""
        return self._source is not None

    @property
    def load(self) -> tuple[int, int, int]:
        """Pages waiting or being worked on, places for them, and pages that can be worked on at a time."""
        lanes = self._lanes.values()
        return (
            sum(lane.taken for lane in lanes),
            sum(lane.capacity for lane in lanes),
            sum(lane.pool.workers for lane in lanes),
        )

    async def listings(self) -> tuple[Listing, ...]:
        """The cards of all back-ends, by name."""
        names = sorted({*self._registry.names, *self._remotes})
        return tuple(await asyncio.gather(*(self.listing(name, wake=False) for name in names)))

    async def listing(self, name: str, *, wake: bool = True) -> Listing:
        """One card; `wake` starts a back-end out of process whose card is not known yet.

        Raises:
            NotFound: BACKEND_NOT_FOUND.
        """
        if name in self._remotes:
            return await self._remotes[name].listing(wake=wake)
        if name not in self._registry.names:
            known = ", ".join(sorted({*self._registry.names, *self._remotes})) or "none"
            raise NotFound(
                f"no back-end {name!r}; there is {known}", reason="BACKEND_NOT_FOUND", metadata={"backend": name}
            )
        return self._on_devices(await asyncio.to_thread(self._registry.listing, name))

    def _devices_for(self, card: Card) -> tuple[str, ...]:
        exact = tuple(name for name in self._devices if name.split(":")[0] == card.device)
        return exact or (tuple(self._devices) if card.device == "cpu" else ())

    def _on_devices(self, listing: Listing) -> Listing:
        if listing.missing or self._devices_for(listing.card):
            return listing
        card = listing.card
        return Listing(
            card, f"back-end {card.name!r} needs a {card.device} device; this server has {', '.join(self._devices)}"
        )

    async def plan(self, options: Options) -> Plan:
        """The options, checked.

        Raises:
            NotFound: BACKEND_NOT_FOUND.
            FailedState: BACKEND_UNAVAILABLE, or NO_RETRIEVAL.
            Unavailable: BACKEND_UNAVAILABLE, a back-end out of process is down for a moment.
            InvalidInput: a parameter that the back-end's card does not list.
        """
        card, lanes = await self._card_and_lanes(options.backend or self.default_backend)
        if options.series and not self._source:
            raise FailedState(
                "options.series needs a retrieval server, and this server was started without one (--retrieval)",
                reason="NO_RETRIEVAL",
            )
        unknown = sorted(set(options.parameters) - set(card.parameters))
        if unknown:
            known = ", ".join(sorted(card.parameters)) or "none"
            violations = [
                Violation(f"options.parameters[{name[:64]!r}]", f"back-end {card.name!r} has these parameters: {known}")
                for name in unknown
            ]
            raise InvalidInput(
                f"back-end {card.name!r} has no parameter {unknown[0][:64]!r}; it has {known}",
                reason="INVALID_REQUEST",
                violations=violations,
            )
        seconds = min(options.page_timeout or math.inf, self._limits.page_seconds)
        return Plan(card, options, lanes, seconds)

    async def _card_and_lanes(self, name: str) -> tuple[Card, tuple[str, ...]]:
        if name in self._remotes:
            return await self._remotes[name].card(), (_lane_of(name),)
        listing = await self.listing(name)
        if listing.missing:
            raise FailedState(listing.missing, reason="BACKEND_UNAVAILABLE", metadata={"backend": name})
        return listing.card, self._devices_for(listing.card)

    def refuse_when_full(self, plan: Plan) -> None:
        """Lets a new stream begin, or not.

        Raises:
            Overloaded: QUEUE_FULL.
        """
        lane = self._choose(plan)
        if lane.locked:
            raise lane.full()

    def _choose(self, plan: Plan) -> Lane:
        """The lane with the most room."""
        return min((self._lanes[name] for name in plan.lanes), key=lambda lane: lane.taken / lane.capacity)

    def colorize(self, plan: Plan, pages: AsyncIterator[PageRequest]) -> Stream:
        """Begins to colourise; `pages` is read only as far ahead as the window allows, which holds a client back."""
        return Stream(self, plan, pages)

    # What follows is for Stream.

    @property
    def limits(self) -> EngineLimits:
        """Bounds of every stream."""
        return self._limits

    async def take_place(self, plan: Plan, *, at_once: bool) -> Lane:
        """A lane with a place in it; give it back with its `leave`.

        Raises:
            Overloaded: QUEUE_FULL, at once or after the longest wait.
        """
        lane = self._choose(plan)
        await lane.take_place(0.0 if at_once else self._limits.queue_seconds)
        return lane

    async def context(self, plan: Plan, page: PageRequest) -> Context:
        """The page's own context, or the series', or none.

        Raises:
            ServiceError: RETRIEVAL_FAILED, INVALID_CONTEXT.
        """
        series = plan.options.series
        if page.bound is not None and series is None:
            raise InvalidInput(
                "a page's bound needs options.series, whose references it bounds; got none", reason="INVALID_CONTEXT"
            )
        if page.context is not None:
            return page.context
        inputs = plan.card.inputs
        if series is None or not (series.hits_per_corner or "references" in inputs or "palette" in inputs):
            return Context()
        assert self._source
        query = replace(
            series,
            bound=series.bound if page.bound is None else page.bound,
            hits_per_corner=series.hits_per_corner or plan.card.hits_per_corner or 1,
        )
        return await self._source.fetch(query, page.data, plan.page_seconds, plan.options.request_id)


class Stream:
    """The pages of one call."""

    def __init__(self, engine: Engine, plan: Plan, pages: AsyncIterator[PageRequest]) -> None:
        self._engine = engine
        self._plan = plan
        self._outbox: asyncio.Queue[Event | None] = asyncio.Queue()
        self._window = asyncio.Semaphore(plan.window(engine.limits.readahead))
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
        engine, plan = self._engine, self._plan
        lane = await engine.take_place(plan, at_once=first)
        try:
            context = await engine.context(plan, page)
            seed = plan.options.seed if page.seed is None else page.seed
            task = _task(plan, page, context, seed)
            size = await asyncio.to_thread(picture_size, page.data)
            run = Run(self.tell, page.key, size, plan.page_seconds, engine.limits.load_seconds)
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


def _lane_of(backend: str) -> str:
    """The lane of a back-end out of process; no device has such a name."""
    return f"back-end {backend}"


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
