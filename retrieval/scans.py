"""Concurrent searches of the same pool under the same bound, answered in one scan.

Whatever waits while the searchers are busy goes together; nobody waits for company, so that a lone search is not
delayed. A scan reads each row once for all its queries, and what one query finds does not depend on the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32
from prometheus_client import Histogram

from retrieval.types import Found, Hit, Reference, SearchOptions, Timing
from serving.geometry import Box

MAX_QUERIES = 256  # of one scan; its results and its tables of scores stay small
SIZES = Histogram("panelhue_search_batch", "Searches answered in one scan.", buckets=(1, 2, 4, 8, 16, 32, 64))

Ranked = Sequence[tuple[float, Reference, Box]]  # the hits of one query, best first


@runtime_checkable
class Searched(Protocol):
    """A pool at one generation."""

    @property
    def generation(self) -> int:
        """The pool's generation."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the first hits of a longer list are the shorter list."""
        ...

    def find(
        self, queries: Float32[np.ndarray, "q dim"], options: SearchOptions, executor: Executor | None, helpers: int
    ) -> tuple[Sequence[Ranked], int]:
        """The hits of each query, and how many patches passed the bound. `helpers` threads of `executor` may help."""
        ...


@dataclass(eq=False)
class _Ask:
    view: Searched
    queries: Float32[np.ndarray, "q dim"]
    options: SearchOptions
    future: asyncio.Future[Found]
    start_ns: int

    def key(self) -> tuple[object, ...]:
        """What searches must share to be answered together."""
        o = self.options
        plain = self.view.exact and not o.per_reference and not o.diversity
        return id(self.view), o.bound, o.per_reference, o.diversity, 0 if plain else o.k


class Batcher:
    """Runs searches in threads. Its methods belong to one event loop.

    Args:
        threads: scans that run side by side, at least 1. Where one runs alone, the others help it.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._searchers = ThreadPoolExecutor(threads, "retrieval-search")
        # Apart from the searchers: a scan that waited for its own kind would wait for ever. One less than there are
        # threads, since the scan itself works too.
        self._helpers = ThreadPoolExecutor(threads - 1, "retrieval-help") if threads > 1 else None
        self._waiting: OrderedDict[tuple[object, ...], list[_Ask]] = OrderedDict()
        self._running = 0

    def close(self) -> None:
        """Waits for the scans that run."""
        self._searchers.shutdown()
        if self._helpers is not None:
            self._helpers.shutdown()

    async def search(self, view: Searched, queries: Float32[np.ndarray, "q dim"], options: SearchOptions) -> Found:
        """The hits of each query, by query and rank. A caller that goes while it waits costs nothing."""
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        ask = _Ask(view, queries, options, future, time.perf_counter_ns())
        self._waiting.setdefault(ask.key(), []).append(ask)
        self._begin()
        return await future

    def _begin(self) -> None:
        while self._running < self._threads and (batch := self._next()):
            self._running += 1
            alone = self._running == 1 and not self._waiting
            loop = asyncio.get_running_loop()
            helpers = self._helpers if alone else None
            scan = loop.run_in_executor(self._searchers, _scan, batch, helpers, self._threads - 1)
            scan.add_done_callback(partial(self._ended, batch))

    def _next(self) -> list[_Ask]:
        """The searches that have waited for longest and what goes with them."""
        while self._waiting:
            key, asks = self._waiting.popitem(last=False)
            asks = [ask for ask in asks if not ask.future.done()]
            batch: list[_Ask] = []
            count = 0
            while asks and (not batch or count + len(asks[0].queries) <= MAX_QUERIES):
                count += len(asks[0].queries)
                batch.append(asks.pop(0))
            if asks:
                self._waiting[key] = asks
                self._waiting.move_to_end(key, last=False)
            if batch:
                return batch
        return []

    def _ended(self, batch: Sequence[_Ask], scan: asyncio.Future[list[Found]]) -> None:
        self._running -= 1
        SIZES.observe(len(batch))
        error = scan.exception()
        for place, ask in enumerate(batch):
            if ask.future.done():
                continue
            if error is not None:
                ask.future.set_exception(error)
            else:
                ask.future.set_result(scan.result()[place])
        self._begin()


def _scan(batch: Sequence[_Ask], executor: Executor | None, helpers: int) -> list[Found]:
    begin = time.perf_counter_ns()
    queries = batch[0].queries if len(batch) == 1 else np.concatenate([ask.queries for ask in batch])
    options = replace(batch[0].options, k=max(ask.options.k for ask in batch))
    ranked, candidates = batch[0].view.find(queries, options, executor, helpers)
    search_ns = time.perf_counter_ns() - begin
    answers, first = [], 0
    for ask in batch:
        hits = tuple(
            Hit(query, rank, score, reference, box)
            for query in range(len(ask.queries))
            for rank, (score, reference, box) in enumerate(ranked[first + query][: ask.options.k])
        )
        timing = Timing(queue_ns=begin - ask.start_ns, search_ns=search_ns)
        answers.append(Found(hits, ask.view.generation, candidates, timing))
        first += len(ask.queries)
    return answers
