"""Books of every kind through both servers: in as PDF, EPUB or CBR, out as CBZ, PDF or layer; and stopped midway."""

from __future__ import annotations

import io
import json
import signal
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pikepdf
import pytest
from PIL import Image
from typer.testing import CliRunner

from panelhue.books import open_book
from panelhue.cli import app
from panelhue.journal import read_run
from tests.book_files import jpeg_image, picture_file, picture_pdf, pixels_of, rar, seven_zip, write_epub
from tests.unit.test_colorizer_chroma import blended_as_color, over
from tests.wire import command_line
from tests.wire.command_line import Command, stopped_midway
from tests.wire.test_resume import finished

panelhue, comic = command_line.panelhue, command_line.comic  # fixtures

QUICK = ("--backend", "tint", "--no-sheet")


@pytest.fixture(scope="module")
def series(panelhue: Command, comic: Path) -> str:
    panelhue("ingest", comic / "truth" / "ch01", "-s", "formats", "--create")
    return "formats"


@pytest.fixture(scope="module")
def pages(comic: Path) -> list[bytes]:
    """Three grey pages of chapter 2, as JPEG files."""
    paths = sorted((comic / "grey" / "ch02").glob("*.png"))[:3]
    return [picture_file(Image.open(path).convert("L"), "JPEG", quality=95) for path in paths]


@pytest.fixture(scope="module")
def wanted(
    panelhue: Command, series: str, pages: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> list[np.ndarray]:
    """What a folder of these pages gives."""
    folder = tmp_path_factory.mktemp("wanted") / "ch02"
    folder.mkdir()
    for place, data in enumerate(pages, 1):
        (folder / f"{place:03}.jpg").write_bytes(data)
    panelhue("colorize", folder, "-s", series, *QUICK, "-o", folder.with_name("out"))
    return results(folder.with_name("out"))


def written(folder: Path, kind: str, pages: list[bytes]) -> Path:
    path = folder / f"ch02.{kind}"
    if kind == "pdf":
        path.write_bytes(picture_pdf([jpeg_image(data) for data in pages], size=(200, 282)))
    elif kind == "epub":
        files = {f"{9 - place}.jpg": data for place, data in enumerate(pages)}
        write_epub(path, [f'<img src="../pictures/{name}"/>' for name in files], files)
    else:
        path.write_bytes(rar({f"p{place}.jpg": data for place, data in enumerate(pages, 1)}))
    return path


def results(path: Path) -> list[np.ndarray]:
    with open_book(path) as book:
        return [pixels_of(page.read()) for page in book.pages]


def same(path: Path, wanted: list[np.ndarray]) -> bool:
    found = results(path)
    return len(found) == len(wanted) == 3 and all(map(np.array_equal, found, wanted))


@pytest.mark.parametrize("kind", ["epub", "cbr"])
def test_a_book_of_any_kind_gives_the_pages_that_a_folder_gives(
    panelhue: Command,
    series: str,
    pages: list[bytes],
    wanted: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setitem(panelhue.environment, "PATH", f"{seven_zip().parent}:{panelhue.environment['PATH']}")
    panelhue("colorize", written(tmp_path, kind, pages), "-s", series, *QUICK, "-o", tmp_path / "out.cbz")
    assert same(tmp_path / "out.cbz", wanted)


def test_a_pdf_becomes_a_pdf_with_the_very_pixels_and_sizes(
    panelhue: Command, series: str, pages: list[bytes], wanted: list[np.ndarray], tmp_path: Path
) -> None:
    panelhue("colorize", written(tmp_path, "pdf", pages), "-s", series, *QUICK)  # beside the book, of its kind
    made = tmp_path / "ch02-colour.pdf"
    assert same(made, wanted)
    with pikepdf.open(made) as document:
        assert [float(side) for side in document.pages[0].MediaBox] == [0, 0, 200, 282]
        assert "Coloured by Panelhue (tint" in str(document.docinfo["/Keywords"])


def test_a_pdf_that_was_stopped_midway_ends_with_the_same_bytes(
    panelhue: Command, series: str, pages: list[bytes], tmp_path: Path
) -> None:
    run = (written(tmp_path, "pdf", pages), "-s", series, "--no-sheet")
    whole, killed = tmp_path / "whole.pdf", tmp_path / "killed.pdf"
    panelhue("colorize", *run, "-o", whole)
    folder = tmp_path / ".panelhue" / "killed.pdf"
    stopped_midway(panelhue, signal.SIGKILL, "colorize", *run, "-o", killed)
    before = (folder / "journal.jsonl").read_text().count('"event":"finished"')
    assert not killed.exists()
    assert panelhue.json("colorize", *run, "-o", killed)["kept"] == before
    assert killed.read_bytes() == whole.read_bytes()
    stamp = killed.stat().st_mtime_ns
    assert panelhue.json("colorize", *run, "-o", killed)["kept"] == 3
    assert killed.stat().st_mtime_ns == stamp  # nothing is written again


def test_split_spreads_that_were_stopped_midway_end_with_the_same_bytes(
    panelhue: Command, series: str, comic: Path, tmp_path: Path
) -> None:
    book = tmp_path / "ch02.cbz"
    spread = np.concatenate([pixels_of((comic / "grey" / "ch02" / f"p0{n}.png").read_bytes()) for n in (1, 2)], axis=1)
    info = b"<ComicInfo><Manga>YesAndRightToLeft</Manga><Number>2</Number>"
    info += b"<Pages><Page Image='1' Type='Story'/></Pages></ComicInfo>"
    with zipfile.ZipFile(book, "w") as archive:
        archive.writestr("ComicInfo.xml", info)
        archive.writestr("a.png", (comic / "grey" / "ch02" / "p03.png").read_bytes())
        archive.writestr("b.png", picture_file(spread))
    run = (book, "-s", series, "--no-sheet", "--spreads", "split")
    whole, killed = tmp_path / "whole.cbz", tmp_path / "killed.cbz"
    report = panelhue.json("colorize", *run, "-o", whole)
    stopped_midway(panelhue, signal.SIGKILL, "colorize", *run, "-o", killed)
    assert 0 < len(finished(killed)) < 3
    panelhue("colorize", *run, "-o", killed)
    assert killed.read_bytes() == whole.read_bytes()
    assert [(one["page"], one["number"], one["chapter"]) for one in report["results"]] == [
        ("a.png", 1, 2000),
        ("b-1.png", 2, 2000),
        ("b-2.png", 3, 2000),
    ]
    with zipfile.ZipFile(whole) as archive:
        assert archive.namelist() == ["ComicInfo.xml", "a.png", "b-1.png", "b-2.png"]
        root = ElementTree.fromstring(archive.read("ComicInfo.xml"))
        right = np.asarray(Image.open(io.BytesIO(archive.read("b-1.png"))).convert("L"))
    assert np.array_equal(
        right, np.asarray(Image.fromarray(spread).convert("L"))[:, 200:]
    )  # the right half comes first
    facts = {name: root.findtext(name) for name in ("PageCount", "BlackAndWhite", "Manga", "Number")}
    assert facts == {"PageCount": "3", "BlackAndWhite": "No", "Manga": "YesAndRightToLeft", "Number": "2"}
    assert [one.get("Image") for one in root.findall("Pages/Page")] == ["1", "2"]
    sheets = panelhue.json("sheet", book, whole, "-s", series)
    assert "not available" not in Path(sheets[0]).read_text()  # it knows that the spreads were split, and how


def test_ingest_splits_spreads(panelhue: Command, comic: Path, tmp_path: Path) -> None:
    spread = np.concatenate([pixels_of((comic / "truth" / "ch01" / f"p0{n}.png").read_bytes()) for n in (1, 2)], axis=1)
    (tmp_path / "a.png").write_bytes(picture_file(spread))
    given = ("-s", "spreads", "--chapter", 1, "--spreads", "split", "--right-to-left", "--create")
    found = panelhue.json("ingest", tmp_path / "a.png", *given)
    assert [(one["page"], one["status"]) for one in found] == [("a-1.png", "added"), ("a-2.png", "added")]
    listed = {one["page"]: (one["width"], one["height"]) for one in panelhue.json("series", "references", "spreads")}
    assert listed == {1: (200, 282), 2: (200, 282)}


def test_the_layer_over_the_grey_page_gives_the_finished_page(
    panelhue: Command, series: str, comic: Path, tmp_path: Path
) -> None:
    page = comic / "grey" / "ch02" / "p01.png"
    run = ("colorize", page, "-s", series, "--chapter", 2, "--no-sheet")
    panelhue(*run, "-o", tmp_path / "full")
    panelhue(*run, "--chroma-only", "-o", tmp_path / "layer.cbz")
    with zipfile.ZipFile(tmp_path / "layer.cbz") as archive:
        layer = np.asarray(Image.open(io.BytesIO(archive.read("p01.png"))))
    full = pixels_of((tmp_path / "full" / "p01.png").read_bytes())
    assert layer.shape[2] == 4
    assert (full.max(axis=2).astype(int) - full.min(axis=2) > 30).any()
    assert np.abs(over(pixels_of(page.read_bytes()), layer, blended_as_color) - full).max() <= 4


def test_an_animation_is_its_first_frame_and_that_is_said(
    panelhue: Command, series: str, comic: Path, tmp_path: Path
) -> None:
    frames = [Image.open(comic / "grey" / "ch02" / f"p0{number}.png").convert("L") for number in (1, 2)]
    (tmp_path / "a.gif").write_bytes(picture_file(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    told = panelhue.run("colorize", tmp_path / "a.gif", "-s", series, "--chapter", 2, *QUICK, "-o", tmp_path / "out")
    assert "a.gif: the file holds several frames; the first one is used" in told.stderr
    done, _ = read_run(tmp_path / "out" / ".panelhue")
    assert done["a.gif"].notes == ("the file holds several frames; the first one is used",)


def test_what_ingest_left_out_is_said(panelhue: Command, comic: Path, tmp_path: Path) -> None:
    frames = [Image.open(comic / "truth" / "ch01" / f"p0{number}.png") for number in (1, 2)]
    (tmp_path / "a.webp").write_bytes(picture_file(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    found = panelhue.json("ingest", tmp_path / "a.webp", "-s", "frames", "--create", "--chapter", 1)
    assert [(one["status"], one["notes"]) for one in found] == [
        ("added", ["the file holds several frames; the first one is used"])
    ]


def test_a_damaged_page_of_a_pdf_fails_alone(
    panelhue: Command, series: str, pages: list[bytes], tmp_path: Path
) -> None:
    head, data = jpeg_image(pages[1])
    book = tmp_path / "ch02.pdf"
    book.write_bytes(picture_pdf([jpeg_image(pages[0]), (head, data[: len(data) // 8])], size=(200, 282)))
    told = panelhue.run("colorize", book, "-s", series, *QUICK, "--json", "-o", tmp_path / "out.pdf")
    report = json.loads(told.stdout)
    assert report["finished"] >= 1
    assert (tmp_path / "out.pdf").exists()


def test_a_layer_is_not_written_as_a_pdf(comic: Path, tmp_path: Path) -> None:
    book, target = str(comic / "grey" / "ch02"), str(tmp_path / "out.pdf")
    told = CliRunner().invoke(app, ["colorize", book, "-s", "x", "--chroma-only", "-o", target])
    assert (told.exit_code, "transparency" in told.output) == (2, True)
