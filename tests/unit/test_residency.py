"""Pools in memory under a budget: what is measured, what is kept, what goes."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from contextlib import asynccontextmanager

import numpy as np
import pytest

from retrieval.catalog import Catalog
from retrieval.config import RetrievalSettings
from retrieval.engine import Engine
from retrieval.index import CpuScanner
from retrieval.loaded import Loaded
from retrieval.references import block_of
from retrieval.types import (
    Added,
    Draft,
    Prepared,
    Provenance,
    Reference,
    SearchOptions,
    Series,
    SeriesDraft,
    Space,
)
from serving.errors import FailedState, Overloaded
from tests.unit.engine_model import import_item

DIM = 16
SPACE = Space("", "m", "", "", "native", DIM, False)
BIG = 1 << 30


@asynccontextmanager
async def opened(folder, **changes):
    engine = Engine(RetrievalSettings(data_dir=folder / "data", embedder="vectors", **changes))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def made(engine: Engine, series_id: str, references: int, first: int = 0) -> None:
    """A series of references with one vector each."""
    if not engine._catalog.taken(series_id):
        await engine.create_series(SeriesDraft(id=series_id, embedder="vectors", space=SPACE))
    rng = np.random.default_rng(first)
    items = [
        import_item(f"{series_id} {n}".encode(), Draft(), rng.standard_normal((1, DIM)).astype(np.float32))
        for n in range(first, first + references)
    ]
    results, _ = await engine.import_references(series_id, "", items)
    assert all(isinstance(result, Added) for result in results)


def query(count: int = 1) -> np.ndarray:
    return np.ones((count, DIM), np.float32)


async def size_of(engine: Engine, series_id: str) -> int:
    size = (await engine.load_series(series_id, "memory")).memory_bytes
    await engine.unload_series(series_id)
    return size


def test_a_loaded_pool_is_counted_at_no_less_than_pythons_objects_take(tmp_path):
    catalog = Catalog(tmp_path)
    space = Space("i", "m", "", "", "native", 1, False)
    series = Series("s", "s", "vectors", space)

    def reference(n: int) -> Reference:
        provenance = Provenance("generated", 1, (f"{n + 1:064x}",), "exemplar", "")
        return Reference(
            f"{n:064x}", n, n, (f"tag {n}", "common"), provenance, 8, 8, "image/png", 5, n + 1, n, "", bytes(241)
        )

    def load(count: int) -> Loaded:
        loaded = Loaded(catalog, series, CpuScanner())
        references = [reference(n) for n in range(count)]
        rows, boxes = np.ones((5, 1), np.float32), np.zeros((5, 4), np.int32)
        made = Prepared(8, 8, "image/png", rows, boxes)
        loaded.append(block_of([(one, made) for one in references]))
        return loaded

    load(1)
    gc.collect()
    tracemalloc.start()
    try:
        loaded = load(500)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    catalog.close()
    assert taken <= loaded.bytes - loaded.index.bytes <= 2 * taken  # the index's rows lie outside of Python's memory


def test_random_access_to_many_pools_never_passes_the_budget(tmp_path):
    async def work():
        async with opened(tmp_path, max_open=32) as engine:
            for n in range(200):
                await made(engine, f"s{n}", 4)
            whole = 200 * await size_of(engine, "s0")
        budget = whole // 10
        async with opened(tmp_path, max_open=32, index_bytes=budget) as engine:
            chosen = random.Random(7)
            seen = []

            async def visitor():
                for _ in range(40):
                    found = await engine.search(f"s{chosen.randrange(200)}", query(), SearchOptions(3))
                    assert len(found.hits) == 3
                    seen.append(engine.index_bytes)
                    loaded, total = await engine.residents(1000)
                    assert len(loaded) == total
                    assert sum(one.memory_bytes for one in loaded) <= budget

            await asyncio.gather(*(visitor() for _ in range(8)))
            assert 0 < max(seen) <= budget

    asyncio.run(work())


def test_the_least_recently_used_pool_goes_first(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            for name in "abc":
                await made(engine, name, 4)
            size = await size_of(engine, "a")
        async with opened(tmp_path, index_bytes=2 * size) as engine:
            for name in ("a", "b", "a", "c"):
                await engine.search(name, query(), SearchOptions(1))
            assert [one.series_id for one in (await engine.residents(9))[0]] == ["c", "a"]

    asyncio.run(work())


def test_a_pinned_pool_stays_until_it_is_unloaded(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            for name in "ab":
                await made(engine, name, 4)
            size = await size_of(engine, "a")
        async with opened(tmp_path, index_bytes=size) as engine:
            assert (await engine.load_series("a", "memory", pin=True)).pinned
            found = await engine.search("b", query(), SearchOptions(4))  # in the store
            assert len(found.hits) == 4
            assert [one.series_id for one in (await engine.residents(9))[0]] == ["a"]
            with pytest.raises(Overloaded) as caught:
                await engine.load_series("b", "memory")
            assert caught.value.reason == "INDEX_BUDGET"
            assert await engine.unload_series("a") == (size, 0)
            assert (await engine.load_series("b", "memory")).series_id == "b"

    asyncio.run(work())


def test_a_pool_that_fits_into_no_budget_is_searched_in_the_store(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "a", 700)  # more than one batch
            expected = await engine.search("a", query(3), SearchOptions(7))
        async with opened(tmp_path, index_bytes=1000) as engine:
            found = await engine.search("a", query(3), SearchOptions(7))
            assert found.hits == expected.hits
            assert engine.index_bytes == 0

    asyncio.run(work())


def test_prefetch_answers_before_the_pool_is_there(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "a", 4)
            assert (await engine.load_series("a", "memory", prefetch=True)).tier == "disk"
            assert (await engine.load_series("a", "memory")).tier == "memory"

    asyncio.run(work())


def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    async def work():
        async with opened(tmp_path, gpu_bytes=0) as engine:
            await made(engine, "a", 4)
            with pytest.raises(FailedState) as caught:
                await engine.load_series("a", "gpu")
            assert caught.value.reason == "NO_GPU"

    asyncio.run(work())


def test_a_pool_that_outgrows_the_budget_leaves_the_memory(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "a", 4)
            size = await size_of(engine, "a")
        async with opened(tmp_path, index_bytes=size + 3000) as engine:
            await engine.search("a", query(), SearchOptions(1))
            assert engine.index_bytes == size
            await made(engine, "a", 50, first=4)
            assert engine.index_bytes <= size + 3000
            assert len((await engine.search("a", query(), SearchOptions(60))).hits) == 54

    asyncio.run(work())


def test_concurrent_first_searches_read_a_pool_once(tmp_path, monkeypatch):
    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "a", 4)
            known, calls = engine._catalog.known, []
            monkeypatch.setattr(engine._catalog, "known", lambda *a: calls.append(a) or known(*a))
            await asyncio.gather(*(engine.search("a", query(), SearchOptions(1)) for _ in range(20)))
            assert len(calls) == 1

    asyncio.run(work())


def test_a_caller_that_goes_while_a_pool_is_read_leaves_it_free_to_go(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            for name in "ab":
                await made(engine, name, 4)
            size = await size_of(engine, "a")
        async with opened(tmp_path, index_bytes=size) as engine:
            task = asyncio.create_task(engine.search("a", query(), SearchOptions(1)))
            while not engine._residency._coming:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await engine.search("b", query(), SearchOptions(1))  # waits for ever if "a" is still in use
            assert [one.series_id for one in (await engine.residents(9))[0]] == ["b"]

    asyncio.run(work())


def test_an_index_is_made_anew_where_there_is_no_room_for_two_of_it(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "large", 300)
            await made(engine, "small", 20)
            size = await size_of(engine, "large")
        async with opened(tmp_path, index_bytes=size + size // 2) as engine:
            async with asyncio.timeout(120):
                assert (await engine.reindex_series("large")).rows == 300
                assert len((await engine.search("small", query(), SearchOptions(3))).hits) == 3
                await engine.compact_series("large")
                assert len((await engine.search("large", query(), SearchOptions(3))).hits) == 3

    asyncio.run(work())


def test_two_indexes_made_anew_do_not_wait_for_each_other(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            for name in ("one", "other"):
                await made(engine, name, 300)
            size = await size_of(engine, "one")
        async with opened(tmp_path, index_bytes=2 * size + size // 2) as engine:
            async with asyncio.timeout(120):
                done = await asyncio.gather(*(engine.reindex_series(name) for name in ("one", "other")))
            assert [one.rows for one in done] == [300, 300]

    asyncio.run(work())
