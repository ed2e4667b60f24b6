"""`panelhue review`: a person says which finished pages go into the pool."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from panelhue.cli.common import (
    RETRIEVAL_DEFAULT,
    AsJson,
    RetrievalTarget,
    complain,
    err,
    escaped,
    out,
    print_json,
    table,
)
from panelhue.cli.completion import complete_series
from panelhue.cli.interrupts import stoppable

if TYPE_CHECKING:
    from panelhue.books import Page
    from panelhue.journal import Done
    from panelhue.reviewing import Review

KEYS = "a approve · r reject · s skip · b back · q quit"
AFTER_ESCAPE = 0.1  # seconds within which one key sends all its bytes


def review(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="What `panelhue colorize` made: a folder or a CBZ.")],
    series: Annotated[
        str,
        typer.Option(
            "--series",
            "-s",
            help="Whose pool gets approved pages; unset: that of the run.",
            autocompletion=complete_series,
        ),
    ] = "",
    approve: Annotated[
        list[str] | None,
        typer.Option(metavar="PAGE", help="Approves this page without asking; its file's name. Repeatable."),
    ] = None,
    reject: Annotated[
        list[str] | None,
        typer.Option(metavar="PAGE", help="Rejects this page without asking; its file's name. Repeatable."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Approves every page of which nothing was said yet.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Asks also about pages of which something was said.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Only shows what was said.")] = False,
    thumbnails: Annotated[bool, typer.Option(help="Shows the pages in the terminal.")] = True,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Goes through finished pages: approved ones go into the pool, rejected ones are remembered, and leave the pool.

    A page goes in with its provenance (made by which back-end, from which references, at which depth), so that later
    chapters can learn from it and bounds still hold. What was said is kept at once: stopped, the same command goes on
    with the next page. Rejected pages are made again by `panelhue colorize … --recolour-rejected`, or one by one with
    --recolour PAGE --hint.
    Exits with 1 if the pool did not take a page.
    """
    from panelhue.retrieval_client import RetrievalClient
    from panelhue.reviewing import Review

    with RetrievalClient(retrieval) as client, Review(output, series, client) as found:
        if not found.pages():
            from panelhue.errors import UsageError

            raise UsageError(f"`panelhue colorize` has finished no page in {output}")
        said = _said(found, approve or [], reject or [], all_)
        asking = not (approve or reject or all_ or list_ or json)
        if asking and not sys.stdin.isatty():
            complain("no terminal to ask in, so nothing is approved; see --approve, --reject and --all", hint=True)
        elif asking:
            with stoppable("what was said is kept; the same command goes on with the next page"):
                said &= _asked(found, again=again, thumbnails=thumbnails)
        _report(found, output, json)
    if not said:
        raise typer.Exit(1)


def _said(found: Review, approve: Sequence[str], reject: Sequence[str], every: bool) -> bool:
    """Does what the options say; whether the pool took everything."""
    from panelhue.reviewing import State, named

    pages = found.pages()
    good, bad = [named(pages, text) for text in approve], [named(pages, text) for text in reject]
    if both := [done.page for done in good if done in bad]:
        from panelhue.errors import UsageError

        raise UsageError(f"{both[0]} is to be approved and rejected; say one of the two")
    for done in bad:
        found.reject(done)
    good += [done for done in pages if every and done not in bad + good and found.state(done) is State.OPEN]
    taken = [_approved(found, done) for done in good]  # one that is not taken does not keep the others
    return all(taken)


def _approved(found: Review, done: Done) -> bool:
    from panelhue.errors import BookError
    from panelhue.reviewing import NotTaken

    try:
        found.approve(done)
    except (NotTaken, BookError) as error:  # a book's: its picture is not there any more
        complain(error.message)
        return False
    return True


def _asked(found: Review, *, again: bool, thumbnails: bool) -> bool:
    """Asks about page after page; whether the pool took everything."""
    from panelhue.reviewing import State

    pages = [done for done in found.pages() if again or found.state(done) is State.OPEN]
    place, sound = 0, True
    with _grey(found) as grey:
        while place < len(pages):
            done = pages[place]
            _show(found, done, f"{place + 1}/{len(pages)}", thumbnails, grey)
            key = _key()
            if key == "q":
                break
            if key == "a":
                sound &= _approved(found, done)
            elif key == "r":
                found.reject(done)
            place = max(0, place - 1) if key == "b" else place + 1
    return sound


def _key() -> str:
    """The next key that means something; "q" where the input ends."""
    err().print(KEYS, style="dim")
    while (key := _pressed().lower()) not in ("a", "r", "s", "b", "q", ""):
        continue
    return key or "q"


def _pressed() -> str:
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle, termios.TCSADRAIN)  # Ctrl-C stays Ctrl-C, and what was typed ahead counts
        key = os.read(handle, 1)
        if key == b"\x1b":
            _pass_over(handle)
        return key.decode(errors="replace")
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def _pass_over(handle: int) -> None:
    """Reads what an arrow or a function key sends after Esc: its letters are no answers, and Up ends in an A."""
    while (kind := _following(handle)) == b"\x1b":  # with Alt
        continue
    if kind == b"O":
        _following(handle)
    elif kind == b"[":  # up to its last letter; Linux's console sends another bracket before it
        while (byte := _following(handle)) and (byte == b"[" or not b"@" <= byte <= b"~"):
            continue


def _following(handle: int) -> bytes:
    """The byte that the same key has sent; empty: that was all."""
    import select

    return os.read(handle, 1) if select.select([handle], [], [], AFTER_ESCAPE)[0] else b""


def _show(found: Review, done: Done, where: str, thumbnails: bool, grey: Callable[[str], list[bytes]]) -> None:
    from panelhue.chapters import chapter_text
    from panelhue.errors import BookError

    console = err()
    if thumbnails and console.is_terminal:
        from panelhue.cli.thumbnails import side_by_side

        try:
            pictures = [*grey(done.page), found.picture(done)]
            console.print(side_by_side(pictures, console.width, max(8, console.height - 5)))
        except (BookError, OSError) as error:
            complain(f"{done.output} cannot be shown: {error}")
    facts = [f"chapter {chapter_text(done.chapter)}", done.backend, f"depth {done.depth}"]
    facts += [f"confidence {done.confidence:.2f}"] if done.confidence is not None else []
    facts += [found.state(done).value] if found.state(done).value != "open" else []
    path = found.place.target / done.output
    console.print(f"[bold]{where}[/] {escaped(path)}  [dim]{escaped(' · '.join(facts))}[/]", soft_wrap=True)


@contextmanager
def _grey(found: Review) -> Iterator[Callable[[str], list[bytes]]]:
    """Gives a page as it was, by its name, where the book is still at its place; opened once, and when first needed."""
    from panelhue.books import open_book
    from panelhue.errors import BookError
    from panelhue.spreads import split_spreads

    with ExitStack() as stack:

        @cache
        def pages() -> dict[str, Page]:
            try:
                book = stack.enter_context(open_book(Path(found.book)))
                whole = book if found.split is None else split_spreads(book, found.split)
            except (BookError, OSError):
                return {}
            return {page.name: page for page in whole.pages}

        def read(name: str) -> list[bytes]:
            page = pages().get(name)
            try:
                return [] if page is None else [page.read()]
            except (BookError, OSError):
                return []

        yield read


def _report(found: Review, output: Path, json: bool) -> None:
    from panelhue.reviewing import State

    pages = [found.reviewed(done) for done in found.pages()]
    if json:
        print_json({"output": str(output), "series": found.series, "pages": pages})
        return
    rows = table("page", "said", "in the pool", "depth#", "confidence#", "back-end")
    for one in pages:
        sure = f"{one.confidence:.2f}" if one.confidence is not None else "–"
        cells = (one.page, one.state.value, "yes" if one.in_pool else "no", one.depth, sure, one.backend)
        rows.add_row(*map(escaped, cells))
    out().print(rows)
    if rejected := [one.page for one in pages if one.state is State.REJECTED]:
        series = f" --series {quote(found.series)}" if found.series else ""
        command = f"panelhue colorize {quote(found.book or 'BOOK')} -o {quote(str(output))}{series} --recolour-rejected"
        err().print(
            f"{len(rejected)} rejected; `{escaped(command)}` makes them again, with the options that you used before",
            style="dim",
            soft_wrap=True,
        )
