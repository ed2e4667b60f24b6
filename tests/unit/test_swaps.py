"""A series' folder put in the place of another: wherever the process ends, one of the two is the series."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrieval import swaps
from retrieval.folder import DataFolder

OLD, NEW = "as before", "as after"


@pytest.fixture
def folder(tmp_path):
    made = DataFolder(tmp_path / "data")
    yield made
    made.close()


def put(place: Path, text: str) -> Path:
    place.mkdir(parents=True)
    (place / "data.mdb").write_text(text)
    return place


def text_of(folder: DataFolder) -> str | None:
    file = folder.series / "s" / "data.mdb"
    return file.read_text() if file.exists() else None


def write_journal(folder: DataFolder, **fields: object) -> None:
    journal = swaps.journals(folder)
    journal.mkdir(exist_ok=True)
    made = {"version": 1, "series_id": "s", "new": "new-1", "old": "old-1", **fields}
    (journal / "s.json").write_text(json.dumps(made))


def left(folder: DataFolder) -> list[str]:
    return [path.name for path in (*folder.trash.iterdir(), *swaps.journals(folder).iterdir())]


def test_a_swap_leaves_the_new_folder_and_nothing_else(folder):
    put(folder.series / "s", OLD)
    swaps.swap(folder, "s", put(folder.trash / "new-1", NEW))
    assert (text_of(folder), left(folder)) == (NEW, [])


@pytest.mark.parametrize(
    ("there", "new", "old", "expected"),
    [
        (OLD, NEW, None, OLD),  # the journal was written, nothing was moved
        (None, NEW, OLD, NEW),  # the old one was moved
        (NEW, None, OLD, NEW),  # both were moved
        (None, None, OLD, OLD),  # the new one was lost by the disk
        (None, NEW, None, NEW),  # the old one was lost by the disk
        (NEW, None, None, NEW),  # only the journal is left
        (None, None, None, None),  # the series was removed since
    ],
)
def test_a_start_settles_what_was_under_way(folder, there, new, old, expected):
    for place, text in (("series/s", there), ("trash/new-1", new), ("trash/old-1", old)):
        if text is not None:
            put(folder.path / place, text)
    write_journal(folder)
    assert swaps.settle(folder)
    folder.sweep()
    assert (text_of(folder), left(folder)) == (expected, [])


def test_a_journal_that_was_only_begun_is_swept(folder):
    put(folder.series / "s", OLD)
    put(folder.trash / "new-1", NEW)
    swaps.journals(folder).mkdir()
    (swaps.journals(folder) / "s.json.draft").write_text('{"version"')
    assert swaps.settle(folder)
    folder.sweep()
    assert (text_of(folder), left(folder)) == (OLD, [])


@pytest.mark.parametrize("fields", [{"version": 2}, {"new": None, "version": "x"}])
def test_a_journal_that_cannot_be_read_keeps_the_trash(folder, fields):
    put(folder.trash / "new-1", NEW)
    write_journal(folder, **fields)
    assert not swaps.settle(folder)
    assert (folder.trash / "new-1").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"series_id": 5},
        {"series_id": "../../elsewhere"},
        {"series_id": "a\0b"},
        {"new": "../series/other"},
        {"old": "../../elsewhere"},
        {"version": True},
    ],
)
def test_a_journal_that_names_something_else_moves_nothing(folder, fields):
    put(folder.series / "other", OLD)
    put(folder.trash / "new-1", NEW)
    write_journal(folder, **fields)
    assert not swaps.settle(folder)
    assert left(folder) == ["new-1", "s.json"]
    assert (folder.series / "other" / "data.mdb").read_text() == OLD


@pytest.mark.parametrize("data", [b"\xff\xfe", b"[]", b"[" * 100_000, b"", None])
def test_a_journal_of_garbage_keeps_the_trash(folder, data):
    put(folder.trash / "new-1", NEW)
    swaps.journals(folder).mkdir()
    for name in ("s.json", "t.json.draft"):
        file = swaps.journals(folder) / name
        if data is None:
            file.mkdir()
        else:
            file.write_bytes(data)
    assert not swaps.settle(folder)
    assert (folder.trash / "new-1").exists()


@pytest.mark.parametrize("failing", range(1, 12))
def test_a_swap_that_fails_leaves_the_series_as_it_was_or_is_done(folder, monkeypatch, failing):
    """The disk fails at the n-th rename or sync, once."""
    put(folder.series / "s", OLD)
    draft = put(folder.trash / "new-1", NEW)
    calls = 0

    def failing_once(real):
        def call(*args):
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError("the disk fails")
            return real(*args)

        return call

    monkeypatch.setattr(swaps, "sync_folder", failing_once(swaps.sync_folder))
    monkeypatch.setattr(Path, "rename", failing_once(Path.rename))
    try:
        swaps.swap(folder, "s", draft)
        expected = NEW
    except OSError:
        expected = OLD
    monkeypatch.undo()
    assert text_of(folder) == expected
    assert swaps.settle(folder), "a start afterwards changes nothing"
    assert text_of(folder) == expected
