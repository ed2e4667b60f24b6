"""How the commands read a book: double pages kept or split, and in which order."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from panelhue.books import Book

BOOK_HELP = "A folder of pictures, a CBZ, CBR, CB7, PDF or EPUB, or a picture."


class Spreads(Enum):
    """What becomes of a double page."""

    keep = "keep"
    split = "split"


SpreadsOption = Annotated[
    Spreads, typer.Option("--spreads", help="Double pages: kept as one picture, or split into two pages.")
]
RightToLeft = Annotated[
    bool | None,
    typer.Option(
        "--right-to-left/--left-to-right",
        help="How the book is read. Unset: as it says itself (ComicInfo.xml's Manga, EPUB, PDF), else left to right.",
        show_default=False,
    ),
]


def read_book(path: Path, spreads: Spreads, right_to_left: bool | None) -> Book:
    """The book at a path, with its notes printed.

    Raises:
        BookError: it cannot be used.
    """
    from panelhue.books import open_book
    from panelhue.cli.common import note

    book = open_book(path)
    for text in book.notes:
        note(f"{path.name}: {text}")
    if right_to_left is not None:
        book.right_to_left = right_to_left
    if spreads is Spreads.keep:
        return book
    return _split(book)


def reading_of(book: Book, spreads: Spreads) -> bool | None:
    """What `Journal.read_as` keeps of it."""
    return bool(book.right_to_left) if spreads is Spreads.split else None


def _split(book: Book) -> Book:
    from panelhue.cli.common import note
    from panelhue.spreads import split_spreads

    try:
        made = split_spreads(book, bool(book.right_to_left))
    except BaseException:
        with book:  # closes it
            raise
    if count := len(made.pages) - len(book.pages):
        order = "right half first" if book.right_to_left else "left half first"
        note(f"{book.path.name}: {count} double {'page' if count == 1 else 'pages'} split, {order}")
    return made
