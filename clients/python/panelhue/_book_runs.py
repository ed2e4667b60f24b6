"""How a whole book is colourised or added, with clients that block: what `whole_books` offers is made of this."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from panelhue import jobs
from panelhue import types as t
from panelhue.books import Book, Page, open_book
from panelhue.chapters import chapter_of
from panelhue.colorizer_client import ColorizerClient
from panelhue.errors import AlreadyExists, Cancelled, UsageError
from panelhue.journal import Done, Journal
from panelhue.outputs import ENDINGS, output_names
from panelhue.palettes import MOST, joined
from panelhue.reports import BookProgress, ColorizeReport, IngestReport, Tell
from panelhue.retries import Retry
from panelhue.retrieval_client import RetrievalClient
from panelhue.workspaces import default_target

PATIENT = Retry(attempts=8, first=0.5, most=30.0, within=300.0)  # a server may be started anew under a long chapter
NO_CHAPTER = "none"


@dataclass(frozen=True)
class Order:
    """What `colorize_book` was asked for."""

    book: Path
    output: Path
    series: str
    chapter: int | None  # thousandths
    grow: bool
    options: t.ColorizeOptions
    bound: t.Bound | None
    hits_per_corner: int
    overwrite: bool
    sheet: bool
    retry: Retry


def said_chapter(chapter: int | str | None) -> tuple[int | None, bool]:
    """A chapter in thousandths, and whether one (or none) was said at all."""
    if isinstance(chapter, str):
        return (None if chapter == NO_CHAPTER else chapter_of(chapter)), True
    if chapter is not None and 0 < chapter < 100:
        raise UsageError(
            f'chapters count in thousandths: chapter={chapter} is chapter 0.{chapter:03d}; say "{chapter}" or '
            f"{chapter * 1000}"
        )
    return chapter, chapter is not None


def order_of(
    book: str | Path,
    output: str | Path | None,
    series: str,
    chapter: int | str | None,
    grow: bool,
    options: t.ColorizeOptions | None,
    bound: t.Bound | None,
    hits_per_corner: int,
    overwrite: bool,
    sheet: bool,
    retry: Retry | None,
) -> Order:
    options = options or t.ColorizeOptions()
    if options.series is not None:
        raise UsageError("colorize_book takes series= and bound=, and options whose series is unset")
    if grow and (not series or options.chroma_only):
        raise UsageError("grow=True needs a series, and finished pages rather than chroma_only")
    if not series and (bound is not None or hits_per_corner):
        raise UsageError("bound= and hits_per_corner= need a series")
    source = Path(book)
    target = Path(output) if output is not None else default_target(source)
    jobs.checked_target(source, target)
    if options.chroma_only and target.suffix.lower() == ".pdf":
        raise UsageError("a layer of colour needs its transparency; give output= a folder or a name that ends in .cbz")
    said, _ = said_chapter(chapter)
    retry = retry or PATIENT
    return Order(source, target, series, said, grow, options, bound, hits_per_corner, overwrite, sheet, retry)


@dataclass
class _Tally:
    total: int
    tell: Tell
    stop: threading.Event
    results: dict[str, Done] = field(default_factory=dict)
    kept: int = 0
    grown: int = 0
    failures: dict[str, t.Failure] = field(default_factory=dict)
    not_grown: dict[str, str] = field(default_factory=dict)

    def take(self, step: jobs.Step) -> None:
        page = ""
        if isinstance(step, jobs.Kept | jobs.Written | jobs.Grown | jobs.NotGrown):
            page = step.done.page
        elif not isinstance(step, jobs.Again):
            page = step.key
        if isinstance(step, jobs.Kept | jobs.Written):
            self.results[page] = step.done
            self.kept += isinstance(step, jobs.Kept)
        elif isinstance(step, jobs.Grown):
            self.grown += 1
        elif isinstance(step, jobs.NotGrown) and not step.nothing_to_give:
            self.not_grown[page] = step.why
        elif isinstance(step, t.Failed):
            self.failures[page] = step.failure
        self.tell(BookProgress(len(self.results) + len(self.failures), self.total, page, step))
        if self.stop.is_set():
            raise Cancelled("the run was cancelled", reason="RUN_CANCELLED")


def colorized(
    order: Order, front: ColorizerClient, pools: RetrievalClient, tell: Tell, stop: threading.Event
) -> ColorizeReport:
    options = order.options
    with ExitStack() as stack:
        book = stack.enter_context(open_book(order.book))
        groups = pages_by_chapter(book, order.chapter)
        if order.grow and None in groups:
            raise UsageError("grow=True needs to know the chapter; give chapter=")
        here = bool(order.series) and not front.info().has_retrieval  # the contexts are fetched here
        if order.series and (here or order.grow):
            pool = pools.get_series(order.series)  # a wrong name is told before anything is sent
            if here:  # a server that fetches takes them itself
                options = replace(options, palette=joined(options.palette, pool.palette)[:MOST])
        place = jobs.workspace_of(order.output)
        journal = stack.enter_context(Journal(place.state))
        names = output_names([page.name for page in book.pages], ENDINGS[options.media_type or "image/png"])
        run = jobs.Run(
            place, journal, front, pools if order.series else None, sleep=lambda s: _slept(stop, s), retry=order.retry
        )
        run.check_outputs(list(names.values()), order.overwrite)
        tally = _Tally(len(book.pages), tell, stop)
        for chapter, pages in groups.items():
            for step in run.chapter(_plan(order, options, pages, names, chapter, here)):
                tally.take(step)
        _finish(run, book, names, tally.results)
        sheets = _sheet(order, book, place, journal, names, pools)
    return ColorizeReport(
        *(order.output, tally.total, tally.results, tally.kept, tally.grown, tally.failures, tally.not_grown),
        notes=book.notes,
        sheets=sheets,
    )


def _slept(stop: threading.Event, seconds: float) -> None:
    if stop.wait(seconds):
        raise Cancelled("the run was cancelled", reason="RUN_CANCELLED")


def pages_by_chapter(book: Book, said: int | None) -> dict[int | None, list[Page]]:
    """Pages by chapter: what was said, else the folder's, else the book's; in order, pages of no chapter first."""
    groups: dict[int | None, list[Page]] = {}
    for page in book.pages:
        of = said if said is not None else page.chapter if page.chapter is not None else book.chapter
        groups.setdefault(of, []).append(page)
    return dict(sorted(groups.items(), key=lambda group: -1 if group[0] is None else group[0]))


def _plan(
    order: Order,
    options: t.ColorizeOptions,
    pages: list[Page],
    names: dict[str, str],
    chapter: int | None,
    here: bool,
) -> jobs.Plan:
    # A chapter never learns from what it gave to the pool itself: so a second run finds what the first one found.
    own = (jobs.grown_tag(chapter),) if chapter is not None else ()
    bound = order.bound or t.Bound(max_chapter=chapter)
    bound = replace(bound, none_tags=(*bound.none_tags, *own))
    wanted = t.SeriesContext(order.series, bound, order.hits_per_corner) if order.series else None
    return jobs.Plan(
        pages=pages,
        names=names,
        chapter=chapter,
        options=options if here else replace(options, series=wanted),
        series=order.series,
        grow=order.grow,
        client_context=wanted if here else None,
    )


def _finish(run: jobs.Run, book: Book, names: Mapping[str, str], results: Mapping[str, Done]) -> None:
    ready = [names[page.name] for page in book.pages if page.name in results]
    if ready:
        run.pack(book, ready, whole=len(ready) == len(book.pages))


def _sheet(
    order: Order,
    book: Book,
    place: jobs.Workspace,
    journal: Journal,
    names: Mapping[str, str],
    pools: RetrievalClient,
) -> tuple[Path, ...]:
    done = {page: one for page, one in journal.done.items() if names.get(page) == one.output}
    if not order.sheet or not done:
        return ()
    from panelhue.sheet import make_sheet  # Pillow is for those who want one

    return tuple(make_sheet(book, place, done, order.series, pools))


def ingested(
    path: Path,
    series: str,
    said: int | None,
    names_it: bool,
    tags: tuple[str, ...],
    create: bool,
    pools: RetrievalClient,
    tell: Tell,
) -> IngestReport:
    results: list[t.AddResult] = []
    with open_book(path) as book:
        if create:
            _ensure(pools, series)
        for result in pools.add_references(series, _files(book, said, names_it, tags)):
            results.append(result)
            tell(BookProgress(len(results), len(book.pages), result.name, result))
        return IngestReport(tuple(results), book.notes)


def _ensure(pools: RetrievalClient, series: str) -> None:
    try:
        pools.create_series(series)
    except AlreadyExists:
        return


def _files(book: Book, said: int | None, names_it: bool, tags: tuple[str, ...]) -> Iterator[t.ReferenceFile]:
    for page in book.pages:
        of_page = said if names_it else page.chapter if page.chapter is not None else book.chapter
        source = f"{book.path.name}/{page.name}".encode()[-1024:].decode(errors="ignore")
        yield t.ReferenceFile(
            name=page.name,
            data=page.read,
            chapter=of_page,
            page=page.number,
            tags=tags,
            provenance=t.Provenance(source=source),
        )
