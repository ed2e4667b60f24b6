"""What a person wants of single pages: which ones, and colours at places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from panelhue.errors import UsageError

if TYPE_CHECKING:
    from panelhue.books import Book, Page
    from panelhue.types import Hint

_HINT = re.compile(r"(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?=(.+)")


def hints_of(texts: Iterable[str]) -> tuple[Hint, ...]:
    """Hints from "x,y=#rrggbb" or "x,y,radius=#rrggbb", in pixels of the page.

    Raises:
        UsageError: one has another form.
    """
    from panelhue.palettes import colour_of
    from panelhue.types import Hint

    made = []
    for text in texts:
        found = _HINT.fullmatch(text.replace(" ", ""))
        if found is None:
            raise UsageError(f'a hint is written "x,y=#rrggbb" or "x,y,radius=#rrggbb" (pixels), got "{text}"')
        x, y, radius = (float(number or 0) for number in found.groups()[:3])
        made.append(Hint(x, y, colour_of(found[4]), radius))
    return tuple(made)


def check_within(hints: Sequence[Hint], page: Page) -> None:
    """Refuses hints that lie beside the page.

    Raises:
        UsageError: one does.
        BookError: the page cannot be read.
    """
    from panelhue.sheet import opened

    if not hints:
        return
    width, height = opened(page.read()).size
    for hint in hints:
        if hint.x >= width or hint.y >= height:
            raise UsageError(
                f"{page.name} has {width} × {height} pixels; a hint at {hint.x:g},{hint.y:g} lies beside it"
            )


def page_named(book: Book, text: str) -> Page:
    """The page that a person means: by its path in the book, its file's name with or without ending, or its number.

    Raises:
        UsageError: there is none, or several.
    """
    for name_of in (lambda page: page.name, lambda page: page.label, lambda page: PurePosixPath(page.name).stem):
        found = [page for page in book.pages if name_of(page) == text]
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(page.name for page in found[:4])
            raise UsageError(f'"{text}" may be any of {listed}; say the whole path')
    if text.isdecimal() and 1 <= int(text) <= len(book.pages):
        return book.pages[int(text) - 1]
    raise UsageError(
        f'{book.path.name} has no page "{text}"; its pages are {_some([page.name for page in book.pages])}. '
        "(To colourise pages that are in colour already, say --colour-pages recolour.)"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:3])}, … {names[-1]}"
