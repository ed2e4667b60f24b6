"""The engine's end: what takes long ends with the step at hand, and is not waited for to its own end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import numpy as np
import pytest

import retrieval.duplicates
import retrieval.index.approximate
import retrieval.loaded
from retrieval.catalog import Catalog
from retrieval.config import RetrievalSettings
from retrieval.engine import Engine
from retrieval.index.structures import Ivf
from retrieval.inspector import Inspector, Office
from retrieval.snapshots import Snapshots
from retrieval.stopping import Stop
from retrieval.types import Draft, IndexOptions, SeriesDraft
from serving.errors import ServiceError, Unavailable
from tests.unit.engine_model import import_item
from tests.unit.pools import filled
from tests.unit.test_engine_upkeep import DIM, SEGMENT, SPACE, made


async def begun(folder) -> Engine:
    engine = Engine(RetrievalSettings(data_dir=folder / "data", embedder="vectors"))
    await engine.start()
    return engine


def test_the_end_does_not_wait_for_an_approximate_search_to_be_built(tmp_path, monkeypatch):
    for place in (
        "retrieval.loaded.SEGMENT_ROWS",
        "retrieval.loaded.APPROXIMATE_ROWS",
        "retrieval.pool.APPROXIMATE_ROWS",
    ):
        monkeypatch.setattr(place, SEGMENT)
    building = threading.Event()

    def endless(kind, rows, *_):
        while True:
            for _ in rows():
                building.set()

    monkeypatch.setattr(retrieval.index.approximate, "build", endless)

    async def work():
        engine = await begun(tmp_path)
        await made(engine, "s", 2 * SEGMENT, index=IndexOptions("ivf", recall_floor=0.5))
        await engine.load_series("s", "memory")
        assert await asyncio.to_thread(building.wait, 120)
        await engine.close()
        assert not engine._building

    asyncio.run(work())


def test_the_end_does_not_wait_for_near_duplicates_to_be_found(tmp_path, monkeypatch):
    seeking = threading.Event()

    def endless(*_, check, **__):
        while True:
            seeking.set()
            check()

    monkeypatch.setattr(retrieval.duplicates, "find_near_duplicates", endless)

    async def work():
        engine = await begun(tmp_path)
        await made(engine, "s", 3)
        search = asyncio.ensure_future(engine.find_near_duplicates("s", 0.98, 3.0))
        assert await asyncio.to_thread(seeking.wait, 120)
        await engine.close()
        with pytest.raises(Unavailable) as caught:
            await search
        assert caught.value.reason == "DRAINING"

    asyncio.run(work())


def test_the_end_does_not_wait_for_a_pool_to_be_read(tmp_path, monkeypatch):
    reading, real = threading.Event(), Catalog.block

    def endless(self, series_id, known, _after, limit, database):
        reading.set()
        return real(self, series_id, known, 0, limit, database)  # the same ones again and again

    async def work():
        engine = await begun(tmp_path)
        await made(engine, "s", 3)
        monkeypatch.setattr(Catalog, "block", endless)
        load = asyncio.ensure_future(engine.load_series("s", "memory"))
        assert await asyncio.to_thread(reading.wait, 120)
        await engine.close()
        with pytest.raises(Unavailable) as caught:
            await load
        assert caught.value.reason == "DRAINING"

    asyncio.run(work())


def test_the_end_does_not_wait_for_a_series_that_is_held(tmp_path):
    async def work():
        engine = await begun(tmp_path)
        await engine.create_series(SeriesDraft(id="s", embedder="vectors", space=SPACE))
        item = import_item(b"a", Draft(), np.ones((1, DIM), np.float32))
        let_go = threading.Event()
        holding = threading.Event()

        def hold():
            with engine._catalog.replacing("s"):
                holding.set()
                let_go.wait(240)

        holder = threading.Thread(target=hold)
        holder.start()
        assert await asyncio.to_thread(holding.wait, 120)
        waiting = [
            asyncio.ensure_future(engine.import_references("s", "", [item])),
            asyncio.ensure_future(engine.load_series("s", "memory")),
            asyncio.ensure_future(asyncio.to_thread(engine._catalog.known, "s")),
        ]
        while not engine._catalog.waiters._acts["s"]:
            await asyncio.sleep(0.01)
        await engine.cut_short()
        for one in waiting:
            with pytest.raises(Unavailable) as caught:
                await one
            assert caught.value.reason == "DRAINING"
        assert holder.is_alive()
        let_go.set()
        holder.join(120)
        await engine.close()

    asyncio.run(work())


def test_what_is_added_before_the_end_is_there_after_it(tmp_path):
    async def work():
        engine = await begun(tmp_path)
        await made(engine, "s", 0)
        items = [import_item(b"%d" % n, Draft(), np.ones((1, DIM), np.float32)) for n in range(20)]
        adding = [asyncio.ensure_future(engine.import_references("s", "", [item])) for item in items]
        await adding[0]
        await engine.close()
        results = await asyncio.gather(*adding, return_exceptions=True)
        acknowledged = {
            one.reference.id for result in results if isinstance(result, tuple) for one in result[0]
            if not isinstance(one, ServiceError)
        }  # fmt: skip
        again = await begun(tmp_path)
        assert acknowledged
        assert acknowledged <= {one.id for one in again._catalog.known("s")[0].values()}
        await again.close()

    asyncio.run(work())


# -- inspectors


def test_an_office_that_closes_ends_what_its_inspectors_do(tmp_path):
    catalog = filled(tmp_path / "data", 3)
    office, told = Office(), []
    with office() as inspector:
        assert list(inspector.check(catalog.folder.series / "s"))  # its process is there
        os.kill(inspector._process.pid, signal.SIGSTOP)

        def check() -> None:
            try:
                told.append(list(inspector.check(catalog.folder.series / "s")))
            except Unavailable as error:
                told.append(error.reason)

        caller = threading.Thread(target=check)
        caller.start()
        office.close()
        caller.join(120)
        assert told == ["DRAINING"]
        with pytest.raises(Unavailable):
            inspector.sound(catalog.folder.series / "s")
    with pytest.raises(Unavailable):
        office()
    catalog.close()


def test_one_process_copies_one_series_after_the_other(tmp_path):
    catalog, processes = filled(tmp_path / "data", 3), set()
    with Inspector() as inspector:
        for name in "ab":
            (tmp_path / name).mkdir()
            inspector.copy(catalog.folder.series / "s", tmp_path / name)
            inspector.sound(tmp_path / name)
            processes.add(inspector._process.pid)
    assert len(processes) == 1
    catalog.close()


def test_the_end_cuts_a_restore_short_and_leaves_the_series_as_it_was(tmp_path):
    catalog, stop = filled(tmp_path / "data", 3), Stop()
    snapshots = Snapshots(catalog, check=stop.check)
    snapshots.create("s", "one")
    before = catalog.view("s")
    stop.set()
    for into, replacing in (("other", False), ("", True)):
        with pytest.raises(Unavailable) as caught:
            snapshots.restore("s", "one", into=into, replacing=replacing)
        assert caught.value.reason == "DRAINING"
    assert catalog.view("s") == before
    assert catalog.ids() == ["s"]
    assert not list(catalog.folder.trash.iterdir())
    catalog.close()


def test_training_that_may_be_stopped_between_its_steps_gives_the_same_centres():
    import faiss

    rows = np.random.default_rng(3).standard_normal((4000, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    checks = []
    made = Ivf(lambda: [rows], len(rows), 16, 5, lambda: checks.append(1))
    sample = np.sort(np.random.default_rng(5).choice(4000, min(4000, 39 * made._lists), replace=False))
    centres = faiss.IndexFlatIP(16)
    whole = faiss.IndexIVFFlat(centres, 16, made._lists, faiss.METRIC_INNER_PRODUCT)
    whole.cp.seed = 6
    whole.train(rows[sample])
    assert len(checks) == whole.cp.niter > 1
    assert np.array_equal(made._centres.reconstruct_n(0, made._lists), centres.reconstruct_n(0, made._lists))
