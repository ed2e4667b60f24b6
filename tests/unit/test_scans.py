"""Searches that share scans: who goes with whom, what each is given, what a lone or a leaving one meets."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from retrieval.scans import MAX_QUERIES, Batcher
from retrieval.types import Bound, Provenance, Reference, SearchOptions
from serving.errors import Conflict
from serving.geometry import Box

REFERENCE = Reference("0" * 64, None, None, (), Provenance(), 9, 9, "image/png", 1, 1, 1)


@dataclass(eq=False)
class Gate:
    """A pool whose scans wait until they are let through, and say what they were asked."""

    generation: int = 5
    exact: bool = True
    asked: list = field(default_factory=list)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    open: threading.Event = field(default_factory=threading.Event)
    fails: bool = False

    def find(self, queries, options, executor, helpers):
        self.asked.append((queries[:, 0].tolist(), options, executor is not None))
        self.started.release()
        self.open.wait(120)
        if self.fails:
            raise Conflict("gone", reason="POOL_CHANGED")
        hit = REFERENCE, Box(0, 0, 1, 1)
        return [[(value, *hit)] * options.k for value in queries[:, 0].tolist()], 77


def ask(*values: float) -> np.ndarray:
    return np.asarray([[value, 0] for value in values], np.float32)


async def gated(batcher: Batcher, gate: Gate, searches: list, busy: int = 1) -> list:
    """What becomes of searches that come while all searchers are busy with another pool."""
    blocker = Gate()
    first = [asyncio.create_task(batcher.search(blocker, ask(0), SearchOptions(n + 1, Bound(max_chapter=n))))
             for n in range(busy)]  # fmt: skip
    for _ in first:
        await asyncio.to_thread(blocker.started.acquire)
    gate.open.set()
    tasks = [asyncio.create_task(batcher.search(gate, *one)) for one in searches]
    await asyncio.sleep(0)
    blocker.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*first)
    return results


@pytest.fixture
def run():
    """Runs a coroutine made by a function of a batcher."""

    def runner(work, threads: int = 1):
        async def whole():
            batcher = Batcher(threads)
            try:
                return await work(batcher)
            finally:
                batcher.close()

        return asyncio.run(whole())

    return runner


def test_searches_that_wait_go_together_and_each_gets_its_own(run):
    gate = Gate()
    searches = [(ask(1, 2), SearchOptions(1)), (ask(3), SearchOptions(4)), (ask(4), SearchOptions(2))]
    results = run(lambda batcher: gated(batcher, gate, searches))
    assert [queries for queries, _, _ in gate.asked] == [[1, 2, 3, 4]]
    assert gate.asked[0][1].k == 4
    assert [[(hit.query, hit.rank, hit.score) for hit in found.hits] for found in results] == [
        [(0, 0, 1.0), (1, 0, 2.0)],
        [(0, rank, 3.0) for rank in range(4)],
        [(0, rank, 4.0) for rank in range(2)],
    ]
    assert {(found.generation, found.candidates) for found in results} == {(5, 77)}


@pytest.mark.parametrize(
    ("exact", "one", "other"),
    [
        (True, SearchOptions(3), SearchOptions(3, Bound(max_depth=0))),
        (True, SearchOptions(3, per_reference=1), SearchOptions(4, per_reference=1)),
        (True, SearchOptions(3, diversity=0.5), SearchOptions(3, diversity=0.25)),
        (False, SearchOptions(3), SearchOptions(4)),
    ],
)
def test_searches_whose_answers_could_differ_go_apart(run, exact, one, other):
    gate = Gate(exact=exact)
    run(lambda batcher: gated(batcher, gate, [(ask(1), one), (ask(2), other), (ask(3), one)]))
    assert [queries for queries, _, _ in gate.asked] == [[1, 3], [2]]


def test_a_scan_takes_no_more_queries_than_its_limit(run):
    gate = Gate()
    many = ask(*range(100))
    run(lambda batcher: gated(batcher, gate, [(many, SearchOptions(1))] * 5))
    assert [len(queries) for queries, _, _ in gate.asked] == [200, 200, 100]
    assert max(len(queries) for queries, _, _ in gate.asked) <= MAX_QUERIES


def test_a_lone_search_is_helped_by_the_idle_searchers(run):
    gate = Gate()
    gate.open.set()
    run(lambda batcher: batcher.search(gate, ask(1), SearchOptions(1)), threads=2)
    assert gate.asked[0][2]


def test_searches_side_by_side_have_no_helpers(run):
    gate = Gate()
    searches = [(ask(1), SearchOptions(1)), (ask(2), SearchOptions(1, Bound(max_depth=1)))]
    run(lambda batcher: gated(batcher, gate, searches, busy=2), threads=2)
    assert len(gate.asked) == 2
    assert not gate.asked[0][2]


def test_a_scan_that_fails_fails_all_its_searches_and_no_other(run):
    async def work(batcher):
        bad, good = Gate(fails=True), Gate()
        good.open.set()
        results = await gated(batcher, bad, [(ask(1), SearchOptions(1)), (ask(2), SearchOptions(1))])
        assert [type(result) for result in results] == [Conflict, Conflict]
        assert len((await batcher.search(good, ask(3), SearchOptions(1))).hits) == 1

    run(work)


def test_a_search_whose_caller_goes_is_never_begun(run):
    async def work(batcher):
        blocker, gate = Gate(), Gate()
        gate.open.set()
        first = asyncio.create_task(batcher.search(blocker, ask(0), SearchOptions(1)))
        await asyncio.to_thread(blocker.started.acquire)
        leaving = asyncio.create_task(batcher.search(gate, ask(1), SearchOptions(1)))
        staying = asyncio.create_task(batcher.search(gate, ask(2), SearchOptions(1)))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        blocker.open.set()
        await asyncio.gather(first, staying)
        assert [queries for queries, _, _ in gate.asked] == [[2]]

    run(work)
