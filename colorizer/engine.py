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
    Preview,
    Previewed,
    Progressed,
    Queued,
    SeriesQuery,
    Stepped,
)
from colorizer.types import Swatch
from colorizer.worker import Loading, Started, Trouble
from serving.errors import FailedState, InvalidInput, Overloaded, ServiceError, Timeout, Unavailable, Violation
from serving.workers import WorkerPool

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
    readahead: int = 2  # pages of one stream between its header and its answer
    queue_seconds: float = 300.0  # the longest that a later page waits for a place in the queue
    page_seconds: float = 600.0  # the longest that a page may compute
    load_seconds: float = 600.0  # the longest that a back-end may load


@dataclass(frozen=True)
class Plan:
    """A stream's options, checked against the back-end that it names."""

    card: Card
    options: Options
    devices: tuple[str, ...]  # those that can run it
    page_seconds: float


class _Device:
    """A pool of workers and the places for its pages."""

    def __init__(self, pool: WorkerPool, queue: int) -> None:
        self.pool = pool
        self.capacity = pool.workers + queue
        self.places = asyncio.Semaphore(self.capacity)
        self.taken = 0
        self.usual_seconds = 2.0  # moving mean of a page

    def full(self) -> Overloaded:
        """The refusal of one more page."""
        wait = min(60.0, max(1.0, self.usual_seconds * self.taken / self.pool.workers / 2))
        return Overloaded(
            f"the queue holds at most {self.capacity} pages, and is full; try again in {wait:.0f} s",
            reason="QUEUE_FULL",
            retry_after=wait,
        )


class Engine:
    """Colourises the pages of many streams.

    Args:
        registry: the back-ends.
        pools: workers by device, such as {"cpu": …}; each must have room for `limits.queue` + its workers in its queue.
        source: where contexts of a series come from; None: nowhere.
        limits: bounds of every stream.
        default_backend: for streams that name none.
    """

    def __init__(
        self,
        registry: Registry,
        pools: Mapping[str, WorkerPool],
        source: Source | None,
        limits: EngineLimits,
        default_backend: str,
    ) -> None:
        self._registry = registry
        self._devices = {name: _Device(pool, limits.queue) for name, pool in pools.items()}
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
        """Pages waiting or being worked on, places for them, and worker processes."""
        devices = self._devices.values()
        return (
            sum(device.taken for device in devices),
            sum(device.capacity for device in devices),
            sum(device.pool.workers for device in devices),
        )

    async def listings(self) -> tuple[Listing, ...]:
        """The cards of all back-ends, by name."""
        found = await asyncio.to_thread(self._registry.listings)
        return tuple(self._on_devices(listing) for listing in found)

    async def listing(self, name: str) -> Listing:
        """One card.

        Raises:
            NotFound: BACKEND_NOT_FOUND.
        """
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
            InvalidInput: a parameter that the back-end's card does not list.
        """
        listing = await self.listing(options.backend or self.default_backend)
        card = listing.card
        if listing.missing:
            raise FailedState(listing.missing, reason="BACKEND_UNAVAILABLE", metadata={"backend": card.name})
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
        return Plan(card, options, self._devices_for(card), seconds)

    def refuse_when_full(self, plan: Plan) -> None:
        """Lets a new stream begin, or not.

        Raises:
            Overloaded: QUEUE_FULL.
        """
        device = self._choose(plan)
        if device.places.locked():
            raise device.full()

    def _choose(self, plan: Plan) -> _Device:
        """The device with the most room."""
        return min((self._devices[name] for name in plan.devices), key=lambda d: d.taken / d.capacity)

    def colorize(self, plan: Plan, pages: AsyncIterator[PageRequest]) -> Stream:
        """Begins to colourise; `pages` is read only as far ahead as the window allows, which holds a client back."""
        return Stream(self, plan, pages)

    # What follows is for Stream.

    @property
    def limits(self) -> EngineLimits:
        """Bounds of every stream."""
        return self._limits

    async def take_place(self, plan: Plan, *, at_once: bool) -> _Device:
        """A place in a queue; give it back with `leave`.

        Raises:
            Overloaded: QUEUE_FULL, at once or after the longest wait.
        """
        device = self._choose(plan)
        if device.places.locked() and at_once:
            raise device.full()
        try:
            async with asyncio.timeout(self._limits.queue_seconds):
                await device.places.acquire()
        except TimeoutError:
            raise device.full() from None
        device.taken += 1
        return device

    def leave(self, device: _Device) -> None:
        """Gives a place back."""
        device.taken -= 1
        device.places.release()

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
        self._window = asyncio.Semaphore(engine.limits.readahead)
        self._feeding = asyncio.create_task(self._feed(pages))

    def cancel(self) -> None:
        """Ends it; workers stop within one step."""
        self._feeding.cancel()

    async def events(self) -> AsyncIterator[Event]:
        """The events of all pages; each page's last one (Finished or Failed) comes in the order of the pages.

        Raises:
            Overloaded: QUEUE_FULL at the first page.
            FailedState: BACKEND_UNAVAILABLE, the back-end could not be loaded for the first page.
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
            event = Failed(page.key, _as_page_error(error))
        if before:
            await before.wait()
        self._outbox.put_nowait(event)
        done.set()

    async def _colorize(self, page: PageRequest, *, first: bool) -> Finished:
        if page.failure:
            raise page.failure
        began = time.monotonic_ns()
        engine, plan = self._engine, self._plan
        device = await engine.take_place(plan, at_once=first)
        try:
            context = await engine.context(plan, page)
            seed = plan.options.seed if page.seed is None else page.seed
            task = _task(plan, page, context, seed)
            run = _Run(self, page.key, await asyncio.to_thread(picture_size, page.data), plan.page_seconds)
            outcome = await run.through(device.pool, task, engine.limits.load_seconds)
            device.usual_seconds += 0.2 * ((time.monotonic_ns() - run.began) / 1e9 - device.usual_seconds)
        finally:
            engine.leave(device)
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


class _Run:
    """One page's way through a pool."""

    def __init__(self, stream: Stream, key: str, size: tuple[int, int], seconds: float) -> None:
        self.queued = self.began = time.monotonic_ns()
        self._stream = stream
        self._key = key
        self._size = size
        self._seconds = seconds
        self._limit = asyncio.timeout(None)
        self._load_seconds = 0.0
        self._accepted = False

    async def through(self, pool: WorkerPool, task: PageTask, load_seconds: float) -> PageOutcome:
        """What the worker made of it.

        Raises:
            Timeout: PAGE_TIMEOUT; the time in the queue and the loading of a back-end do not count.
            ServiceError: from the worker.
        """
        self._load_seconds = load_seconds
        try:
            async with self._limit:
                outcome = await pool.run(task, on_event=self._on_event, on_position=self._on_position)
        except TimeoutError:
            raise Timeout(
                f"a page must be computed within {self._seconds:g} s, and this one was not", reason="PAGE_TIMEOUT"
            ) from None
        assert isinstance(outcome, PageOutcome)
        return outcome

    def _on_position(self, position: int) -> None:
        if self._accepted:
            self._stream.tell(Queued(self._key, position))
        else:
            self._accepted = True
            self._stream.tell(Accepted(self._key, *self._size, position))

    def _on_event(self, event: Started | Loading | Trouble | Stepped | Preview) -> None:
        now = asyncio.get_running_loop().time()
        match event:
            case Started():
                self.began = self.began if self._limit.when() else time.monotonic_ns()
                self._limit.reschedule(now + self._seconds)
            case Loading():
                self._limit.reschedule(now + self._load_seconds)
            case Stepped(step, steps):
                self._stream.tell(Progressed(self._key, step, steps))
            case Preview():
                self._stream.tell(Previewed(self._key, event))
            case Trouble(backend, trace):
                log.error("backend.failed", page=self._key, backend=backend, trace=trace)


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


def _as_page_error(error: Exception) -> Exception:
    """The same failure under a reason that a page's error may have."""
    if isinstance(error, FailedState) and error.reason == "BACKEND_UNAVAILABLE":
        return ServiceError(error.message, reason="BACKEND_FAILED")
    if isinstance(error, FailedState) and error.reason == "WORKER_START_FAILED":
        return Unavailable(error.message, reason="WORKER_DIED", retry_after=error.retry_after)
    return error


def _first(group: BaseExceptionGroup[ServiceError]) -> ServiceError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ServiceError)
    return error
