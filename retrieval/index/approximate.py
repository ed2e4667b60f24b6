"""An approximate search beside the exact one, for giant pools: it serves only after its recall was measured.

It covers the sealed segments of one moment. Rows that came later, and segments that a compaction has rewritten, are
searched exactly, and so is everything where few rows pass, because an exact search costs as much as there are rows that
pass, and where more rows are wanted than the recall was measured for.
What it finds gets its final score as everything else does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from retrieval.index.library import load_faiss
from retrieval.index.scan import Chosen, decoded, scan_everything
from retrieval.index.segments import Segment
from retrieval.index.structures import Kind, Structure, build
from retrieval.index.tally import Tally, half_error

LEAST_SHARE = 0.1  # of the covered rows; where fewer pass, the exact search is at least as fast
PIECE = 1024  # rows that a structure takes at a time: a graph of millions needs a second for them
SHORTLIST = 4  # candidates per row wanted, of which the final scores decide


@dataclass(frozen=True)
class Recall:
    """What was measured of an approximate search."""

    kind: Kind
    effort: int  # lists searched, or candidates kept
    k: int
    queries: int  # per bound
    by_share: tuple[tuple[float, float], ...]  # the share of rows that passed, and the recall at k, both in [0, 1]

    @property
    def least(self) -> float:
        """The worst of it."""
        return min(recall for _, recall in self.by_share)


@dataclass(frozen=True, eq=False)
class Approximate:
    """A structure over some segments, with the effort that it takes."""

    kind: Kind
    structure: Structure
    effort: int
    segments: tuple[weakref.ref[Segment], ...]  # weak, so that a compaction frees what it has rewritten
    starts: Int64[np.ndarray, "segments"]  # the first row of each
    rows: int
    norm: float
    error: float
    recall: Recall | None = field(default=None)  # None until it was measured; it must not serve before

    def with_effort(self, effort: int) -> Approximate:
        """The same with another effort, not measured yet."""
        return replace(self, effort=effort, recall=None)

    def lists(self, tally: Tally, segments: tuple[Segment, ...], chosen: dict[int, Chosen]) -> set[int]:
        """Adds what it finds to the tally; the places of the segments that need no other search.

        Args:
            tally: of the search.
            segments: the snapshot's.
            chosen: which rows may answer, by place.
        """
        if self.recall is not None and tally.k > self.recall.k:
            return set()  # nothing is known of how many of so many it finds
        covered = {id(segment): n for n, ref in enumerate(self.segments) if (segment := ref()) is not None}
        places = np.full(len(self.segments), -1)  # of each covered segment
        for place, segment in enumerate(segments):
            if id(segment) in covered:
                places[covered[id(segment)]] = place
        mine = {int(place) for place in places if place in chosen}
        passing = sum(chosen[place].count for place in mine)
        if passing < LEAST_SHARE * self.rows or (passing < self.rows and not self.structure.masks):
            return set()
        allowed = None if passing == self.rows else self._allowed(places, chosen)
        self._search(tally, segments, chosen, places, allowed, passing)
        return mine

    def _allowed(self, places: Int64[np.ndarray, "segments"], chosen: dict[int, Chosen]) -> Bool[np.ndarray, "rows"]:
        allowed = np.zeros(self.rows, np.bool_)
        for first, place in zip(self.starts.tolist(), places.tolist(), strict=True):
            part = chosen.get(place)
            if part is not None:
                here = slice(first + part.start, first + part.stop)
                allowed[here] = True if part.mask is None else part.mask[part.start : part.stop]
        return allowed

    def _search(
        self, tally: Tally, segments: tuple[Segment, ...], chosen: dict[int, Chosen],
        places: Int64[np.ndarray, "segments"], allowed: Bool[np.ndarray, "rows"] | None, passing: int,
    ) -> None:  # fmt: skip
        load_faiss().omp_set_num_threads(1)
        m = min(passing, SHORTLIST * tally.k)
        scores, rows = self.structure.search(tally.queries, m, self.effort, allowed)
        few = (rows[:, : min(passing, tally.k)] < 0).any(axis=1)  # it found fewer than there are
        rows[few] = -1
        scores[rows < 0] = -np.inf
        segment = np.searchsorted(self.starts, rows, side="right") - 1
        row = np.where(rows < 0, -1, rows - self.starts[segment])
        tally.lists(places[segment], scores, row, self._margin(tally), complete=True)
        if few.any():
            for place in {int(place) for place in places if place in chosen}:
                scan_everything(tally, place, segments[place], chosen[place], np.flatnonzero(few))

    def _margin(self, tally: Tally) -> Float64[np.ndarray, "q"]:
        own = half_error(tally.queries.shape[1], self.norm)
        margin: np.ndarray = tally.margin(self.norm + own, self.error + own)
        return margin


def cover(
    kind: Kind, segments: tuple[Segment, ...], seed: int, check: Callable[[], None] = lambda: None
) -> Approximate:
    """A structure over the rows of some segments, with the least effort; not measured yet. `check` may end it.

    Raises:
        FailedState: as `structures.build`.
    """
    counts = [segment.rows for segment in segments]

    def pieces() -> Iterator[Float32[np.ndarray, "_ dim"]]:
        for segment in segments:
            for first in range(0, segment.rows, PIECE):
                check()
                yield decoded(segment, first, min(first + PIECE, segment.rows))

    structure = build(kind, pieces, sum(counts), segments[0].columns.vectors.shape[1], seed, check)
    return Approximate(
        kind, structure, structure.efforts[0], tuple(weakref.ref(segment) for segment in segments),
        np.cumsum([0, *counts[:-1]]), sum(counts),
        max(segment.norm for segment in segments), max(segment.error for segment in segments),
    )  # fmt: skip
