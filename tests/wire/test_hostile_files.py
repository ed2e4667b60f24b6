"""Hostile files through the real commands, in short; `python -m benchmarks.hostile` takes some 850 of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.hostile import bombs
from benchmarks.hostile.archives import archives
from benchmarks.hostile.case import Case
from benchmarks.hostile.drawing import chunk, drawing, file_of, with_chunks
from benchmarks.hostile.kinds import kinds
from benchmarks.hostile.places import places
from benchmarks.hostile.watch import strayed, surroundings
from serving.anatomy import PARTS
from tests.wire import command_line
from tests.wire.command_line import Command

panelhue = command_line.panelhue  # a fixture

CASES = {case.key: case for case in (*kinds(), *places(), *archives(), *bombs.bombs())}
PAGES = {  # what becomes of each when it is colourised
    "no plain files/a pipe": "FILE_UNREADABLE",
    "no plain files/a link to nothing": "FILE_UNREADABLE",
    "no plain files/a link to /dev/zero": "FILE_UNREADABLE",
    "no plain files/a file of 40 GiB, all hole": "FILE_UNREADABLE",
    "no plain files/a link to /etc/passwd": "IMAGE_UNREADABLE",
    "bombs/PNG that claims 2^31 - 1 squared": "IMAGE_TOO_LARGE",
    "bombs/JPEG that claims 98 megapixels": "IMAGE_UNREADABLE",
    "bombs/PNG with a zTXt of 1 GB": "IMAGE_UNREADABLE",
    "bombs/BMP of runs of one, 30 megapixels": "IMAGE_TOO_LARGE",
    "sizes/PNG 1 x 1": "IMAGE_TOO_SMALL",
    "broken EXIF/PNG: an orientation of many values": "done",
    "orientations/JPEG 6": "done",
    "modes/JPEG CMYK": "done",
}
NAMES = [case for case in places() if case.group == "names" and not case.file_name.startswith(".")]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of hostile pages, a sound one beside each."""
    folder = tmp_path_factory.mktemp("hostile") / "book"
    folder.mkdir()
    for number, key in enumerate(PAGES):
        CASES[key].make(folder / f"{number:02d}{CASES[key].ending}")
        (folder / f"{number:02d}-well.png").write_bytes(file_of(drawing(number + 50)))
    flood = with_chunks(file_of(drawing()), chunk(b"teSt", b"") * (PARTS + 1))
    (folder / "flood.png").write_bytes(flood)
    for case in NAMES:
        case.make(folder / case.file_name)
    return folder


def test_a_book_full_of_hostile_pages_gives_every_sound_one(panelhue: Command, book: Path) -> None:
    around = book.parent
    out = around / "out"
    before = surroundings(around, (out,))
    answer = panelhue.json("colorize", book, "-o", out, "--colour-pages", "recolour", "--chapter", "1", code=1)
    found = {page: why["reason"] for page, why in answer["failed"].items()}
    found |= {one["page"]: "done" for one in answer["results"]}
    for number, (key, outcome) in enumerate(PAGES.items()):
        assert found[f"{number:02d}{CASES[key].ending}"] == outcome, key
        assert found[f"{number:02d}-well.png"] == "done"
    assert found["flood.png"] == "IMAGE_TOO_LARGE"
    assert len([page for page, what in found.items() if what == "done" and "well" not in page]) >= 3 + len(NAMES) - 3
    assert strayed(before, surroundings(around, (out,))) == []
    assert {one["output"] for one in answer["results"]} == {
        str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and not _ours(path.relative_to(out))
    }


def _ours(path: Path) -> bool:
    return path.parts[0] == ".panelhue" or path.name.startswith("contact-sheet")


def test_a_pool_takes_the_sound_pages_among_hostile_ones(panelhue: Command, book: Path) -> None:
    answer = panelhue.json("ingest", book, "-s", "hostile", "--create", "--chapter", "1", code=1)
    status = {one["page"]: one["status"] for one in answer}
    assert all(status[f"{number:02d}-well.png"] == "added" for number in range(len(PAGES)))
    assert all(status[one["page"]] == "rejected" for one in answer if one["failure"])
    assert panelhue.json("info")  # both servers still answer


ARCHIVES = {
    "archives/way out: up": 2,
    "archives/way out: a link": 2,
    "archives/bomb: overlapping pages": 2,
    "archives/name: 2,000 folders deep": 0,
    "archives/name: a page that is a folder too": 0,
    "archives/kind: packed by LZMA": 1,
    "archives/ComicInfo: an unknown encoding": 0,
}


@pytest.mark.parametrize("key", ARCHIVES)
def test_an_archive_is_taken_or_refused_with_a_sentence(panelhue: Command, key: str, tmp_path: Path) -> None:
    case: Case = CASES[key]
    case.make(tmp_path / "book.cbz")
    told = panelhue.run("colorize", tmp_path / "book.cbz", "-o", tmp_path / "out", "--json", "--no-sheet")
    assert (told.returncode, "Traceback" in told.stderr) == (ARCHIVES[key], False), told.stderr
    if told.returncode == 2:
        assert "\nerror: " in f"\n{told.stderr}"
    else:
        assert "sound.png" in {one["page"] for one in json.loads(told.stdout)["results"]}
    assert set(os.listdir(tmp_path)) <= {"book.cbz", "out"}
