"""Data folders that earlier versions wrote are read; newer and damaged ones are refused, and told apart."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
from pathlib import Path

import lmdb
import numpy as np
import pytest

from retrieval import records
from retrieval.catalog import Catalog
from retrieval.index import CpuScanner
from retrieval.pool import Pool
from retrieval.types import GENERATED, OFFICIAL, Bound, Draft, Provenance
from serving.errors import CorruptData, FailedState
from tests.formats import make_v1


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
    found = pool.snapshot().search(make_v1.prepared(1).vectors, 1, Bound())
    assert {hit.reference.provenance.backend for hit in found.hits} == {"exemplar"}
    _, state, new = pool.add(Draft(), make_v1.picture(9), make_v1.prepared(9))
    assert (new, state.generation, state.references) == (True, 5, 3)
    catalog.close()


def test_what_is_written_today_is_format_1(tmp_path, data):
    make_v1.fill(tmp_path / "today")
    assert dump(tmp_path / "today") == dump(data)
    assert (tmp_path / "today" / "FORMAT").read_text() == (data / "FORMAT").read_text()


def dump(data: Path) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """Every key and value of the series."""
    with lmdb.open(str(data / "series" / "kept"), max_dbs=4) as env:
        names = (b"meta", b"references", b"blobs", b"patches")
        dbs = {name: env.open_db(name) for name in names}
        with env.begin() as txn:
            return {name: [(bytes(k), bytes(v)) for k, v in txn.cursor(db=db)] for name, db in dbs.items()}


def set_value(data: Path, key: bytes, value: bytes) -> None:
    with lmdb.open(str(data / "series" / "kept"), max_dbs=4) as env:
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


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "other", "version": 1}', '{"version": "x"}', "\0"])
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
