"""Drafts: what a killed process leaves behind is swept, what another one is writing is left alone."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from panelhue.outputs import sweep_drafts, write_whole, written_whole
from tests.unit.test_sheet import png, sheet_of

WRITER = """
import sys
from pathlib import Path
from panelhue.outputs import written_whole

with written_whole(Path(sys.argv[1])) as draft:
    draft.write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is in the middle of writing `book.cbz`."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "book.cbz")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_draft_of_a_killed_process_is_swept(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    writer.kill()
    writer.wait()
    assert len(names(tmp_path)) == 1
    sweep_drafts([tmp_path / "another.cbz"])
    assert len(names(tmp_path)) == 1
    sweep_drafts([tmp_path / "book.cbz"])
    assert names(tmp_path) == []


def test_the_draft_of_a_living_process_stays(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    sweep_drafts([tmp_path / "book.cbz"])
    write_whole(tmp_path / "book.cbz", b"ours")
    assert len(names(tmp_path)) == 2
    writer.communicate()  # it goes on to its end
    assert (writer.returncode, names(tmp_path)) == (0, ["book.cbz"])
    assert (tmp_path / "book.cbz").read_bytes() == b"half"


def test_two_writers_in_one_process_have_a_draft_each(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a") as first, written_whole(tmp_path / "a") as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"first"}


def test_an_old_draft_of_our_own_number_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / f".a.{os.getpid()}.draft").write_bytes(b"something longer")
    write_whole(tmp_path / "a", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new"}


def test_without_locks_drafts_are_written_and_never_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    write_whole(tmp_path / "a", b"new")
    (tmp_path / ".a.7.draft").touch()
    sweep_drafts([tmp_path / "a"])
    assert names(tmp_path) == [".a.7.draft", "a"]


def test_a_link_that_looks_like_a_draft_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    (tmp_path / ".a.7.draft").symlink_to(tmp_path / "precious")
    (tmp_path / ".a.8.draft").mkdir()
    sweep_drafts([tmp_path / "a"])
    assert names(tmp_path) == [".a.7.draft", ".a.8.draft", "precious"]


def test_a_sheet_sweeps_its_own_drafts_alone(tmp_path: Path) -> None:
    stale = (".contact-sheet.html.7.draft", ".contact-sheet.png.7.draft", ".contact-sheet-2.png.7.draft")
    others = (".p000.png.7.draft", ".contact-sheet-other.html.7.draft")
    for name in (*stale, *others):
        (tmp_path / name).touch()
    with written_whole(tmp_path / "contact-sheet.html") as another:  # of a second command, at work just now
        sheet_of(tmp_path, 9, lambda _: png())
        assert another.exists()
    assert [name for name in names(tmp_path) if name.startswith(".")] == sorted(others)
