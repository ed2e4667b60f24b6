"""The data folder: what is written comes back, what is damaged is told, what is full is refused."""

from __future__ import annotations

import hashlib
import os
import resource
import struct
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pytest

from retrieval import records
from retrieval.catalog import Catalog
from retrieval.store import Environment
from retrieval.types import GENERATED, Draft, PoolState, Prepared, Provenance, Series, Space, StoredPatches, Swatch
from serving.errors import AlreadyExists, Conflict, CorruptData, FailedState, NotFound, Overloaded

ROOT = Path(__file__).resolve().parents[2]
SPACE = Space("toy/0", "toy", "", "none", "native", 4, True)
SERIES = Series("s", "A series", "toy", SPACE, (Swatch("hair", 0xFF0000),), {"a": "b"})


def prepared(seed: int = 0) -> Prepared:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((5, 4)).astype(np.float32)
    return Prepared(20, 30, "image/png", vectors, rng.integers(0, 20, (5, 4), dtype=np.int32))


@pytest.fixture
def catalog(tmp_path):
    made = Catalog(tmp_path / "data")
    made.create(SERIES)
    yield made
    made.close()


def reopened(catalog: Catalog, tmp_path: Path, **settings) -> Catalog:
    catalog.close()
    return Catalog(tmp_path / "data", **settings)


def test_all_of_a_reference_comes_back_after_a_reopen(catalog, tmp_path):
    draft = Draft(10500, 3, ("a", "ü"), Provenance(GENERATED, 4, ("ab" * 32,), "exemplar", "file"))
    added, pool, new = catalog.add("s", draft, b"bytes", prepared())
    assert (new, pool) == (True, replace(pool, generation=1, references=1, patches=5))
    again = reopened(catalog, tmp_path)
    assert again.get("s", added.id) == added
    assert again.data("s", added.id) == b"bytes"
    assert again.view("s").series == replace(
        SERIES, create_ns=again.view("s").series.create_ns, update_ns=again.view("s").series.update_ns
    )
    assert again.view("s").pool == pool
    (patches,) = again.patches("s")
    assert (patches.reference_id, patches.sequence) == (added.id, 1)
    assert np.array_equal(patches.vectors, prepared().vectors)
    assert np.array_equal(patches.boxes, prepared().boxes)
    again.close()


def test_the_same_bytes_are_kept_once(catalog):
    first, _, _ = catalog.add("s", Draft(chapter=1), b"bytes", prepared())
    second, pool, new = catalog.add("s", Draft(chapter=2), b"bytes", prepared(1))
    assert (second, new, pool.generation) == (first, False, 1)


def test_threads_that_add_at_once_lose_nothing(catalog):
    def add(worker: int) -> None:
        for n in range(10):
            catalog.add("s", Draft(), f"{worker} {n % 7}".encode(), prepared(n))

    threads = [threading.Thread(target=add, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert catalog.view("s").pool == replace(catalog.view("s").pool, generation=28, references=28, patches=140)
    assert [p.sequence for p in catalog.patches("s")] == list(range(1, 29))


def test_patches_come_in_the_order_in_which_they_were_added(catalog):
    ids = [catalog.add("s", Draft(), bytes([n]), prepared(n))[0].id for n in range(20)]
    first = catalog.patches("s", limit=7)
    rest = catalog.patches("s", after=first[-1].sequence, limit=100)
    assert [p.reference_id for p in first + rest] == ids


def test_references_are_listed_by_id_behind_a_given_one(catalog):
    ids = sorted(catalog.add("s", Draft(), bytes([n]), prepared(n))[0].id for n in range(10))
    assert [r.id for r in catalog.references("s", ids[3], 4)[0]] == ids[4:8]
    assert [r.id for r in catalog.references("s", "ff" * 32, 4)[0]] == []


def test_a_removal_is_all_or_none(catalog):
    ids = [catalog.add("s", Draft(), bytes([n]), prepared(n))[0].id for n in range(3)]
    with pytest.raises(NotFound):
        catalog.remove("s", [ids[0], "00" * 32], allow_missing=False)
    assert catalog.view("s").pool.references == 3
    gone, pool = catalog.remove("s", [ids[0], "00" * 32], allow_missing=True)
    assert ([r.id for r in gone], pool.generation, pool.references, pool.patches) == ([ids[0]], 4, 2, 10)
    assert catalog.find("s", ids[0]) is None
    assert sorted(catalog.known("s")[0]) == [2, 3]


def test_removing_nothing_leaves_the_generation(catalog):
    assert catalog.remove("s", ["00" * 32], allow_missing=True)[1].generation == 0


def test_the_depth_counts_from_the_parents_that_are_known(catalog):
    parent, _, _ = catalog.add("s", Draft(provenance=Provenance(GENERATED, 7)), b"parent", prepared())
    child = Draft(provenance=Provenance(GENERATED, 0, (parent.id, "00" * 32)))
    assert catalog.add("s", child, b"child", prepared())[0].provenance.depth == 8
    orphan = Draft(provenance=Provenance(GENERATED, 0, ("00" * 32,)))
    assert catalog.add("s", orphan, b"orphan", prepared())[0].provenance.depth == 1


def test_a_change_that_objects_changes_nothing(catalog):
    before = catalog.view("s")

    def object_to(_series, _etag):
        raise Conflict("no")

    with pytest.raises(Conflict):
        catalog.change("s", object_to)
    assert catalog.view("s") == before


def test_a_deleted_series_leaves_no_files(catalog, tmp_path):
    catalog.add("s", Draft(), b"bytes", prepared())
    assert catalog.delete("s", lambda _view: None) == 1
    assert not list((tmp_path / "data" / "series").iterdir())
    assert not list((tmp_path / "data" / "trash").iterdir())
    catalog.create(SERIES)
    assert catalog.view("s").pool.references == 0


def test_a_taken_id_is_refused(catalog):
    with pytest.raises(AlreadyExists):
        catalog.create(SERIES)


def test_more_series_than_may_be_open_work(tmp_path):
    catalog = Catalog(tmp_path / "data", max_open=2)
    for n in range(5):
        catalog.create(replace(SERIES, id=f"s{n}"))
        catalog.add(f"s{n}", Draft(), bytes([n]), prepared())
    assert [catalog.view(f"s{n}").pool.references for n in range(5)] == [1] * 5
    assert [len(catalog.references(f"s{n}")[0]) for n in range(5)] == [1] * 5
    catalog.close()


def test_a_folder_has_one_owner(catalog, tmp_path):
    with pytest.raises(FailedState, match=str(os.getpid())) as caught:
        Catalog(tmp_path / "data")
    assert caught.value.reason == "DATA_FOLDER_IN_USE"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FailedState) as caught:
        Catalog(tmp_path)
    assert caught.value.reason == "NOT_A_DATA_FOLDER"
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


# -- growth


def test_the_map_grows_under_a_reader(tmp_path):
    catalog = Catalog(tmp_path / "data", map_bytes=1 << 20)
    catalog.create(SERIES)
    over, ends = threading.Event(), []

    def read() -> None:
        while not over.is_set():
            ends.append(len(catalog.references("s")[0]))

    reader = threading.Thread(target=read)
    reader.start()
    blobs = [np.random.default_rng(n).bytes(700_000) for n in range(12)]
    ids = [catalog.add("s", Draft(), blob, prepared())[0].id for blob in blobs]
    over.set()
    reader.join()
    assert [catalog.data("s", reference_id) for reference_id in ids] == blobs
    assert ends == sorted(ends)
    catalog.close()
    again = Catalog(tmp_path / "data", map_bytes=1 << 20)
    assert again.data("s", ids[-1]) == blobs[-1]
    again.close()


def test_a_full_map_refuses_without_losing_anything(tmp_path):
    catalog = Catalog(tmp_path / "data", map_bytes=1 << 20, max_map_bytes=4 << 20)
    catalog.create(SERIES)
    blob = np.random.default_rng(0).bytes(1_500_000)
    first, _, _ = catalog.add("s", Draft(), blob, prepared())

    def fill() -> None:
        for n in range(5):
            catalog.add("s", Draft(), blob + bytes([n]), prepared())

    with pytest.raises(Overloaded) as caught:
        fill()
    assert caught.value.reason == "MAP_FULL"
    assert catalog.data("s", first.id) == blob
    count = catalog.view("s").pool.references
    assert len(catalog.references("s")[0]) == count
    catalog.remove("s", [first.id], allow_missing=False)
    assert catalog.add("s", Draft(), blob[:200_000], prepared())[2]
    catalog.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
from retrieval.types import Draft
from serving.errors import Overloaded
from tests.unit.test_store import SERIES, prepared
from retrieval.catalog import Catalog
catalog = Catalog(Path(sys.argv[1]))
catalog.create(SERIES)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
kept = []
try:
    for n in range(9):
        kept.append(catalog.add("s", Draft(), bytes([n]) * 700_000, prepared())[0].id)
except Overloaded as error:
    assert error.reason == "DISK_FULL", error.reason
    assert kept and [catalog.data("s", i)[0] for i in kept] == list(range(len(kept)))
    assert catalog.view("s").pool.references == len(kept) == len(catalog.references("s")[0])
    catalog.remove("s", kept[:1], allow_missing=False)
    catalog.add("s", Draft(), b"small", prepared())
    print("refused", len(kept))
"""


def test_a_full_disk_refuses_without_losing_anything(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "data")]
    path = f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}"
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": path})
    assert done.stdout.startswith("refused"), done.stderr
    count = int(done.stdout.split()[1])
    catalog = Catalog(tmp_path / "data")
    assert catalog.view("s").pool.references == count  # one was removed, a small one came
    catalog.close()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 3_000_000


# -- damage


def raw(path: Path, database: bytes, change):
    """Changes the first value of a database behind the store's back."""
    with lmdb.open(str(path), max_dbs=32) as env:
        db = env.open_db(database)
        with env.begin(write=True) as txn, txn.cursor(db=db) as cursor:
            assert cursor.first()
            key, value = bytes(cursor.key()), bytes(cursor.value())
            txn.put(key, change(value), db=db)


def calls(catalog: Catalog, reference_id: str):
    return {
        b"references": lambda: catalog.get("s", reference_id),
        b"blobs": lambda: catalog.data("s", reference_id),
        b"patches": lambda: catalog.patches("s"),
    }


@pytest.mark.parametrize("database", [b"references", b"blobs", b"patches"])
@pytest.mark.parametrize("place", [0, 4, 5, 8, 20, -1])
def test_a_flipped_bit_is_told(catalog, tmp_path, database, place):
    reference, _, _ = catalog.add("s", Draft(), b"some bytes of a picture", prepared())
    catalog.close()

    def flip(value: bytes) -> bytes:
        changed = bytearray(value)
        changed[place] ^= 1
        return bytes(changed)

    raw(tmp_path / "data" / "series" / "s", database, flip)
    again = Catalog(tmp_path / "data")
    with pytest.raises(CorruptData):
        calls(again, reference.id)[database]()
    again.close()


def test_a_damaged_series_leaves_the_others_alone(catalog, tmp_path):
    catalog.create(replace(SERIES, id="t"))
    catalog.add("t", Draft(), b"bytes", prepared())
    catalog.close()
    raw(tmp_path / "data" / "series" / "s", b"meta", lambda value: value[:-1] + b"?")
    again = Catalog(tmp_path / "data")
    assert (again.ids(), again.damaged()) == (["s", "t"], {})  # nothing was looked at yet
    with pytest.raises(CorruptData):
        again.view("s")
    assert again.view("t").pool.references == 1
    assert again.ids() == ["t"]
    assert list(again.damaged()) == ["s"]
    with pytest.raises(AlreadyExists):
        again.create(SERIES)
    assert again.delete("s", lambda _view: None) == 0
    assert again.create(SERIES).pool.references == 0
    again.close()


@pytest.mark.parametrize("keep", [0, 100, 4096, 9000, 20_000])
def test_a_file_cut_short_is_told(catalog, tmp_path, keep):
    catalog.add("s", Draft(), np.random.default_rng(0).bytes(300_000), prepared())
    catalog.close()
    os.truncate(tmp_path / "data" / "series" / "s" / "data.mdb", keep)
    again = Catalog(tmp_path / "data")
    with pytest.raises(CorruptData):
        again.view("s")
    again.close()


def test_a_file_of_garbage_is_told(catalog, tmp_path):
    catalog.close()
    (tmp_path / "data" / "series" / "s" / "data.mdb").write_bytes(np.random.default_rng(0).bytes(40_000))
    again = Catalog(tmp_path / "data")
    with pytest.raises(CorruptData):
        again.view("s")
    again.close()


def test_an_environment_is_never_opened_twice(tmp_path):
    first = Environment(tmp_path)
    with pytest.raises(Exception, match="already open"):
        Environment(tmp_path)
    first.close()


# -- values


def test_a_value_of_a_newer_version_is_not_called_damaged():
    with pytest.raises(FailedState) as caught:
        records.unpack(records.BLOB, records.pack(records.BLOB, b"x", version=records.FORMAT_VERSION + 1), "here")
    assert caught.value.reason == "NEWER_FORMAT"
    assert "newer" in caught.value.message


def test_a_value_of_another_kind_is_damage():
    with pytest.raises(CorruptData):
        records.unpack(records.BLOB, records.pack(records.POOL, b"x"), "here")


@pytest.mark.parametrize("length", [0, 5, 11])
def test_a_value_shorter_than_its_header_is_damage(length):
    with pytest.raises(CorruptData):
        records.unpack(records.BLOB, records.pack(records.BLOB, b"x")[:length], "here")


def test_sound_bytes_that_say_something_else_are_damage():
    with pytest.raises(CorruptData):
        records.read_pool(records.pack(records.POOL, b'{"colour": 1}'), "here")
    with pytest.raises(CorruptData):
        records.read_patches(records.pack(records.PATCHES, b"x" * 50), 1, "here")


def test_the_header_is_as_documented():
    value = records.pack(records.BLOB, b"payload")
    assert value[:8] == b"PNLH" + bytes([2]) + b"b" + b"\0\0"
    assert struct.unpack("<I", value[8:12])[0] == zlib.crc32(value[:8] + b"payload")
    assert value[12:] == b"payload"


def test_patches_are_laid_out_as_documented():
    patches = StoredPatches("ab" * 32, 1, np.array([[1.5, 2.5]], np.float32), np.array([[1, 2, 3, 4]], np.int32))
    payload = records.write_patches(patches)[12:]
    assert payload == bytes.fromhex("ab" * 32) + struct.pack("<II4i2f", 1, 2, 1, 2, 3, 4, 1.5, 2.5)


def test_an_id_is_the_hash_of_the_bytes(catalog):
    assert catalog.add("s", Draft(), b"bytes", prepared())[0].id == hashlib.sha256(b"bytes").hexdigest()


def test_pool_counts_come_back():
    pool = PoolState(3, 2, 10, 99)
    assert records.read_pool(records.write_pool(pool), "here") == pool
