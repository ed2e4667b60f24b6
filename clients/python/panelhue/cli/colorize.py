"""`panelhue colorize`: a grey book in, a colour book out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panelhue.cli.common import (
    COLORIZER_DEFAULT,
    RETRIEVAL_DEFAULT,
    AsJson,
    ColorizerTarget,
    ColorizerToken,
    RetrievalTarget,
    complain,
    err,
    escaped,
    note,
    out,
    pairs,
    print_json,
    swatches,
)
from panelhue.cli.completion import complete_backend, complete_series
from panelhue.cli.interrupts import stoppable
from panelhue.cli.reading import BOOK_HELP, RightToLeft, Spreads, SpreadsOption

if TYPE_CHECKING:
    from panelhue.cli.book_run import Redo, Request
    from panelhue.reports import ColorizeReport
    from panelhue.types import ColorizeOptions


class Format(StrEnum):
    """Of the finished pages."""

    png = "png"
    jpeg = "jpeg"
    webp = "webp"


class ColourPages(StrEnum):
    """What becomes of a page that is in colour already."""

    keep = "keep"
    recolour = "recolour"
    reject = "reject"


class Fetcher(StrEnum):
    """Who asks the retrieval server."""

    auto = "auto"
    server = "server"
    client = "client"


def colorize(
    book: Annotated[Path, typer.Argument(metavar="BOOK", help=BOOK_HELP)],
    series: Annotated[
        str,
        typer.Option("--series", "-s", help="The series whose pool gives the colour.", autocompletion=complete_series),
    ] = "",
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
    backend: Annotated[
        str,
        typer.Option(help="See `panelhue backends`; unset: the server's default.", autocompletion=complete_backend),
    ] = "",
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
    colour_pages: Annotated[
        ColourPages, typer.Option(help="What becomes of pages that are in colour already.")
    ] = ColourPages.keep,
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
    recolour: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PAGE",
            help="Makes this page of a finished book again, and no other: its file's name, or its number. Repeatable.",
        ),
    ] = None,
    hint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y=#RRGGBB",
            help="With --recolour: the colour at a place, in pixels; also X,Y,RADIUS=#RRGGBB. Repeatable.",
        ),
    ] = None,
    no_hints: Annotated[
        bool, typer.Option("--no-hints", help="With --recolour: without the hints and the seed it was given before.")
    ] = False,
    recolour_rejected: Annotated[
        bool, typer.Option("--recolour-rejected", help="Makes the pages again that `panelhue review` has rejected.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Small, fast pages in BOOK-preview, to see whether it is worth the time.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Says what would be done; nothing is written or sent to be coloured.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replaces files that are in the way.")] = False,
    sheet: Annotated[bool, typer.Option(help="Makes a contact sheet (HTML and PNG) at the end.")] = True,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    colorizer: ColorizerTarget = COLORIZER_DEFAULT,
    token: ColorizerToken = "",
    json: AsJson = False,
) -> None:
    """Colourises a book from the references of its series, page by page.

    The result lies beside the book, as BOOK-colour of the book's kind, unless --output names another place; the book
    itself is never changed. Stopped or killed, the same command goes on where it was: finished pages are checked by
    their hash and not repeated. A page that fails is told at the end (exit code 1), and the same command tries it
    again.
    """
    from panelhue.chapters import chapter_of
    from panelhue.cli.book_run import Request, finished_so_far, run_book
    from panelhue.cli.dry_run import show_dry_run
    from panelhue.cli.progress import Display
    from panelhue.types import Bound
    from panelhue.workspaces import default_target

    request = Request(
        book=book,
        target=output or default_target(book, "preview" if preview else "colour"),
        options=options_of(
            backend=backend,
            format_=format_,
            quality=quality,
            chroma_only=chroma_only,
            colour_pages=ColourPages.recolour if recolour else colour_pages,
            backend_luma=backend_luma,
            seed=seed,
            steps=steps,
            preview=preview,
            colours=colour or (),
            palette=palette,
            parameters=set_ or (),
        ),
        retrieval=retrieval,
        colorizer=colorizer,
        token=token,
        series=series,
        chapter=chapter_of(chapter) if chapter is not None else None,
        grow=grow,
        client_fetches=None if context is Fetcher.auto else context is Fetcher.client,
        bound=Bound(
            max_chapter=None if max_chapter is None or max_chapter == "any" else chapter_of(max_chapter),
            max_depth=max_depth,
            any_tags=tuple(tag or ()),
            none_tags=tuple(not_tag or ()),
        ),
        own_chapter=max_chapter is None,
        hits=hits,
        redo=_redo(recolour or [], hint or [], no_hints, recolour_rejected),
        overwrite=overwrite,
        sheet=sheet,
        preview=preview,
        spreads=spreads,
        right_to_left=right_to_left,
    )
    _check(request)
    if dry_run:
        show_dry_run(request, json)
        return
    _say_beforehand(request)
    advice = "pages are finished; the same command goes on where it was"
    with stoppable(lambda: f"{finished_so_far(request)} {advice}"), Display() as display:
        found = run_book(request, display)
    report(found, json)
    if not found.ok:
        raise typer.Exit(1)


def options_of(
    *,
    backend: str = "",
    format_: Format = Format.png,
    quality: int = 92,
    chroma_only: bool = False,
    colour_pages: ColourPages = ColourPages.keep,
    backend_luma: bool = False,
    seed: int = 0,
    steps: int = 0,
    preview: bool = False,
    colours: Sequence[str] = (),
    palette: Path | None = None,
    parameters: Sequence[str] = (),
) -> ColorizeOptions:
    """What holds for all pages, from what the command line says.

    Raises:
        UsageError: a colour or a parameter has another form.
    """
    from panelhue import types as t

    kind = Format.jpeg if preview and not chroma_only else format_
    return t.ColorizeOptions(
        backend=backend,
        media_type=f"image/{kind.value}",
        jpeg_quality=quality if kind is Format.jpeg else 0,
        chroma_only=chroma_only,
        colour_pages=t.ColourPages[colour_pages.name.upper()],
        luma=t.Luma.BACKEND if backend_luma else t.Luma.KEEP,
        seed=seed,
        steps=steps,
        palette=swatches(colours, palette),
        parameters=pairs(parameters, "parameter"),
    )


def _redo(pages: list[str], hints: list[str], plain: bool, rejected: bool) -> Redo:
    from panelhue.cli.book_run import Redo
    from panelhue.cli.hints import hints_of
    from panelhue.errors import UsageError

    if (hints or plain) and not pages:
        raise UsageError("--hint and --no-hints say how a page is made again; name it with --recolour PAGE")
    if hints and plain:
        raise UsageError("--hint and --no-hints do not go together")
    return Redo(tuple(pages), hints_of(hints), plain, rejected)


def _check(request: Request) -> None:
    from panelhue.errors import UsageError

    options = request.options
    if request.grow and (not request.series or options.chroma_only):
        raise UsageError("--grow needs --series, and finished pages rather than --chroma-only")
    if options.chroma_only and options.media_type != "image/png":
        raise UsageError("--chroma-only is written as PNG; leave --format away")
    if options.chroma_only and request.target.suffix.lower() == ".pdf":
        raise UsageError("a layer of colour needs its transparency; choose a folder or a name that ends in .cbz")
    if request.preview and (request.grow or request.redo):
        raise UsageError("--preview only shows; --grow, --recolour and --recolour-rejected need whole pages")


def _say_beforehand(request: Request) -> None:
    from panelhue.cli.book_run import finished_so_far

    before = finished_so_far(request)
    more = f"; {before} pages are finished there already" if before else ""
    err().print(f"{escaped(request.book)} → {escaped(request.target)}{more}", style="dim", soft_wrap=True)


def _failures(found: ColorizeReport) -> Iterator[tuple[str, str]]:
    for page, failure in found.failures.items():
        yield page, f"{failure.reason}: {failure.message}"
    for page, why in found.not_grown.items():
        yield page, f"finished, but not added to the pool: {why}"


def as_json(found: ColorizeReport) -> dict[str, object]:
    """What became of a book, for programs."""
    return {
        "output": str(found.output),
        "sheets": [str(path) for path in found.sheets],
        "pages": found.pages,
        "finished": len(found.results),
        "kept": found.kept,
        "grown": found.grown,
        "failed": found.failures,
        "not_grown": found.not_grown,
        "results": list(found.results.values()),
    }


def report(found: ColorizeReport, json: bool) -> None:
    """Prints what became of a book."""
    if json:
        print_json(as_json(found))
        return
    seconds = sorted(one.seconds for one in found.results.values())
    text = f"[bold]{escaped(found.output)}[/]: {len(found.results)} of {found.pages} pages"
    text += f", {found.kept} of them from before" if found.kept else ""
    text += f", {found.grown} added to the pool" if found.grown else ""
    text += f"; median {seconds[len(seconds) // 2]:.2f} s a page" if len(seconds) > found.kept else ""
    out().print(text, soft_wrap=True)
    for path in found.sheets:
        out().print(f"contact sheet: {escaped(path)}", soft_wrap=True)
    for licence in sorted({one.weights_licence for one in found.results.values()} - {""}):
        out().print(f"made with weights under: {escaped(licence)}", soft_wrap=True)
    for page, done in found.results.items():
        for text in done.notes:
            note(f"{page}: {text}")
    for page, why in _failures(found):
        complain(f"{page}: {why}")
