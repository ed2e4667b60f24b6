"""`panelhue ingest`: colour pages into a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
    from panelhue.errors import BookError
    from panelhue.retrieval_client import RetrievalClient
    from panelhue.types import AddResult


@dataclass(frozen=True)
class _Given:
    """What became of a book."""

    path: Path
    results: Sequence[AddResult] = ()
    fault: BookError | None = None  # why it could not be used, if so

    @property
    def ok(self) -> bool:
        """Whether all its pages are in the pool."""
        return self.fault is None and all(result.failure is None for result in self.results)


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
    """Adds colour pages to a series' pool. The same bytes again change nothing.

    Books are opened one after the other, so that many need no more room than the largest. One that cannot be used does
    not keep the others. Exits with 1 if a page was rejected or a book could not be used, and with 2 if none could.
    """
    from panelhue.books import kind_at
    from panelhue.chapters import said_chapter
    from panelhue.planning import made_series, reference_files
    from panelhue.retrieval_client import RetrievalClient

    said, tags = said_chapter(chapter), tuple(tag or ())
    for path in books:  # what can be told without opening them, before anything is sent
        kind_at(path)

    def add(client: RetrievalClient, book: Book, label: str) -> list[AddResult]:
        files = list(reference_files(book, said, tags))
        if chapter is None and (missing := sum(file.chapter is None for file in files)):
            why = "are of no chapter, so every chapter may use them; see --chapter"
            note(f"{book.path.name}: {missing} of {len(files)} pages {why}")
        if create and made_series(client, series):
            note(f"made the series {series}")
        return list(_added(client.add_references(series, files), len(files), label))

    with (
        stoppable("what was added stays; the same command goes on with the rest"),
        RetrievalClient(retrieval) as client,
    ):
        found = list(_one_by_one(books, lambda path: read_book(path, spreads, right_to_left), client, add))
    _report(found, json)
    if not all(one.ok for one in found):
        raise typer.Exit(1)


def _one_by_one(
    paths: Sequence[Path],
    read: Callable[[Path], Book],
    client: RetrievalClient,
    add: Callable[[RetrievalClient, Book, str], list[AddResult]],
) -> Iterator[_Given]:
    """What becomes of each book; only one of them is open at a time.

    Raises:
        BookError: none of them can be used.
    """
    from panelhue.errors import BookError

    used = 0
    for place, path in enumerate(paths):
        try:
            book = read(path)
        except BookError as error:
            if place == len(paths) - 1 and not used:
                raise
            complain(f"{path}: {error.message}")
            yield _Given(path, fault=error)
            continue
        used += 1
        with book:
            label = "adding" if len(paths) == 1 else f"book {place + 1} of {len(paths)}"
            yield _Given(path, add(client, book, label))


def _added(results: Iterator[AddResult], total: int, label: str) -> Iterator[AddResult]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), disable=not err().is_terminal) as progress:
        task = progress.add_task(label, total=total)
        for result in results:
            progress.advance(task)
            yield result


def _report(found: Sequence[_Given], json: bool) -> None:
    if json:
        print_json([fact for one in found for fact in _facts(one)])
        return
    from panelhue.types import AddStatus

    rows = table("book", "added#", "already present#", "rejected#")
    for one in found:
        statuses = [result.status for result in one.results]
        counts = [statuses.count(status) for status in (AddStatus.ADDED, AddStatus.ALREADY_PRESENT, AddStatus.REJECTED)]
        name = escaped(one.path.name or one.path.resolve().name)
        rows.add_row(name, *(map(str, counts) if one.fault is None else ("cannot be used", "", "")))
    out().print(rows)
    for result in (result for one in found for result in one.results):
        for text in result.notes:
            note(f"{result.name}: {text}")
        if result.failure is not None:
            complain(f"{result.name}: {result.failure.reason}: {result.failure.message}")


def _facts(one: _Given) -> Iterator[dict[str, object]]:
    """A book's pages for programs; a book that could not be used has a line without a page."""
    if one.fault is not None:
        failure = {"reason": one.fault.reason, "message": one.fault.message}
        yield {"book": str(one.path), "page": None, "status": "rejected", "failure": failure}
    for result in one.results:
        yield {
            "book": str(one.path),
            "page": result.name,
            "status": result.status,
            "reference_id": result.reference.id if result.reference else None,
            "failure": result.failure,
            "generation": result.generation,
            "notes": result.notes,
        }
