"""Filling and reading pools: dropped references, approved pages, what hangs on the wall."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from panelhue import types as t
from panelhue.books import Book, open_book
from panelhue.errors import NotFound
from panelhue.jobs import GROWN, grown_tag
from panelhue.retrieval_client import RetrievalClient
from panelhue.studio.desk import Desk, DeskPage, Verdict

MOST_CARDS = 600  # on the wall at once; a filter shows the others


@dataclass(frozen=True)
class Wall:
    """What hangs on a wall."""

    series: t.Series
    stats: t.SeriesStats
    references: Sequence[t.Reference]  # by chapter, page and time; at most MOST_CARDS
    more: bool  # whether others pass the filter as well


def read_wall(client: RetrievalClient, series: str, bound: t.Bound) -> Wall:
    """The references of a pool that pass the bound, in reading order, those without a chapter last.

    Raises:
        NotFound: there is no such series.
    """
    found = list(itertools.islice(client.list_references(series, bound=bound), MOST_CARDS + 1))
    kept = [one for one in found[:MOST_CARDS] if bound.max_chapter is None or one.chapter is not None]
    kept.sort(key=lambda one: (one.chapter is None, one.chapter or 0, one.page or 0, one.create_time))
    return Wall(client.get_series(series), client.stats(series), kept, len(found) > MOST_CARDS)


@dataclass
class Adding:
    """Dropped files on their way into a pool; `notes` and `total` are known once the results begin."""

    client: RetrievalClient
    series: str
    chapter: int | None  # thousandths; None: as the books tell
    total: int = 0
    notes: tuple[str, ...] = ()

    def results(self, books: Sequence[Path]) -> Iterator[t.AddResult]:
        """What became of each picture, as it happens.

        Raises:
            BookError: one of the books cannot be used; nothing was sent.
            ServerError: the server refused; what was told before is in the pool.
        """
        with ExitStack() as stack:
            opened = [stack.enter_context(open_book(path)) for path in books]
            self.total = sum(len(book.pages) for book in opened)
            self.notes = tuple(itertools.chain.from_iterable(book.notes for book in opened))
            files = (file for book in opened for file in self._files(book))
            yield from self.client.add_references(self.series, files)

    def _files(self, book: Book) -> Iterator[t.ReferenceFile]:
        for page in book.pages:
            chapter = page.chapter if page.chapter is not None else book.chapter if book.path.is_file() else None
            yield t.ReferenceFile(
                name=page.name,
                data=page.read,
                chapter=self.chapter if self.chapter is not None else chapter,
                page=page.number,
                provenance=t.Provenance(source=_source(f"{book.path.name}/{page.name}")),
            )


def promote(client: RetrievalClient, series: str, desk: Desk, page: DeskPage, chapter: int | None) -> t.AddResult:
    """What became of a finished page that goes into its pool; it is approved unless the pool refused it.

    Its provenance tells the back-end, the depth and the references that gave colour. What the same page gave before
    leaves the pool.

    Raises:
        BookError: the page is not finished.
        ServerError: the server refused, or is not there.
    """
    file = t.ReferenceFile(
        name=page.name,
        data=desk.coloured(page),
        chapter=chapter,
        page=page.number,
        tags=(GROWN, grown_tag(chapter)) if chapter is not None else (GROWN,),
        provenance=provenance_of(page),
    )
    [result] = client.add_references(series, [file], timeout=120.0)
    if result.reference is not None:
        before, page.verdict = page.promoted, Verdict.APPROVED
        ours = result.status is t.AddStatus.ADDED or before == result.reference.id
        page.promoted = result.reference.id if ours else ""  # what others put there is not taken out with a rejection
        if before and before != result.reference.id:
            client.delete_references(series, [before], allow_missing=True)
    return result


def reject(client: RetrievalClient, series: str, page: DeskPage) -> bool:
    """Marks a page as rejected; whether it had been in the pool, which it leaves.

    Raises:
        ServerError: the server refused, or is not there; nothing was changed.
    """
    was, taken = page.promoted, False
    if was and series:
        try:
            taken = client.delete_references(series, [was], allow_missing=True) > 0
        except NotFound:  # the series is gone, and the page with it
            taken = False
    page.promoted, page.verdict = "", Verdict.REJECTED
    return taken


def provenance_of(page: DeskPage) -> t.Provenance:
    """Where a finished page's colour comes from."""
    result, source = page.result, t.Provenance(source=_source(page.name))
    assert result is not None
    if result.already_colour:  # it came in colour: nobody made it up
        return source
    told = [hit for hit in result.references if hit.used] or [hit for hit in result.references if hit.used is None]
    parents = dict.fromkeys(hit.reference_id for hit in sorted(told, key=lambda hit: -hit.score))
    return replace(
        source,
        origin=t.Origin.GENERATED,
        depth=result.depth,
        parent_ids=tuple(parents)[:256],
        backend=result.backend,
    )


def _source(name: str) -> str:
    return name.encode()[-1024:].decode(errors="ignore")
