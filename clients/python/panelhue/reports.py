"""What whole-book calls tell while they run and when they are done: frozen dataclasses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from panelhue import jobs
from panelhue import types as t
from panelhue.journal import Done


@dataclass(frozen=True)
class BookProgress:
    """What has just happened to a book."""

    done: int  # pages that have their end
    total: int  # pages in all
    page: str  # the page that it happened to, its path within the book; empty: to none in particular
    step: jobs.Step | t.AddResult  # what it was: an event of the page, what became of it, or a pause before going on

    @property
    def ended(self) -> bool:
        """Whether the page has just got its end."""
        return isinstance(self.step, jobs.Kept | jobs.Written | t.Failed | t.AddResult)

    def __str__(self) -> str:
        return f"{self.done} of {self.total}: {self.page or '–'} {type(self.step).__name__}"


@dataclass(frozen=True)
class ColorizeReport:
    """What became of a book that was colourised."""

    output: Path
    pages: int  # of the book
    results: Mapping[str, Done] = field(repr=False)  # finished pages by their path within the book
    kept: int  # of them from an earlier run
    grown: int  # of them added to the pool by this run
    failures: Mapping[str, t.Failure]  # pages that failed; the same call tries them again
    not_grown: Mapping[str, str]  # finished pages that should be in the pool and are not, with why
    notes: tuple[str, ...]  # what was passed over in the book, a sentence each
    sheets: tuple[Path, ...]  # the contact sheet's files, if one was asked for
    passing: frozenset[str] = frozenset()  # of `failures` and `not_grown`, where a server was busy, away or too slow

    @property
    def ok(self) -> bool:
        """Whether nothing is left to do."""
        return not self.failures and not self.not_grown

    def __str__(self) -> str:
        facts = [f"{len(self.results)} of {self.pages} pages"]
        facts += [f"{self.kept} of them from before"] if self.kept else []
        facts += [f"{self.grown} added to the pool"] if self.grown else []
        facts += [f"{len(self.failures)} failed"] if self.failures else []
        facts += [f"{len(self.not_grown)} not added to the pool"] if self.not_grown else []
        return f"{self.output}: {', '.join(facts)}"


@dataclass(frozen=True)
class IngestReport:
    """What became of a book whose pages were added to a pool."""

    results: tuple[t.AddResult, ...] = field(repr=False)  # `name` is the page's path within the book
    notes: tuple[str, ...]  # what was passed over in the book, a sentence each

    def count(self, status: t.AddStatus) -> int:
        """How many pages have this status."""
        return sum(one.status is status for one in self.results)

    @property
    def added(self) -> int:
        """Pages that are new in the pool."""
        return self.count(t.AddStatus.ADDED)

    @property
    def already_present(self) -> int:
        """Pages whose very bytes were there before."""
        return self.count(t.AddStatus.ALREADY_PRESENT)

    @property
    def failures(self) -> Mapping[str, t.Failure]:
        """Pages that were rejected, with why."""
        return {one.name: one.failure for one in self.results if one.failure is not None}

    @property
    def ok(self) -> bool:
        """Whether every page is in the pool."""
        return not self.failures

    def __str__(self) -> str:
        return f"{self.added} added, {self.already_present} already present, {len(self.failures)} rejected"


Tell: TypeAlias = Callable[[BookProgress], object]
