"""Out-of-the-ordinary input: a clear error, the exit code of the guide, JSON that parses, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from panelhue.errors import InvalidInput, Violation
from panelhue.journal import Journal
from panelhue.workspaces import workspace_of
from tests.wire import command_line
from tests.wire.command_line import RUN_SECONDS, Command, wait_for
from tests.wire.conftest import RunningServer, probe_settings

servers, panelhue = command_line.panelhue, command_line.inside  # fixtures
comic, series = command_line.comic, command_line.series  # likewise

NOBODY = ("--retrieval", "127.0.0.1:1", "--colorizer", "127.0.0.1:1")


def failed(panelhue: Command, *arguments: object, code: int) -> dict[str, Any]:
    told: dict[str, Any] = panelhue.json(*arguments, code=code)
    assert told.keys() == {"error", "reason", "exit_code"}
    assert (told["exit_code"], bool(told["error"])) == (code, True)
    return told


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("series", "show", "nobody"), 4, "NO_SUCH_SERIES"),
        (("series", "show", "a b"), 4, "INVALID_REQUEST"),
        (("series", "show"), 2, "USAGE"),
        (("series", "show", "x", "--no-such-option"), 2, "USAGE"),
        (("colorize", "no such book"), 2, "BOOK_MISSING"),
        (("colorize", "{book}", "--chapter", "12a"), 2, "USAGE"),
        (("ingest", "{book}", "-s", "x", *NOBODY[:2]), 3, "UNREACHABLE"),
        (("watch", "no such folder", "-s", "x", "--once"), 2, "USAGE"),
        (("series", "import", "{book}"), 2, "NOT_AN_EXPORT"),
        (("data", "check", "/nowhere/at/all"), 2, "NOT_A_DATA_FOLDER"),
        (("no-such-command",), 2, "USAGE"),
    ],
)
def test_every_failure_is_told_as_json(
    panelhue: Command, comic: Path, arguments: tuple[str, ...], code: int, reason: str
) -> None:
    given = [one.format(book=comic / "truth" / "ch01" / "p01.png") for one in arguments]
    assert failed(panelhue, *given, code=code)["reason"] == reason


def test_an_interrupted_command_is_told_as_json(
    servers: Command, panelhue: Command, comic: Path, series: str, tmp_path: Path
) -> None:
    place = workspace_of(tmp_path / "out")
    with Journal(place.state):  # so that it waits until it is interrupted
        (tmp_path / "inbox").mkdir()
        arguments = ("watch", tmp_path / "inbox", "-s", series, "-o", tmp_path / "out", "--json")
        process = servers.start(*arguments)
        wait_for(place.state / "watch.jsonl", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=RUN_SECONDS)
    told = json.loads(out)
    assert (process.returncode, told["exit_code"], told["reason"]) == (130, 130, "INTERRUPTED"), err
    assert "interrupted" in told["error"]


def test_nothing_is_said_twice() -> None:
    error = InvalidInput(
        "id: must be short", violations=[Violation("id", "must be short"), Violation("name", "is empty")]
    )
    assert error.explained() == "id: must be short\n  name: is empty"


@pytest.mark.parametrize("text", ["-1", "1e9", "1e3", "12a", "1_2", "nan", "", "12.1234"])
def test_odd_chapters_are_refused_by_all_commands(panelhue: Command, comic: Path, series: str, text: str) -> None:
    book = comic / "grey" / "ch02.cbz"
    assert "a chapter" in failed(panelhue, "ingest", book, "-s", series, "--chapter", text, code=2)["error"]
    arguments = ("colorize", book, "-s", series, "--dry-run", "--chapter", text)
    assert "a chapter" in failed(panelhue, *arguments, code=2)["error"]


def test_chapters_between_two_are_taken(panelhue: Command, comic: Path, tmp_path: Path) -> None:
    page = comic / "truth" / "ch01" / "p01.png"
    panelhue("ingest", page, "-s", "between", "--create", "--chapter", "12.5")
    assert [one["chapter"] for one in panelhue.json("series", "references", "between")] == [12500]


@pytest.mark.parametrize("target", ["out", "out.cbz", "deep/er/out"])
def test_a_series_that_is_not_there_leaves_nothing_behind(
    panelhue: Command, comic: Path, tmp_path: Path, target: str
) -> None:
    book = comic / "grey" / "ch02.cbz"
    failed(panelhue, "colorize", book, "-s", "nobody", "--chapter", 2, "-o", tmp_path / target, code=4)
    assert list(tmp_path.iterdir()) == []


def test_an_output_below_a_file_is_refused(panelhue: Command, comic: Path, series: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/in", "file/in.cbz", "file/in/deep.pdf"):
        told = failed(panelhue, "colorize", comic / "grey" / "ch02.cbz", "-s", series, "-o", tmp_path / name, code=2)
        assert "choose" in told["error"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "mine"}


def test_an_output_that_may_not_be_written_is_refused(
    panelhue: Command, comic: Path, series: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    real = os.access  # root may write anywhere, but on a medium that is read-only
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked and real(path, mode))
    for name in ("out", "out.cbz", "a/b.pdf"):
        told = failed(panelhue, "colorize", comic / "grey" / "ch02.cbz", "-s", series, "-o", locked / name, code=2)
        assert "may not write" in told["error"]
    assert list(locked.iterdir()) == []


def test_a_name_that_is_too_long_is_told_in_words(panelhue: Command, comic: Path, series: str, tmp_path: Path) -> None:
    book = comic / "grey" / "ch02.cbz"
    told = failed(panelhue, "colorize", book, "-s", series, "-o", tmp_path / ("x" * 300), code=2)
    assert ("file name too long" in told["error"].lower(), "Errno" in told["error"]) == (True, False)


def test_pages_with_odd_names_come_out(panelhue: Command, comic: Path, series: str, tmp_path: Path) -> None:
    page = (comic / "grey" / "ch02" / "p01.png").read_bytes()
    names = ["a\nb.png", "😀.png", "x" * 240 + ".png", "-.png", "  .png", "*.png"]
    (tmp_path / "book").mkdir()
    for name in names:
        (tmp_path / "book" / name).write_bytes(page)
    run = ("colorize", tmp_path / "book", "-s", series, "--chapter", 2, "--backend", "tint", "--no-sheet")
    assert panelhue.json(*run, "-o", tmp_path / "out")["finished"] == len(names)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a%0ab.png", "😀.png", "-.png", "  .png", "*.png"} <= made
    assert panelhue.json(*run, "-o", tmp_path / "out")["kept"] == len(names)


def test_an_archive_with_control_characters_in_a_name_is_refused_for_that(
    panelhue: Command, series: str, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "odd.cbz", "w") as archive:
        archive.writestr("a\nb.png", b"x")
    told = failed(panelhue, "colorize", tmp_path / "odd.cbz", "-s", series, "--chapter", 1, code=2)
    assert ("control characters" in told["error"], told["reason"]) == (True, "ARCHIVE_UNSAFE")


def test_the_second_of_two_runs_to_one_output_is_refused(
    panelhue: Command, comic: Path, series: str, tmp_path: Path
) -> None:
    target = tmp_path / "out.cbz"
    with Journal(workspace_of(target).state):  # as another run holds it
        told = failed(
            panelhue, "colorize", comic / "grey" / "ch02.cbz", "-s", series, "--chapter", 2, "-o", target, code=2
        )
    assert told["reason"] == "OUTPUT_BUSY"
    assert not target.exists()


def test_a_server_that_is_started_anew_in_the_middle_of_a_chapter_is_waited_for(comic: Path, tmp_path: Path) -> None:
    page = (comic / "grey" / "ch02" / "p01.png").read_bytes()
    (tmp_path / "book").mkdir()
    for number in range(60):
        (tmp_path / "book" / f"p{number:02}.png").write_bytes(page)
    settings = probe_settings(default_backend="tint")
    server = RunningServer("colorizer-server", tmp_path / "server", *settings)
    address = server.address
    command = Command({**os.environ, "PANELHUE_COLORIZER": address})
    with command.start("colorize", tmp_path / "book", "--no-sheet", "-o", tmp_path / "out", "--json") as process:
        try:
            assert process.stderr is not None
            while "1/60" not in (line := process.stderr.readline()):
                assert line
            server.stop(signal.SIGKILL)
            server = RunningServer("colorizer-server", tmp_path / "server", *settings, "--listen", address)
            out, err = process.communicate(timeout=RUN_SECONDS)
        finally:
            server.stop(signal.SIGKILL)
    assert process.returncode == 0, err
    assert (json.loads(out)["finished"], len(list((tmp_path / "out").glob("*.png")))) == (60, 60)
