"""Upkeep of pools that are in memory: compaction, approximate kinds, new indexes, restored series, the GPU's budget."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import retrieval.cases.core
import retrieval.duplicates as duplicates
import retrieval.loaded
from retrieval.config import RetrievalSettings
from retrieval.engine import Engine
from retrieval.types import Bound, Draft, ImportItem, IndexOptions, SearchOptions, SeriesChange, SeriesDraft, Space
from serving.errors import FailedState, Overloaded
from tests.rows import Stand

DIM = 8
SPACE = Space("", "m", "", "", "native", DIM, False)
SEGMENT = 64


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(retrieval.loaded, "SEGMENT_ROWS", SEGMENT)


@asynccontextmanager
async def opened(folder, **changes):
    engine = Engine(RetrievalSettings(data_dir=folder / "data", embedder="vectors", **changes))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def made(engine: Engine, series_id: str, references: int, **draft) -> list[str]:
    """A series of references with one vector each, a chapter for every ten; their ids."""
    await engine.create_series(SeriesDraft(id=series_id, embedder="vectors", space=SPACE, **draft))
    return await grown(engine, series_id, 0, references)


async def grown(engine: Engine, series_id: str, first: int, last: int) -> list[str]:
    rng = np.random.default_rng(first)
    items = [
        ImportItem(Draft(chapter=n // 10 * 1000), b"%d" % n, rng.standard_normal((1, DIM)).astype(np.float32),
                   np.asarray([[0, 0, 4, 4]], np.int32), 8, 8, "image/png")
        for n in range(first, last)
    ]  # fmt: skip
    results, _ = await engine.import_references(series_id, "", items)
    return [result.reference.id for result in results]


def queries(count: int = 3) -> np.ndarray:
    return np.random.default_rng(99).standard_normal((count, DIM)).astype(np.float32)


async def hits(engine: Engine, series_id: str, options: SearchOptions) -> list[tuple]:
    found = await engine.search(series_id, queries(), options)
    return [(hit.query, hit.score, hit.reference.id) for hit in found.hits]


async def until(condition) -> None:
    async with asyncio.timeout(120):
        while not await condition():
            await asyncio.sleep(0.01)


def test_segments_of_removed_references_are_rewritten_by_themselves(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            ids = await made(engine, "s", 4 * SEGMENT)
            await engine.load_series("s", "memory")
            pool = engine._residency.pool("s")
            before = pool.bytes
            await engine.delete_references("s", ids[: SEGMENT // 2], allow_missing=False)
            expected = await hits(engine, "s", SearchOptions(300))
            assert len(expected) == 3 * (4 * SEGMENT - SEGMENT // 2)

            async def compacted():
                return (await engine.stats("s")).dead_share == 0

            await until(compacted)
            assert await hits(engine, "s", SearchOptions(300)) == expected
            assert pool.bytes < before
            assert engine.index_bytes == pool.bytes

    asyncio.run(work())


def test_compaction_on_demand_drops_rows_and_history(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            ids = await made(engine, "s", SEGMENT + 10)
            await engine.load_series("s", "memory")
            await engine.delete_references("s", ids[-3:], allow_missing=False)  # of the open segment
            expected = await hits(engine, "s", SearchOptions(200))
            compacted = await engine.compact_series("s", drop_history=True)
            assert (compacted.rows_dropped, compacted.references_dropped) == (3, 3)
            assert compacted.disk_bytes_after > 0
            assert await hits(engine, "s", SearchOptions(200)) == expected
            with pytest.raises(FailedState) as caught:
                await engine.search("s", queries(), SearchOptions(1, as_of=5))
            assert caught.value.reason == "HISTORY_NOT_KEPT"

    asyncio.run(work())


def test_an_approximate_kind_serves_once_it_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval.loaded, "APPROXIMATE_ROWS", 3 * SEGMENT)
    monkeypatch.setattr("retrieval.pool.APPROXIMATE_ROWS", 3 * SEGMENT)

    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "s", 2 * SEGMENT, index=IndexOptions("hnsw", recall_floor=0.5))
            await engine.load_series("s", "memory")
            stats = await engine.stats("s")
            assert (stats.serving_kind, stats.measured_recall) == ("exact", 0.0)
            assert stats.index_note
            await grown(engine, "s", 2 * SEGMENT, 8 * SEGMENT)

            async def serves():
                return (await engine.stats("s")).serving_kind == "hnsw"

            await until(serves)
            stats = await engine.stats("s")
            assert stats.measured_recall >= 0.5
            assert stats.index_note == ""
            newest = await grown(engine, "s", 8 * SEGMENT, 8 * SEGMENT + 1)
            bound = Bound(min_chapter=(8 * SEGMENT) // 10 * 1000)
            assert newest[0] in {hit[2] for hit in await hits(engine, "s", SearchOptions(20, bound))}
            await engine.update_series("s", SeriesChange(index=IndexOptions()))
            await engine.load_series("s", "memory")
            assert (await engine.stats("s")).serving_kind == "exact"

    asyncio.run(work())


def test_a_kind_below_its_floor_leaves_the_search_exact_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval.loaded, "APPROXIMATE_ROWS", SEGMENT)
    monkeypatch.setattr("retrieval.pool.APPROXIMATE_ROWS", SEGMENT)

    def poor(*_, **__):
        raise FailedState("index kind 'ivf' must find 0.950, got 0.400", reason="RECALL_TOO_LOW")

    monkeypatch.setattr("retrieval.index.index.measured", poor)

    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "s", 2 * SEGMENT, index=IndexOptions("ivf"))
            result = await engine.reindex_series("s")
            assert (result.rows, result.serving_kind, result.measured_recall) == (2 * SEGMENT, "exact", 0.0)
            assert "0.400" in result.note
            assert (await engine.stats("s")).index_note == result.note

    asyncio.run(work())


def test_a_restored_series_is_searched_as_it_was(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            ids = await made(engine, "s", 20)
            expected = await hits(engine, "s", SearchOptions(30))
            await engine.create_snapshot("s", "first")
            await engine.delete_references("s", ids[:10], allow_missing=False)
            generation = (await engine.get_series("s")).pool.generation
            view = await engine.restore_snapshot("s", "first", replace=True)
            assert view.pool.generation > generation
            assert await hits(engine, "s", SearchOptions(30, min_generation=view.pool.generation)) == expected
            await engine.restore_snapshot("s", "first", into="other")
            assert await hits(engine, "other", SearchOptions(30)) == expected
            listed, more = await engine.list_snapshots(limit=1)
            assert ([info.name for info in listed], more) == (["first"], False)
            await grown(engine, "s", 50, 52)
            assert len(await hits(engine, "s", SearchOptions(30))) == 3 * 22

    asyncio.run(work())


def test_a_check_finds_nothing_wrong_with_a_sound_series(tmp_path):
    async def work():
        async with opened(tmp_path, backup_dir=tmp_path / "backups") as engine:
            await made(engine, "s", 20)
            steps = [step async for step in engine.check_series("s")]
            assert [(step.finding, step.references, step.done) for step in steps] == [("", 20, True)]
            told = [step async for step in engine.back_up("one")]
            assert [(step.series_id, step.done, step.error) for step in told] == [("s", 1, None), ("", 1, None)]

    asyncio.run(work())


def test_the_gpus_budget_is_kept_and_its_answers_are_the_same(tmp_path, monkeypatch):
    stand = Stand(block_segments=2)
    monkeypatch.setattr(retrieval.cases.core, "best_scanner", lambda: stand)
    full = 4 * SEGMENT * DIM * 4  # bytes of the full segments of one series

    async def work():
        async with opened(tmp_path, gpu_bytes=2 * full) as engine:
            for name in "abc":
                await made(engine, name, 4 * SEGMENT + 5)
            for name in "abcab":
                resident = await engine.load_series(name, "gpu")
                assert (resident.tier, resident.gpu_bytes) == ("gpu", full)
                assert engine.gpu_bytes <= 2 * full
            on_gpu = {one.series_id for one in (await engine.residents(9))[0] if one.tier == "gpu"}
            assert on_gpu == {"a", "b"}
            expected = [await hits(engine, name, SearchOptions(5)) for name in "abc"]
            assert stand.searches > 0
            assert await engine.unload_series("a") == (engine_size(engine, "b"), full)
            assert engine.gpu_bytes <= 2 * full
        async with opened(tmp_path, gpu_bytes=0) as engine:
            assert [await hits(engine, name, SearchOptions(5)) for name in "abc"] == expected

    asyncio.run(work())


def engine_size(engine: Engine, series_id: str) -> int:
    return engine._residency.resident(series_id).memory_bytes


def test_a_gpu_that_refuses_leaves_the_series_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval.cases.core, "best_scanner", lambda: Stand(room=1))

    async def work():
        async with opened(tmp_path, gpu_bytes=1 << 30) as engine:
            await made(engine, "s", 3 * SEGMENT)
            resident = await engine.load_series("s", "gpu")
            assert (resident.tier, resident.gpu_bytes, engine.gpu_bytes) == ("memory", 0, 0)
            assert len(await hits(engine, "s", SearchOptions(5))) == 15

    asyncio.run(work())


def test_what_a_caller_may_add_is_counted_over_all_series(tmp_path):
    async def work():
        async with opened(tmp_path, caller_references=5) as engine:
            await made(engine, "s", 0)
            item = ImportItem(
                Draft(), b"x", np.ones((1, DIM), np.float32), np.zeros((1, 4), np.int32), 8, 8, "image/png"
            )
            await engine.import_references("s", "", [item] * 5, caller="one")  # four of them are there already
            await engine.import_references("s", "", [item] * 6, caller="one")  # all of them
            others = [replace(item, data=bytes([n])) for n in range(5)]
            await made(engine, "t", 0)
            with pytest.raises(Overloaded) as caught:
                await engine.import_references("t", "", others, caller="one")
            assert caught.value.reason == "QUOTA_EXCEEDED"
            await engine.import_references("t", "", others[:4], caller="one")
            await engine.import_references("t", "", others, caller="two")

    asyncio.run(work())


def test_near_duplicates_are_marked_and_excluded(tmp_path):
    def file(colour: int, level: int) -> bytes:
        rng = np.random.default_rng(colour)
        pixels = np.asarray(
            Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8)).resize((64, 64), Image.Resampling.NEAREST)
        )
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG", compress_level=level)
        return out.getvalue()

    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "s", 0)
            vectors = np.eye(DIM, dtype=np.float32)
            boxes = np.asarray([[0, 0, 64, 64]], np.int32)
            files = [(file(1, 1), 0), (file(1, 9), 0), (file(2, 1), 0), (file(1, 5), 3)]
            items = [ImportItem(Draft(), d, vectors[[n]], boxes, 64, 64, "image/png") for d, n in files]
            results, before = await engine.import_references("s", "", items)
            ids = [result.reference.id for result in results]
            workers = engine._embedding._pool._pool
            assert not workers.pids
            dry = await engine.find_near_duplicates("s", 0.98, 3.0, dry_run=True)
            assert dry.generation == before
            assert workers.pids  # pictures without a digest are decoded there, as they come from strangers
            found = await engine.find_near_duplicates("s", 0.98, 3.0)
            assert [(one.reference_id, one.original_id) for one in found.found] == [(ids[1], ids[0])]
            assert found.generation == before + 1
            options = SearchOptions(9, Bound(exclude_near_duplicates=True))
            assert ids[1] not in {hit[2] for hit in await hits(engine, "s", options)}
            assert (await engine.stats("s")).pool.near_duplicates == 1
            assert (await engine.drift("s", 0.9, Bound())).pairs == 0

    asyncio.run(work())


def test_what_a_look_for_near_duplicates_holds_is_counted(tmp_path, monkeypatch):
    real, seen = duplicates.find_near_duplicates, []

    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "s", 50)

            def find(references, *args, **options):
                seen.append(engine.index_bytes)
                return real(references, *args, **options)

            monkeypatch.setattr(duplicates, "find_near_duplicates", find)
            before = engine.index_bytes
            await engine.find_near_duplicates("s", 0.98, 3.0)
            assert seen[0] >= before + 50 * 2 * 4 * DIM
            assert engine.index_bytes == before

    asyncio.run(work())


LOOKS = {
    "near duplicates": lambda engine: engine.find_near_duplicates("s", 0.98, 3.0),
    "drift": lambda engine: engine.drift("s", 0.9, Bound()),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_a_pool_that_does_not_fit_into_the_budget_is_refused(tmp_path, look):
    async def work():
        async with opened(tmp_path, index_bytes=1000) as engine:
            await made(engine, "s", 50)
            with pytest.raises(Overloaded) as caught:
                await LOOKS[look](engine)
            assert caught.value.reason == "INDEX_BUDGET"
            assert engine.index_bytes == 0

    asyncio.run(work())
