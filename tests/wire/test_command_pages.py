"""Single pages and what comes before and after a run: --dry-run, --preview, --recolour with hints, and review."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from panelhue.journal import Journal
from tests.wire import command_line
from tests.wire.command_line import RUN_SECONDS, Command, stopped_midway

servers, panelhue = command_line.panelhue, command_line.inside  # fixtures
comic, series = command_line.comic, command_line.series  # likewise

RED = "#ff0000"


@pytest.fixture
def run(panelhue: Command, comic: Path, series: str, tmp_path: Path) -> tuple[object, ...]:
    """The arguments of a run over two pages, into tmp_path/out.cbz."""
    (tmp_path / "grey").mkdir()
    for name in ("p01.png", "p02.png"):
        (tmp_path / "grey" / name).write_bytes((comic / "grey" / "ch01" / name).read_bytes())
    return (
        *("colorize", tmp_path / "grey", "-s", series, "--chapter", 2, "--no-sheet"),
        *("-o", tmp_path / "out.cbz", "--backend", "tint"),
    )


def pages(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_dry_run_tells_what_would_be_done(panelhue: Command, run: tuple[object, ...], tmp_path: Path) -> None:
    before = everything_below(tmp_path)
    found = panelhue.json(*run, "--dry-run")
    assert everything_below(tmp_path) == before  # nothing is written
    assert (found["pages"], found["to_do"], found["kept"], found["estimated_seconds"]) == (2, 2, 0, None)
    [chapter] = found["chapters"]
    assert (chapter["chapter"], chapter["references"], chapter["references_by_depth"]) == (2000, 4, {"0": 4})
    assert found["output"] == str(tmp_path / "out.cbz")


def test_a_dry_run_knows_what_is_finished(panelhue: Command, run: tuple[object, ...], tmp_path: Path) -> None:
    panelhue(*run)
    found = panelhue.json(*run, "--dry-run")
    assert (found["to_do"], found["kept"], found["estimated_seconds"]) == (0, 2, 0)
    found = panelhue.json(*run, "--dry-run", "--seed", 1)
    assert found["to_do"] == 2
    assert found["estimated_seconds"] == pytest.approx(found["seconds_a_page"])  # two are under way at once
    assert panelhue.json(*run, "--dry-run", "--recolour", "p02")["chapters"][0]["to_do"] == ["p02.png"]
    assert "nothing is left to do" in panelhue(*run, "--dry-run")


def test_a_dry_run_names_what_is_in_the_way(panelhue: Command, run: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "out.cbz").write_bytes(b"mine")
    assert panelhue.json(*run, "--dry-run")["in_the_way"] == ["out.cbz"]
    assert panelhue.json(*run, "--dry-run", "--overwrite")["in_the_way"] == []


def test_a_preview_is_small(panelhue: Command, series: str, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((900, 1200)).save(tmp_path / "large.png")
    arguments = ("colorize", tmp_path / "large.png", "-s", series, "--chapter", 2, "--backend", "tint", "--no-sheet")
    report = panelhue.json(*arguments, "--preview")
    assert report["output"] == str(tmp_path / "large-preview")
    with Image.open(tmp_path / "large-preview" / "large.jpg") as image:
        assert image.size == (480, 640)


def test_a_preview_is_never_taken_for_the_page(panelhue: Command, series: str, tmp_path: Path) -> None:
    page = Image.linear_gradient("L").resize((900, 1200))
    page.save(tmp_path / "large.pdf")
    arguments = ("colorize", tmp_path / "large.pdf", "-s", series, "--chapter", 2, "--backend", "tint", "--no-sheet")
    panelhue(*arguments, "-o", tmp_path / "out", "--preview")
    panelhue(*arguments, "-o", tmp_path / "out", "--format", "jpeg")
    (made,) = (tmp_path / "out").glob("*.jpg")
    with Image.open(made) as image:
        assert max(image.size) > 640


def test_a_page_is_made_again_with_hints(panelhue: Command, run: tuple[object, ...], tmp_path: Path) -> None:
    panelhue(*run)
    before = pages(tmp_path / "out.cbz")
    with_hint = ("--backend", "exemplar", "--steps", 4, "--recolour", "p02", "--hint", f"60,90,25={RED}")
    report = panelhue.json(*run, *with_hint)
    after = pages(tmp_path / "out.cbz")
    assert (report["pages"], report["finished"], report["results"][0]["backend"]) == (1, 1, "exemplar")
    assert after["p01.png"] == before["p01.png"]
    with Image.open(io.BytesIO(after["p02.png"])) as image:
        red, green, blue = image.convert("RGB").getpixel((60, 90))  # type: ignore[misc]  # three numbers
        assert red > green
        assert red > blue
    assert not list((tmp_path / ".panelhue").rglob("*.png"))  # the archive is whole, so nothing is left beside it
    # It stays so, whatever the others are made with; and what the hints were can be taken away.
    assert panelhue.json(*run)["kept"] == 2
    assert pages(tmp_path / "out.cbz") == after
    panelhue(*run, "--recolour", 2, "--no-hints")
    assert pages(tmp_path / "out.cbz") == before


def test_a_wish_outlives_a_run_that_was_killed(panelhue: Command, run: tuple[object, ...], tmp_path: Path) -> None:
    panelhue(*run)
    with Journal(tmp_path / ".panelhue" / "out.cbz") as journal:  # as a run leaves it that is killed at once
        journal.wish("p01.png", seed=7)
    report = panelhue.json(*run)
    assert (report["kept"], [one["seed"] for one in report["results"] if one["wish"]]) == (1, [7])
    assert panelhue.json(*run)["kept"] == 2


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--recolour", "p09"), "has no page"),
        (("--recolour", "p01", "--hint", "1,2=#ff0000"), "makes no use of hints"),
        (("--recolour", "p01", "--backend", "exemplar", "--hint", "999,2=#ff0000"), "lies beside it"),
        (("--recolour", "p01", "--recolour", "p02", "--hint", "1,2=#ff0000"), "belong to one page"),
        (("--hint", "1,2=#ff0000"), "--recolour"),
        (("--recolour", "p01", "--hint", "1;2=#ff0000"), "is written"),
        (("--recolour", "p01", "--no-hints"), "could be left away"),
        (("--recolour", "p01", "--preview"), "--preview"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(
    panelhue: Command, run: tuple[object, ...], tmp_path: Path, more: tuple[str, ...], why: str
) -> None:
    told = panelhue.run(*run, *more)
    assert (told.returncode, why in told.stderr) == (2, True), told.stderr
    assert not (tmp_path / "out.cbz").exists()


@pytest.fixture
def finished(panelhue: Command, run: tuple[object, ...], comic: Path, tmp_path: Path) -> str:
    """A finished run with a series of its own."""
    name = f"s{abs(hash(tmp_path)) % 10**8}"
    panelhue("ingest", comic / "truth" / "ch01", "-s", name, "--create")
    panelhue(*run, "-s", name)
    return name


def said(panelhue: Command, *arguments: object, code: int = 0) -> dict[str, Any]:
    found = panelhue.json("review", *arguments, code=code)
    return {one["page"]: (one["state"], one["in_pool"]) for one in found["pages"]}


def grown(panelhue: Command, series: str) -> list[dict[str, Any]]:
    return [one for one in panelhue.json("series", "references", series) if "grown" in one["tags"]]


def test_an_approved_page_goes_into_the_pool_with_its_provenance(
    panelhue: Command, finished: str, tmp_path: Path
) -> None:
    for _ in range(2):  # again, it changes nothing
        assert said(panelhue, tmp_path / "out.cbz", "--approve", "p01") == {
            "p01.png": ("approved", True),
            "p02.png": ("open", False),
        }
    [one] = grown(panelhue, finished)
    assert (one["chapter"], one["page"], sorted(one["tags"])) == (2000, 1, ["approved", "grown", "grown:2"])
    made = one["provenance"]
    assert (made["origin"], made["depth"], made["backend"]) == ("generated", 1, "tint")
    assert made["parent_ids"]


def test_a_rejected_page_leaves_the_pool_and_is_offered_again(
    panelhue: Command, finished: str, run: tuple[object, ...], tmp_path: Path
) -> None:
    panelhue(*run, "-s", finished, "--grow")
    assert len(grown(panelhue, finished)) == 2
    assert said(panelhue, tmp_path / "out.cbz", "--reject", "p02", "--all") == {
        "p01.png": ("approved", True),
        "p02.png": ("rejected", False),
    }
    panelhue(*run, "-s", finished, "--grow")  # it does not come back by itself
    assert [(one["page"], "approved" in one["tags"]) for one in grown(panelhue, finished)] == [(1, True)]
    report = panelhue.json(*run, "-s", finished, "--recolour-rejected")
    assert [(one["page"], one["seed"]) for one in report["results"]] == [("p02.png", 1)]  # not the same picture again
    told = panelhue("review", tmp_path / "out.cbz", "--list")
    assert "approved" in told


def test_a_review_asks_page_by_page(panelhue: Command, finished: str, tmp_path: Path) -> None:
    def answered(keys: str) -> tuple[int, str]:
        main, side = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "panelhue", "review", str(tmp_path / "out.cbz")],
            env={**panelhue.environment, "TERM": "xterm-256color"},
            stdin=side,
            stdout=subprocess.PIPE,
            stderr=side,
        )
        os.close(side)
        os.write(main, keys.encode())
        shown = bytearray()
        while True:
            try:
                block = os.read(main, 65536)
            except OSError:  # the other side is closed
                break
            if not block:
                break
            shown += block
        os.close(main)
        process.communicate(timeout=RUN_SECONDS)
        return process.returncode, shown.decode(errors="replace")

    code, shown = answered("aq")
    assert (code, "▀" in shown, "p01.png" in shown) == (0, True, True)
    assert said(panelhue, tmp_path / "out.cbz")["p02.png"] == ("open", False)
    assert answered("r")[0] == 0  # it goes on with the next page, and ends after the last
    assert said(panelhue, tmp_path / "out.cbz") == {"p01.png": ("approved", True), "p02.png": ("rejected", False)}


def test_a_page_whose_picture_is_gone_does_not_keep_the_others_from_the_pool(
    panelhue: Command, run: tuple[object, ...], finished: str, tmp_path: Path
) -> None:
    panelhue(*run, "-s", finished, "-o", tmp_path / "out")
    (tmp_path / "out" / "p01.png").unlink()
    assert said(panelhue, tmp_path / "out", "--all", code=1) == {
        "p01.png": ("open", False),
        "p02.png": ("approved", True),
    }


def test_without_a_terminal_nothing_is_approved(panelhue: Command, finished: str, tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "panelhue", "review", str(tmp_path / "out.cbz")],
        env=panelhue.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert "--approve" in told.stderr
    assert said(panelhue, tmp_path / "out.cbz")["p01.png"] == ("open", False)


def test_a_review_of_nothing_is_wrong_usage(panelhue: Command, tmp_path: Path) -> None:
    panelhue("review", tmp_path, code=2)


@pytest.mark.parametrize("number", ["INT", "TERM"])
def test_a_stopped_run_says_how_to_go_on(
    panelhue: Command, comic: Path, series: str, tmp_path: Path, number: str
) -> None:
    arguments = ("colorize", comic / "grey" / "ch02", "-s", series, "--no-sheet", "-o", tmp_path / "out")
    done = stopped_midway(panelhue, signal.Signals[f"SIG{number}"], *arguments)
    assert (done.returncode, done.stdout, "the same command goes on" in done.stderr) == (130, "", True)
    assert not list(tmp_path.rglob("*.draft"))


def test_json_is_all_that_is_printed(panelhue: Command, run: tuple[object, ...], tmp_path: Path) -> None:
    assert json.loads(panelhue(*run, "--json"))["finished"] == 2
    assert json.loads(panelhue("review", tmp_path / "out.cbz", "--all", "--json"))["series"] == "tale"
