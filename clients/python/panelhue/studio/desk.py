"""Desks: what one browser tab works on. Each has a folder of its own, and nobody else finds it without its token."""

from __future__ import annotations

import itertools
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from panelhue import types as t
from panelhue.books import PICTURES, Book, open_book
from panelhue.comicinfo import marked
from panelhue.errors import BookError, UsageError
from panelhue.outputs import output_names, pack_cbz, write_whole
from panelhue.studio.pictures import size_of

MOST_PAGES = 2000  # of a chapter; a desk keeps some kilobytes for each
MOST_BYTES = 4 * 1024**3  # of the files on a desk, as they were dropped
MOST_HINTS = 1024  # of a page, as the server takes them


class PageState(StrEnum):
    """How far a page is."""

    WAITING = "waiting"
    WORKING = "working"
    FINISHED = "finished"
    FAILED = "failed"


class Verdict(StrEnum):
    """What a person said of a finished page."""

    NONE = ""
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass
class DeskPage:
    """One page of the chapter on a desk."""

    place: int  # from 0, in the chapter
    name: str  # path within the book
    number: int  # from 1
    chapter: int | None  # thousandths
    read: Callable[[], bytes] = field(repr=False)
    state: PageState = PageState.WAITING
    step: int = 0
    steps: int = 0  # 0: not told yet
    problem: str = ""  # why it failed, a sentence
    result: t.PageResult | None = None
    hints: list[t.Hint] = field(default_factory=list)
    verdict: Verdict = Verdict.NONE
    promoted: str = ""  # id that the page has in the pool; empty: it is not there
    version: int = 0  # raised with each result
    size: tuple[int, int] | None = None  # width and height, pixels; None: not looked at yet

    @property
    def label(self) -> str:
        """Its file name, for people."""
        return self.name.rpartition("/")[2]


class Colouring(Protocol):
    """Pages being coloured, as the desk sees it."""

    pages: Sequence[DeskPage]
    began: float  # time.monotonic()
    stopped: bool
    finished: int  # pages
    problem: Exception | None

    def stop(self) -> None:
        """Ends it soon."""


class Desk:
    """The chapter that one browser tab works on.

    Args:
        token: names it in the addresses of its pictures; a secret of the tab.
        folder: its own; gone when the desk is closed.
        clock: seconds that only grow.
    """

    def __init__(self, token: str, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.token, self._folder, self._clock = token, folder, clock
        self.touched = clock()  # when a person, or a run, last did something here
        self.lock = threading.RLock()
        self.pages: list[DeskPage] = []
        self.selected = 0
        self.laid = 0  # raised with each chapter, so that no browser shows a picture of an earlier one
        self.title = ""
        self.notes: tuple[str, ...] = ()
        self.chapter: int | None = None  # of the book, as it tells itself
        self.run: Colouring | None = None  # while pages are coloured
        self.last_run: Colouring | None = None
        self._changes = 0
        self._changed = threading.Condition(self.lock)
        self._books = ExitStack()
        self._book: Book | None = None
        self._chapter = folder / "chapter"
        self._chapter.mkdir(parents=True)

    def touch(self) -> None:
        """Says that somebody is here."""
        self.touched = self._clock()

    def take(self, files: Sequence[Path]) -> None:
        """Lays a new chapter on the desk; what lay there goes.

        Args:
            files: as the browser sent them; moved into the desk's folder. One book, or any number of pictures.

        Raises:
            BookError: they are no book; the desk is empty then.
            UsageError: they are too many or too large, or pages are being coloured.
        """
        with self.lock:
            if self.run is not None:
                raise UsageError("pages of the chapter on the desk are being coloured; stop that first")
            self.clear()
            books = gathered(files, self._chapter / "dropped")
            if len(books) != 1:
                raise UsageError(f"one chapter at a time: one book, or any number of pictures; got {len(books)} books")
            self._lay(books[0])

    @contextmanager
    def borrowed(self, files: Sequence[Path]) -> Iterator[list[Path]]:
        """Books made of dropped files, for as long as the block lasts; the files are gone then.

        Raises:
            UsageError: they are too large together.
        """
        folder = self._folder / f"borrowed-{secrets.token_hex(4)}"
        try:
            yield gathered(files, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _lay(self, path: Path) -> None:
        book = self._books.enter_context(open_book(path))
        if len(book.pages) > MOST_PAGES:
            self.clear()
            raise UsageError(f"a chapter on the desk has at most {MOST_PAGES} pages, got {len(book.pages)}")
        self._book, self.notes, self.chapter = book, book.notes, book.chapter
        self.title = book.title if path.is_file() else "pictures"
        self.pages = [
            DeskPage(place, page.name, page.number, page.chapter, page.read) for place, page in enumerate(book.pages)
        ]

    def clear(self) -> None:
        """Takes the chapter off the desk."""
        with self.lock:
            self._books.close()
            self.laid += 1
            self._book, self.pages, self.selected = None, [], 0
            self.title, self.notes, self.chapter = "", (), None
            shutil.rmtree(self._chapter)
            self._chapter.mkdir()

    def page(self, place: int) -> DeskPage:
        """The page at a place.

        Raises:
            UsageError: there is none.
        """
        if not 0 <= place < len(self.pages):
            raise UsageError("that page is not on the desk any more")
        return self.pages[place]

    def measured(self, page: DeskPage) -> tuple[int, int]:
        """Width and height of a page, pixels, orientation applied; read from its file the first time.

        Raises:
            BookError: it cannot be read.
            OSError: likewise.
        """
        if page.size is None:
            page.size = size_of(page.read())
        return page.size

    def finish(self, page: DeskPage, event: t.Finished) -> None:
        """Keeps a finished page; its picture lies in the desk's folder before the page says so."""
        write_whole(self._coloured(page, page.version + 1), event.picture.data)
        with self.lock:
            self._coloured(page, page.version).unlink(missing_ok=True)
            page.version += 1
            page.result, page.state, page.problem = event.result, PageState.FINISHED, ""
            page.verdict = Verdict.NONE
            self._tell()

    def fail(self, page: DeskPage, why: str) -> None:
        """Keeps why a page failed; an earlier result of it stays."""
        with self.lock:
            page.state, page.problem = PageState.FAILED, why
            self._tell()

    def work(self, page: DeskPage, step: int, steps: int) -> None:
        """Keeps how far a page is."""
        with self.lock:
            page.state, page.step, page.steps = PageState.WORKING, step, steps
            self._tell()

    def begin(self, run: Colouring) -> None:
        """Lets a run have the desk.

        Raises:
            UsageError: another one has it.
        """
        with self.lock:
            if self.run is not None:
                raise UsageError("pages of this chapter are being coloured already; wait, or press Stop")
            self.run = run
            for page in run.pages:
                page.state, page.step, page.steps, page.problem = PageState.WAITING, 0, 0, ""
            self._tell()

    def end(self, run: Colouring) -> None:
        """Takes the desk back; pages that the run has not answered are as before it."""
        with self.lock:
            self.run, self.last_run = None, run
            self.touch()
            for page in run.pages:
                if page.state in (PageState.WORKING, PageState.WAITING):
                    page.state = PageState.FINISHED if page.result is not None else PageState.WAITING
            self._tell()

    def _tell(self) -> None:
        self._changes += 1
        self._changed.notify_all()

    def changed(self, since: int, seconds: float) -> int:
        """A number that grows with each change of a page; waits until it is above `since`, at most some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._changes > since, seconds)
            return self._changes

    def coloured(self, page: DeskPage) -> bytes:
        """A finished page's picture, as the server made it.

        Raises:
            BookError: it is not finished.
        """
        with self.lock:
            if page.result is None:
                raise BookError(f"{page.label} is not finished", reason="OUTPUT_MISSING")
            return self._coloured(page, page.version).read_bytes()

    def _coloured(self, page: DeskPage, version: int) -> Path:
        return self._chapter / "coloured" / f"{page.place}-{version}.png"

    def packed(self) -> Path:
        """A CBZ of the finished pages, in reading order.

        Raises:
            BookError: none is finished.
        """
        with self.lock:
            finished = [page for page in self.pages if page.result is not None]
            if not finished:
                raise BookError("no page of the chapter is finished yet", reason="OUTPUT_MISSING")
            names = output_names([page.name for page in finished], ".png")
            folder = self._chapter / "packed"
            for page in finished:
                target = folder / names[page.name]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.hardlink_to(self._coloured(page, page.version))
            pack_cbz(
                self._chapter / "chapter.cbz", folder, [names[page.name] for page in finished], self._info(finished)
            )
            shutil.rmtree(folder)
            return self._chapter / "chapter.cbz"

    def _info(self, finished: Sequence[DeskPage]) -> bytes | None:
        """The book's ComicInfo.xml, marked as the command marks it where colour was made."""
        book, results = self._book, [page.result for page in finished if page.result is not None]
        makers = sorted({f"{one.backend} {one.backend_version}".strip() for one in results if not one.already_colour})
        if book is None or not makers:
            return book.comic_info.raw or None if book is not None and book.comic_info is not None else None
        places = [book.pages[page.place].place for page in finished]
        doubled = Counter(page.place for page in book.pages)
        return marked(book.comic_info, ", ".join(makers), places, doubled, book.right_to_left)

    def close(self) -> None:
        """Stops what runs, and removes the folder."""
        run = self.run
        if run is not None:
            run.stop()
            while self.run is run:
                self.changed(self._changes, 0.1)
        with self.lock:
            self._books.close()
            self.pages = []
            shutil.rmtree(self._folder, ignore_errors=True)


def gathered(files: Sequence[Path], folder: Path) -> list[Path]:
    """Books made of dropped files: pictures together make one, in a folder; every other file is one itself.

    Args:
        files: are moved.
        folder: where to; made here.

    Raises:
        UsageError: they are too large together; nothing was moved.
    """
    if (total := sum(file.stat().st_size for file in files)) > MOST_BYTES:
        raise UsageError(f"a drop has at most {MOST_BYTES >> 20} MB, got {total >> 20} MB")
    books: list[Path] = []
    for place, file in enumerate(files):
        picture = file.suffix.lower() in PICTURES
        target = folder / ("pictures" if picture else str(place)) / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(place):  # two of one name
            if not target.exists():
                break
            target = target.with_name(f"{file.stem}-{number}{file.suffix}")
        shutil.move(file, target)
        if not picture:
            books.append(target)
        elif target.parent not in books:
            books.append(target.parent)
    return books
