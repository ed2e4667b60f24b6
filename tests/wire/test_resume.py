"""A killed run goes on where it was, and ends with the bytes of one that was never killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.wire import command_line
from tests.wire.command_line import Command, stopped_midway

panelhue, comic = command_line.panelhue, command_line.comic  # fixtures


def journal_of(output: Path) -> Path:
    folder = output.parent / ".panelhue" / output.name if output.suffix == ".cbz" else output / ".panelhue"
    return folder / "journal.jsonl"


def finished(output: Path) -> list[str]:
    lines = [json.loads(line) for line in journal_of(output).read_text().splitlines() if line.endswith("}")]
    return [line["page"]["page"] for line in lines if line["event"] == "finished"]


def pool(panelhue: Command, series: str) -> list[tuple[Any, ...]]:
    found = panelhue.json("series", "references", series)
    return [(one["id"], one["chapter"], one["page"], one["tags"], one["provenance"]) for one in found]


def test_a_run_killed_midway_ends_with_the_same_bytes_and_repeats_no_finished_page(
    panelhue: Command, comic: Path, tmp_path: Path
) -> None:
    # Grey pages whose truth is in the pool: what comes out is colourful enough to be taken into it.
    run, whole, killed = (
        (comic / "grey" / "ch01", "--chapter", 2, "--grow", "--no-sheet"),
        tmp_path / "whole.cbz",
        tmp_path / "killed.cbz",
    )
    for series in ("whole", "killed"):
        panelhue("ingest", comic / "truth" / "ch01", "-s", series, "--create")
    panelhue("colorize", *run, "-s", "whole", "-o", whole)

    process = stopped_midway(panelhue, signal.SIGKILL, "colorize", *run, "-s", "killed", "-o", killed)
    assert process.returncode == -signal.SIGKILL
    before = finished(killed)
    assert 0 < len(before) < 4
    assert not killed.exists()
    report = panelhue.json("colorize", *run, "-s", "killed", "-o", killed)

    assert report["kept"] == len(before)
    assert sorted(finished(killed)) == ["p01.png", "p02.png", "p03.png", "p04.png"]  # each once
    assert killed.read_bytes() == whole.read_bytes()
    assert len(pool(panelhue, "whole")) > 4  # it has grown
    assert pool(panelhue, "killed") == pool(panelhue, "whole")


@pytest.fixture(scope="module")
def done(panelhue: Command, comic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished folder of two pages, by the quickest back-end."""
    folder = tmp_path_factory.mktemp("done")
    panelhue("ingest", comic / "truth" / "ch01", "-s", "done", "--create")
    (folder / "grey").mkdir()
    for name in ("p01.png", "p02.png"):
        (folder / "grey" / name).write_bytes((comic / "grey" / "ch02" / name).read_bytes())
    again(panelhue, folder)
    return folder


def again(panelhue: Command, folder: Path, *arguments: object, code: int = 0) -> Any:
    run = ("colorize", folder / "grey", "-s", "done", "--chapter", 2, "--no-sheet", "--backend", "tint")
    return panelhue.json(*run, "-o", folder / "colour", *arguments, code=code)


def test_an_interrupted_run_can_go_on(panelhue: Command, comic: Path, tmp_path: Path) -> None:
    panelhue("ingest", comic / "truth" / "ch01", "-s", "interrupted", "--create")
    arguments = (comic / "grey" / "ch02", "-s", "interrupted", "--no-sheet")
    process = stopped_midway(panelhue, signal.SIGINT, "colorize", *arguments, "-o", tmp_path / "out")
    assert process.returncode == 130
    report = panelhue.json("colorize", *arguments, "-o", tmp_path / "out")
    assert report["kept"] > 0
    assert report["finished"] == 4


def test_a_finished_book_is_not_done_again(panelhue: Command, done: Path) -> None:
    stamps = {path.name: path.stat().st_mtime_ns for path in (done / "colour").glob("*.png")}
    assert again(panelhue, done)["kept"] == 2
    assert {path.name: path.stat().st_mtime_ns for path in (done / "colour").glob("*.png")} == stamps


def test_a_damaged_output_is_made_again(panelhue: Command, done: Path) -> None:
    page = done / "colour" / "p02.png"
    good = page.read_bytes()
    page.write_bytes(good[:-20])
    assert again(panelhue, done)["kept"] == 1
    assert page.read_bytes() == good


def test_other_options_make_the_pages_again(panelhue: Command, done: Path) -> None:
    assert again(panelhue, done, "--seed", 1)["kept"] == 0
    assert again(panelhue, done)["kept"] == 0


def test_another_input_is_made_again(panelhue: Command, done: Path) -> None:
    page = done / "grey" / "p01.png"
    before = page.read_bytes()
    page.write_bytes((done / "grey" / "p02.png").read_bytes())
    assert again(panelhue, done)["kept"] == 1
    page.write_bytes(before)
    assert again(panelhue, done)["kept"] == 1


def test_a_line_that_a_kill_cut_short_costs_its_page_alone(panelhue: Command, done: Path) -> None:
    journal = journal_of(done / "colour")
    lines = journal.read_bytes().splitlines(keepends=True)
    one, two = ([line for line in lines if b'"page":"%s"' % name in line][-1] for name in (b"p01.png", b"p02.png"))
    journal.write_bytes(lines[0] + one + two[:-30])
    assert again(panelhue, done)["kept"] == 1


def test_what_another_has_written_is_not_replaced_unasked(panelhue: Command, done: Path, tmp_path: Path) -> None:
    (tmp_path / "p01.png").write_bytes(b"mine")
    arguments = (
        "colorize",
        done / "grey",
        "-s",
        "done",
        "--chapter",
        2,
        "--no-sheet",
        "--backend",
        "tint",
        "-o",
        tmp_path,
    )
    told = panelhue.run(*arguments)
    assert (told.returncode, "p01.png" in told.stderr) == (2, True)
    assert (tmp_path / "p01.png").read_bytes() == b"mine"
    panelhue(*arguments, "--overwrite")
    assert (tmp_path / "p01.png").read_bytes() != b"mine"


def test_the_book_itself_is_no_output(panelhue: Command, done: Path) -> None:
    panelhue("colorize", done / "grey", "-s", "done", "-o", done / "grey", code=2)


def test_two_runs_do_not_write_to_one_output(panelhue: Command, done: Path) -> None:
    import fcntl

    with (done / "colour" / ".panelhue" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = panelhue.run("colorize", done / "grey", "-s", "done", "--no-sheet", "-o", done / "colour")
    assert (told.returncode, "another run" in told.stderr) == (2, True)


def test_a_finished_archive_is_not_done_again(panelhue: Command, done: Path, tmp_path: Path) -> None:
    arguments = ("colorize", done / "grey", "-s", "done", "--chapter", 2, "--no-sheet", "--backend", "tint")
    panelhue(*arguments, "-o", tmp_path / "b.cbz")
    before = (tmp_path / "b.cbz").read_bytes()
    assert not list((tmp_path / ".panelhue").rglob("*.png"))
    assert panelhue.json(*arguments, "-o", tmp_path / "b.cbz")["kept"] == 2
    assert (tmp_path / "b.cbz").read_bytes() == before


def test_a_finished_archive_takes_a_new_page(panelhue: Command, done: Path, tmp_path: Path) -> None:
    book = tmp_path / "grey"
    book.mkdir()
    arguments = ("colorize", book, "-s", "done", "--chapter", 2, "--no-sheet", "--backend", "tint")
    (book / "p01.png").write_bytes((done / "grey" / "p01.png").read_bytes())
    panelhue(*arguments, "-o", tmp_path / "b.cbz")
    (book / "p02.png").write_bytes((done / "grey" / "p02.png").read_bytes())
    assert panelhue.json(*arguments, "-o", tmp_path / "b.cbz")["kept"] == 1
    panelhue(*arguments, "-o", tmp_path / "other.cbz")
    assert (tmp_path / "b.cbz").read_bytes() == (tmp_path / "other.cbz").read_bytes()


def test_growing_again_leaves_one_reference_a_page(panelhue: Command, comic: Path, tmp_path: Path) -> None:
    panelhue("ingest", comic / "truth" / "ch01" / "p02.png", "-s", "again", "--create")
    page = comic / "grey" / "ch01" / "p02.png"
    arguments = ("colorize", page, "-s", "again", "--chapter", 2, "--grow", "--no-sheet", "-o", tmp_path / "out")
    made = [panelhue.json(*arguments, "--format", kind) for kind in ("png", "png", "jpeg")]
    assert [(one["kept"], one["grown"]) for one in made] == [(0, 1), (1, 0), (0, 1)]
    grown = [one[0] for one in pool(panelhue, "again") if one[1] == 2000]
    assert grown == [made[-1]["results"][0]["output_sha256"]]
    assert [path.name for path in (tmp_path / "out").glob("p*")] == ["p02.jpg"]
