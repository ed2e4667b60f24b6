"""Colouring pages of a desk, in a thread of its own, so that the page can go on and a run can be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from panelhue import types as t
from panelhue.colorizer_client import ColorizerClient
from panelhue.errors import PanelhueError
from panelhue.retrieval_client import RetrievalClient
from panelhue.studio.desk import Desk, DeskPage
from panelhue.studio.words import failure_text


@dataclass(frozen=True)
class Wishes:
    """How a chapter is to be coloured."""

    series: str = ""  # empty: without references
    chapter: int | None = None  # thousandths; None: as the book tells, page by page
    backend: str = ""  # empty: the server's default
    earlier_only: bool = True  # no references of later chapters
    given_only: bool = False  # no references that were generated
    seed: int = 0
    recolour: bool = False  # also pages that came in colour


class Run:
    """Pages being coloured, in a thread and on a connection of their own; a tab that is closed does not end it.

    Args:
        desk: where the pages lie; it is told what becomes of them, and of the end.
        pages: of the desk.
        wishes: how.
        colorizer: address of the colouriser server.
        retrieval: who fetches contexts where the colouriser cannot.
        token: what the colouriser asks for; "": nothing.

    Raises:
        UsageError: pages of the desk are being coloured already.
    """

    def __init__(
        self,
        desk: Desk,
        pages: Sequence[DeskPage],
        wishes: Wishes,
        colorizer: str,
        retrieval: RetrievalClient,
        token: str = "",
    ) -> None:
        self.began = time.monotonic()
        self.pages = pages
        self.problem: Exception | None = None  # why the whole run ended early
        self.stopped = False
        self.finished = 0  # pages
        self._desk, self._wishes = desk, wishes
        self._client = ColorizerClient(colorizer, timeout=10.0, token=token)
        self._retrieval = retrieval
        self._here = False  # whether contexts are fetched here
        try:
            desk.begin(self)
        except BaseException:
            self._client.close()
            raise
        threading.Thread(target=self._work, name="studio-run", daemon=True).start()

    def stop(self) -> None:
        """Ends the call on the server within a step; pages that are not finished wait again."""
        self.stopped = True
        self._client.close()

    def _work(self) -> None:
        try:
            for event in self._client.colorize(self._files(), self._options()):
                self._heard(event)
        except (PanelhueError, ValueError) as error:  # ValueError: gRPC's word for a channel that was just closed
            self.problem = None if self.stopped else error
        except Exception as error:  # told on the page as well as in the log
            self.problem = error
            raise
        finally:
            self._client.close()
            self._desk.end(self)

    def _options(self) -> t.ColorizeOptions:
        series, has_retrieval = self._wishes.series, self._client.info().has_retrieval
        pages = t.ColourPages.RECOLOUR if self._wishes.recolour else t.ColourPages.KEEP
        options = t.ColorizeOptions(backend=self._wishes.backend, colour_pages=pages, seed=self._wishes.seed)
        self._here = bool(series) and not has_retrieval
        if self._here:  # a server that cannot fetch does not know the series' own colours either
            return replace(options, palette=self._retrieval.get_series(series).palette)
        return replace(options, series=t.SeriesContext(series)) if series else options

    def _files(self) -> Iterator[t.PageFile]:
        for page in self.pages:
            bound = bound_of(page, self._wishes)
            yield t.PageFile(
                str(page.place),
                page.read,
                hints=tuple(page.hints),
                bound=bound if self._wishes.series and not self._here else None,
                context=self._fetcher(bound) if self._here else None,
            )

    def _fetcher(self, bound: t.Bound) -> Callable[[bytes], t.Context]:
        return lambda data: self._retrieval.retrieve_context(self._wishes.series, data, bound=bound)

    def _heard(self, event: t.Event) -> None:
        page = self._desk.pages[int(event.key)]
        if isinstance(event, t.Finished):
            self._desk.finish(page, event)
            self.finished += 1
        elif isinstance(event, t.Failed):
            self._desk.fail(page, failure_text(event.failure))
        elif isinstance(event, t.Progress):
            self._desk.work(page, event.step, event.steps)


def chapter_of_page(page: DeskPage, wishes: Wishes) -> int | None:
    """The chapter that a page belongs to, thousandths."""
    return wishes.chapter if wishes.chapter is not None else page.chapter


def bound_of(page: DeskPage, wishes: Wishes) -> t.Bound:
    """Which references may answer for a page: never the page itself, as it was promoted before.

    Pages of the same chapter that were approved do answer: whoever approves page 1 wants page 2 to follow it.
    """
    return t.Bound(
        max_chapter=chapter_of_page(page, wishes) if wishes.earlier_only else None,
        max_depth=0 if wishes.given_only else None,
        exclude_reference_ids=(page.promoted,) if page.promoted else (),
    )
