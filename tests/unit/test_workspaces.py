"""Where a run may write: beside its book, never among the book's own pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from panelhue.books import Book
from panelhue.comicinfo import parse_comic_info
from panelhue.errors import UsageError
from panelhue.journal import Journal
from panelhue.workspaces import checked_target, default_target, pack, workspace_of

OWN = b"<ComicInfo><Series>Tale</Series></ComicInfo>"
MARKED = b"<ComicInfo><Tags>Coloured by Panelhue</Tags></ComicInfo>"
THEIRS = b"<ComicInfo><Series>Another</Series></ComicInfo>"


@pytest.mark.parametrize("target", ["book/colour", "book/ch01/colour", "book/../book/colour"])
def test_results_do_not_become_pages_of_their_book(tmp_path: Path, target: str) -> None:
    (tmp_path / "book" / "ch01").mkdir(parents=True)
    with pytest.raises(UsageError, match="lies in the book"):
        checked_target(tmp_path / "book", tmp_path / target)


@pytest.mark.parametrize("target", ["book/colour.cbz", "book-colour", "."])
def test_what_is_no_page_of_the_book_may_be_written(tmp_path: Path, target: str) -> None:
    (tmp_path / "book").mkdir()
    checked_target(tmp_path / "book", tmp_path / target)


@pytest.mark.parametrize("book", [".", "./.", "../book"])
def test_the_folder_one_stands_in_has_its_result_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, book: str
) -> None:
    (tmp_path / "book").mkdir()
    monkeypatch.chdir(tmp_path / "book")
    assert default_target(Path(book)).resolve() == tmp_path / "book-colour"


def test_the_folder_above_has_its_result_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "book" / "ch01").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "book" / "ch01")
    assert default_target(Path("..")) == tmp_path / "book-colour"


@pytest.mark.parametrize(
    ("there", "overwrite", "kept"),
    [(None, False, OWN), (OWN, False, OWN), (MARKED, False, OWN), (THEIRS, False, THEIRS), (THEIRS, True, OWN)],
)
def test_a_comic_info_that_somebody_else_wrote_is_not_replaced_unasked(
    tmp_path: Path, there: bytes | None, overwrite: bool, kept: bytes
) -> None:
    place = workspace_of(tmp_path / "out")
    with Journal(place.state) as journal:
        if there is not None:
            (place.pages / "ComicInfo.xml").write_bytes(there)
        pack(place, journal, Book(tmp_path / "book", (), parse_comic_info(OWN)), [], whole=True, overwrite=overwrite)
    assert (place.pages / "ComicInfo.xml").read_bytes() == kept
