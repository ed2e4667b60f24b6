"""What the studio says: notices, errors and what to do about them, where a reference comes from."""

from __future__ import annotations

from html import escape

from panelhue import types as t
from panelhue.chapters import chapter_text
from panelhue.errors import (
    BookError,
    Conflict,
    NotFound,
    Overloaded,
    PanelhueError,
    Timeout,
    Unavailable,
    Unreachable,
)

CORNERS = {
    t.Corner.TOP_LEFT: ("tl", "top left"),
    t.Corner.TOP_RIGHT: ("tr", "top right"),
    t.Corner.BOTTOM_LEFT: ("bl", "bottom left"),
    t.Corner.BOTTOM_RIGHT: ("br", "bottom right"),
}


def good(text: str) -> str:
    """A notice that something worked, as HTML."""
    return _notice("good", "status", text)


def careful(text: str) -> str:
    """A notice that something wants attention, as HTML."""
    return _notice("careful", "status", text)


def bad(text: str) -> str:
    """A notice that something failed, as HTML; screen readers interrupt for it."""
    return _notice("bad", "alert", text)


def _notice(kind: str, role: str, text: str) -> str:
    first, _, rest = text.partition("\n")
    more = "".join(f"<span>{escape(line.strip())}</span>" for line in rest.splitlines() if line.strip())
    return (
        f'<div class="ph-notice ph-{kind}"><p role="{role}"><b>{escape(first)}</b>{more}</p>'
        '<button type="button" class="ph-link" data-dismiss>dismiss</button></div>'
    )


def problem(error: PanelhueError | OSError) -> str:
    """An error and what to do about it, a line each."""
    if not isinstance(error, PanelhueError):
        return f"A file cannot be used: {error.strerror or error}"
    advice = _advice(error)
    return _capital(error.explained()) + (f"\n{advice}" if advice else "")


def _advice(error: PanelhueError) -> str:
    if isinstance(error, Unreachable):
        return "Start both servers with `panelhue up`, then press Reload."
    if isinstance(error, Unavailable):
        return "The server is starting or stopping; try again in a moment."
    if isinstance(error, Timeout):
        return "The server did not answer in time; nothing is lost, try again."
    if isinstance(error, NotFound):
        return "Somebody may have removed it; press Reload."
    if isinstance(error, Conflict):
        return "Somebody else changed it in between; press Reload, then change it again."
    if isinstance(error, Overloaded):
        if error.quota:
            return "The pool is full: remove references, or raise its limit with `panelhue series set`."
        return "The server has no room just now; wait a little, then try again."
    if isinstance(error, BookError):
        return "The file was left out; the others are not touched."
    return ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def failure_text(failure: t.Failure) -> str:
    """Why one picture failed, a sentence with its stable reason."""
    return f"{_capital(failure.message)} ({failure.reason})"


def origin_text(provenance: t.Provenance) -> str:
    """Where a reference's colour comes from, such as "generated · depth 1"."""
    if provenance.origin is t.Origin.OFFICIAL:
        return "given"
    return f"generated · depth {provenance.depth}"


def place_text(chapter: int | None, page: int | None) -> str:
    """Where a reference lies in the series, such as "ch 10.5 · p 3"."""
    parts = [f"ch {chapter_text(chapter)}" if chapter is not None else "no chapter"]
    return " · ".join(parts + ([f"p {page}"] if page is not None else []))


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun, such as "1 page" and "3 pages"."""
    return f"{number} {one if number == 1 else many or one + 's'}"
