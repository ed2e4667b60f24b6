"""`panelhue ingest`: colour pages into a pool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panelhue.cli.common import (
    RETRIEVAL_DEFAULT,
    AsJson,
    RetrievalTarget,
    complain,
    err,
    escaped,
    note,
    out,
    print_json,
    table,
)
from panelhue.cli.completion import complete_series
from panelhue.cli.interrupts import stoppable
from panelhue.cli.reading import BOOK_HELP, RightToLeft, Spreads, SpreadsOption, read_book

if TYPE_CHECKING:
    from panelhue.books import Book
    from panelhue.types import AddResult


def ingest(
    books: Annotated[list[Path], typer.Argument(metavar="BOOK…", help=BOOK_HELP)],
    series: Annotated[str, typer.Option("--series", "-s", help="The series' id.", autocompletion=complete_series)],
    chapter: Annotated[
        str | None,
        typer.Option(
            help='Chapter of all pages, such as 12 or 10.5; "none": of no chapter. Unset: from the names of '
            "folders (ch01), from ComicInfo.xml, or from the book's name."
        ),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag of all pages. Repeatable.")] = None,
    create: Annotated[bool, typer.Option("--create", help="Makes the series first if there is none.")] = False,
    spreads: SpreadsOption = Spreads.keep,
    right_to_left: RightToLeft = None,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    json: AsJson = False,
) -> None:
    """Adds colour pages to a series' pool. The same bytes again change nothing. Exits with 1 if a page was rejected."""
    from contextlib import ExitStack

    from panelhue.chapters import said_chapter
    from panelhue.planning import made_series, reference_files
    from panelhue.retrieval_client import RetrievalClient

    said = said_chapter(chapter)
    with ExitStack() as stack:
        stack.enter_context(stoppable("what was added stays; the same command goes on with the rest"))
        opened = [stack.enter_context(read_book(path, spreads, right_to_left)) for path in books]
        tags = tuple(tag or ())
        files = [file for place, book in enumerate(opened) for file in reference_files(book, said, tags, f"{place}/")]
        if chapter is None and (missing := sum(file.chapter is None for file in files)):
            note(f"{missing} of {len(files)} pages are of no chapter, so every chapter may use them; see --chapter")
        client = stack.enter_context(RetrievalClient(retrieval))
        if create and made_series(client, series):
            note(f"made the series {series}")
        results = list(_added(client.add_references(series, files), len(files)))
    _report(opened, results, json)
    if any(result.failure is not None for result in results):
        raise typer.Exit(1)


def _added(results: Iterator[AddResult], total: int) -> Iterator[AddResult]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), disable=not err().is_terminal) as progress:
        task = progress.add_task("adding", total=total)
        for result in results:
            progress.advance(task)
            yield result


def _report(books: list[Book], results: list[AddResult], json: bool) -> None:
    from panelhue.types import AddStatus

    if json:
        print_json(
            [
                {
                    "book": str(books[int(result.name.partition("/")[0])].path),
                    "page": result.name.partition("/")[2],
                    "status": result.status,
                    "reference_id": result.reference.id if result.reference else None,
                    "failure": result.failure,
                    "generation": result.generation,
                    "notes": result.notes,
                }
                for result in results
            ]
        )
        return
    rows = table("book", "added#", "already present#", "rejected#")
    for place, book in enumerate(books):
        mine = [result.status for result in results if result.name.startswith(f"{place}/")]
        counts = [mine.count(status) for status in (AddStatus.ADDED, AddStatus.ALREADY_PRESENT, AddStatus.REJECTED)]
        rows.add_row(escaped(book.path.name or book.path.resolve().name), *map(str, counts))
    out().print(rows)
    for result in results:
        for text in result.notes:
            note(f"{result.name.partition('/')[2]}: {text}")
        if result.failure is not None:
            complain(f"{result.name.partition('/')[2]}: {result.failure.reason}: {result.failure.message}")
