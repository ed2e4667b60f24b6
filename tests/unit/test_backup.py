"""Backups of a whole data folder, and files written anew without holes."""

from __future__ import annotations

import shutil
import threading
from contextlib import nullcontext

import pytest

from retrieval import records
from retrieval.backup import BackedUp, back_up
from retrieval.catalog import Catalog
from retrieval.compaction import compact_file
from retrieval.inspector import Inspector
from serving.errors import AlreadyExists, CorruptData, FailedState, NotFound
from tests.unit.pools import add, filled, findings, id_of, ids, series


@pytest.fixture(scope="module")
def inspector():
    """One for all tests: starting one takes longer than what it does."""
    with Inspector() as made:
        yield made


@pytest.fixture
def lent(inspector):
    """What a call takes to use that one."""
    return {"inspectors": lambda: nullcontext(inspector)}


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


def test_a_backup_is_a_data_folder_with_all_series(catalog, tmp_path, lent):
    catalog.create(series("t"))
    add(catalog, 3, "t")
    steps = list(back_up(catalog, tmp_path / "backups" / "one", **lent))
    assert [(step.name, step.series_id, step.done, step.total) for step in steps] == [
        ("one", "s", 1, 2),
        ("one", "t", 2, 2),
        ("one", "", 2, 2),
    ]
    assert [step.error for step in steps] == [None] * 3
    copy = Catalog(tmp_path / "backups" / "one")
    assert copy.ids() == ["s", "t"]
    for name in ("s", "t"):
        assert ids(copy, name) == ids(catalog, name)
        assert copy.view(name) == catalog.view(name)
    copy.close()
    assert [path.name for path in (tmp_path / "backups").iterdir()] == ["one"]


def test_a_series_that_cannot_be_copied_does_not_stop_the_others(catalog, tmp_path, lent):
    for name in ("a", "z"):
        catalog.create(series(name))
    with catalog.replacing("s") as place:
        (place / "data.mdb").write_bytes(b"no environment" * 1000)
    steps = list(back_up(catalog, tmp_path / "one", **lent))
    assert [step.series_id for step in steps if step.error is not None] == ["s"]
    copy = Catalog(tmp_path / "one")
    assert copy.ids() == ["a", "z"]
    copy.close()


def test_a_backup_that_is_there_is_refused(catalog, tmp_path, lent):
    (tmp_path / "one").mkdir()
    with pytest.raises(AlreadyExists):
        next(back_up(catalog, tmp_path / "one", **lent))


def test_a_backup_within_the_data_folder_is_refused(catalog, lent):
    with pytest.raises(FailedState):
        next(back_up(catalog, catalog.folder.path / "series" / "one", **lent))


def test_a_backup_that_nobody_waits_for_leaves_nothing(catalog, tmp_path, lent):
    steps = back_up(catalog, tmp_path / "backups" / "one", **lent)
    next(steps)
    steps.close()
    assert not list((tmp_path / "backups").iterdir())


def test_the_beginnings_of_a_dead_process_are_swept_and_those_of_a_living_one_are_not(catalog, tmp_path, lent):
    dead = tmp_path / ".panelhue-backup-1"
    dead.mkdir()
    (dead / "LOCK").touch()
    first = back_up(catalog, tmp_path / "first", **lent)
    next(first)
    second = list(back_up(catalog, tmp_path / "second", **lent))
    assert not dead.exists()
    assert list(first)[-1] == BackedUp("first", "", 1, 1, second[-1].byte_size)
    assert (tmp_path / "first").exists()


def test_a_compacted_file_is_smaller_and_holds_the_same(catalog, lent, inspector):
    for number in range(100, 130):
        add(catalog, number)
    catalog.remove("s", [id_of(number) for number in range(100, 130)], allow_missing=False)
    catalog.purge_history("s", everything=True)
    held, view = ids(catalog), catalog.view("s")
    before, after = compact_file(catalog, "s", **lent)
    assert after < before
    assert (ids(catalog), catalog.view("s")) == (held, view)
    assert findings(inspector, catalog.folder.series / "s") == []
    assert not list(catalog.folder.trash.iterdir())


def test_what_is_added_while_a_file_is_compacted_stays(catalog, lent, inspector):
    added: set[str] = set()
    done = threading.Event()

    def adding() -> None:
        for number in range(1000, 2000):
            added.add(add(catalog, number))
            if done.is_set():
                return

    before = ids(catalog)
    thread = threading.Thread(target=adding)
    thread.start()
    try:
        while len(added) < 2:  # a compaction is short, and the other thread may get no time meanwhile
            compact_file(catalog, "s", **lent)
    finally:
        done.set()
        thread.join()
    assert ids(catalog) == before | added
    assert findings(inspector, catalog.folder.series / "s") == []


def test_a_change_between_the_copy_and_the_swap_is_copied_again(catalog, monkeypatch, lent):
    """A change behind each of the copies that are made while others may write; the last copy keeps them out."""
    real, numbers = Inspector.sound, iter(range(500, 600))
    added = []

    def sound(self, folder):
        real(self, folder)
        if not catalog._shelf._entries["s"].held:
            added.append(add(catalog, next(numbers)))

    monkeypatch.setattr(Inspector, "sound", sound)
    compact_file(catalog, "s", **lent)
    assert len(added) == 3
    assert set(added) <= ids(catalog)


def test_a_damaged_series_is_not_compacted(catalog, lent):
    value = records.pack(records.BLOB, b"something else")
    catalog._shelf.write("s", lambda txn: txn.put(b"blobs", bytes.fromhex(id_of(1)), value))
    file = catalog.folder.series / "s" / "data.mdb"
    before = file.read_bytes()
    with pytest.raises(CorruptData):
        compact_file(catalog, "s", **lent)
    assert file.read_bytes() == before


def test_a_series_that_is_not_there_is_not_compacted(catalog, lent):
    with pytest.raises(NotFound):
        compact_file(catalog, "t", **lent)
