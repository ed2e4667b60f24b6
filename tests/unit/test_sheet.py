"""The contact sheet: a page of HTML and pictures, made page by page however long the book is."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from panelhue.books import Book, Page
from panelhue.journal import Done
from panelhue.sheet import ROWS, make_sheet
from panelhue.workspaces import workspace_of


def png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (40, 60), 200).save(file, "PNG")
    return file.getvalue()


def done(page: str, number: int) -> Done:
    facts = {"input_sha256": "1" * 64, "options": "f", "output": page, "output_sha256": "2" * 64}
    made = {"backend": "tint", "backend_version": "1", "seed": 0, "depth": 1, "already_colour": False}
    return Done(page, number, 1000, **facts, **made, generation=1, seconds=0.5, confidence=None, weights_licence="")


def sheet_of(folder: Path, pages: int, read: Callable[[int], bytes]) -> list[Path]:
    names = [f"p{number:03}.png" for number in range(pages)]
    book = Book(
        folder, tuple(Page(name, place + 1, 1000, lambda place=place: read(place)) for place, name in enumerate(names))
    )
    finished = {name: done(name, number) for number, name in enumerate(names, 1)}
    return make_sheet(book, workspace_of(folder), finished, "", None)


def test_pages_are_written_before_the_next_eight_are_read(tmp_path: Path) -> None:
    def read(place: int) -> bytes:
        assert len(list(tmp_path.glob("contact-sheet*.png"))) == place // ROWS
        return png()

    paths = sheet_of(tmp_path, 2 * ROWS + 1, read)
    names = ["contact-sheet.html", "contact-sheet.png", "contact-sheet-2.png", "contact-sheet-3.png"]
    assert [path.name for path in paths] == names
    text = paths[0].read_text()
    assert text.count("<section ") == 2 * ROWS + 1
    assert text.index('id="page-1"') < text.index('id="page-17"') < text.index("</main>")
    assert "<dd>17</dd>" in text


def test_a_sheet_without_pages_is_one(tmp_path: Path) -> None:
    paths = sheet_of(tmp_path, 0, lambda _: b"")
    assert [path.name for path in paths] == ["contact-sheet.html", "contact-sheet.png"]
    with Image.open(paths[1]) as image:
        image.load()


def test_a_page_that_cannot_be_shown_is_named(tmp_path: Path) -> None:
    [page, _] = sheet_of(tmp_path, 1, lambda _: b"no picture")
    assert "p000.png, grey: not available" in page.read_text()
