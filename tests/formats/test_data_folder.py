"""Data folders that earlier versions wrote are read; newer and damaged ones are refused, and told apart."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pytest

from retrieval import records
from retrieval.catalog import Catalog
from retrieval.index import CpuScanner
from retrieval.pool import Pool
from retrieval.types import (
    GENERATED,
    OFFICIAL,
    Draft,
    IndexOptions,
    NewReference,
    PoolState,
    Provenance,
    Quota,
    SearchOptions,
)
from serving.errors import CorruptData, FailedState, Overloaded
from tests.formats import make_v1, make_v2


@pytest.fixture
def data(tmp_path) -> Path:
    """A copy of the data folder that was written with format 1."""
    with tarfile.open(make_v1.FILE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "data"


def test_a_folder_of_format_1_gives_all_that_was_put_in(data):
    catalog = Catalog(data)
    view = catalog.view("kept")
    assert (view.series.display_name, view.series.space, view.series.palette, dict(view.series.labels)) == (
        "Kept since format 1",
        make_v1.SPACE,
        make_v1.SERIES.palette,
        {"shelf": "é"},
    )
    assert (view.pool.generation, view.pool.references, view.pool.patches) == (4, 2, 10)
    first, second = sorted(catalog.references("kept")[0], key=lambda r: r.generation)
    assert (first.chapter, first.page, first.tags) == (10500, 3, ("cover", "ü"))
    assert first.provenance == Provenance(OFFICIAL)
    assert second.provenance == Provenance(GENERATED, 1, (first.id,), "exemplar", "page.png")
    for seed, reference in enumerate((first, second)):
        assert catalog.data("kept", reference.id) == make_v1.picture(seed)
    for seed, patches in enumerate(catalog.patches("kept")):
        assert np.array_equal(patches.vectors, make_v1.prepared(seed).vectors)
        assert np.array_equal(patches.boxes, make_v1.prepared(seed).boxes)
    catalog.close()


def test_a_folder_of_format_1_can_be_searched_then_added_to(data):
    catalog = Catalog(data)
    pool = Pool(catalog, "kept", CpuScanner())
    hits, candidates = pool.load().find(make_v1.prepared(1).vectors, SearchOptions(1), None)
    assert {reference.provenance.backend for ((_, reference, _),) in hits} == {"exemplar"}
    assert candidates == 10
    (stored,), state = pool.add_many([NewReference(Draft(), make_v1.picture(9), make_v1.prepared(9))])
    assert (stored.new, state.generation, state.references) == (True, 5, 3)
    catalog.close()


def test_a_folder_of_format_1_becomes_one_of_format_2(data):
    catalog = Catalog(data)
    before = catalog.view("kept")
    assert (before.pool.byte_size, before.pool.history_from) == (600, 4)
    assert (before.pool.removed, before.pool.near_duplicates) == (0, 0)
    assert (before.series.index, before.series.quota, before.series.migration) == (IndexOptions(), Quota(), None)
    catalog.close()
    assert json.loads((data / "FORMAT").read_text())["version"] == 2
    again = Catalog(data)
    assert again.view("kept") == before
    assert sorted(again.known("kept")[0]) == sorted(again.known("kept", 4)[0]) == [1, 2]
    with pytest.raises(FailedState) as caught:
        again.known("kept", 3)
    assert caught.value.reason == "HISTORY_NOT_KEPT"
    (first, second), _ = again.references("kept")
    again.remove("kept", [first.id], allow_missing=False)
    assert {reference.id for reference in again.known("kept", 4)[0].values()} == {first.id, second.id}
    again.close()


def test_a_folder_of_format_1_on_a_full_disk_is_read(data, monkeypatch):
    monkeypatch.setattr("retrieval.store.free_bytes", lambda _path: 0)
    before = dump(data, "kept")
    catalog = Catalog(data)
    assert (catalog.view("kept").pool.byte_size, len(catalog.known("kept")[0])) == (600, 2)
    assert len(catalog.references("kept")[0]) == 2
    with pytest.raises(Overloaded):
        catalog.add("kept", Draft(), make_v1.picture(9), make_v1.prepared(9))
    catalog.close()
    assert dump(data, "kept") == before


def test_an_upgrade_that_is_cut_short_leaves_format_1(data, monkeypatch):
    def cut(*_arguments):
        raise OSError("cut")

    monkeypatch.setattr("retrieval.folder.write_synced", cut)
    with pytest.raises(OSError, match="cut"):
        Catalog(data)
    monkeypatch.undo()
    assert json.loads((data / "FORMAT").read_text())["version"] == 1
    (data / "FORMAT.draft").write_text("{")  # as far as a kill gets
    catalog = Catalog(data)
    assert catalog.view("kept").pool.references == 2
    catalog.close()


# -- format 2


@pytest.fixture
def data_v2(tmp_path) -> Path:
    """A copy of the data folder that was written with format 2."""
    with tarfile.open(make_v2.FILE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "data"


def test_a_folder_of_format_2_gives_all_that_was_put_in(data_v2):
    catalog = Catalog(data_v2)
    view = catalog.view("kept")
    times = {"create_ns": view.series.create_ns, "update_ns": view.series.update_ns}
    assert view.series == replace(make_v2.SERIES, **times)
    assert view.pool == PoolState(7, 3, 15, 1_700_000_005_000_000_000, 900, 0, 1, 1)
    known, _ = catalog.known("kept")
    assert list(known) == [1, 2, 4]
    assert (known[1].page, known[1].digest, known[2].near_duplicate_of) == (4, bytes(range(15)), known[1].id)
    assert known[4].provenance == Provenance(GENERATED, 1, (known[1].id,), "exemplar", "page.png")
    for sequence, seed in ((1, 0), (2, 1), (4, 3)):
        assert catalog.data("kept", known[sequence].id) == make_v1.picture(seed)
        assert np.array_equal(catalog.vectors("kept", [sequence])[0], make_v1.prepared(seed).vectors)
    catalog.close()


def test_the_history_of_a_folder_of_format_2_is_known(data_v2):
    catalog = Catalog(data_v2)
    held = [sorted(catalog.known("kept", generation)[0]) for generation in range(1, 8)]
    assert held == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 4]]
    assert [catalog.known("kept", generation)[0][1].page for generation in (4, 5)] == [3, 4]
    assert [bool(catalog.known("kept", generation)[0][2].near_duplicate_of) for generation in (5, 6)] == [False, True]
    removed = catalog.known("kept", 6)[0][3]
    assert catalog.data("kept", removed.id) == make_v1.picture(2)
    assert catalog.purge_history("kept", everything=True) == 1
    catalog.close()


def test_migrations_of_a_folder_of_format_2_go_on(data_v2):
    catalog = Catalog(data_v2)
    moved = catalog.view("moved")
    assert (moved.series.space, moved.series.embedder, moved.series.patches) == (make_v2.NEXT, "open_clip", "patches.2")
    assert moved.pool.history_from == moved.pool.generation == 3
    found = catalog.patches("moved")
    for patches in found:
        assert np.array_equal(patches.vectors, make_v2.moved("", patches.sequence).vectors)
    migration = catalog.view("moving").series.migration
    assert (migration.space, migration.done, migration.after) == (make_v2.NEXT, 1, 1)
    assert migration.problem == "the weights are missing"
    assert catalog.switch("moving") == [2]
    catalog.put_migrated("moving", [found[1]])
    assert catalog.switch("moving") == []
    assert np.array_equal(catalog.vectors("moving", [2])[0], found[1].vectors)
    catalog.close()


def test_what_is_written_today_is_format_2(tmp_path, data_v2):
    make_v2.fill(tmp_path / "today")
    for series_id in ("kept", "moved", "moving"):
        assert dump(tmp_path / "today", series_id) == dump(data_v2, series_id)
    assert (tmp_path / "today" / "FORMAT").read_text() == (data_v2 / "FORMAT").read_text()


def dump(data: Path, series_id: str) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """Every key and value of a series."""
    with lmdb.open(str(data / "series" / series_id), max_dbs=32) as env:
        with env.begin() as txn:
            names = [bytes(name) for name, _ in txn.cursor()]
        dbs = {name: env.open_db(name) for name in names}
        with env.begin() as txn:
            return {name: [(bytes(k), bytes(v)) for k, v in txn.cursor(db=db)] for name, db in dbs.items()}


# -- newer and damaged


def set_value(data: Path, key: bytes, value: bytes) -> None:
    with lmdb.open(str(data / "series" / "kept"), max_dbs=32) as env:
        db = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            txn.put(key, value, db=db)


def test_a_folder_of_a_newer_format_is_refused(data):
    (data / "FORMAT").write_text(json.dumps({"format": "panelhue-retrieval", "version": 3}))
    with pytest.raises(FailedState, match="newer version") as caught:
        Catalog(data)
    assert caught.value.reason == "NEWER_FORMAT"


def test_a_series_of_a_newer_format_is_refused_alone(data):
    set_value(data, b"series", records.pack(records.SERIES, b"who knows", version=3))
    catalog = Catalog(data)
    with pytest.raises(FailedState, match="newer version") as caught:
        catalog.view("kept")
    assert caught.value.reason == "NEWER_FORMAT"
    catalog.close()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", '{"format": "other", "version": 1}', '{"version": "x"}', "\0", "[" * 100_000),
        *('{"format": "panelhue-retrieval", "version": 1e999}', '{"format": "panelhue-retr'),
    ],
)
def test_a_damaged_format_file_is_damage(data, text):
    (data / "FORMAT").write_text(text)
    with pytest.raises(CorruptData):
        Catalog(data)


def test_a_folder_without_its_format_file_is_refused(data):
    (data / "FORMAT").unlink()
    with pytest.raises(FailedState) as caught:
        Catalog(data)
    assert caught.value.reason == "NOT_A_DATA_FOLDER"


def test_a_refused_folder_can_be_opened_once_it_is_right(data):
    right = (data / "FORMAT").read_text()
    (data / "FORMAT").write_text("{}")
    with pytest.raises(CorruptData):
        Catalog(data)
    (data / "FORMAT").write_text(right)
    Catalog(data).close()


@pytest.mark.parametrize("step", range(0, 40, 4))
def test_a_page_of_zeros_is_never_taken_for_data(data, step):
    file = data / "series" / "kept" / "data.mdb"
    content = bytearray(file.read_bytes())
    place = step * 1024 % len(content) // 4096 * 4096
    content[place : place + 4096] = bytes(4096)
    file.write_bytes(content)
    catalog = Catalog(data)
    with contextlib.closing(catalog), contextlib.suppress(CorruptData):
        found = catalog.references("kept")[0]
        for reference in found:
            assert hashlib.sha256(catalog.data("kept", reference.id)).hexdigest() == reference.id
        assert len(found) == 2
        assert len(catalog.patches("kept")) == 2
