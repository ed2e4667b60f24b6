"""Snapshots of a series and what is made of them again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from itertools import count

import pytest

from retrieval import records
from retrieval.catalog import Catalog
from retrieval.inspector import Inspector
from retrieval.renewal import UNKNOWN_CHANGES
from retrieval.snapshots import Snapshots
from serving.errors import AlreadyExists, CorruptData, FailedState, InvalidInput, NotFound
from tests.unit.pools import add, filled, findings, id_of, ids, series

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def inspector():
    """One for all tests: starting one takes longer than what it does."""
    with Inspector() as made:
        yield made


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template") / "data"
    filled(folder, references=6).close()
    return folder


@pytest.fixture
def catalog(template, tmp_path):
    made = Catalog(shutil.copytree(template, tmp_path / "data"))
    yield made
    made.close()


@pytest.fixture
def clock():
    """A clock that goes on by a second at each look."""
    ticks = count(1_700_000_000 * SECOND, SECOND)
    return lambda: next(ticks)


@pytest.fixture
def make(catalog, clock, inspector):
    return partial(Snapshots, catalog, clock=clock, inspectors=lambda: nullcontext(inspector))


@pytest.fixture
def snapshots(make):
    return make()


def test_a_snapshot_says_what_it_holds(catalog, snapshots):
    made = snapshots.create("s", "one")
    pool = catalog.view("s").pool
    assert (made.generation, made.references) == (pool.generation, pool.references)
    file = catalog.folder.path / "snapshots" / "s" / "one" / "data.mdb"
    assert made.byte_size == file.stat().st_size
    assert snapshots.known() == snapshots.known("s") == [snapshots.find("s", "one")] == [made]


def test_a_snapshot_without_a_name_is_named_after_the_time(snapshots):
    assert snapshots.create("s").name == "20231114t221320.000000z"


def test_a_snapshot_leaves_no_draft(catalog, snapshots):
    snapshots.create("s", "one")
    assert not list(catalog.folder.trash.iterdir())
    assert {path.name for path in (catalog.folder.path / "snapshots" / "s" / "one").iterdir()} == {
        "data.mdb",
        "manifest.json",
    }


def test_a_name_that_is_there_is_refused(snapshots):
    snapshots.create("s", "one")
    with pytest.raises(AlreadyExists, match="one"):
        snapshots.create("s", "one")


@pytest.mark.parametrize("name", ["..", "a/b", "A", "x" * 65, ".hidden"])
def test_a_name_that_is_no_id_is_refused(snapshots, name):
    for call in (snapshots.create, snapshots.find, snapshots.delete, snapshots.restore):
        with pytest.raises(InvalidInput, match="name"):
            call("s", name)


def test_a_snapshot_of_a_series_that_is_not_there_is_refused(catalog, snapshots):
    with pytest.raises(NotFound):
        snapshots.create("t", "one")
    assert not list(catalog.folder.trash.iterdir())


def test_a_damaged_series_gives_no_snapshot(catalog, snapshots):
    value = records.pack(records.BLOB, b"something else")
    catalog._shelf.write("s", lambda txn: txn.put(b"blobs", bytes.fromhex(id_of(1)), value))
    with pytest.raises(CorruptData, match="sha256"):
        snapshots.create("s", "one")
    assert snapshots.known() == []


FULL_DISK = """
import resource, sys
from pathlib import Path
from retrieval.catalog import Catalog
from retrieval.snapshots import Snapshots
from serving.errors import Overloaded
catalog = Catalog(Path(sys.argv[1]))
snapshots = Snapshots(catalog)
size = (catalog.folder.series / "s" / "data.mdb").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 4, size // 4))
calls = {"create": lambda: snapshots.create("s", "two"), "restore": lambda: snapshots.restore("s", "one", into="t")}
try:
    calls[sys.argv[2]]()
except Overloaded as error:
    assert error.reason == "DISK_FULL", error.reason
    assert [made.name for made in snapshots.known()] == ["one"]
    assert catalog.ids() == ["s"] and not list(catalog.folder.trash.iterdir())
    print("told")
"""


@pytest.mark.parametrize("call", ["create", "restore"])
def test_a_full_disk_is_told_and_nothing_is_left_of_it(catalog, snapshots, call):
    for number in range(100, 120):
        add(catalog, number)
    snapshots.create("s", "one")
    catalog.close()
    arguments = [sys.executable, "-c", FULL_DISK, str(catalog.folder.path), call]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout == "told\n", done.stderr


def test_a_deleted_snapshot_is_gone(catalog, snapshots):
    snapshots.create("s", "one")
    assert snapshots.delete("s", "one") > 0
    assert snapshots.known() == []
    with pytest.raises(NotFound):
        snapshots.delete("s", "one")


def test_the_newest_snapshots_are_kept(make):
    snapshots = make(keep=2)
    for name in "abc":
        snapshots.create("s", name)
    assert [made.name for made in snapshots.known()] == ["b", "c"]


def test_old_snapshots_go_but_never_the_newest(make):
    snapshots = make(seconds=1.5)
    for name in "abc":
        snapshots.create("s", name)
    assert [made.name for made in snapshots.known()] == ["b", "c"]
    late = make(seconds=0.5)
    late.create("s", "d")
    assert [made.name for made in late.known()] == ["d"]


def test_a_restored_series_is_as_in_the_snapshot_with_a_later_generation(catalog, snapshots, inspector):
    before = ids(catalog)
    made = snapshots.create("s", "one")
    add(catalog, 50)
    catalog.remove("s", [id_of(1)], allow_missing=False)
    changed = catalog.view("s")
    restored = snapshots.restore("s", "one", replacing=True)
    assert ids(catalog) == before
    assert restored.pool.generation == restored.pool.history_from == changed.pool.generation + 1
    assert restored.pool.references == made.references
    assert restored.etag != changed.etag
    assert findings(inspector, catalog.folder.series / "s") == []


def test_a_restored_series_can_be_added_to(catalog, snapshots, inspector):
    snapshots.create("s", "one")
    generation = snapshots.restore("s", "one", replacing=True).pool.generation
    add(catalog, 50)
    assert catalog.get("s", id_of(50)).generation == generation + 1
    assert findings(inspector, catalog.folder.series / "s") == []


def test_the_engine_is_told_of_the_swap_before_anybody_sees_it(catalog, snapshots):
    snapshots.create("s", "one")
    add(catalog, 50)
    seen = []
    place = catalog.folder.series / "s" / "data.mdb"
    inode = place.stat().st_ino
    snapshots.restore("s", "one", replacing=True, on_swap=lambda: seen.append(place.stat().st_ino != inode))
    assert seen == [True]


def test_a_series_that_is_there_is_replaced_only_when_asked(catalog, snapshots):
    snapshots.create("s", "one")
    with pytest.raises(FailedState, match="replaces") as caught:
        snapshots.restore("s", "one")
    assert caught.value.reason == "REPLACE_NOT_SET"


def test_a_snapshot_becomes_another_series(catalog, snapshots, inspector):
    snapshots.create("s", "one")
    before = ids(catalog)
    add(catalog, 50)
    view = snapshots.restore("s", "one", into="t")
    assert (view.series.id, view.series.revision) == ("t", 1)
    assert ids(catalog, "t") == before
    assert ids(catalog) == before | {id_of(50)}
    assert findings(inspector, catalog.folder.series / "t") == []


def test_another_series_that_is_there_is_never_replaced(catalog, snapshots):
    snapshots.create("s", "one")
    snapshots.restore("s", "one", into="t")
    with pytest.raises(AlreadyExists):
        snapshots.restore("s", "one", into="t")
    with pytest.raises(InvalidInput):
        snapshots.restore("s", "one", into="t", replacing=True)


@pytest.mark.parametrize(("into", "made"), [("t", "t"), ("", "s")])
def test_a_series_made_while_a_snapshot_is_verified_is_not_replaced(catalog, make, into, made):
    make().create("s", "one")
    if not into:
        catalog.delete("s", lambda view: None)

    class Slow(Inspector):  # somebody makes the series in the middle
        def sound(self, folder):
            super().sound(folder)
            catalog.create(series(made))
            add(catalog, 99, series_id=made)

    with pytest.raises(AlreadyExists):
        make(inspectors=Slow).restore("s", "one", into=into)
    assert ids(catalog, made) == {id_of(99)}


def test_a_removed_series_comes_back(catalog, snapshots):
    snapshots.create("s", "one")
    before = ids(catalog)
    add(catalog, 50)
    generation = catalog.view("s").pool.generation
    catalog.delete("s", lambda view: None)
    assert snapshots.restore("s", "one").pool.generation > generation
    assert ids(catalog) == before


def test_a_series_that_cannot_be_read_is_replaced(catalog, snapshots):
    before = ids(catalog)
    made = snapshots.create("s", "one")
    with catalog.replacing("s") as place:
        (place / "data.mdb").write_bytes(b"no environment" * 1000)
    with pytest.raises(CorruptData):
        catalog.get("s", id_of(1))
    assert snapshots.restore("s", "one", replacing=True).pool.generation == made.generation + UNKNOWN_CHANGES
    assert ids(catalog) == before


def test_a_snapshot_that_is_not_there_is_told(snapshots):
    with pytest.raises(NotFound) as caught:
        snapshots.restore("s", "one", replacing=True)
    assert caught.value.reason == "NO_SUCH_SNAPSHOT"


def test_a_damaged_snapshot_changes_nothing(catalog, snapshots):
    snapshots.create("s", "one")
    add(catalog, 50)
    before, view = ids(catalog), catalog.view("s")
    file = catalog.folder.path / "snapshots" / "s" / "one" / "data.mdb"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptData, match="sha256"):
        snapshots.restore("s", "one", replacing=True)
    assert (ids(catalog), catalog.view("s")) == (before, view)
    assert not list(catalog.folder.trash.iterdir())


@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": "something"}', "[" * 100_000, '{"format": "panelhue-snapshot", "version": 1e999}']
)
def test_a_damaged_manifest_is_told_and_its_snapshot_can_be_deleted(catalog, snapshots, text):
    snapshots.create("s", "one")
    (catalog.folder.path / "snapshots" / "s" / "one" / "manifest.json").write_text(text)
    assert snapshots.known() == []
    with pytest.raises(CorruptData):
        snapshots.find("s", "one")
    assert snapshots.delete("s", "one") > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("create_ns", "x"),
        ("create_ns", 1 << 80),
        ("generation", -1),
        ("references", True),
        ("byte_size", 1.5),
        ("sha256", 5),
        ("sha256", "x" * 64),
    ],
)
def test_a_manifest_of_other_kinds_of_values_is_damaged(catalog, snapshots, field, value):
    snapshots.create("s", "bad")
    manifest = catalog.folder.path / "snapshots" / "s" / "bad" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), field: value}))
    good = snapshots.create("s", "good")
    assert snapshots.known() == [good]
    with pytest.raises(CorruptData):
        snapshots.find("s", "bad")


@pytest.mark.parametrize("field", ["generation", "references"])
def test_a_manifest_that_says_something_else_than_the_snapshot_is_told(catalog, snapshots, field):
    snapshots.create("s", "one")
    manifest = catalog.folder.path / "snapshots" / "s" / "one" / "manifest.json"
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**fields, field: fields[field] + 1}))
    with pytest.raises(CorruptData, match="manifest"):
        snapshots.restore("s", "one", replacing=True)


@pytest.mark.parametrize("field", ["version", "data_version"])
def test_a_snapshot_of_a_newer_version_is_told_apart(catalog, snapshots, field):
    snapshots.create("s", "one")
    manifest = catalog.folder.path / "snapshots" / "s" / "one" / "manifest.json"
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**fields, field: fields[field] + 1}))
    with pytest.raises(FailedState) as caught:
        snapshots.restore("s", "one", replacing=True)
    assert caught.value.reason == "NEWER_FORMAT"
