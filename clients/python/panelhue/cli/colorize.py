"""`panelhue colorize`: a grey book in, a colour book out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panelhue.cli.common import (
    COLORIZER_DEFAULT,
    RETRIEVAL_DEFAULT,
    AsJson,
    ColorizerTarget,
    RetrievalTarget,
    complain,
    escaped,
    note,
    out,
    pairs,
    print_json,
    swatches,
)
from panelhue.cli.reading import BOOK_HELP, RightToLeft, Spreads, SpreadsOption, read_book, reading_of

if TYPE_CHECKING:
    from panelhue import types as t
    from panelhue.books import Book, Page
    from panelhue.colorizer_client import ColorizerClient
    from panelhue.jobs import Plan, Run
    from panelhue.journal import Done, Journal
    from panelhue.retrieval_client import RetrievalClient
    from panelhue.workspaces import Workspace


class Format(StrEnum):
    """Of the finished pages."""

    png = "png"
    jpeg = "jpeg"
    webp = "webp"


class Fetcher(StrEnum):
    """Who asks the retrieval server."""

    auto = "auto"
    server = "server"
    client = "client"


@dataclass
class Tally:
    """What became of the pages of a run."""

    pages: int = 0
    done: dict[str, Done] = field(default_factory=dict)
    kept: int = 0
    grown: int = 0
    failures: dict[str, t.Failure] = field(default_factory=dict)
    not_grown: dict[str, str] = field(default_factory=dict)


def colorize(
    book: Annotated[Path, typer.Argument(metavar="BOOK", help=BOOK_HELP)],
    series: Annotated[str, typer.Option("--series", "-s", help="The series whose pool gives the colour.")] = "",
    chapter: Annotated[
        str | None,
        typer.Option(help="Chapter, such as 12 or 10.5. Unset: from folders, ComicInfo.xml or the book's name."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A name that ends in .cbz or .pdf, or a folder. Unset: BOOK-colour beside the book, of its kind.",
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="See `panelhue backends`; unset: the server's default.")] = "",
    grow: Annotated[
        bool, typer.Option("--grow", help="Adds each finished page to the pool, for later chapters.")
    ] = False,
    hits: Annotated[
        int, typer.Option(min=0, max=64, help="Reference patches per corner; 0: as the back-end wants.")
    ] = 0,
    max_chapter: Annotated[
        str | None,
        typer.Option(
            help='Only references of this chapter or an earlier one; "any": all. Unset: the page\'s own chapter.'
        ),
    ] = None,
    max_depth: Annotated[
        int | None, typer.Option(min=0, help="Only references of at most this provenance depth; 0: given colour.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only references with one of these tags. Repeatable.")] = None,
    not_tag: Annotated[list[str] | None, typer.Option(help="No references with this tag. Repeatable.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same picture.")] = 0,
    steps: Annotated[int, typer.Option(min=0, max=1000, help="Steps of a page; 0: the back-end's own number.")] = 0,
    chroma_only: Annotated[
        bool,
        typer.Option(
            "--chroma-only", help='Only the colour, as a transparent layer over the line art, in the mode "Color".'
        ),
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="Of the finished pages; webp is lossless.")] = Format.png,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG.")] = 92,
    recolour: Annotated[
        bool, typer.Option("--recolour", help="Colourises also pages that are in colour already; else they are kept.")
    ] = False,
    backend_luma: Annotated[
        bool, typer.Option("--backend-luma", help="The back-end's own light and dark in place of the page's.")
    ] = False,
    colour: Annotated[
        list[str] | None, typer.Option("--colour", help='A named colour, "name=#rrggbb". Repeatable.')
    ] = None,
    palette: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Named colours that come before the series' own: JSON, CSS, a GIMP palette, or lines such as "
            "hair = #cc3322.",
        ),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help='A parameter of the back-end, "name=value".')] = None,
    spreads: SpreadsOption = Spreads.keep,
    right_to_left: RightToLeft = None,
    context: Annotated[
        Fetcher, typer.Option(help="Who fetches the contexts; auto: the server if it can.")
    ] = Fetcher.auto,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replaces files that are in the way.")] = False,
    sheet: Annotated[bool, typer.Option(help="Makes a contact sheet (HTML and PNG) at the end.")] = True,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    colorizer: ColorizerTarget = COLORIZER_DEFAULT,
    json: AsJson = False,
) -> None:
    """Colourises a book from the references of its series, page by page.

    Stopped or killed, the same command goes on where it was: finished pages are checked by their hash and not repeated.
    A page that fails is told at the end (exit code 1), and the same command tries it again.
    """
    from panelhue import types as t
    from panelhue.chapters import chapter_of
    from panelhue.colorizer_client import ColorizerClient
    from panelhue.errors import UsageError
    from panelhue.jobs import Run
    from panelhue.journal import Journal
    from panelhue.outputs import ENDINGS, output_names
    from panelhue.palettes import MOST, joined
    from panelhue.retrieval_client import RetrievalClient
    from panelhue.workspaces import checked_target, default_target, workspace_of

    if grow and (not series or chroma_only):
        raise UsageError("--grow needs --series, and finished pages rather than --chroma-only")
    if chroma_only and format_ is not Format.png:
        raise UsageError("--chroma-only is written as PNG; leave --format away")
    target = output or default_target(book)
    checked_target(book, target)
    if chroma_only and target.suffix.lower() == ".pdf":
        raise UsageError("a layer of colour needs its transparency; choose a folder or a name that ends in .cbz")
    options = t.ColorizeOptions(
        backend=backend,
        media_type=f"image/{format_.value}",
        jpeg_quality=quality if format_ is Format.jpeg else 0,
        chroma_only=chroma_only,
        colour_pages=t.ColourPages.RECOLOUR if recolour else t.ColourPages.KEEP,
        luma=t.Luma.BACKEND if backend_luma else t.Luma.KEEP,
        seed=seed,
        steps=steps,
        palette=swatches(colour or (), palette),
        parameters=pairs(set_ or (), "parameter"),
    )
    limit = _Limit(max_chapter, max_depth, tuple(tag or ()), tuple(not_tag or ()), hits)
    with ExitStack() as stack:
        opened = stack.enter_context(read_book(book, spreads, right_to_left))
        said = chapter_of(chapter) if chapter else None
        groups = _by_chapter(opened, said)
        if grow and None in groups:
            raise UsageError("--grow needs to know the chapter; say --chapter")
        front = stack.enter_context(ColorizerClient(colorizer))
        pools = stack.enter_context(RetrievalClient(retrieval))
        here = _client_fetches(context, series, front)
        if series and (here or grow):
            pool = pools.get_series(series)  # a wrong name is told before anything is sent
            if here:  # a server that fetches takes them itself
                options = replace(options, palette=joined(options.palette, pool.palette)[:MOST])
        place = workspace_of(target)
        journal = stack.enter_context(Journal(place.state))
        names = output_names([page.name for page in opened.pages], ENDINGS[f"image/{format_.value}"])
        run = Run(place, journal, front, pools if series else None)
        run.check_outputs(list(names.values()), overwrite)
        journal.read_as(reading_of(opened, spreads))
        plans = [_plan(pages, names, of, options, series, grow, here, limit) for of, pages in groups.items()]
        tally = Tally(pages=len(opened.pages))
        _run(run, plans, tally)
        _finish(run, opened, names, tally)
        sheets = _sheet(opened, place, journal, names, series, pools) if sheet else []
    _report(target, tally, sheets, json)
    if tally.failures or tally.not_grown:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Limit:
    max_chapter: str | None
    max_depth: int | None
    any_tags: tuple[str, ...]
    none_tags: tuple[str, ...]
    hits: int


def _by_chapter(book: Book, said: int | None) -> dict[int | None, list[Page]]:
    """Pages by chapter: what was said, else the folder's, else the book's; in order, pages of no chapter first."""
    groups: dict[int | None, list[Page]] = {}
    for page in book.pages:
        of = said if said is not None else page.chapter if page.chapter is not None else book.chapter
        groups.setdefault(of, []).append(page)
    return dict(sorted(groups.items(), key=lambda group: -1 if group[0] is None else group[0]))


def _client_fetches(context: Fetcher, series: str, colorizer: ColorizerClient) -> bool:
    from panelhue.errors import UsageError

    info = colorizer.info()  # also tells at once whether anybody answers
    if not series:
        note("no --series, so the pages get no references")
        return False
    if context is Fetcher.server and not info.has_retrieval:
        raise UsageError(f"the colouriser at {colorizer.target} has no retrieval server; say --context client")
    return context is Fetcher.client or not info.has_retrieval


def _plan(
    pages: list[Page],
    names: dict[str, str],
    chapter: int | None,
    options: t.ColorizeOptions,
    series: str,
    grow: bool,
    here: bool,
    limit: _Limit,
) -> Plan:
    from panelhue import types as t
    from panelhue.chapters import chapter_of
    from panelhue.jobs import Plan, grown_tag

    highest = (
        chapter if limit.max_chapter is None else None if limit.max_chapter == "any" else chapter_of(limit.max_chapter)
    )
    # A chapter never learns from what it gave to the pool itself: so a second run finds what the first one found.
    own = (grown_tag(chapter),) if chapter is not None else ()
    bound = t.Bound(
        max_chapter=highest,
        max_depth=limit.max_depth,
        any_tags=limit.any_tags,
        none_tags=(*limit.none_tags, *own),
    )
    wanted = t.SeriesContext(series, bound, limit.hits) if series else None
    return Plan(
        pages=pages,
        names=names,
        chapter=chapter,
        options=options if here else replace(options, series=wanted),
        series=series,
        grow=grow,
        client_context=wanted if here else None,
    )


def _run(run: Run, plans: list[Plan], tally: Tally) -> None:
    from panelhue.cli.progress import Display

    with Display(tally.pages) as display:
        for plan in plans:
            display.chapter(plan.chapter, len(plan.pages))
            for step in run.chapter(plan):
                _count(step, tally)
                display.show(step)


def _count(step: object, tally: Tally) -> None:
    from panelhue import jobs
    from panelhue import types as t

    if isinstance(step, jobs.Kept | jobs.Written):
        tally.done[step.done.page] = step.done
        tally.kept += isinstance(step, jobs.Kept)
    elif isinstance(step, jobs.Grown):
        tally.grown += 1
    elif isinstance(step, jobs.NotGrown) and not step.nothing_to_give:
        tally.not_grown[step.done.page] = step.why
    elif isinstance(step, t.Failed):
        tally.failures[step.key] = step.failure


def _finish(run: Run, book: Book, names: dict[str, str], tally: Tally) -> None:
    ready = [names[page.name] for page in book.pages if page.name in tally.done]
    if ready:
        run.pack(book, ready, whole=len(ready) == len(book.pages))


def _sheet(
    book: Book, place: Workspace, journal: Journal, names: dict[str, str], series: str, retrieval: RetrievalClient
) -> list[Path]:
    from panelhue.sheet import make_sheet

    done = {page: one for page, one in journal.done.items() if names.get(page) == one.output}
    return make_sheet(book, place, done, series, retrieval) if done else []


def _failures(tally: Tally) -> Iterator[tuple[str, str]]:
    for page, failure in tally.failures.items():
        yield page, f"{failure.reason}: {failure.message}"
    for page, why in tally.not_grown.items():
        yield page, f"finished, but not added to the pool: {why}"


def _report(target: Path, tally: Tally, sheets: list[Path], json: bool) -> None:
    seconds = sorted(one.seconds for one in tally.done.values())
    if json:
        print_json(
            {
                "output": str(target),
                "sheets": [str(path) for path in sheets],
                "pages": tally.pages,
                "finished": len(tally.done),
                "kept": tally.kept,
                "grown": tally.grown,
                "failed": tally.failures,
                "not_grown": tally.not_grown,
                "results": list(tally.done.values()),
            }
        )
        return
    fresh = len(tally.done) - tally.kept
    text = f"[bold]{escaped(target)}[/]: {len(tally.done)} of {tally.pages} pages"
    text += f", {tally.kept} of them from before" if tally.kept else ""
    text += f", {tally.grown} added to the pool" if tally.grown else ""
    text += f"; median {seconds[len(seconds) // 2]:.2f} s a page" if fresh else ""
    out().print(text, soft_wrap=True)
    for path in sheets:
        out().print(f"contact sheet: {escaped(path)}", soft_wrap=True)
    for licence in sorted({one.weights_licence for one in tally.done.values()} - {""}):
        out().print(f"made with weights under: {escaped(licence)}", soft_wrap=True)
    for page, done in tally.done.items():
        for text in done.notes:
            note(f"{page}: {text}")
    for page, why in _failures(tally):
        complain(f"{page}: {why}")
