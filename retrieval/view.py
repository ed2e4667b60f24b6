"""A pool at one generation, and the search in it: bound to mask, mask to rows, rows to hits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from retrieval.bounds import Facts
from retrieval.diversity import Candidates, Variety, groups_of, pick
from retrieval.index import Nearest, RowSource
from retrieval.types import Reference, SearchOptions, Series
from serving.geometry import Box

MOST_CANDIDATES = 1 << 18  # of all queries of a scan, where hits are chosen among them: 22 MB
Ranked = Sequence[tuple[float, Reference, Box]]  # the hits of one query, best first


class _Many(Exception):
    """More candidates than are looked at together."""


@runtime_checkable
class Rows(Protocol):
    """What finds the nearest rows: an index in memory, or the store."""

    def search(
        self,
        queries: Float32[np.ndarray, "q dim"],
        k: int,
        passing: Bool[np.ndarray, "places"] | None = None,
        *,
        executor: Executor | None = None,
        helpers: int = 1,
    ) -> Nearest:
        """The nearest rows whose reference passes, best first."""
        ...


@dataclass(frozen=True, eq=False)
class View:
    """A pool at one generation; any number of threads may search it."""

    series: Series
    generation: int
    rows: Rows
    facts: Facts
    references: Sequence[Reference | None]  # by place; may be longer than the facts; None once it was removed
    source: RowSource  # the vectors themselves
    exact: bool = True  # the first hits of a longer list are the shorter list

    def find(
        self, queries: Float32[np.ndarray, "q dim"], options: SearchOptions, executor: Executor | None, helpers: int = 1
    ) -> tuple[Sequence[Ranked], int]:
        """The hits of each query, and how many patches passed the bound. Fewer hits where fewer passed.

        Args:
            queries: unit rows.
            options: `min_generation` and `as_of` have no meaning here.
            executor: threads that help.
            helpers: how many of them.
        """
        passing = self.facts.mask(options.bound)
        mask = None if passing.all() else passing
        variety = Variety(options.k, options.per_reference, options.diversity)
        search = partial(self.rows.search, passing=mask, executor=executor, helpers=helpers)
        if not variety.plain:
            return self._chosen(queries, variety, search)
        nearest = search(queries, variety.first)
        return [self._ranked(nearest, query, slice(None)) for query in range(len(queries))], nearest.candidates

    def _chosen(
        self, queries: Float32[np.ndarray, "q dim"], variety: Variety, search: Callable[[np.ndarray, int], Nearest]
    ) -> tuple[list[Ranked], int]:
        """As `find`, of candidates. Where few references hold most rows, most rows are candidates in the end."""
        nearest: Nearest | None = None

        def ask(count: int) -> Sequence[Candidates]:
            nonlocal nearest
            if nearest is not None:  # what passes the bound and one: that fewer come shows that there are no more
                count = min(count, nearest.candidates + 1)
            if count * len(queries) > MOST_CANDIDATES and len(queries) > 1:
                raise _Many
            if nearest is None or count > nearest.scores.shape[1]:
                nearest = search(queries, count)
            return [self._candidates(nearest, query) for query in range(len(queries))]

        try:
            chosen = pick(variety, ask)
        except _Many:
            half = len(queries) // 2
            one, other = (self._chosen(part, variety, search) for part in (queries[:half], queries[half:]))
            return [*one[0], *other[0]], one[1]
        assert nearest is not None  # it was asked for
        return [self._ranked(nearest, query, places) for query, places in enumerate(chosen)], nearest.candidates

    def _ranked(self, nearest: Nearest, query: int, places: Int64[np.ndarray, "_"] | slice) -> Ranked:
        owners = nearest.owners[query][places].tolist()
        scores, boxes = nearest.scores[query][places].tolist(), nearest.boxes[query][places].tolist()
        return [
            (score, self._reference(owner), Box(*box))
            for score, owner, box in zip(scores, owners, boxes, strict=True)
            if owner >= 0
        ]

    def _reference(self, place: int) -> Reference:
        reference = self.references[place]
        assert reference is not None  # a removed one does not pass
        return reference

    def _candidates(self, nearest: Nearest, query: int) -> Candidates:
        count = int((nearest.owners[query] >= 0).sum())
        owners, parts = nearest.owners[query, :count], nearest.parts[query, :count]
        references = [self._reference(owner) for owner in owners.tolist()]
        groups = groups_of([reference.near_duplicate_of or reference.id for reference in references])
        return Candidates(nearest.scores[query, :count], groups, lambda: self.source.vectors(owners, parts))
