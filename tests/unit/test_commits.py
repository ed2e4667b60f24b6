"""Group commit: what shares a transaction, and what each caller is told."""

from __future__ import annotations

import asyncio

import numpy as np

import retrieval.commits as commits
from retrieval.commits import Commits
from retrieval.types import Draft, NewReference, Prepared, Stored
from serving.errors import Overloaded


def new(name: str, size: int = 1) -> NewReference:
    prepared = Prepared(9, 9, "image/png", np.ones((1, 2), np.float32), np.zeros((1, 4), np.int32))
    return NewReference(Draft(), name.encode() * size, prepared)


class Store:
    """Transactions that wait until they are let through."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[bytes]]] = []
        self.begun = asyncio.Semaphore(0)
        self.go = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def __call__(self, series_id, items):
        self.batches.append((series_id, [item.data for item in items]))
        self.begun.release()
        await self.go.acquire()
        if self.error is not None:
            raise self.error
        return [Stored(None, True, len(self.batches)) for _ in items]


def test_what_comes_while_a_transaction_runs_shares_the_next_one():
    async def work():
        store = Store()
        group = Commits(store)
        first = asyncio.create_task(group.add("s", new("a")))
        await store.begun.acquire()
        rest = [asyncio.create_task(group.add("s", new(name))) for name in "bcd"]
        await asyncio.sleep(0)
        for _ in range(2):
            store.go.release()
        assert [stored.generation for stored in await asyncio.gather(first, *rest)] == [1, 2, 2, 2]
        assert store.batches == [("s", [b"a"]), ("s", [b"b", b"c", b"d"])]
        await group.close()

    asyncio.run(work())


def test_series_do_not_wait_for_one_another():
    async def work():
        store = Store()
        group = Commits(store)
        tasks = [asyncio.create_task(group.add(name, new("a"))) for name in ("s", "t")]
        for _ in tasks:
            await store.begun.acquire()
        for _ in tasks:
            store.go.release()
        await asyncio.gather(*tasks)
        assert sorted(store.batches) == [("s", [b"a"]), ("t", [b"a"])]

    asyncio.run(work())


def test_a_transaction_takes_no_more_than_its_limits(monkeypatch):
    async def work():
        monkeypatch.setattr(commits, "MAX_ITEMS", 3)
        monkeypatch.setattr(commits, "MAX_BYTES", 10)
        store = Store()
        group = Commits(store)
        for _ in range(5):
            store.go.release()
        sizes = [1, 1, 1, 1, 20, 9, 1]
        await asyncio.gather(*(group.add("s", new("x", size)) for size in sizes))
        assert [[len(data) for data in batch] for _, batch in store.batches] == [[1, 1, 1], [1], [20], [9, 1]]

    asyncio.run(work())


def test_a_transaction_that_fails_is_told_to_all_of_it_and_to_nobody_else():
    async def work():
        store = Store()
        group = Commits(store)
        store.error = Overloaded("full", reason="DISK_FULL")
        bad = [asyncio.create_task(group.add("s", new(name))) for name in "ab"]
        await store.begun.acquire()
        store.go.release()
        results = await asyncio.gather(*bad, return_exceptions=True)
        assert [result.reason for result in results] == ["DISK_FULL", "DISK_FULL"]
        store.error = None
        store.go.release()
        assert (await group.add("s", new("c"))).new

    asyncio.run(work())


def test_a_caller_that_goes_keeps_the_others_from_nothing():
    async def work():
        store = Store()
        group = Commits(store)
        leaving, staying = (asyncio.create_task(group.add("s", new(name))) for name in "ab")
        await store.begun.acquire()
        leaving.cancel()
        store.go.release()
        assert (await staying).new
        assert store.batches == [("s", [b"a", b"b"])]

    asyncio.run(work())
