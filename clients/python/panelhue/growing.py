"""Finished pages as references of their series' pool: with what provenance they go in, and how they leave it again."""

from __future__ import annotations

from collections.abc import Callable

from panelhue import types as t
from panelhue.chapters import chapter_text
from panelhue.errors import NotFound
from panelhue.journal import Done, Journal
from panelhue.retrieval_client import RetrievalClient

GROWN = "grown"  # tag of promoted pages; with the chapter behind it, a chapter's own pages never answer for it
APPROVED = "approved"  # tag of promoted pages that a person has looked at


def grown_tag(chapter: int) -> str:
    """The tag of the pages that a chapter gave to its pool."""
    return f"{GROWN}:{chapter_text(chapter)}"


def provenance_of(done: Done) -> t.Provenance:
    """Where a finished page's colour comes from."""
    source = done.page.encode()[-1024:].decode(errors="ignore")
    if done.already_colour:  # the page came in colour: nobody made it up
        return t.Provenance(source=source)
    return t.Provenance(
        origin=t.Origin.GENERATED, depth=done.depth, parent_ids=done.parents, backend=done.backend, source=source
    )


class Promotion:
    """Puts finished pages of one run into the pool of a series, and takes them out again.

    Args:
        journal: of the run; remembers what was put where.
        retrieval: who keeps the pool.
        series: the series' id.
        read: gives a finished page's picture.
    """

    def __init__(
        self,
        journal: Journal,
        retrieval: RetrievalClient,
        series: str,
        read: Callable[[Done], bytes],
    ) -> None:
        self._journal, self._retrieval, self._series = journal, retrieval, series
        self._read = read

    def _place(self, done: Done) -> str:
        return f"{self._series}/{done.page}"

    def holds(self, done: Done) -> bool:
        """Whether this very picture of the page is in the pool."""
        if self._journal.promoted.get(self._place(done)) != done.output_sha256:
            return False
        try:
            self._retrieval.get_reference(self._series, done.output_sha256)
        except NotFound:  # the series was made anew since, or somebody removed it
            return False
        return True

    def put(self, done: Done, tags: tuple[str, ...] = ()) -> t.AddResult:
        """Adds a page; what the page looked like before leaves the pool. A page that is there already stays as it is.

        Args:
            done: the page.
            tags: beside those that every promoted page has.
        """
        own = (GROWN, grown_tag(done.chapter)) if done.chapter is not None else (GROWN,)
        file = t.ReferenceFile(
            name=done.page,
            data=self._read(done),
            chapter=done.chapter,
            page=done.number,
            tags=(*own, *tags),
            provenance=provenance_of(done),
        )
        [result] = self._retrieval.add_references(self._series, [file])
        if result.failure is None:
            if self._journal.promoted.get(self._place(done)) != done.output_sha256:
                self._remove(done)
            self._journal.promote(self._place(done), done.output_sha256)
        return result

    def withdraw(self, done: Done) -> bool:
        """Takes a page out of the pool if a run of ours put it there; whether it did."""
        if self._place(done) not in self._journal.promoted:
            return False
        self._remove(done)
        self._journal.withdraw(self._place(done))
        return True

    def _remove(self, done: Done) -> None:
        """Before the journal says so: after a kill it is done again, rather than forgotten."""
        others = dict(self._journal.promoted)
        reference_id = others.pop(self._place(done), None)
        if reference_id is not None and reference_id not in others.values():  # another page may look the same
            self._retrieval.delete_references(self._series, [reference_id], allow_missing=True)
