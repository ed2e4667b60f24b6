"""Finished pages before a person's eyes: approved ones go into the pool, rejected ones are remembered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from panelhue.books import natural_key
from panelhue.errors import PanelhueError, UsageError
from panelhue.growing import APPROVED, Promotion
from panelhue.journal import Done, Journal
from panelhue.retrieval_client import RetrievalClient
from panelhue.types import AddResult
from panelhue.workspaces import Workspace, read_result, workspace_of


class State(Enum):
    """What was said of a page's picture as it is now."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Reviewed:
    """A finished page and what was said of it."""

    page: str
    output: str
    state: State
    chapter: int | None  # thousandths
    backend: str
    depth: int  # provenance depth that it has, or would have, as a reference
    confidence: float | None
    already_colour: bool
    in_pool: bool


class NotTaken(PanelhueError):
    """The pool does not take a page; what was said of it is not remembered."""

    default_reason = "NOT_TAKEN"


class Review:
    """The finished pages of one output. A context manager that keeps runs out.

    Args:
        output: what `panelhue colorize` made: a folder or a CBZ.
        series: whose pool approved pages go into; empty: that of the run.
        retrieval: who keeps it.

    Raises:
        UsageError: nothing was finished there, or a run is at work there.
    """

    def __init__(self, output: Path, series: str, retrieval: RetrievalClient) -> None:
        self.place: Workspace = workspace_of(output)
        if not self.place.state.is_dir():
            raise UsageError(f"`panelhue colorize` has finished no page in {output}")
        self._journal = Journal(self.place.state)
        self.series = series or self._journal.about.get("series", "")
        self.book = self._journal.about.get("book", "")
        self.split = self._journal.split  # how double pages of the book were read
        self._retrieval = retrieval

    def __enter__(self) -> Review:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.__exit__()

    def pages(self) -> list[Done]:
        """The finished pages, in natural order."""
        return sorted(self._journal.done.values(), key=lambda done: natural_key(done.page))

    def picture(self, done: Done) -> bytes:
        """A page's picture.

        Raises:
            BookError: it is not there any more.
        """
        return read_result(self.place, done.output)

    def state(self, done: Done) -> State:
        """What was said of a page."""
        verdict = self._journal.verdict(done)
        return State.OPEN if verdict is None else State.APPROVED if verdict else State.REJECTED

    def reviewed(self, done: Done) -> Reviewed:
        """A page with what was said of it."""
        return Reviewed(
            page=done.page,
            output=done.output,
            state=self.state(done),
            chapter=done.chapter,
            backend=done.backend,
            depth=done.depth,
            confidence=done.confidence,
            already_colour=done.already_colour,
            in_pool=self._journal.promoted.get(f"{self.series}/{done.page}") == done.output_sha256,
        )

    def approve(self, done: Done) -> AddResult:
        """Puts a page into the pool, with its provenance and the tag "approved". Again, it changes nothing.

        Raises:
            UsageError: the series is not known.
            NotTaken: the pool does not take it, because it has no colour, say.
            ServerError: the retrieval server refuses, or does not answer.
        """
        pool = self._pool()
        result = pool.put(done, (APPROVED,))
        if result.failure is not None:
            raise NotTaken(f"{done.page}: {result.failure.message}", reason=result.failure.reason)
        reference = result.reference
        if reference is not None and APPROVED not in reference.tags:  # `colorize --grow` had put it there
            tags = (*reference.tags, APPROVED)
            self._retrieval.update_reference(self.series, reference.id, mask=("tags",), tags=tags)
        self._journal.judge(done, approved=True)
        return result

    def reject(self, done: Done) -> bool:
        """Remembers that a page is not good; whether it was in the pool, which it leaves.

        Raises:
            UsageError: it may be in a pool, and the series is not known.
            ServerError: the retrieval server refuses, or does not answer.
        """
        left = self._pool().withdraw(done) if self._journal.promoted else False
        self._journal.judge(done, approved=False)
        return left

    def _pool(self) -> Promotion:
        if not self.series:
            raise UsageError("approved pages go into the pool of a series; say --series")
        return Promotion(self._journal, self._retrieval, self.series, self.picture)


def named(pages: Iterable[Done], text: str) -> Done:
    """The page that a person means: by its path or its output's, its file's name with or without ending, or its number.

    Args:
        pages: the finished ones.
        text: what the person says; a number is the page's in its chapter, whichever pages are finished.

    Raises:
        UsageError: there is none, or several.
    """
    pages = list(pages)
    for names in _ways(pages):
        found = [done for done, own in zip(pages, names, strict=True) if text in own]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f'"{text}" may be any of {", ".join(one.page for one in found[:4])}; say the whole path')
    raise UsageError(f'there is no finished page "{text}"; there are {", ".join(one.page for one in pages[:6])} …')


def _ways(pages: list[Done]) -> Iterator[list[set[str]]]:
    yield [{one.page, one.output} for one in pages]
    yield [{PurePosixPath(one.page).name, PurePosixPath(one.output).name} for one in pages]
    yield [{PurePosixPath(one.page).stem} for one in pages]
    yield [{str(one.number)} for one in pages]
