"""Whole books in one call: what `panelhue colorize` and `panelhue ingest` do, for programs.

Both come blocking and for asyncio. They read a book, talk to the servers, go on where an earlier run was stopped, tell
how far they are, and give a report.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from panelhue import types as t
from panelhue._book_runs import PATIENT, colorized, ingested, order_of
from panelhue.chapters import said_chapter
from panelhue.colorizer_client import AsyncColorizerClient, ColorizerClient
from panelhue.reports import BookProgress, ColorizeReport, IngestReport, Tell
from panelhue.retries import Retry
from panelhue.retrieval_client import AsyncRetrievalClient, RetrievalClient

# Where the servers are sought, as the command does: the variable's value, else where `panelhue up` listens; and the
# variable of the token that the server may ask for.
RETRIEVAL = ("PANELHUE_RETRIEVAL", "127.0.0.1:50051", "")
COLORIZER = ("PANELHUE_COLORIZER", "127.0.0.1:50052", "PANELHUE_COLORIZER_TOKEN")

C = TypeVar("C", RetrievalClient, ColorizerClient)
R = TypeVar("R")


def colorize_book(
    book: str | Path,
    output: str | Path | None = None,
    *,
    series: str = "",
    chapter: int | str | None = None,
    grow: bool = False,
    options: t.ColorizeOptions | None = None,
    bound: t.Bound | None = None,
    hits_per_corner: int = 0,
    overwrite: bool = False,
    sheet: bool = False,
    colorizer: str | ColorizerClient | None = None,
    retrieval: str | RetrievalClient | None = None,
    retry: Retry | None = None,
    progress: Callable[[BookProgress], object] | None = None,
) -> ColorizeReport:
    """What became of a grey book: its pages are colourised from the references of its series, and written.

    Stopped or killed, the same call goes on where it was: finished pages are checked by their hash and not made again.
    A page that fails is in the report, and the same call tries it again.

    Args:
        book: whatever docs/BOOKS.md names: a folder of pictures, a CBZ, PDF or EPUB, one picture.
        output: a name that ends in ".cbz" or ".pdf", or a folder; None: BOOK-colour beside the book.
        series: the series whose pool gives the colour; empty: none does.
        chapter: "12" or "10.5", or thousandths (12000); None: from folders, ComicInfo.xml or the book's name.
        grow: whether each finished page is added to the pool, for later chapters.
        options: what holds for all pages; its `series` stays unset. None: the server's defaults.
        bound: which references may give colour; None: those of the page's own chapter and earlier ones. Pages that this
            chapter gave to the pool never do.
        hits_per_corner: reference patches, to 64; 0: as the back-end wants.
        overwrite: whether files that are in the way are replaced.
        sheet: whether a contact sheet (HTML and PNG) is made.
        colorizer: the colouriser server's address, or a client of it; None: as the command, at PANELHUE_COLORIZER or
            else where `panelhue up` listens.
        retrieval: likewise the retrieval server's.
        retry: how often a page or stream that failed for the moment is tried again; None: patiently, for minutes.
        progress: is told of everything that happens, in this thread; what it raises ends the run.

    Raises:
        UsageError: arguments that make no sense, an output that is in the way, another run at work on it.
        BookError: the book cannot be used.
        NotFound: no such series or back-end.
        ServerError: a server refused the whole call, or stayed away over all attempts; what is finished is kept.
    """
    order = order_of(book, output, series, chapter, grow, options, bound, hits_per_corner, overwrite, sheet)
    with ExitStack() as stack:
        front = _opened(stack, ColorizerClient, colorizer, COLORIZER)
        pools = _opened(stack, RetrievalClient, retrieval, RETRIEVAL)
        return colorized(order, front, pools, retry, progress or _silent, threading.Event())


async def colorize_book_async(
    book: str | Path,
    output: str | Path | None = None,
    *,
    series: str = "",
    chapter: int | str | None = None,
    grow: bool = False,
    options: t.ColorizeOptions | None = None,
    bound: t.Bound | None = None,
    hits_per_corner: int = 0,
    overwrite: bool = False,
    sheet: bool = False,
    colorizer: str | AsyncColorizerClient | None = None,
    retrieval: str | AsyncRetrievalClient | None = None,
    retry: Retry | None = None,
    progress: Callable[[BookProgress], object] | None = None,
) -> ColorizeReport:
    """As `colorize_book`, without holding up the event loop.

    Files are read and written in a thread of its own. Cancelling the task cancels the call and frees the server's
    worker within one step; what is finished by then is kept, and the same call goes on with the rest.

    Args:
        book: as `colorize_book`, and so are all others but these.
        output: likewise.
        series: likewise.
        chapter: likewise.
        grow: likewise.
        options: likewise.
        bound: likewise.
        hits_per_corner: likewise.
        overwrite: likewise.
        sheet: likewise.
        colorizer: the server's address, or an asyncio client, whose settings are used for another channel.
        retrieval: likewise.
        retry: as `colorize_book`.
        progress: is called in the event loop, and awaited if it is a coroutine function.

    Raises:
        PanelhueError: as `colorize_book`.
    """
    order = order_of(book, output, series, chapter, grow, options, bound, hits_per_corner, overwrite, sheet)
    front, pools = _blocking(ColorizerClient, colorizer, COLORIZER), _blocking(RetrievalClient, retrieval, RETRIEVAL)
    with front, pools:
        return await _in_thread(
            lambda tell, stop: colorized(order, front, pools, retry, tell, stop), progress, [front.close, pools.close]
        )


def ingest_book(
    book: str | Path,
    *,
    series: str,
    chapter: int | str | None = None,
    tags: Sequence[str] = (),
    create: bool = False,
    retrieval: str | RetrievalClient | None = None,
    retry: Retry | None = None,
    progress: Callable[[BookProgress], object] | None = None,
) -> IngestReport:
    """What became of a colour book: its pages are added to a series' pool. The same bytes again change nothing.

    Args:
        book: whatever docs/BOOKS.md names: a folder of pictures, a CBZ, PDF or EPUB, one picture.
        series: the series' id.
        chapter: of all pages: "12" or "10.5", thousandths (12000), or "none"; None: from folders, ComicInfo.xml or the
            book's name.
        tags: of all pages.
        create: whether the series is made first if there is none.
        retrieval: the retrieval server's address, or a client of it; None: as the command, at PANELHUE_RETRIEVAL or
            else where `panelhue up` listens.
        retry: how often a stream that broke off is made again; None: patiently, for minutes.
        progress: is told of each page, in this thread; what it raises ends the run.

    Raises:
        UsageError: arguments that make no sense.
        BookError: the book cannot be used.
        NotFound: no such series, and `create` is not set.
        Overloaded: the disk is full, or a quota is used up.
        ServerError: the server refused the whole call, or stayed away over all attempts; what was added stays.
    """
    said = said_chapter(chapter)
    with ExitStack() as stack:
        pools = _opened(stack, RetrievalClient, retrieval, RETRIEVAL).using(retry=retry or PATIENT)
        return ingested(Path(book), series, said, tuple(tags), create, pools, progress or _silent)


async def ingest_book_async(
    book: str | Path,
    *,
    series: str,
    chapter: int | str | None = None,
    tags: Sequence[str] = (),
    create: bool = False,
    retrieval: str | AsyncRetrievalClient | None = None,
    retry: Retry | None = None,
    progress: Callable[[BookProgress], object] | None = None,
) -> IngestReport:
    """As `ingest_book`, without holding up the event loop; cancelling the task ends what is not yet acknowledged.

    Args:
        book: as `ingest_book`, and so are all others but these.
        series: likewise.
        chapter: likewise.
        tags: likewise.
        create: likewise.
        retrieval: the server's address, or an asyncio client, whose settings are used for another channel.
        retry: as `ingest_book`.
        progress: is called in the event loop, and awaited if it is a coroutine function.

    Raises:
        PanelhueError: as `ingest_book`.
    """
    said = said_chapter(chapter)
    with _blocking(RetrievalClient, retrieval, RETRIEVAL) as opened:
        pools = opened.using(retry=retry or PATIENT)
        return await _in_thread(
            lambda tell, _: ingested(Path(book), series, said, tuple(tags), create, pools, tell),
            progress,
            [opened.close],
        )


def _silent(_: BookProgress) -> None:
    pass


def _opened(stack: ExitStack, kind: type[C], given: str | C | None, place: tuple[str, str, str]) -> C:
    """The caller's client, which stays open, or one of our own."""
    return stack.enter_context(_at(kind, given, place)) if given is None or isinstance(given, str) else given


def _blocking(
    kind: type[C], given: str | AsyncRetrievalClient | AsyncColorizerClient | None, place: tuple[str, str, str]
) -> C:
    """A blocking client with the settings of an asyncio one."""
    return _at(kind, given, place) if given is None or isinstance(given, str) else kind._of(given._settings)


def _at(kind: type[C], address: str | None, place: tuple[str, str, str]) -> C:
    variable, default, token = place
    return kind(address or os.environ.get(variable, default), token=os.environ.get(token, ""))


async def _in_thread(
    work: Callable[[Tell, threading.Event], R],
    progress: Callable[[BookProgress], object] | None,
    stops: Sequence[Callable[[], None]],
) -> R:
    """What `work` gives, in a thread; if this task is cancelled, `stops` are called and the thread is waited for."""
    loop, stop = asyncio.get_running_loop(), threading.Event()

    async def told(step: BookProgress) -> None:
        outcome = progress(step) if progress is not None else None
        if inspect.isawaitable(outcome):
            await outcome

    def tell(step: BookProgress) -> None:
        if progress is not None and not stop.is_set():
            asyncio.run_coroutine_threadsafe(told(step), loop).result()

    thread = asyncio.ensure_future(asyncio.to_thread(work, tell, stop))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        stop.set()
        for end in stops:
            end()
        await asyncio.gather(thread, return_exceptions=True)
        raise
