"""One book through the colouriser: what was asked for, what it comes to, and what became of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from panelhue import jobs
from panelhue import types as t
from panelhue.books import Book, Page
from panelhue.cli.common import note
from panelhue.cli.hints import check_within, page_named
from panelhue.cli.reading import Spreads, read_book, reading_of
from panelhue.colorizer_client import ColorizerClient
from panelhue.errors import BookError, UsageError
from panelhue.journal import Journal, Record, read_record
from panelhue.planning import BookRun, Order, Ready, by_chapter, prepared
from panelhue.reports import ColorizeReport
from panelhue.retrieval_client import RetrievalClient

if TYPE_CHECKING:
    from panelhue.cli.progress import Display

PREVIEW_SIDE = 640  # longer side of a page in a preview, pixels
PREVIEW_STEPS = 4  # a preview takes this part of the back-end's steps: one in so many


@dataclass(frozen=True)
class Redo:
    """Pages that are made again, whatever they were made with before."""

    pages: tuple[str, ...] = ()  # as a person names them
    hints: tuple[t.Hint, ...] = ()
    plain: bool = False  # without the hints and the seed that they were given before
    rejected: bool = False  # those that a review has rejected, with another seed

    def __bool__(self) -> bool:
        return bool(self.pages) or self.rejected


@dataclass(frozen=True, kw_only=True)
class Request(Order):
    """What was asked for."""

    retrieval: str
    colorizer: str
    token: str = field(default="", repr=False)  # that the colouriser asks for
    client_fetches: bool | None = None  # None: if the server cannot
    redo: Redo = Redo()
    preview: bool = False
    spreads: Spreads = Spreads.keep
    right_to_left: bool | None = None  # None: as the book says


@contextmanager
def ready(request: Request, book: Book | None = None) -> Iterator[Ready]:
    """The request with its book open and both servers at hand; writes nothing.

    Args:
        request: what was asked for.
        book: in place of the one at the request's path.

    Raises:
        UsageError: it makes no sense.
        BookError: the book cannot be used.
        ServerError: no server answers, or there is no such series.
    """
    jobs.checked_target(request.book, request.target)
    with ExitStack() as stack:
        opened = book or stack.enter_context(read_book(request.book, request.spreads, request.right_to_left))
        if request.preview:
            opened = replace(opened, pages=tuple(map(_shrinking, opened.pages)))
        groups = by_chapter(opened, request.chapter)
        if request.grow and None in groups:
            raise UsageError("--grow needs to know the chapter; say --chapter")
        front = stack.enter_context(ColorizerClient(request.colorizer, token=request.token))
        pools = stack.enter_context(RetrievalClient(request.retrieval))
        made = prepared(request, opened, groups, front, pools, _client_fetches(request, front))
        if request.preview and not made.options.steps:
            made = replace(made, options=replace(made.options, steps=_preview_steps(front, made.options.backend)))
        yield made


def _client_fetches(request: Request, colorizer: ColorizerClient) -> bool:
    info = colorizer.info()  # also tells at once whether anybody answers
    if not request.series:
        note("no --series, so the pages get no references")
        return False
    if request.client_fetches is False and not info.has_retrieval:
        raise UsageError(f"the colouriser at {colorizer.target} has no retrieval server; say --context client")
    return bool(request.client_fetches) or not info.has_retrieval


def card_of(colorizer: ColorizerClient, backend: str) -> t.Backend:
    """The card of a back-end, or of the server's default."""
    if backend:
        return colorizer.backend(backend)
    return next(card for card in colorizer.backends() if card.is_default)


def _preview_steps(colorizer: ColorizerClient, backend: str) -> int:
    steps = card_of(colorizer, backend).default_steps
    return max(1, steps // PREVIEW_STEPS) if steps else 0


def _shrinking(page: Page) -> Page:
    """The page, made small as it is read."""

    def read() -> bytes:
        from panelhue.sheet import shrunk

        return shrunk(page.read(), PREVIEW_SIDE)

    def identity() -> str:
        return hashlib.sha256(f"{page.digest()} at most {PREVIEW_SIDE}".encode()).hexdigest()

    return replace(page, read=read, identity=identity if page.identity else None)


def run_book(request: Request, display: Display, book: Book | None = None) -> ColorizeReport:
    """Colourises a book, or goes on where an earlier run was stopped.

    Args:
        request: what was asked for.
        display: is shown every step.
        book: in place of the one at the request's path.

    Raises:
        PanelhueError: as `ready`; or the output is in the way, or the server refused the whole call.
    """
    with ready(request, book) as all_of_it, Journal(all_of_it.place.state) as journal:
        chosen = _wished(request, all_of_it, journal) if request.redo else None
        split = reading_of(all_of_it.book, request.spreads)
        run = BookRun(all_of_it, journal, pages=chosen, split=split, again=jobs.RESTART)
        for plan in run.plans:
            display.chapter(plan.chapter, len(plan.pages))
            for told in run.chapter(plan):
                display.show(told)
        return run.finish()


def _wished(request: Request, all_of_it: Ready, journal: Journal) -> frozenset[str]:
    """The pages that shall be made again; that they shall is written down first, so that a killed run goes on."""
    redo = request.redo
    if redo.hints:
        _check_hints(redo, all_of_it)
    pages = [page_named(all_of_it.book, text) for text in redo.pages]
    for page in pages:
        check_within(redo.hints, page)
    for page in pages:
        before = journal.wishes.get(page.name)
        if redo.plain and before is None:
            raise UsageError(f"{page.name} has no hints or seed of its own that could be left away")
        if redo.plain:
            journal.drop_wish(page.name)
        else:
            kept = before.hints if before is not None else ()
            journal.wish(page.name, redo.hints or kept, request.options.seed or (before.seed if before else None))
    names = {page.name for page in pages}
    return frozenset(names | _rejected(all_of_it, journal, names) if redo.rejected else names)


def _rejected(all_of_it: Ready, journal: Journal, but: set[str]) -> set[str]:
    found = rejected_pages(all_of_it.book, journal) - but
    for page in found:
        before, done = journal.wishes.get(page), journal.done[page]
        seed = all_of_it.options.seed
        other = seed if seed not in (0, done.seed) else done.seed + 1  # the same seed would give the same picture
        journal.wish(page, before.hints if before is not None else (), other)
    return found


def rejected_pages(book: Book, record: Record) -> set[str]:
    """Pages of a book whose finished picture a person has rejected."""
    done = (record.done.get(page.name) for page in book.pages)
    return {one.page for one in done if one is not None and record.verdict(one) is False}


def _check_hints(redo: Redo, all_of_it: Ready) -> None:
    if len(redo.pages) != 1:
        raise UsageError(f"hints belong to one page, got {len(redo.pages)}; say --recolour once")
    card = card_of(all_of_it.colorizer, all_of_it.options.backend)
    if "hints" not in card.inputs:
        raise UsageError(f"the back-end {card.name} makes no use of hints; see `panelhue backends`")


def finished_so_far(request: Request) -> int:
    """Pages that are finished in the request's output, as its journal says."""
    try:
        return len(read_record(jobs.workspace_of(request.target).state).done)
    except (OSError, BookError):
        return 0
