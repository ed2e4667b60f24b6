"""What every handler shares: the tab's desk, notices in place of errors, the page's head, the choice of a series."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import gradio as gr

from panelhue import types as t
from panelhue.chapters import chapter_of
from panelhue.errors import PanelhueError, UsageError
from panelhue.studio.colours import palette_html
from panelhue.studio.desk import Desk
from panelhue.studio.desks import Desks
from panelhue.studio.page import Page
from panelhue.studio.pool import read_wall
from panelhue.studio.servers import Servers
from panelhue.studio.strip import progress_html, strip_html
from panelhue.studio.viewer import viewer_html
from panelhue.studio.wall import empty, wall_html
from panelhue.studio.words import bad, good, problem

Changes: TypeAlias = dict[Any, Any]  # the page's parts that change, to their new values
NO_SERIES = "choose a series first, or create one"


def told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler, whose errors become notices; it may be a generator."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generating(self: Handlers, *inputs: Any) -> Iterator[Changes]:
            try:
                yield from handler(self, *inputs)
            except (PanelhueError, OSError) as error:
                yield self.failed(error)

        return generating

    @functools.wraps(handler)
    def answering(self: Handlers, *inputs: Any) -> Changes:
        try:
            answer: Changes = handler(self, *inputs)
        except (PanelhueError, OSError) as error:
            return self.failed(error)
        return answer

    return answering


class Handlers:
    """The part that is shared.

    Args:
        page: whose events are answered.
        servers: both of them.
        desks: of all tabs.
    """

    def __init__(self, page: Page, servers: Servers, desks: Desks) -> None:
        self.page, self.servers, self.desks = page, servers, desks

    def failed(self, error: PanelhueError | OSError) -> Changes:
        """The notice of an error."""
        return {self.page.notice: bad(problem(error))}

    def desk(self, token: str) -> Desk:
        """The tab's own.

        Raises:
            UsageError: it was cleared away.
        """
        if self.desks.find(token) is None:
            raise UsageError(
                "this tab was left alone for too long and its pages were cleared away; load the page again"
            )
        return self.desks.open(token)

    # -- loading

    def load(self, stored: str, series: str) -> Changes:
        """The whole page for a tab, as it left it if it was here before."""
        desk = self.desks.open(stored if isinstance(stored, str) else "")
        changes = self.reload(desk.token, series)
        return {**changes, self.page.token: desk.token, self.page.stored: desk.token}

    @told
    def reload(self, token: str, series: str | None) -> Changes:
        """Everything that the servers tell, asked anew."""
        desk = self.desk(token)
        names, lost = self._asked(self.servers.series, [])
        cards, away = self._asked(self.servers.backends, ())
        known = [key for _, key in names]
        chosen = series if series and series in known else ""
        backends = [(f"{card.name}{' (default)' if card.is_default else ''}", card.name) for card in cards]
        error = lost or away
        return {
            self.page.head: self.servers.head(lost, away),
            self.page.notice: bad(problem(error)) if error else "",
            self.page.series: gr.Dropdown(choices=names, value=chosen or None),
            self.page.backend: gr.Dropdown(choices=[("the server's default", ""), *backends]),
            **self.shelf(chosen),
            **self.chapter_view(desk, chosen),
            self.page.progress: progress_html(desk),
        }

    @staticmethod
    def _asked(ask: Callable[[], Any], otherwise: Any) -> tuple[Any, PanelhueError | None]:
        try:
            return ask(), None
        except PanelhueError as error:
            return otherwise, error

    # -- parts of the page

    def shelf(self, series: str, chapters: str = "", origin: str = "all") -> Changes:
        """The wall and the palette of a series."""
        if not series:
            choose = empty("No series is chosen", "Choose one above, or create one: each has a pool of its own.")
            return {self.page.wall: choose, self.page.palette: choose}
        try:
            wall = read_wall(self.servers.retrieval, series, bound_of_filter(chapters, origin))
        except PanelhueError as error:
            return {self.page.wall: empty("The pool cannot be shown", problem(error)), self.page.palette: ""}
        return {self.page.wall: wall_html(wall), self.page.palette: palette_html(wall.series.palette, series)}

    def chapter_view(self, desk: Desk, series: str) -> Changes:
        """The strip, the viewer, and where the finished chapter can be had."""
        finished = any(one.result is not None for one in desk.pages)
        where = f"ph-studio/desk/{desk.token}/chapter.cbz"
        link = f'<a class="ph-button" download href="{where}">Download the chapter (CBZ)</a>'
        return {
            self.page.strip: strip_html(desk),
            self.page.viewer: viewer_html(desk, self.swatches(series), series),
            self.page.download: link if finished else "",
        }

    def swatches(self, series: str) -> tuple[t.Swatch, ...]:
        """The palette of a series; empty where it cannot be had, which is told elsewhere."""
        try:
            return self.servers.retrieval.get_series(series).palette if series else ()
        except PanelhueError:
            return ()

    # -- series

    @told
    def choose(self, series: str | None, chapters: str, origin: str) -> Changes:
        """Another series."""
        return {
            **self.shelf(series or "", chapters, origin),
            self.page.notice: "",
            self.page.drift: "",
        }

    @told
    def create(self, name: str) -> Changes:
        """A new series, which is chosen then."""
        if not (name := name.strip()):
            raise UsageError("a new series needs a name")
        made = self.servers.retrieval.create_series(display_name=name)
        return {
            self.page.notice: good(f"The series {name} is there.\nDrop its colour pages into the pool."),
            self.page.series: gr.Dropdown(choices=self.servers.series(), value=made.id),
            self.page.new_series: "",
            **self.shelf(made.id),
        }


def needed(series: str | None) -> str:
    """The chosen series.

    Raises:
        UsageError: none is.
    """
    if not series:
        raise UsageError(NO_SERIES)
    return series


def chapter_said(text: str | None) -> int | None:
    """The chapter that a field says, thousandths; None: it is empty.

    Raises:
        UsageError: it is no chapter.
    """
    return chapter_of(text) if text and text.strip() else None


def bound_of_filter(chapters: str, origin: str) -> t.Bound:
    """What a wall shows, from fields such as "12" or "3-10".

    Raises:
        UsageError: they name no chapters.
    """
    low, dash, high = (chapters or "").partition("-")
    first = chapter_said(low)
    last = chapter_said(high) if dash else first
    if first is not None and last is not None and first > last:
        raise UsageError(f'chapters are shown from the lower to the higher, got "{chapters}"')
    return t.Bound(min_chapter=first, max_chapter=last, max_depth=0 if origin == "given" else None)
