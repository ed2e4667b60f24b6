"""docs/BOOKS.md: every command in it runs as it stands there; its limits and reasons are those of the code."""

from __future__ import annotations

import io
import re
import shlex
import zipfile
from pathlib import Path

import pikepdf
from PIL import Image

import panelhue
from examples.made_up_series import draw_page
from panelhue import _programs, pdf_child, spreads, unpackers
from panelhue.archives import ArchiveLimits
from tests.book_files import flate_image, picture_file, picture_pdf, write_epub
from tests.wire import command_line
from tests.wire.command_line import Command

panelhue_command = command_line.panelhue  # a fixture

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "BOOKS.md").read_text()
PLAIN = re.sub(r"\s+", " ", GUIDE)


def commands() -> list[list[str]]:
    return [shlex.split(line, comments=True) for line in re.findall(r"^    panelhue (.+)$", GUIDE, re.MULTILINE)]


def make_books(folder: Path) -> None:
    colour = [draw_page(1, number, width=160, height=226).colour for number in (1, 2)]
    grey = draw_page(2, 1, width=160, height=226).grey
    (folder / "colour").mkdir()
    (folder / "grey").mkdir()
    (folder / "colour" / "ch01.pdf").write_bytes(picture_pdf([flate_image(pixels) for pixels in colour]))
    (folder / "grey" / "ch02.pdf").write_bytes(picture_pdf([flate_image(grey)], size=(160, 226)))
    write_epub(folder / "grey" / "ch02.epub", ['<img src="../pictures/a.png"/>'], {"a.png": picture_file(grey)})
    with zipfile.ZipFile(folder / "grey" / "ch02.cbz", "w") as archive:
        archive.writestr("a.png", picture_file(Image.fromarray(grey).resize((320, 226))))


def test_every_command_of_the_guide_runs(panelhue_command: Command, tmp_path: Path, monkeypatch) -> None:
    make_books(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(panelhue_command.environment, "PYTHONPATH", f"{ROOT}:{ROOT / 'clients' / 'python'}")
    given = commands()
    assert len(given) == 5
    for arguments in given:
        panelhue_command(*arguments)
    with pikepdf.open(tmp_path / "grey" / "ch02-colour.pdf") as document:
        assert len(document.pages) == 1
    with zipfile.ZipFile(tmp_path / "ch02.cbz") as archive:
        assert archive.namelist() == ["ComicInfo.xml", "001.png"]
        assert b"<Title>Rain</Title>" in archive.read("ComicInfo.xml")
    with pikepdf.open(tmp_path / "ch02.pdf") as document:
        assert len(document.pages) == 2
    layer = Image.open(io.BytesIO((tmp_path / "layers" / "a.png").read_bytes()))
    assert layer.mode == "RGBA"


def test_the_limits_are_those_of_the_code() -> None:
    limits = ArchiveLimits()
    assert (
        f"{limits.entries:,} entries, {limits.entry_bytes >> 20} MiB an entry, {limits.total_bytes >> 30} GiB" in PLAIN
    )
    assert f"{limits.ratio:.0f} times its own size once that is more than {limits.ratio_from >> 20} MiB" in PLAIN
    assert f"else at {pdf_child.DPI:.0f} DPI; never above {pdf_child.MAX_PIXELS // 10**6} million pixels" in PLAIN
    assert f"nor {pdf_child.MAX_SIDE} on a side" in PLAIN
    assert f"more than {pdf_child.CPU_SECONDS:.0f} s of computing or {pdf_child.MEMORY >> 30} GiB fails" in PLAIN
    assert f"silent for {_programs.SILENCE:.0f} s" in PLAIN
    assert f"{spreads.RATIO:g} times as wide as high" in PLAIN


def test_the_programs_are_those_of_the_code() -> None:
    row = next(line for line in GUIDE.splitlines() if line.startswith("| CBR"))
    assert tuple(re.findall(r"`(\w+)`", row.split("(")[0])) == unpackers.KINDS["RAR"]
    assert set(re.findall(r"`(\w+)`", row)) == {*unpackers.KINDS["RAR"], *unpackers.KINDS["7z"]}


def test_every_reason_of_a_book_is_in_the_table() -> None:
    folder = Path(panelhue.__file__).parent
    names = ("books", "archives", "unpackers", "_programs", "pdfs", "epubs", "pdf_files")
    text = "".join((folder / f"{name}.py").read_text() for name in names)
    raised = set(re.findall(r'reason="([A-Z_]+)"', text))
    table = GUIDE.split("| reason of the error |")[1].split("## Pictures")[0]
    assert raised == set(re.findall(r"`([A-Z_]{6,})`", table))
