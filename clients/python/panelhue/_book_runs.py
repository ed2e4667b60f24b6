"""How a whole book is colourised or added, with clients that block: what `whole_books` offers is made of this."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

from panelhue import jobs
from panelhue import types as t
from panelhue.books import open_book
from panelhue.chapters import said_chapter
from panelhue.colorizer_client import ColorizerClient
from panelhue.errors import Cancelled, UsageError
from panelhue.journal import Journal
from panelhue.planning import BookRun, Order, by_chapter, made_series, prepared, reference_files
from panelhue.reports import BookProgress, ColorizeReport, IngestReport, Tell
from panelhue.retries import Retry
from panelhue.retrieval_client import RetrievalClient
from panelhue.workspaces import default_target

PATIENT = Retry(attempts=8, first=0.5, most=30.0, within=300.0)  # a server may be started anew under a long chapter


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
    return Order(
        book=source,
        target=target,
        options=options,
        series=series,
        chapter=said,
        grow=grow,
        bound=bound or t.Bound(),
        own_chapter=bound is None,
        hits=hits_per_corner,
        overwrite=overwrite,
        sheet=sheet,
    )


def colorized(
    order: Order,
    front: ColorizerClient,
    pools: RetrievalClient,
    retry: Retry | None,
    tell: Tell,
    stop: threading.Event,
) -> ColorizeReport:
    with ExitStack() as stack:
        book = stack.enter_context(open_book(order.book))
        groups = by_chapter(book, order.chapter)
        if order.grow and None in groups:
            raise UsageError("grow=True needs to know the chapter; give chapter=")
        here = bool(order.series) and not front.info().has_retrieval
        ready = prepared(order, book, groups, front, pools, here)
        journal = stack.enter_context(Journal(ready.place.state))
        run = BookRun(ready, journal, sleep=lambda s: _slept(stop, s), retry=retry or PATIENT)
        for plan in run.plans:
            for told in run.chapter(plan):
                tell(told)
                _slept(stop, 0)
        return run.finish()


def _slept(stop: threading.Event, seconds: float) -> None:
    if stop.wait(seconds):
        raise Cancelled("the run was cancelled", reason="RUN_CANCELLED")


def ingested(
    path: Path,
    series: str,
    chapter: tuple[int | None, bool],
    tags: tuple[str, ...],
    create: bool,
    pools: RetrievalClient,
    tell: Tell,
) -> IngestReport:
    results: list[t.AddResult] = []
    with open_book(path) as book:
        if create:
            made_series(pools, series)
        for result in pools.add_references(series, reference_files(book, chapter, tags)):
            results.append(result)
            tell(BookProgress(len(results), len(book.pages), result.name, result))
        return IngestReport(tuple(results), book.notes)
