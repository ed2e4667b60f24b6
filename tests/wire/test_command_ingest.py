"""`panelhue ingest` of many books: one is open at a time, and one that cannot be used does not keep the others."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from panelhue import books
from panelhue.books import Book
from tests.wire import command_line
from tests.wire.command_line import Command

servers, panelhue, comic = command_line.panelhue, command_line.inside, command_line.comic  # fixtures


@pytest.fixture
def three(comic: Path, tmp_path: Path) -> list[Path]:
    """Three CBZ of one page each."""
    paths = [tmp_path / f"ch0{number}.cbz" for number in (1, 2, 3)]
    for path in paths:
        page = comic / "truth" / "ch01" / f"p{path.stem[2:]}.png"
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(page, page.name)
    return paths


def test_one_book_is_open_at_a_time(panelhue: Command, three: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real, now, most = books.open_book, set[Path](), [0]

    def opening(path: Path) -> Book:
        book = real(path)
        now.add(path)
        most[0] = max(most[0], len(now))
        close = book._close

        def closing() -> None:
            now.discard(path)
            close()

        return replace(book, _close=closing)

    monkeypatch.setattr(books, "open_book", opening)
    found = panelhue.json("ingest", *three, "-s", "many", "--create")
    assert [(Path(one["book"]).name, one["status"]) for one in found] == [(path.name, "added") for path in three]
    assert (most, now) == ([1], set())


def test_a_damaged_book_does_not_keep_the_others(panelhue: Command, three: list[Path]) -> None:
    three[1].write_bytes(b"PK no archive")
    found = panelhue.json("ingest", *three, "-s", "most", "--create", code=1)
    assert [(Path(one["book"]).stem, one["status"]) for one in found] == [
        ("ch01", "added"),
        ("ch02", "rejected"),
        ("ch03", "added"),
    ]
    assert (found[1]["page"], found[1]["failure"]["reason"]) == (None, "NOT_AN_ARCHIVE")
    assert "cannot be used" in panelhue("ingest", *three, "-s", "most", code=1)


def test_a_missing_book_is_told_before_anything_is_sent(panelhue: Command, three: list[Path]) -> None:
    three[2].unlink()
    panelhue("ingest", *three, "-s", "none", "--create", code=2)
    assert "none" not in {one["id"] for one in panelhue.json("series", "list")}


def test_only_damaged_books_send_nothing(panelhue: Command, three: list[Path]) -> None:
    for path in three:
        path.write_bytes(b"PK no archive")
    panelhue("ingest", *three, "-s", "none", "--create", code=2)
    assert "none" not in {one["id"] for one in panelhue.json("series", "list")}
