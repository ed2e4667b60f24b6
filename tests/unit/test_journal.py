"""What a run's journal remembers of wishes and verdicts, and what reading it leaves alone."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from panelhue.errors import UsageError
from panelhue.jobs import taken, workspace_of
from panelhue.journal import BUSY, Done, Journal, read_record
from panelhue.outputs import sha256_of, sweep_drafts
from panelhue.types import Hint
from panelhue.watching import Ledger

DONE = Done(
    page="p1.png",
    number=1,
    chapter=12000,
    input_sha256="1" * 64,
    options="f",
    output="p1.png",
    output_sha256="2" * 64,
    backend="tint",
    backend_version="1",
    seed=0,
    depth=1,
    already_colour=False,
    generation=3,
    seconds=0.5,
    confidence=None,
    weights_licence="",
)


def test_wishes_and_verdicts_outlive_the_run(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.wish("p1.png", [Hint(1, 2, 0xFF0000, 3)], seed=7)
        journal.finish(replace(DONE, wish=journal.wishes["p1.png"].key))
        journal.judge(DONE, approved=False)
        journal.tell_about({"series": "tale", "book": "b"})
        journal.promote("tale/p1.png", "3" * 64)
        journal.withdraw("tale/p1.png")
    found = read_record(tmp_path)
    wish = found.wishes["p1.png"]
    assert (wish.hints, wish.seed, found.done["p1.png"].wish) == ((Hint(1, 2, 0xFF0000, 3),), 7, wish.key)
    assert (found.verdict(DONE), found.about["series"], found.promoted) == (False, "tale", {})


def test_the_same_wish_again_is_another_one(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.wish("p1.png")
        first = journal.wishes["p1.png"].key
        journal.wish("p1.png")
        assert journal.wishes["p1.png"].key != first
        journal.drop_wish("p1.png")
        assert journal.wishes == {}


def test_another_picture_of_a_page_is_not_judged_yet(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.judge(DONE, approved=True)
        assert journal.verdict(DONE) is True
        assert journal.verdict(replace(DONE, output_sha256="9" * 64)) is None


def test_a_journal_from_before_wishes_is_read(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.finish(DONE)
    [line] = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert "wish" not in json.loads(line)["page"]  # what earlier versions write, and read
    assert read_record(tmp_path).done == {"p1.png": DONE}


def test_reading_a_record_changes_nothing(tmp_path: Path) -> None:
    assert read_record(tmp_path / "none").done == {}
    assert not (tmp_path / "none").exists()
    (tmp_path / "journal.jsonl").write_bytes(b'{"event":"packed","sha256":"a"}\n{"event":"pac')
    with Journal(tmp_path / "other"):  # no lock is asked for
        assert read_record(tmp_path).packed == "a"
    assert (tmp_path / "journal.jsonl").read_bytes().endswith(b'{"event":"pac')


def test_an_archive_that_a_kill_left_before_it_was_told_is_ours(tmp_path: Path) -> None:
    place = workspace_of(tmp_path / "b.cbz")
    place.target.write_bytes(b"archive")
    with Journal(place.state) as journal:
        assert taken(place, journal, []) == ["b.cbz"]
        journal.pack(sha256_of(place.target) or "")  # said before the archive takes its place
        journal.pack("0" * 64)  # and the next one never did
        assert taken(place, journal, []) == []


def test_drafts_of_killed_runs_are_swept(tmp_path: Path) -> None:
    names = (".p1.png.123.draft", "..b.cbz.7.draft.7.draft", ".other.png.123.draft", ".p1.png.draft", "p1.png")
    for name in names:
        (tmp_path / name).touch()
    sweep_drafts([tmp_path / "p1.png", tmp_path / "b.cbz"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.png.123.draft", ".p1.png.draft", "p1.png"]


@pytest.mark.parametrize("kind", [Journal, Ledger])
def test_a_file_system_without_locks_is_not_taken_for_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Journal | Ledger]
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(OSError, match="not supported"):
        kind(tmp_path)


@pytest.mark.parametrize(("state", "named"), [("out/.panelhue", "out"), (".panelhue/book.cbz", "book.cbz")])
def test_another_run_is_told_with_the_output_that_it_works_on(tmp_path: Path, state: str, named: str) -> None:
    with Journal(tmp_path / state), pytest.raises(UsageError) as caught:
        Journal(tmp_path / state)
    assert caught.value.reason == BUSY
    assert caught.value.message.endswith(f" {tmp_path / named}")
