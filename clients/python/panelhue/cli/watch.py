"""`panelhue watch`: colourises what arrives in a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panelhue.cli.colorize import Format, as_json, options_of, report
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
    print_json_line,
)
from panelhue.cli.completion import complete_backend, complete_series
from panelhue.cli.interrupts import stoppable

if TYPE_CHECKING:
    from panelhue.books import Book
    from panelhue.cli.book_run import Request
    from panelhue.reports import ColorizeReport
    from panelhue.watching import Arrival, Ledger, Patience

LONGEST_PAUSE = 60.0  # seconds between two attempts while a server is away


def watch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where grey books and pictures arrive.")],
    series: Annotated[
        str,
        typer.Option("--series", "-s", help="The series whose pool gives the colour.", autocompletion=complete_series),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the results go. Unset: FOLDER-colour beside it.")
    ] = None,
    chapter: Annotated[
        str | None,
        typer.Option(help="Chapter of everything. Unset: from ComicInfo.xml, or from the names of books and folders."),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(help="See `panelhue backends`; unset: the server's default.", autocompletion=complete_backend),
    ] = "",
    grow: Annotated[bool, typer.Option("--grow", help="Adds each finished page to the pool.")] = False,
    max_depth: Annotated[
        int | None, typer.Option(min=0, help="Only references of at most this provenance depth; 0: given colour.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same picture.")] = 0,
    steps: Annotated[int, typer.Option(min=0, max=1000, help="Steps of a page; 0: the back-end's own number.")] = 0,
    format_: Annotated[Format, typer.Option("--format", help="Of the finished pages; webp is lossless.")] = Format.png,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG.")] = 92,
    palette: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Named colours, as in `panelhue colorize`.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help='A parameter of the back-end, "name=value".')] = None,
    sheet: Annotated[bool, typer.Option(help="Makes a contact sheet of each book.")] = True,
    settle: Annotated[
        float, typer.Option(min=0, help="How long something must have stopped growing before it is begun, seconds.")
    ] = 3.0,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds from one look at the folder to the next.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Ends when everything that is there is done.")] = False,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    colorizer: ColorizerTarget = COLORIZER_DEFAULT,
    token: ColorizerToken = "",
    json: AsJson = False,
) -> None:
    """Colourises books and pictures as they arrive in a folder, until it is stopped.

    A CBZ, a folder of pictures, or a picture is begun when it has stopped growing, and done once: what is finished is
    remembered beside the results, and survives restarts. What changes is done again, page by page. While a server is
    away, busy or too slow, or the disk is full, things wait and are tried again. With --json it prints one line of JSON
    for everything that it has done, and for what waits; with --once it exits with 1 if something could not be done.
    """
    from panelhue.chapters import chapter_of
    from panelhue.cli.book_run import Request
    from panelhue.types import Bound
    from panelhue.watching import Patience
    from panelhue.workspaces import named_beside

    target = output or named_beside(folder, f"{folder.resolve().name}-colour")
    request = Request(
        book=folder,
        target=target,
        options=options_of(
            backend=backend,
            format_=format_,
            quality=quality,
            seed=seed,
            steps=steps,
            palette=palette,
            parameters=set_ or (),
        ),
        retrieval=retrieval,
        colorizer=colorizer,
        token=token,
        series=series,
        chapter=chapter_of(chapter) if chapter is not None else None,
        grow=grow,
        bound=Bound(max_depth=max_depth),
        sheet=sheet,
    )
    _check(folder, target)
    with stoppable(f"what is finished in {target} is kept; the same command goes on where it was"):
        sound = _Watch(request, settle, every, json, Patience()).run(once=once)
    if not sound:
        raise typer.Exit(1)


def _check(folder: Path, target: Path) -> None:
    from panelhue.errors import UsageError

    if not folder.is_dir():
        raise UsageError(f"there is no folder at {folder}")
    if target.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"the results would arrive in {folder} again; choose an --output outside it")


@dataclass
class _Watch:
    """The loop."""

    request: Request  # its book is the folder, its target the folder of all results
    settle: float
    every: float
    json: bool
    patience: Patience
    sound: bool = True
    held: set[str] = field(default_factory=set)  # what waits for somebody else
    pause: float = 0.0  # seconds until the next look while a server is away; 0: none is

    def run(self, *, once: bool) -> bool:
        """Looks, works, waits; whether all could be done."""
        from panelhue.journal import FOLDER
        from panelhue.watching import Ledger, Settling, arrivals, work_of

        folder, target = self.request.book, self.request.target
        settling = Settling(self.settle)
        err().print(f"{escaped(folder)} → {escaped(target)}; Ctrl-C stops", style="dim", soft_wrap=True)
        with Ledger(target / FOLDER) as ledger:
            while True:
                found, now = [one for one in arrivals(folder) if ledger.is_new(one)], time.monotonic()
                settled = [one for one in settling.settled(found, now) if self.patience.is_due(one, now)]
                away = not all(self._done(work, ledger) for work in work_of(settled))
                self.pause = self.pause if away else 0.0
                if once and not away and not any(ledger.is_new(one) for one in arrivals(folder)):
                    return self.sound
                if away or self.held or not settled:  # else more may have come meanwhile
                    time.sleep(self.pause or self.every)

    def _done(self, work: list[Arrival], ledger: Ledger) -> bool:
        """Does it; False while a server is away, and then everything is tried again."""
        from panelhue.cli.book_run import run_book
        from panelhue.cli.progress import Display
        from panelhue.errors import Overloaded, PanelhueError, Unavailable
        from panelhue.journal import BUSY
        from panelhue.watching import passing

        request, book, work = self._request(work, ledger)
        if not work:
            return True
        names = ", ".join(one.name for one in work[:3]) + (", …" if len(work) > 3 else "")
        if self._held(request, names):
            return True
        try:
            err().print(f"{escaped(names)} …", style="bold", soft_wrap=True)
            with Display() as display:
                found = run_book(request, display, book)
        except (PanelhueError, OSError, UnicodeError) as error:  # also a file that may not be read
            why = error.explained() if isinstance(error, PanelhueError) else str(error)
            if isinstance(error, Unavailable | Overloaded):  # nothing else could be done either
                self.pause = min(max(2 * self.pause, 2 * self.every, 1.0), LONGEST_PAUSE)
                self._wait(work, why, self.pause)
                return False
            if passing(error):
                self._put_off(work, why)
            elif getattr(error, "reason", "") != BUSY:  # that came just now; the next look waits
                self._fail(work, ledger, why)
            return True
        self._tell(work, found)
        for one in work:
            self._settle(one, found, ledger)
        return True

    def _settle(self, one: Arrival, found: ColorizeReport, ledger: Ledger) -> None:
        """Writes down what became of a thing: done, to be tried again, or failed."""
        troubles = found.failures.keys() | found.not_grown.keys()
        mine = troubles & {one.page} if one.loose else troubles
        later = mine & found.passing
        if not mine:
            ledger.finish(one)
            self.patience.forget(one)
        elif later and not self._costly(one, later, found):
            page = sorted(later)[0]
            failure = found.failures.get(page)
            self._put_off([one], failure.message if failure is not None else found.not_grown[page])
        else:
            self.sound = False
            ledger.fail(one)

    def _costly(self, one: Arrival, pages: Set[str], found: ColorizeReport) -> bool:
        """Whether it had its turns, and whatever is left may be the pages' own fault."""
        from panelhue.watching import COSTLY, TURNS

        reasons = {failure.reason for page in pages if (failure := found.failures.get(page)) is not None}
        return self.patience.turns(one) + 1 >= TURNS and reasons <= COSTLY and not pages & found.not_grown.keys()

    def _put_off(self, work: Sequence[Arrival], why: str) -> None:
        for one in work:
            self._wait([one], why, self.patience.put_off(one, time.monotonic()))

    def _wait(self, work: Sequence[Arrival], why: str, seconds: float) -> None:
        """Tells that something is tried again."""
        names = [one.name for one in work]
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        note(f"{shown}: waits: {why}; it is tried again in {seconds:.0f} s")
        if self.json:
            print_json_line({"names": names, "waits": why, "again_in": seconds})

    def _held(self, request: Request, names: str) -> bool:
        """Whether somebody else, such as a review, is at work on the same output; told once, and tried again."""
        from panelhue.jobs import workspace_of
        from panelhue.journal import busy_with

        who = busy_with(workspace_of(request.target).state)
        if who and names not in self.held:
            note(f"{names}: waits: {who}")
        (self.held.add if who else self.held.discard)(names)
        return bool(who)

    def _request(self, work: list[Arrival], ledger: Ledger) -> tuple[Request, Book | None, list[Arrival]]:
        from panelhue.jobs import workspace_of
        from panelhue.journal import read_record
        from panelhue.watching import loose_book, place_of

        if not work[0].loose:
            target = place_of(work[0], self.request.target)
            other = read_record(workspace_of(target).state).about.get("book", "")
            if other not in ("", str(work[0].path.resolve())):  # ch1.cbz and ch1.cbr, say
                self._fail(work, ledger, f"its result would replace that of {other}; give it another name")
                return self.request, None, []
            return replace(self.request, book=work[0].path, target=target), None, work
        free = list(self._free(work, ledger))
        return self.request, loose_book(self.request.book, free), free

    def _free(self, work: Sequence[Arrival], ledger: Ledger) -> Iterator[Arrival]:
        """Pictures whose results would not replace that of another one."""
        from panelhue.jobs import workspace_of
        from panelhue.journal import read_record
        from panelhue.outputs import ENDINGS, output_names

        done = read_record(workspace_of(self.request.target).state).done.values()
        owner = {one.output: one.page for one in done}
        names = output_names({one.page for one in work}, ENDINGS[self.request.options.media_type])
        taken: dict[str, str] = {}  # page to the picture that it is
        for one in work:
            other = owner.get(names[one.page], one.page)
            if other == one.page and taken.setdefault(one.page, one.name) == one.name:
                yield one
            else:
                self._fail([one], ledger, f"its result would replace that of {other}; give it another name")

    def _fail(self, work: Sequence[Arrival], ledger: Ledger, why: str) -> None:
        self.sound = False
        for one in work:
            ledger.fail(one)
            complain(f"{one.name}: {why}")
            if self.json:
                print_json_line({"names": [one.name], "error": why})

    def _tell(self, work: Sequence[Arrival], found: ColorizeReport) -> None:
        if self.json:
            facts = as_json(found)
            facts["results"] = [{"page": one.page, "output": one.output} for one in found.results.values()]
            print_json_line({"names": [one.name for one in work], **facts})
        else:
            report(found, json=False)
