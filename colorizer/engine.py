"""The use case: pages in, events out, in order, through bounded queues and worker processes.

Here is what holds for all streams: back-ends, devices, places, contexts. `streams` has the way of one call's pages.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

from colorizer.backend import Card, Listing, Registry
from colorizer.lanes import Lane, Pool, Remote
from colorizer.streams import EngineLimits, Plan, Stream
from colorizer.tasks import Context, Options, PageRequest, SeriesQuery
from serving.errors import FailedState, InvalidInput, NotFound, Violation


@runtime_checkable
class Source(Protocol):
    """Where contexts of a series come from."""

    async def fetch(self, query: SeriesQuery, page: bytes, timeout: float, request_id: str = "") -> Context:
        """The context of a page."""
        ...


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

    # What follows is for Stream, as its Provider.

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


def _lane_of(backend: str) -> str:
    """The lane of a back-end out of process; no device has such a name."""
    return f"back-end {backend}"
