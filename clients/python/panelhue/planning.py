"""A run over a whole book, from what is wanted to what became of it; `whole_books` and the command are made of this."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from panelhue import jobs
from panelhue import types as t
from panelhue.books import Book, Page
from panelhue.colorizer_client import ColorizerClient
from panelhue.errors import AlreadyExists
from panelhue.folders import shown
from panelhue.journal import Done, Journal
from panelhue.outputs import ENDINGS, output_names
from panelhue.palettes import MOST, joined
from panelhue.reports import BookProgress, ColorizeReport
from panelhue.retries import Retry
from panelhue.retrieval_client import RetrievalClient


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is wanted of a book."""

    book: Path
    target: Path
    options: t.ColorizeOptions  # whose series is unset
    series: str = ""
    chapter: int | None = None  # thousandths; None: from the book
    grow: bool = False
    bound: t.Bound = field(default_factory=t.Bound)  # which references may answer
    own_chapter: bool = True  # and of these only those of the page's own chapter and earlier ones
    hits: int = 0  # per corner; 0: as the back-end wants
    overwrite: bool = False
    sheet: bool = True

    def bound_of(self, chapter: int | None) -> t.Bound:
        """Which references may answer for the pages of a chapter."""
        bound = replace(self.bound, max_chapter=chapter) if self.own_chapter else self.bound
        # A chapter never learns from what it gave to the pool itself: so a second run finds what the first one found.
        own = (jobs.grown_tag(chapter),) if chapter is not None else ()
        return replace(bound, none_tags=(*bound.none_tags, *own))


@dataclass(frozen=True)
class Ready:
    """An order with everything that it needs at hand."""

    order: Order
    book: Book
    groups: dict[int | None, list[Page]]  # pages by chapter
    options: t.ColorizeOptions  # with the series' own colours, where the server does not see to them
    here: bool  # whether contexts are fetched by us
    colorizer: ColorizerClient
    retrieval: RetrievalClient

    @cached_property
    def names(self) -> dict[str, str]:
        """A page's name to its output's."""
        return output_names([page.name for page in self.book.pages], ENDINGS[self.options.media_type or "image/png"])

    @property
    def place(self) -> jobs.Workspace:
        """Where the run writes."""
        return jobs.workspace_of(self.order.target)

    def plans(self, pages: frozenset[str] | None = None) -> list[jobs.Plan]:
        """A plan per chapter; of these pages, or of all."""
        chosen = {
            of: [page for page in group if pages is None or page.name in pages] for of, group in self.groups.items()
        }
        return [self._plan(of, group) for of, group in chosen.items() if group]

    def _plan(self, chapter: int | None, pages: list[Page]) -> jobs.Plan:
        order = self.order
        wanted = t.SeriesContext(order.series, order.bound_of(chapter), order.hits) if order.series else None
        return jobs.Plan(
            pages=pages,
            names=self.names,
            chapter=chapter,
            options=self.options if self.here else replace(self.options, series=wanted),
            series=order.series,
            grow=order.grow,
            client_context=wanted if self.here else None,
        )


def by_chapter(book: Book, said: int | None) -> dict[int | None, list[Page]]:
    """Pages by chapter: what was said, else what the book tells; in order, pages of no chapter first."""
    groups: dict[int | None, list[Page]] = {}
    for page in book.pages:
        groups.setdefault(said if said is not None else _told(book, page), []).append(page)
    return dict(sorted(groups.items(), key=lambda group: -1 if group[0] is None else group[0]))


def _told(book: Book, page: Page) -> int | None:
    return page.chapter if page.chapter is not None else book.chapter


def prepared(
    order: Order,
    book: Book,
    groups: dict[int | None, list[Page]],
    colorizer: ColorizerClient,
    retrieval: RetrievalClient,
    here: bool,
) -> Ready:
    """The order with everything at hand; writes nothing.

    Args:
        order: what is wanted.
        book: open.
        groups: its pages `by_chapter`.
        colorizer: who colourises.
        retrieval: who has the pool.
        here: whether contexts are fetched by us, as the colouriser cannot or shall not.

    Raises:
        ServerError: no server answers, or there is no such series.
    """
    options = order.options
    if order.series and (here or order.grow):
        pool = retrieval.get_series(order.series)  # a wrong name is told before anything is sent
        if here:  # a server that fetches takes them itself
            options = replace(options, palette=joined(options.palette, pool.palette)[:MOST])
    return Ready(order, book, groups, options, here, colorizer, retrieval)


class BookRun:
    """One run over a book: its chapters one by one, then its end.

    Args:
        ready: what is wanted, at hand.
        journal: of its place.
        pages: names of those that are made again, and no others; None: all are looked at.
        split: as `Journal.read_as` keeps it.
        sleep: as in `jobs.Run`.
        retry: likewise.
        again: likewise.

    Raises:
        UsageError: a file is in the way that no run of ours has written.
    """

    def __init__(
        self,
        ready: Ready,
        journal: Journal,
        *,
        pages: frozenset[str] | None = None,
        split: bool | None = None,
        sleep: Callable[[float], None] = time.sleep,
        retry: Retry = jobs.RETRY,
        again: Retry | None = None,
    ) -> None:
        order, pools = ready.order, ready.retrieval if ready.order.series else None
        self._ready, self._journal, self._some = ready, journal, pages is not None
        self._run = jobs.Run(ready.place, journal, ready.colorizer, pools, sleep=sleep, retry=retry, again=again)
        self._run.check_outputs(list(ready.names.values()), order.overwrite)
        journal.read_as(split)
        journal.tell_about({"series": order.series, "book": str(order.book.resolve())})
        self.plans = ready.plans(pages)
        self._total = sum(len(plan.pages) for plan in self.plans)
        self._results: dict[str, Done] = {}
        self._kept = self._grown = 0
        self._failures: dict[str, t.Failure] = {}
        self._not_grown: dict[str, str] = {}
        self._passing: set[str] = set()

    def chapter(self, plan: jobs.Plan) -> Iterator[BookProgress]:
        """What happens to a chapter's pages, as it happens; see `jobs.Run.chapter`.

        Raises:
            ServerError: the server refused the whole call, or stayed away over all attempts.
        """
        for step in self._run.chapter(plan):
            page = self._count(step)
            yield BookProgress(len(self._results) + len(self._failures), self._total, page, step)

    def _count(self, step: jobs.Step) -> str:
        """The page that it happened to; empty: to none in particular."""
        if isinstance(step, jobs.Again):
            return ""
        if isinstance(step, jobs.Kept | jobs.Written):
            self._results[step.done.page] = step.done
            self._kept += isinstance(step, jobs.Kept)
        elif isinstance(step, jobs.Grown):
            self._grown += 1
        elif isinstance(step, jobs.NotGrown):
            if not step.nothing_to_give:
                self._not_grown[step.done.page] = step.why
                self._passing |= {step.done.page} if step.may_pass else set()
        else:
            if isinstance(step, t.Failed):
                self._failures[step.key] = step.failure
                self._passing |= {step.key} if step.failure.retryable else set()
            return step.key
        return step.done.page

    def finish(self) -> ColorizeReport:
        """What became of the book, once its archive and its contact sheet are made of the finished pages."""
        order, book = self._ready.order, self._ready.book
        done = {**self._journal.done, **self._results} if self._some else self._results
        finished = [done[page.name].output for page in book.pages if page.name in done]
        if self._results:
            self._run.pack(book, finished, whole=len(finished) == len(book.pages))
        sheets = self._sheet() if order.sheet else []
        return ColorizeReport(
            *(order.target, self._total, self._results, self._kept, self._grown, self._failures, self._not_grown),
            notes=book.notes,
            sheets=tuple(sheets),
            passing=frozenset(self._passing),
        )

    def _sheet(self) -> list[Path]:
        ready, done = self._ready, self._journal.done
        listed = {page: one for page, one in done.items() if one.wish or ready.names.get(page) == one.output}
        if not listed:
            return []
        from panelhue.sheet import make_sheet  # Pillow is for those who want one

        return make_sheet(ready.book, ready.place, listed, ready.order.series, ready.retrieval)


def reference_files(
    book: Book, chapter: tuple[int | None, bool], tags: tuple[str, ...], prefix: str = ""
) -> Iterator[t.ReferenceFile]:
    """A colour book's pages as references.

    Args:
        book: open.
        chapter: of all pages, thousandths, and whether one (or none) was said at all; see `said_chapter`.
        tags: of all pages.
        prefix: before each page's path within the book, which is its name.
    """
    said, names_it = chapter
    for page in book.pages:
        yield t.ReferenceFile(
            name=f"{prefix}{page.name}",
            data=page.read,
            chapter=said if names_it else _told(book, page),
            page=page.number,
            tags=tags,
            provenance=t.Provenance(source=_source(f"{book.path.name}/{page.name}")),
        )


def _source(text: str) -> str:
    return shown(text).encode()[-1024:].decode(errors="ignore")


def made_series(pools: RetrievalClient, series: str) -> bool:
    """Makes a series if there is none of this id; whether it did."""
    try:
        pools.create_series(series)
    except AlreadyExists:
        return False
    return True
