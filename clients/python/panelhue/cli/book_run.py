"""One book through the colouriser: what was asked for, what it comes to, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from panelhue import jobs
from panelhue import types as t
from panelhue.books import Book, Page
from panelhue.chapters import chapter_of
from panelhue.cli.common import note
from panelhue.cli.hints import check_within, page_named
from panelhue.cli.reading import Spreads, read_book, reading_of
from panelhue.colorizer_client import ColorizerClient
from panelhue.errors import BookError, UsageError
from panelhue.journal import Done, Journal, Record, read_record
from panelhue.outputs import ENDINGS, output_names
from panelhue.palettes import MOST, joined
from panelhue.retrieval_client import RetrievalClient

if TYPE_CHECKING:
    from panelhue.cli.progress import Display

PREVIEW_SIDE = 640  # longer side of a page in a preview, pixels
PREVIEW_STEPS = 4  # a preview takes this part of the back-end's steps: one in so many


@dataclass(frozen=True)
class Limit:
    """Which references may answer."""

    max_chapter: str | None = None  # None: the page's own chapter; "any": all
    max_depth: int | None = None
    any_tags: tuple[str, ...] = ()
    none_tags: tuple[str, ...] = ()
    hits: int = 0  # per corner; 0: as the back-end wants


@dataclass(frozen=True)
class Redo:
    """Pages that are made again, whatever they were made with before."""

    pages: tuple[str, ...] = ()  # as a person names them
    hints: tuple[t.Hint, ...] = ()
    plain: bool = False  # without the hints and the seed that they were given before
    rejected: bool = False  # those that a review has rejected, with another seed

    def __bool__(self) -> bool:
        return bool(self.pages) or self.rejected


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    book: Path
    target: Path
    options: t.ColorizeOptions
    retrieval: str
    colorizer: str
    series: str = ""
    chapter: int | None = None  # thousandths; None: from the book
    grow: bool = False
    client_fetches: bool | None = None  # None: if the server cannot
    limit: Limit = Limit()
    redo: Redo = Redo()
    overwrite: bool = False
    sheet: bool = True
    preview: bool = False
    spreads: Spreads = Spreads.keep
    right_to_left: bool | None = None  # None: as the book says


@dataclass
class Tally:
    """What became of the pages of a run."""

    pages: int = 0
    done: dict[str, Done] = field(default_factory=dict)
    kept: int = 0
    grown: int = 0
    failures: dict[str, t.Failure] = field(default_factory=dict)
    not_grown: dict[str, str] = field(default_factory=dict)
    sheets: list[Path] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is left to do."""
        return not self.failures and not self.not_grown


@dataclass(frozen=True)
class Ready:
    """A request with everything that it needs at hand."""

    request: Request
    book: Book
    place: jobs.Workspace
    names: dict[str, str]  # a page's name to its output's
    groups: dict[int | None, list[Page]]  # pages by chapter
    here: bool  # whether contexts are fetched by us
    options: t.ColorizeOptions
    colorizer: ColorizerClient
    retrieval: RetrievalClient

    def plans(self, pages: frozenset[str] | None = None) -> list[jobs.Plan]:
        """A plan per chapter; of these pages, or of all."""
        chosen = {
            of: [page for page in group if pages is None or page.name in pages] for of, group in self.groups.items()
        }
        return [self._plan(of, group) for of, group in chosen.items() if group]

    def _plan(self, chapter: int | None, pages: list[Page]) -> jobs.Plan:
        request, limit = self.request, self.request.limit
        highest = chapter
        if limit.max_chapter is not None:
            highest = None if limit.max_chapter == "any" else chapter_of(limit.max_chapter)
        # A chapter never learns from what it gave to the pool itself: so a second run finds what the first one found.
        own = (jobs.grown_tag(chapter),) if chapter is not None else ()
        bound = t.Bound(
            max_chapter=highest,
            max_depth=limit.max_depth,
            any_tags=limit.any_tags,
            none_tags=(*limit.none_tags, *own),
        )
        wanted = t.SeriesContext(request.series, bound, limit.hits) if request.series else None
        return jobs.Plan(
            pages=pages,
            names=self.names,
            chapter=chapter,
            options=self.options if self.here else replace(self.options, series=wanted),
            series=request.series,
            grow=request.grow,
            client_context=wanted if self.here else None,
        )


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
        groups = _by_chapter(opened, request.chapter)
        if request.grow and None in groups:
            raise UsageError("--grow needs to know the chapter; say --chapter")
        front = stack.enter_context(ColorizerClient(request.colorizer))
        pools = stack.enter_context(RetrievalClient(request.retrieval))
        here = _client_fetches(request, front)
        options = request.options
        if request.series and (here or request.grow):
            pool = pools.get_series(request.series)  # a wrong name is told before anything is sent
            if here:  # a server that fetches takes them itself
                options = replace(options, palette=joined(options.palette, pool.palette)[:MOST])
        if request.preview:
            opened, groups = _small(opened, groups)
            options = replace(options, steps=options.steps or _preview_steps(front, options.backend))
        names = output_names([page.name for page in opened.pages], ENDINGS[options.media_type])
        place = jobs.workspace_of(request.target)
        yield Ready(request, opened, place, names, groups, here, options, front, pools)


def _by_chapter(book: Book, said: int | None) -> dict[int | None, list[Page]]:
    """Pages by chapter: what was said, else the folder's, else the book's; in order, pages of no chapter first."""
    groups: dict[int | None, list[Page]] = {}
    for page in book.pages:
        of = said if said is not None else page.chapter if page.chapter is not None else book.chapter
        groups.setdefault(of, []).append(page)
    return dict(sorted(groups.items(), key=lambda group: -1 if group[0] is None else group[0]))


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


def _small(book: Book, groups: dict[int | None, list[Page]]) -> tuple[Book, dict[int | None, list[Page]]]:
    """The book with pages that shrink as they are read."""
    small = {page.name: _shrinking(page) for page in book.pages}
    return (
        replace(book, pages=tuple(small.values())),
        {of: [small[page.name] for page in group] for of, group in groups.items()},
    )


def _shrinking(page: Page) -> Page:
    def read() -> bytes:
        from panelhue.sheet import shrunk

        return shrunk(page.read(), PREVIEW_SIDE)

    return replace(page, read=read)


def run_book(request: Request, display: Display, book: Book | None = None) -> Tally:
    """Colourises a book, or goes on where an earlier run was stopped.

    Args:
        request: what was asked for.
        display: is shown every step.
        book: in place of the one at the request's path.

    Raises:
        PanelhueError: as `ready`; or the output is in the way, or the server refused the whole call.
    """
    with ready(request, book) as all_of_it, Journal(all_of_it.place.state) as journal:
        front, pools = all_of_it.colorizer, all_of_it.retrieval
        run = jobs.Run(all_of_it.place, journal, front, pools if request.series else None)
        chosen = _wished(all_of_it, journal) if request.redo else None
        run.check_outputs(list(all_of_it.names.values()), request.overwrite)
        journal.read_as(reading_of(all_of_it.book, request.spreads))
        journal.tell_about({"series": request.series, "book": str(request.book.resolve())})
        plans = all_of_it.plans(chosen)
        tally = Tally(pages=sum(len(plan.pages) for plan in plans))
        display.begin(tally.pages)
        for plan in plans:
            display.chapter(plan.chapter, len(plan.pages))
            for step in run.chapter(plan):
                count(step, tally)
                display.show(step)
        _finish(run, all_of_it, journal, tally)
        return tally


def _wished(all_of_it: Ready, journal: Journal) -> frozenset[str]:
    """The pages that shall be made again; that they shall is written down first, so that a killed run goes on."""
    request, redo = all_of_it.request, all_of_it.request.redo
    if redo.hints:
        _check_hints(all_of_it)
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
        seed = all_of_it.request.options.seed
        other = seed if seed not in (0, done.seed) else done.seed + 1  # the same seed would give the same picture
        journal.wish(page, before.hints if before is not None else (), other)
    return found


def rejected_pages(book: Book, record: Record) -> set[str]:
    """Pages of a book whose finished picture a person has rejected."""
    done = (record.done.get(page.name) for page in book.pages)
    return {one.page for one in done if one is not None and record.verdict(one) is False}


def _check_hints(all_of_it: Ready) -> None:
    if len(all_of_it.request.redo.pages) != 1:
        raise UsageError(f"hints belong to one page, got {len(all_of_it.request.redo.pages)}; say --recolour once")
    card = card_of(all_of_it.colorizer, all_of_it.options.backend)
    if "hints" not in card.inputs:
        raise UsageError(f"the back-end {card.name} makes no use of hints; see `panelhue backends`")


def count(step: object, tally: Tally) -> None:
    """Adds a step to what became of the pages."""
    if isinstance(step, jobs.Kept | jobs.Written):
        tally.done[step.done.page] = step.done
        tally.kept += isinstance(step, jobs.Kept)
    elif isinstance(step, jobs.Grown):
        tally.grown += 1
    elif isinstance(step, jobs.NotGrown) and not step.nothing_to_give:
        tally.not_grown[step.done.page] = step.why
    elif isinstance(step, t.Failed):
        tally.failures[step.key] = step.failure


def _finish(run: jobs.Run, all_of_it: Ready, journal: Journal, tally: Tally) -> None:
    """What is made of the finished pages: the archive, and the contact sheet."""
    from panelhue.sheet import make_sheet

    book, place = all_of_it.book, all_of_it.place
    done = {**journal.done, **tally.done} if all_of_it.request.redo else tally.done
    finished = [done[page.name].output for page in book.pages if page.name in done]
    if tally.done:
        run.pack(book, finished, whole=len(finished) == len(book.pages))
    shown = {page: one for page, one in journal.done.items() if one.wish or all_of_it.names.get(page) == one.output}
    if shown and all_of_it.request.sheet:
        tally.sheets = make_sheet(book, place, shown, all_of_it.request.series, all_of_it.retrieval)


def finished_so_far(request: Request) -> int:
    """Pages that are finished in the request's output, as its journal says."""
    try:
        return len(read_record(jobs.workspace_of(request.target).state).done)
    except (OSError, BookError):
        return 0
