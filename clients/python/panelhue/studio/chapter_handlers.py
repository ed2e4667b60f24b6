"""Answers of the chapter on the desk: taking it, colouring, choosing a page, hints, approving and rejecting."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from panelhue import types as t
from panelhue.chapters import chapter_text
from panelhue.errors import BookError, PanelhueError, UsageError
from panelhue.palettes import colour_of
from panelhue.studio.desk import MOST_HINTS, Colouring, Desk, DeskPage, PageState, Verdict
from panelhue.studio.handlers import Changes, Handlers, chapter_said, needed, told
from panelhue.studio.pool import promote, reject
from panelhue.studio.pool_handlers import data_of
from panelhue.studio.runs import Run, Wishes, chapter_of_page
from panelhue.studio.strip import progress_html, strip_html
from panelhue.studio.viewer import viewer_html
from panelhue.studio.words import bad, careful, counted, failure_text, good, problem

BEAT_SECONDS = 0.5  # between two looks at a run while nothing changes
LEAST_SECONDS = 0.15  # between two looks while much does


class ChapterHandlers(Handlers):
    """The chapter on the desk."""

    @told
    def take(self, token: str, series: str | None, files: list[str] | None) -> Changes:
        """A dropped chapter, laid on the desk."""
        desk = self.desk(token)
        if not files:
            return {self.page.notice: gr.skip()}
        try:
            desk.take([Path(file) for file in files])
        except (PanelhueError, OSError) as error:
            return {**self.failed(error), self.page.chapter_files: None, **self.whole(desk, series)}
        said = f"{desk.title}: {counted(len(desk.pages), 'page')}."
        return {
            self.page.notice: good("\n".join([said, *desk.notes[:8]])),
            self.page.chapter_files: None,
            self.page.chapter: chapter_text(desk.chapter) if desk.chapter is not None else gr.skip(),
            **self.whole(desk, series),
        }

    def whole(self, desk: Desk, series: str | None) -> Changes:
        """All that shows the chapter."""
        return {**self.chapter_view(desk, series or ""), self.page.progress: progress_html(desk)}

    @told
    def colourise(self, token: str, series: str | None, *fields: Any) -> Iterator[Changes]:
        """All pages that are not finished; all of them again where every one is."""
        desk, wishes = self.desk(token), wishes_of(series, *fields)
        if not desk.pages:
            raise UsageError("drop a chapter first")
        self._begin(desk, [page for page in desk.pages if page.state is not PageState.FINISHED] or desk.pages, wishes)
        yield from self._watched(desk, series)

    @told
    def recolour(  # gradio hands the event to the argument of its type, so none may be gathered
        self,
        token: str,
        series: str | None,
        chapter: str,
        backend: str | None,
        earlier: bool,
        given: bool,
        seed: float | None,
        event: gr.EventData,
    ) -> Iterator[Changes]:
        """One page, with its hints."""
        desk = self.desk(token)
        page = desk.page(whole_number(data_of(event).get("place")))
        came = page.result is not None and page.result.already_colour
        self._begin(desk, [page], wishes_of(series, chapter, backend, earlier, given, seed, recolour=came))
        yield from self._watched(desk, series)

    def _begin(self, desk: Desk, pages: list[DeskPage], wishes: Wishes) -> None:
        servers = self.servers
        Run(desk, pages, wishes, servers.colorizer.target, servers.retrieval, servers.token)

    @told
    def watch(self, token: str, series: str | None) -> Iterator[Changes]:
        """A run that was begun before the tab was loaded again."""
        yield {self.page.notice: gr.skip()}  # gradio takes a generator that yields nothing as one that empties all
        desk = self.desks.find(token)
        if desk is not None and desk.run is not None:
            yield from self._watched(desk, series)

    def _watched(self, desk: Desk, series: str | None) -> Iterator[Changes]:
        run = desk.run or desk.last_run
        assert run is not None, "a watched desk has a run"
        seen, shown, palette = -1, "", self.swatches(series or "")
        yield {self.page.notice: "", **self._buttons(running=True)}
        while desk.run is run:
            now = desk.changed(seen, BEAT_SECONDS)
            changes: Changes = {self.page.progress: progress_html(desk, time.monotonic() - run.began)}
            if now != seen:
                changes[self.page.strip] = strip_html(desk)
                if (html := viewer_html(desk, palette, series or "")) != shown:
                    shown = changes[self.page.viewer] = html
            seen = now
            yield changes
            time.sleep(LEAST_SECONDS)  # a browser need not hear of each of a hundred steps
        yield {**self.whole(desk, series), **self._buttons(running=False), self.page.notice: _ended(run)}

    def _buttons(self, *, running: bool) -> Changes:
        return {
            self.page.colour: gr.update(interactive=not running),
            self.page.stop: gr.update(interactive=running),
        }

    @told
    def stop(self, token: str) -> Changes:
        """Ends the run; what is finished stays."""
        run = self.desk(token).run
        if run is not None:
            run.stop()
        return {self.page.notice: gr.skip()}

    @told
    def pick(self, token: str, series: str | None, event: gr.EventData) -> Changes:
        """Another page."""
        desk = self.desk(token)
        return self._moved(desk, series, whole_number(data_of(event).get("place")))

    def _moved(self, desk: Desk, series: str | None, place: int) -> Changes:
        desk.selected = desk.page(place).place
        return {
            self.page.notice: "",
            self.page.strip: strip_html(desk),
            self.page.viewer: viewer_html(desk, self.swatches(series or ""), series or ""),
        }

    @told
    def hint(self, token: str, series: str | None, event: gr.EventData) -> Changes:
        """A colour that a person wants at a place."""
        desk, sent = self.desk(token), data_of(event)
        page = desk.page(whole_number(sent.get("place")))
        if len(page.hints) >= MOST_HINTS:
            raise UsageError(f"a page has at most {MOST_HINTS} hints")
        width, height = desk.measured(page)
        x, y, size = (share(sent.get(name)) for name in ("x", "y", "size"))
        radius = max(1.0, size * max(width, height))
        rgb = colour_of(str(sent.get("rgb")))
        page.hints.append(t.Hint(min(x * width, width - 1), min(y * height, height - 1), rgb, radius))
        return {
            self.page.notice: "",
            self.page.viewer: viewer_html(desk, self.swatches(series or ""), series or ""),
        }

    @told
    def act(
        self, token: str, series: str | None, chapter: str, chapters: str, origin: str, event: gr.EventData
    ) -> Changes:
        """A button of the page's bar."""
        desk, sent = self.desk(token), data_of(event)
        page, act = desk.page(whole_number(sent.get("place"))), sent.get("act")
        if act in ("next", "previous"):
            step = 1 if act == "next" else -1
            return self._moved(desk, series, min(max(page.place + step, 0), len(desk.pages) - 1))
        if act == "unhint":
            place = whole_number(sent.get("hint"))
            page.hints[place : place + 1] = []
            return self._moved(desk, series, page.place)
        if act == "approve":
            *_, done = self._approving(desk, needed(series), [page], chapter_said(chapter), [chapters, origin])
            return done
        if act == "reject":
            return self._rejected(desk, series or "", page, [chapters, origin])
        raise UsageError(f"a page can be approved or rejected, got {str(act)[:40]!r}")

    @told
    def approve_all(self, token: str, series: str | None, chapter: str, *filters: str) -> Iterator[Changes]:
        """Every finished page of which nothing was said yet."""
        desk = self.desk(token)
        pages = [page for page in desk.pages if page.state is PageState.FINISHED and page.verdict is Verdict.NONE]
        if not pages:
            raise UsageError("no finished page waits for a verdict")
        yield from self._approving(desk, needed(series), pages, chapter_said(chapter), list(filters))

    def _approving(
        self, desk: Desk, series: str, pages: list[DeskPage], chapter: int | None, filters: list[str]
    ) -> Iterator[Changes]:
        refused, error = [], None
        for place, page in enumerate(pages):
            if place:
                yield {self.page.notice: careful(f"Adding to the pool: {place} of {len(pages)} …")}
            said = chapter_of_page(page, Wishes(chapter=chapter))
            try:
                result = promote(self.servers.retrieval, series, desk, page, said)
            except (PanelhueError, OSError) as problem_of_page:
                error = problem_of_page
                break
            if result.failure is not None:
                refused.append(f"{page.label}: {failure_text(result.failure)}")
        taken = [page for page in pages if page.verdict is Verdict.APPROVED]
        self._go_on(desk, pages[-1])
        what = f"{pages[0].label} is" if len(pages) == 1 else f"{counted(len(taken), 'page')} are"
        notice = good(f"{what} in the pool, marked as made by {_maker(taken)}.") if taken else ""
        if refused:
            notice = careful("\n".join(["The pool refused:", *refused[:8]]))
        if error is not None:
            notice = bad(problem(error))
        yield {**self.whole(desk, series), **self.shelf(series, *filters), self.page.notice: notice}

    def _rejected(self, desk: Desk, series: str, page: DeskPage, filters: list[str]) -> Changes:
        if page.result is None:
            raise BookError(f"{page.label} is not finished", reason="OUTPUT_MISSING")
        was = reject(self.servers.retrieval, series, page)
        self._go_on(desk, page)
        said = f"{page.label} is rejected{' and no longer in the pool' if was else '; the pool is as it was'}."
        shelf = self.shelf(series, *filters) if was else {}
        return {**self.whole(desk, series), **shelf, self.page.notice: good(said)}

    @staticmethod
    def _go_on(desk: Desk, page: DeskPage) -> None:
        """Selects the next page that waits for a verdict, if there is one and this page has its own."""
        if page.verdict is Verdict.NONE:
            return
        places = [*range(page.place + 1, len(desk.pages)), *range(page.place)]
        waiting = (place for place in places if desk.pages[place].verdict is Verdict.NONE)
        desk.selected = next(waiting, page.place)


def _maker(pages: list[DeskPage]) -> str:
    names = {page.result.backend for page in pages if page.result is not None and not page.result.already_colour}
    return ", ".join(sorted(names)) or "people, as it came in colour"


def _ended(run: Colouring) -> str:
    failed = [page for page in run.pages if page.state is PageState.FAILED]
    said = f"{run.finished} of {counted(len(run.pages), 'page')} finished"
    if isinstance(run.problem, PanelhueError | OSError):
        return bad(f"{problem(run.problem)}\n{said}; Colourise goes on with the others.")
    if run.problem is not None:
        return bad(f"Colouring ended by a mistake of the studio's own; its log tells more.\n{said}.")
    if run.stopped:
        return careful(f"Stopped. {said}; Colourise goes on with the others.")
    if failed:
        return careful("\n".join([f"{said}, {len(failed)} failed.", *(f"{p.label}: {p.problem}" for p in failed[:8])]))
    return good(f"{said}.")


def wishes_of(
    series: str | None,
    chapter: str,
    backend: str | None,
    earlier: bool,
    given: bool,
    seed: float | None,
    *,
    recolour: bool = False,
) -> Wishes:
    """How the fields want a chapter coloured.

    Raises:
        UsageError: one of them makes no sense.
    """
    number = int(seed or 0)
    if number < 0:
        raise UsageError(f"a seed is a whole number from 0, got {number}")
    return Wishes(series or "", chapter_said(chapter), backend or "", bool(earlier), bool(given), number, recolour)


def whole_number(value: object) -> int:
    """A number that studio.js sent.

    Raises:
        UsageError: it sent something else.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not float(value).is_integer():
        raise UsageError(f"a page is named by its number, got {str(value)[:40]!r}")
    return int(value)


def share(value: object) -> float:
    """A share of a side, [0, 1], that studio.js sent.

    Raises:
        UsageError: it sent something else.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or not 0 <= value <= 1:
        raise UsageError(f"a place on a page lies within it, got {str(value)[:40]!r}")
    return float(value)
