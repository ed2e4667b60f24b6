"""Chapters as the wire knows them: int64 thousandths, so that chapter 10.5 is 10500 and never a float."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from panelhue.errors import UsageError

NO_CHAPTER = "none"
_IN_NAME = re.compile(
    r"(?:^|[^a-z])(?:chapter|chap|ch|c|episode|ep|kapitel|chapitre|capitulo|第)[\s._#-]*(\d{1,6}(?:\.\d{1,3})?)(?!\d)",
    re.IGNORECASE,
)
_NUMBER_ALONE = re.compile(r"^\s*0*(\d{1,6}(?:\.\d{1,3})?)\s*$")


def chapter_of(text: str) -> int:
    """A chapter in thousandths from what a person writes, such as "12" or "10.5".

    Raises:
        UsageError: it is no number from 0 to 999999.999 with at most three decimals.
    """
    try:
        value = Decimal(text.strip())
    except InvalidOperation as error:
        raise UsageError(f'a chapter is a number such as 12 or 10.5, got "{text}"') from error
    if re.search("[_eE]", text):  # 1_2 and 1e3 are numbers for programs
        raise UsageError(f'a chapter is a number such as 12 or 10.5, got "{text}"')
    if not value.is_finite() or not 0 <= value < 1_000_000 or value * 1000 != (value * 1000).to_integral_value():
        raise UsageError(f'a chapter lies in [0, 999999.999] and has at most three decimals, got "{text}"')
    return int(value * 1000)


def said_chapter(chapter: int | str | None) -> tuple[int | None, bool]:
    """What somebody said of a chapter: it in thousandths, None for "none"; and whether anything was said at all.

    Raises:
        UsageError: it is no chapter, or a number below 100, which was hardly meant in thousandths.
    """
    if isinstance(chapter, str):
        return (None if chapter == NO_CHAPTER else chapter_of(chapter)), True
    if chapter is not None and 0 < chapter < 100:
        raise UsageError(
            f'chapters count in thousandths: chapter={chapter} is chapter 0.{chapter:03d}; say "{chapter}" or '
            f"{chapter * 1000}"
        )
    return chapter, chapter is not None


def chapter_text(chapter: int | None) -> str:
    """What a person reads: 10500 gives "10.5", None gives "–"."""
    if chapter is None:
        return "–"
    whole, rest = divmod(chapter, 1000)
    return f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)


def chapter_in_name(name: str, *, bare: bool = False) -> int | None:
    """The chapter that a file's or folder's name tells, in thousandths; None if it tells none.

    Args:
        name: such as "ch012", "Chapter 10.5" or "My Series c03".
        bare: whether a name that is nothing but a number, such as "012", counts as well.
    """
    found = _IN_NAME.search(name) or (_NUMBER_ALONE.match(name) if bare else None)
    return chapter_of(found.group(1)) if found else None
