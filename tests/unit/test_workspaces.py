"""Where a run may write: beside its book, never among the book's own pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from panelhue.errors import UsageError
from panelhue.workspaces import checked_target, default_target


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
