"""The engine while several things happen at once: searches and additions, switches of the space, migrations."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import retrieval.cases.migrations as migrations
import retrieval.loaded
from retrieval.catalog import Catalog
from retrieval.config import RetrievalSettings
from retrieval.engine import Engine
from retrieval.folder import DataFolder
from retrieval.pool import Pool
from retrieval.types import Added, Draft, Page, ReferenceChange, SearchOptions, SeriesDraft, Space
from serving.errors import AlreadyExists, FailedState, Unavailable
from tests.unit.engine_model import id_of, import_item
from tests.unit.pools import filled, series

DIM = 8
SPACE = Space("", "m", "", "", "native", DIM, False)
VARIANTS = {"wide": {"embedder": "structure", "crop_recipe": "fit:64x64"}}


@asynccontextmanager
async def opened(folder, **changes):
    engine = Engine(RetrievalSettings(data_dir=folder / "data", **{"embedder": "vectors", **changes}))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (6, 5, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((100, 120), Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()


def test_every_answer_is_of_the_generation_that_it_names(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval.loaded, "SEGMENT_ROWS", 16)
    members: dict[int, set[str]] = {0: set()}  # by generation
    answers = []

    async def change(engine):
        rng = np.random.default_rng(1)
        here: list[str] = []
        for n in range(60):
            items = [
                import_item(f"{n} {m}".encode(), Draft(), rng.standard_normal((2, DIM)).astype(np.float32))
                for m in range(3)
            ]
            results, _ = await engine.import_references("s", "", items)
            for result in results:
                assert isinstance(result, Added)
                here.append(result.reference.id)
                members[result.generation] = set(here)
            if n % 4 == 3:
                gone, here = here[:5], here[5:]
                _, generation = await engine.delete_references("s", gone, allow_missing=False)
                members[generation] = set(here)
            if n % 20 == 10:
                await engine.unload_series("s")

    async def look(engine, done, seed):
        rng = np.random.default_rng(seed)
        while not done.is_set():
            queries = rng.standard_normal((2, DIM)).astype(np.float32)
            answers.append(await engine.search("s", queries, SearchOptions(500)))

    async def work():
        async with opened(tmp_path) as engine:
            await engine.create_series(SeriesDraft(id="s", embedder="vectors", space=SPACE))
            done = asyncio.Event()
            lookers = [asyncio.create_task(look(engine, done, seed)) for seed in range(4)]
            await change(engine)
            done.set()
            await asyncio.gather(*lookers)

    asyncio.run(work())
    assert len({found.generation for found in answers}) > 10
    for found in answers:
        assert {hit.reference.id for hit in found.hits} == members[found.generation]  # all of it, nothing else
        assert found.candidates == 2 * len(members[found.generation])


def test_searches_of_a_pool_that_is_unloaded_all_the_time_find_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval.loaded, "SEGMENT_ROWS", 16)
    queries, answers = np.random.default_rng(2).standard_normal((2, DIM)).astype(np.float32), []

    async def look(engine, done):
        while not done.is_set():
            found = await engine.search("s", queries, SearchOptions(9))
            answers.append([(hit.query, hit.score, hit.reference.id) for hit in found.hits])

    async def work():
        async with opened(tmp_path) as engine:
            await engine.create_series(SeriesDraft(id="s", embedder="vectors", space=SPACE))
            rng = np.random.default_rng(1)
            items = [
                import_item(b"%d" % n, Draft(), rng.standard_normal((2, DIM)).astype(np.float32)) for n in range(300)
            ]
            await engine.import_references("s", "", items)
            done = asyncio.Event()
            lookers = [asyncio.create_task(look(engine, done)) for _ in range(4)]
            for _ in range(40):
                before = len(answers)
                while len(answers) == before:
                    await engine.unload_series("s")
            done.set()
            await asyncio.gather(*lookers)
            await engine.unload_series("s")
            assert engine.index_bytes == 0

    asyncio.run(work())
    assert len(answers[0]) == 18
    assert all(answer == answers[0] for answer in answers)


def test_what_was_acknowledged_is_in_the_next_answer(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            await engine.create_series(SeriesDraft(id="s", embedder="vectors", space=SPACE))

            async def add(n):
                vector = np.eye(DIM, dtype=np.float32)[[n % DIM]] + n / 100
                results, generation = await engine.import_references("s", "", [import_item(b"%d" % n, Draft(), vector)])
                options = SearchOptions(1, min_generation=generation)
                found = await engine.search("s", vector, options)
                assert found.generation >= results[0].generation
                assert found.hits[0].reference.id == id_of(b"%d" % n)

            await asyncio.gather(*(add(n) for n in range(40)))

    asyncio.run(work())


def test_a_picture_whose_series_was_switched_while_it_was_embedded_is_embedded_again(tmp_path):
    async def work():
        async with opened(tmp_path, embedder="structure", embedder_variants=VARIANTS) as engine:
            await engine.create_series(SeriesDraft(id="s"))
            embed, spaces = engine._embedding.reference, []

            async def slow(series, data, **how):
                answer = await embed(series, data, **how)
                spaces.append(answer[0].space_id)
                if len(spaces) == 1:  # the series is empty: its migration is a switch
                    await engine.migrate_series("s", "wide")
                    while (await engine.get_series("s")).series.migration is not None:
                        await asyncio.sleep(0.01)
                return answer

            engine._embedding.reference = slow
            added = await engine.add("s", Draft(), picture(1))
            series = (await engine.get_series("s")).series
            assert added.new
            assert series.embedder == "wide"
            assert len(spaces) == 2
            assert spaces[1] == series.space.id != spaces[0]
            found = await engine.retrieve("s", Page(picture(1)), SearchOptions(1))
            assert found.space == series.space
            assert len(found.found.hits) == 4

    asyncio.run(work())


def test_a_migration_ends_with_the_vectors_that_its_embedder_gives(tmp_path, monkeypatch):
    monkeypatch.setattr(migrations, "BATCH", 2)

    async def work():
        async with opened(tmp_path, embedder="structure", embedder_variants=VARIANTS) as engine:
            for name, embedder in (("s", "structure"), ("fresh", "wide")):
                await engine.create_series(SeriesDraft(id=name, embedder=embedder))
                for n in range(5):
                    await engine.add(name, Draft(chapter=n), picture(n))
            options = SearchOptions(3)
            await engine.retrieve("s", Page(picture(2)), options)  # in memory
            old = (await engine.get_series("s")).series.space
            switch, go_on = engine._switch, asyncio.Event()

            async def held(*target):
                await go_on.wait()
                return await switch(*target)

            engine._switch = held
            migration, total = await engine.migrate_series("s", "wide")
            assert (migration.embedder, total) == ("wide", 5)
            with pytest.raises(FailedState) as caught:
                await engine.migrate_series("s", "wide")
            assert caught.value.reason == "MIGRATION_UNDER_WAY"
            go_on.set()
            while (await engine.get_series("s")).series.migration is not None:
                await engine.retrieve("s", Page(picture(2)), options)  # never fails, whatever the space
            found = await engine.retrieve("s", Page(picture(2)), options)
            fresh = await engine.retrieve("fresh", Page(picture(2)), options)
            facts = [[(h.query, h.score, h.reference.id, h.box) for h in one.found.hits] for one in (found, fresh)]
            assert facts[0] == facts[1]
            assert (await engine.residents(9))[1] == 2  # it was not read anew
            with pytest.raises(FailedState) as caught:
                await engine.search("s", np.ones((1, old.dim), np.float32), options, old.id)
            assert caught.value.reason == "EMBEDDING_SPACE_CHANGED"

    asyncio.run(work())


def test_a_migration_under_steady_additions_reads_the_pool_once(tmp_path, monkeypatch):
    real_switch, real_block, real_known = Pool.switch, Catalog.block, Catalog.known
    late, sequences, knowing = [5, 6, 7], [], []

    def known(self, *args):
        knowing.append(args)
        return real_known(self, *args)

    def block(self, *args):
        found = real_block(self, *args)
        if found is not None and args[4] != "patches":
            sequences.extend(reference.generation for reference in found.references)
        return found

    async def work():
        async with opened(tmp_path, embedder="structure", embedder_variants=VARIANTS) as engine:
            loop = asyncio.get_running_loop()

            def switch(self, *args):
                if late:  # one more is there at each of the first attempts
                    n = late.pop(0)
                    added = asyncio.run_coroutine_threadsafe(engine._embedding.reference(series, picture(n)), loop)
                    engine._catalog.add("s", Draft(chapter=n), picture(n), added.result(120)[0])
                return real_switch(self, *args)

            await engine.create_series(SeriesDraft(id="s", embedder="structure"))
            series = (await engine.get_series("s")).series
            for n in range(5):
                await engine.add("s", Draft(chapter=n), picture(n))
            await engine.load_series("s", "memory")
            monkeypatch.setattr(Pool, "switch", switch)
            monkeypatch.setattr(Catalog, "block", block)
            monkeypatch.setattr(Catalog, "known", known)
            await engine.migrate_series("s", "wide")
            while (await engine.get_series("s")).series.migration is not None:
                await asyncio.sleep(0.01)
            assert not late
            assert len(knowing) == 2  # all records: to read the pool, and to bring it up to date at the end
            assert sorted(sequences) == list(range(1, 9))
            found = await engine.retrieve("s", Page(picture(2)), SearchOptions(99))
            assert {hit.reference.chapter for hit in found.found.hits} == set(range(8))
            assert sorted(sequences) == list(range(1, 9))  # it was in memory

    asyncio.run(work())


def test_a_migration_goes_on_after_a_restart_and_tells_what_stops_it(tmp_path, monkeypatch):
    monkeypatch.setattr(migrations, "FIRST_PAUSE", 0.01)

    async def begin():
        async with opened(tmp_path, embedder="structure", embedder_variants=VARIANTS) as engine:
            await engine.create_series(SeriesDraft(id="s"))
            await engine.add("s", Draft(), picture(0))
            monkeypatch.setattr(engine, "_continue_migration", lambda _: None)  # killed before it did anything
            await engine.migrate_series("s", "wide")

    async def without_the_embedder():
        async with opened(tmp_path, embedder="structure") as engine:
            while not (await engine.get_series("s")).series.migration.problem:
                await asyncio.sleep(0.01)
            assert "wide" in (await engine.stats("s")).migration.problem

    async def with_it():
        async with opened(tmp_path, embedder="structure", embedder_variants=VARIANTS) as engine:
            while (await engine.get_series("s")).series.migration is not None:
                await asyncio.sleep(0.01)
            assert (await engine.get_series("s")).series.embedder == "wide"

    for part in (begin, without_the_embedder, with_it):
        asyncio.run(part())


def test_a_picture_that_cannot_be_embedded_stops_no_other_and_its_removal_ends_the_migration(tmp_path, monkeypatch):
    monkeypatch.setattr(migrations, "FIRST_PAUSE", 0.01)

    async def work():
        async with opened(tmp_path, embedder="structure", embedder_variants=VARIANTS) as engine:
            await engine.create_series(SeriesDraft(id="s"))
            good = await engine.add("s", Draft(), picture(0))
            space = (await engine.get_series("s")).series.space
            bad = import_item(b"no picture", Draft(), np.ones((1, space.dim), np.float32))
            await engine.import_references("s", space.id, [bad])
            last = await engine.add("s", Draft(), picture(1))
            await engine.migrate_series("s", "wide")
            while True:
                migration = (await engine.get_series("s")).series.migration
                if migration.problem and migration.done == 2:
                    break
                await asyncio.sleep(0.01)
            await engine.delete_references("s", [hashlib.sha256(b"no picture").hexdigest()], allow_missing=False)
            while (await engine.get_series("s")).series.migration is not None:
                await asyncio.sleep(0.01)
            context = await engine.retrieve("s", Page(reference_id=good.reference.id), SearchOptions(9))
            assert {hit.reference.id for hit in context.found.hits} == {last.reference.id}

    asyncio.run(work())


def test_a_cancelled_migration_leaves_the_series_as_it_was(tmp_path):
    async def work():
        async with opened(tmp_path, embedder="structure", embedder_variants=VARIANTS) as engine:
            await engine.create_series(SeriesDraft(id="s"))
            await engine.add("s", Draft(), picture(0))
            before = (await engine.get_series("s")).series
            engine._switch = lambda *_: asyncio.sleep(3600)  # it never gets that far
            await engine.migrate_series("s", "wide")
            await engine.cancel_migration("s")
            after = (await engine.get_series("s")).series
            assert replace(after, revision=0, update_ns=0) == replace(before, revision=0, update_ns=0)
            with pytest.raises(FailedState) as caught:
                await engine.cancel_migration("s")
            assert caught.value.reason == "NO_MIGRATION"

    asyncio.run(work())


@pytest.mark.parametrize("leaving", [False, True], ids=["callers that wait", "callers that go"])
def test_series_that_are_held_up_hold_no_other_one_up(tmp_path, leaving):
    async def work():
        async with opened(tmp_path) as engine:
            ids, slow = {}, ("slow", "slower", "slowest")
            for name in (*slow, "other"):
                await engine.create_series(SeriesDraft(id=name, embedder="vectors", space=SPACE))
                item = import_item(name.encode(), Draft(), np.ones((1, DIM), np.float32))
                ((added,), _) = await engine.import_references(name, "", [item])
                ids[name] = added.reference.id

            def change(name):
                return engine.update_reference(name, ids[name], ReferenceChange(frozenset({"tags"}), tags=("t",)))

            def reads():
                return [asyncio.ensure_future(engine.get_reference(name, ids[name])) for name in slow * 20]

            pools = [engine._residency.pool(name) for name in slow]  # kept, as whoever uses them keeps them
            with ExitStack() as loads, ExitStack() as held:
                for pool in pools[:2]:
                    loads.enter_context(pool._lock)  # as a load does, of which there are two at a time
                waiting = [asyncio.ensure_future(change(name)) for name in slow[:2] * 20]
                await asyncio.wait_for(change("other"), 120)
                for name in slow:  # as compactions do
                    await asyncio.to_thread(held.enter_context, engine._catalog.replacing(name))
                waiting += [*reads(), asyncio.ensure_future(change(slow[2]))]
                await asyncio.wait_for(change("other"), 120)
                for one in waiting if leaving else ():
                    one.cancel()
                more = reads()
                await asyncio.wait_for(change("other"), 120)
                assert not any(one.done() and not one.cancelled() for one in (*waiting, *more))
            results = await asyncio.wait_for(asyncio.gather(*waiting, *more, return_exceptions=True), 120)
            errors = [one for one in results if isinstance(one, Exception)]
            assert not errors
            assert sum(isinstance(one, asyncio.CancelledError) for one in results) == 101 * leaving

    asyncio.run(work())


def test_a_series_that_is_held_for_too_long_is_busy(tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval.patience.PATIENCE", 0.05)

    async def work():
        async with opened(tmp_path) as engine:
            await engine.create_series(SeriesDraft(id="s", embedder="vectors", space=SPACE))
            item = import_item(b"s", Draft(), np.ones((1, DIM), np.float32))
            ((added,), _) = await engine.import_references("s", "", [item])
            with ExitStack() as held:
                await asyncio.to_thread(held.enter_context, engine._catalog.replacing("s"))
                for call in (engine.get_reference("s", added.reference.id), engine.load_series("s", "memory")):
                    with pytest.raises(Unavailable) as caught:
                        await call
                    assert caught.value.reason == "SERIES_BUSY"
                assert (await engine.get_series("s")).pool.references == 1  # it is known
            assert (await engine.get_reference("s", added.reference.id)) == added.reference

    asyncio.run(work())


def test_series_that_are_held_keep_no_other_one_from_being_loaded(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            for name in ("a", "b", "c", "other"):
                await engine.create_series(SeriesDraft(id=name, embedder="vectors", space=SPACE))
            with ExitStack() as held:
                for name in "abc":
                    await asyncio.to_thread(held.enter_context, engine._catalog.replacing(name))
                waiting = [asyncio.ensure_future(engine.load_series(name, "memory")) for name in "abc"]
                loaded = await asyncio.wait_for(engine.load_series("other", "memory"), 120)
                assert loaded.tier == "memory"
                assert not any(one.done() for one in waiting)
            assert {one.tier for one in await asyncio.gather(*waiting)} == {"memory"}

    asyncio.run(work())


def test_a_folder_that_is_removed_slowly_holds_no_other_series_up(tmp_path, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    real = DataFolder.discard

    def slow(self, series_id):
        begun.set()
        assert go_on.wait(240)
        real(self, series_id)

    catalog = filled(tmp_path / "data", 3)
    catalog.create(series("other"))
    monkeypatch.setattr(DataFolder, "discard", slow)
    remover = threading.Thread(target=catalog.delete, args=("s", lambda _: None))
    remover.start()
    assert begun.wait(120)
    try:
        reader = threading.Thread(target=catalog.known, args=("other",))
        reader.start()
        reader.join(120)
        assert not reader.is_alive()
        assert "s" not in catalog.ids()
        with pytest.raises(AlreadyExists):
            catalog.create(series("s"))
    finally:
        go_on.set()
        remover.join(120)
    assert catalog.create(series("s")).pool.references == 0
    catalog.close()
