"""What must hold when two things that concern the same pool happen at the same moment, or one of them fails."""

from __future__ import annotations

import asyncio
import io
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import retrieval.loaded
from retrieval.duplicates import find_near_duplicates
from retrieval.gallery import plan
from retrieval.index import CpuScanner
from retrieval.pool import Pool
from retrieval.shelf import Shelf
from retrieval.store import Environment
from retrieval.types import Bound, Draft, ImportItem, IndexOptions, NewReference, ReferenceChange, SearchOptions
from serving.errors import FailedState, Overloaded, Unavailable
from tests.unit.pool_drawings import as_jpeg, page, pool
from tests.unit.pools import add, id_of, picture, prepared
from tests.unit.pools import filled as filled_pool
from tests.unit.test_engine_rounds import no_other_rounds
from tests.unit.test_engine_upkeep import SEGMENT, grown, hits, made, opened, queries

quiet = no_other_rounds  # a fixture: what the engine does by itself would come between the steps of a test


def found_ids(found: list[tuple]) -> set[str]:
    return {hit[2] for hit in found}


@pytest.mark.parametrize("loaded", [True, False], ids=["in memory", "read anew"])
def test_a_copy_answers_once_its_original_was_removed(tmp_path, loaded):
    async def work():
        async with opened(tmp_path) as engine:
            ids = await made(engine, "s", 5)
            await engine.load_series("s", "memory")
            await engine._off(engine._residency.pool("s").mark, {ids[3]: ids[1]})
            options = SearchOptions(9, Bound(exclude_near_duplicates=True))
            assert found_ids(await hits(engine, "s", options)) == {*ids} - {ids[3]}
            await engine.delete_references("s", [ids[1]], allow_missing=False)
            if not loaded:
                await engine.unload_series("s")
            assert found_ids(await hits(engine, "s", options)) == {*ids} - {ids[1]}
            listed, _, _ = await engine.list_references("s", options.bound, "", 9)
            assert {one.id for one in listed} == {*ids} - {ids[1]}

    asyncio.run(work())


def test_a_mark_of_a_reference_that_went_meanwhile_is_passed_over(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            ids = await made(engine, "s", 5)
            await engine.load_series("s", "memory")
            await engine.delete_references("s", [ids[2]], allow_missing=False)
            await engine._off(engine._residency.pool("s").mark, {ids[2]: ids[0], ids[3]: ids[1]})
            options = SearchOptions(9, Bound(exclude_near_duplicates=True))
            assert found_ids(await hits(engine, "s", options)) == {ids[0], ids[1], ids[4]}

    asyncio.run(work())


def test_what_was_purged_does_not_answer_as_of_an_earlier_generation_from_memory(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            ids = await made(engine, "s", 5)
            before = (await engine.get_series("s")).pool.generation
            await engine.delete_references("s", ids[:1], allow_missing=False)
            assert len(await hits(engine, "s", SearchOptions(9, as_of=before))) == 15  # in memory now
            await engine.delete_references("s", ids[:1], allow_missing=True, purge=True)
            with pytest.raises(FailedState) as caught:
                await hits(engine, "s", SearchOptions(9, as_of=before))
            assert caught.value.reason == "HISTORY_NOT_KEPT"

    asyncio.run(work())


def test_an_approximate_search_that_is_not_good_enough_is_not_built_again_at_every_addition(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval.loaded, "SEGMENT_ROWS", SEGMENT)
    monkeypatch.setattr(retrieval.loaded, "APPROXIMATE_ROWS", SEGMENT)
    monkeypatch.setattr("retrieval.pool.APPROXIMATE_ROWS", SEGMENT)
    from retrieval.index.recall import measured

    good, built = [True], []

    def sometimes(snapshot, *args, **options):
        built.append(snapshot.rows)
        if good[0]:
            return measured(snapshot, *args, **options)
        raise FailedState("index kind 'hnsw' must find 0.500, got 0.400", reason="RECALL_TOO_LOW")

    monkeypatch.setattr("retrieval.index.index.measured", sometimes)

    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "s", 2 * SEGMENT, index=IndexOptions("hnsw", recall_floor=0.5))
            await engine.reindex_series("s")
            good[0], first = False, len(built)
            await grown(engine, "s", 2 * SEGMENT, 5 * SEGMENT)
            for n in range(5 * SEGMENT, 5 * SEGMENT + 4):
                await grown(engine, "s", n, n + 1)
            while engine._building:
                await asyncio.sleep(0.01)
            assert len(built) == first + 1
            good[0] = True
            await grown(engine, "s", 6 * SEGMENT, 12 * SEGMENT)
            while engine._building:
                await asyncio.sleep(0.01)
            stats = await engine.stats("s")
            assert (stats.serving_kind, stats.index_note) == ("hnsw", "")
            assert len(built) == first + 2

    asyncio.run(work())


def test_a_full_disk_right_after_a_switch_does_not_hide_it(tmp_path, monkeypatch):
    catalog = filled_pool(tmp_path, 3)

    def full(*_):
        raise Overloaded("the disk is full", reason="DISK_FULL")

    series = catalog.view("s").series
    catalog.begin_migration("s", "toy", replace(series.space, id="toy/1"))
    known, _ = catalog.known("s")
    catalog.put_migrated("s", [one for one in catalog.patches("s") if one.sequence in known])
    monkeypatch.setattr(Environment, "drop_databases", full)
    assert catalog.switch("s") == []
    assert catalog.view("s").series.space.id == "toy/1"
    assert add(catalog, 7) == id_of(7)
    catalog.close()


@pytest.mark.parametrize(("recipe", "kept"), [("native", True), ("fit:64x64", False)])
def test_colours_of_patches_that_were_cut_otherwise_do_not_outlive_a_switch(tmp_path, recipe, kept):
    catalog = filled_pool(tmp_path, 2)
    digest = bytes([1]) + bytes(5 * 48)
    catalog.add("s", Draft(), picture(9), replace(prepared(9), digest=digest))
    space = replace(catalog.view("s").series.space, id="toy/1", crop_recipe=recipe)
    catalog.begin_migration("s", "toy", space)
    known, _ = catalog.known("s")
    catalog.put_migrated("s", [one for one in catalog.patches("s") if one.sequence in known])
    assert catalog.switch("s") == []
    assert catalog.get("s", id_of(9)).digest == (digest if kept else b"")
    catalog.close()


def test_colours_of_patches_that_were_cut_anew_come_with_the_switch(tmp_path):
    catalog = filled_pool(tmp_path, 2)
    old, new = (bytes([1]) + bytes([level]) * (5 * 48) for level in (0, 9))
    stored = catalog.add("s", Draft(), picture(9), replace(prepared(9), digest=old))[0]
    space = replace(catalog.view("s").series.space, id="toy/1", crop_recipe="fit:64x64")
    catalog.begin_migration("s", "toy", space)
    known, _ = catalog.known("s")
    patches = [one for one in catalog.patches("s") if one.sequence in known]
    catalog.put_migrated("s", patches, {stored.generation: new})
    assert catalog.get("s", stored.id).digest == old
    assert catalog.switch("s") == []
    assert catalog.get("s", stored.id).digest == new
    catalog.begin_migration("s", "toy", replace(space, id="toy/2", crop_recipe="native"))
    catalog.put_migrated("s", [one for one in catalog.patches("s") if one.sequence in known])
    assert catalog.switch("s") == []
    assert catalog.get("s", stored.id).digest == b""
    catalog.close()


def test_what_a_switch_left_of_removed_references_goes_when_its_time_has_come(tmp_path):
    async def work():
        async with opened(tmp_path, history_seconds=1e-6) as engine:
            ids = await made(engine, "s", 3)
            await engine.delete_references("s", ids[:1], allow_missing=False)
            space = (await engine.get_series("s")).series.space
            catalog = engine._catalog
            catalog.begin_migration("s", "vectors", replace(space, id="other"))
            known, _ = catalog.known("s")
            catalog.put_migrated("s", [one for one in catalog.patches("s") if one.sequence in known])
            assert catalog.switch("s") == []
            assert catalog.view("s").pool.removed == 1
            await engine._look_at("s")
            assert catalog.view("s").pool.removed == 0

    asyncio.run(work())


CHANGES = {
    "added": lambda engine, ids: grown(engine, "s", 5, 8),
    "removed": lambda engine, ids: engine.delete_references("s", ids[:1], allow_missing=False),
    "changed": lambda engine, ids: engine.update_reference(
        "s", ids[0], ReferenceChange(frozenset({"tags"}), None, None, ("t",))
    ),
}
STEPS = {"added": "append", "removed": "remove", "changed": "change"}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_that_is_stored_answers_though_there_was_no_memory_for_it(tmp_path, monkeypatch, kind):
    def full(*_):
        raise MemoryError

    async def work():
        async with opened(tmp_path) as engine:
            ids = await made(engine, "s", 5)
            await engine.load_series("s", "memory")
            with monkeypatch.context() as patch:
                patch.setattr(retrieval.loaded.Loaded, STEPS[kind], full)
                await CHANGES[kind](engine, ids)
            found = await engine.search("s", queries(1), SearchOptions(99))
            assert found.generation == (await engine.get_series("s")).pool.generation
            there = {hit.reference for hit in found.hits}
            assert there == set(engine._catalog.known("s")[0].values())

    asyncio.run(work())


@pytest.mark.parametrize("error", [MemoryError(), Unavailable("the store failed", reason="STORE_FAILED")])
def test_a_change_that_failed_after_its_commit_is_not_missing_in_memory(tmp_path, monkeypatch, error):
    real = Shelf._note

    def broken(self, entry, txn):
        real(self, entry, txn)
        raise error

    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "s", 5)
            await engine.load_series("s", "memory")
            with monkeypatch.context() as patch:
                patch.setattr(Shelf, "_note", broken)
                with pytest.raises(type(error)):
                    await grown(engine, "s", 5, 8)
            assert len(await hits(engine, "s", SearchOptions(99))) == 3 * 8
            assert (await engine.get_series("s")).pool.references == 8

    asyncio.run(work())


def test_a_fault_with_one_series_does_not_end_the_rounds(tmp_path, monkeypatch):
    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "s", 3)

            def broken(_):
                raise RuntimeError("a fault")

            monkeypatch.setattr(engine._catalog, "view", broken)
            await engine._look_at("s")

    asyncio.run(work())


def test_references_that_are_purged_while_duplicates_are_sought_are_in_no_pair():
    first = page(1, 1)
    members = pool([first, as_jpeg(first)])
    found = find_near_duplicates(
        [one for one, _ in members],
        np.stack([stored.vectors[0] for _, stored in members]),
        lambda sequences: [np.zeros((0, members[0][1].vectors.shape[1]), np.float32) for _ in sequences],
    )
    assert not found.found


def test_what_waited_while_its_series_was_replaced_is_refused_and_writes_nothing(tmp_path):
    catalog = filled_pool(tmp_path, 3)
    waited = Pool(catalog, "s", CpuScanner())
    before, asked, refused = catalog.view("s").pool, threading.Event(), []
    real = catalog.add_many

    def add_many(*arguments, **options):
        asked.set()  # it has seen the series as it was
        return real(*arguments, **options)

    catalog.add_many = add_many

    def work():
        try:
            waited.add_many([NewReference(Draft(), picture(50), prepared(50))])
        except Unavailable as error:
            refused.append(error.reason)

    with catalog.replacing("s"):
        thread = threading.Thread(target=work)
        thread.start()
        assert asked.wait(120)
        waited.replaced()
    thread.join(120)
    assert refused == ["SERIES_BUSY"]
    assert catalog.view("s").pool == before
    catalog.close()


@pytest.mark.parametrize(("claimed", "box"), [(64, [0, 32, 64, 64]), (64, [40, 40, 64, 64]), (33, [0, 0, 32, 33])])
def test_a_patch_outside_of_a_picture_that_is_smaller_than_its_import_said_is_refused(tmp_path, claimed, box):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 10, 60)).save(file, "PNG")

    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "s", 0)
            boxes = np.asarray([box], np.int32)
            item = ImportItem(Draft(), file.getvalue(), queries(1), boxes, claimed, claimed, "image/png")
            await engine.import_references("s", "", [item])
            (hit,) = (await engine.search("s", queries(1), SearchOptions(9))).hits
            (wanted,) = plan([hit], "patches").wanted
            with pytest.raises(FailedState) as caught:
                await engine.show("s", wanted, 0)
            assert caught.value.reason == "REFERENCE_SIZE_WRONG"
            assert caught.value.metadata == {"expected": f"{claimed}x{claimed}", "actual": "32x32"}

    asyncio.run(work())
