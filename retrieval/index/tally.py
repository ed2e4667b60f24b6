"""What a search has found so far: approximate scores with a known error, from which it follows what can be an answer.

Every scan gives scores that differ from the true ones by a bounded amount. `k` rows that score at least some value for
certain make that value a floor: a row that cannot reach it is no answer. What can is kept, scored again in float64 and
put in order. So the answer does not depend on how a row was scanned, only on the rows and on which of them may answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

T = TypeVar("T", float, np.ndarray)

UNIT = 2.0**-24  # half the distance between 1 and the next float32
SPARE = 8  # roundings beside those of the sum: of the result, of the bound itself
TINY = 1e-36  # what the smallest numbers lose by underflow, generously


def rounding(dim: int) -> float:
    """How far a float32 dot product of unit vectors can be from the true one, whatever the order of its sum.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.1: |error| <= n·u / (1 - n·u) · |x|·|y|.
    """
    steps = (dim + SPARE) * UNIT
    return steps / (1 - steps)


def half_error(dim: int, length: T) -> T:
    """How far a vector of that length can be from itself in float16; its least numbers are multiples of 2**-24."""
    error: T = length * 2.0**-11 + dim**0.5 * 2.0**-25
    return error


@dataclass(frozen=True, eq=False)
class Found:
    """Rows that can be answers."""

    place: Int64[np.ndarray, "n"]  # the segment's place in the snapshot
    query: Int64[np.ndarray, "n"]
    row: Int64[np.ndarray, "n"]
    upper: Float64[np.ndarray, "n"]  # no true score is greater

    def only(self, keep: Bool[np.ndarray, "n"]) -> Found:
        """Those that are kept."""
        return Found(self.place[keep], self.query[keep], self.row[keep], self.upper[keep])


class Tally:
    """The rows that can be among the best `k` of each query. One thread uses it.

    Args:
        queries: contiguous.
        k: at least 1.
    """

    def __init__(self, queries: Float32[np.ndarray, "q dim"], k: int) -> None:
        self.queries, self.k = queries, k
        self.lengths = np.sqrt(np.einsum("qd,qd->q", queries, queries, dtype=np.float64)) * (1 + 1e-12)
        self._rounding = rounding(queries.shape[1])
        self._best = np.full((len(queries), k), -np.inf)  # what the best rows score for certain; the least one first
        self._found: list[Found] = []
        self.pending = 0  # rows that wait to be scored again

    def spawn(self) -> Tally:
        """An empty one for the same queries, for another thread."""
        return Tally(self.queries, self.k)

    def absorb(self, other: Tally) -> None:
        """Adds what another thread found."""
        self._raise(other._best)
        self._found.extend(other._found)
        self.pending += other.pending

    def margin(self, norm: float, error: float) -> Float64[np.ndarray, "q"]:
        """How far a scan's scores can be from the true ones, for rows of that length and that error of their own."""
        margin: np.ndarray = self.lengths * (norm * self._rounding + error) + TINY
        return margin

    @property
    def floor(self) -> Float64[np.ndarray, "q"]:
        """What an answer must be able to score; -inf while fewer than `k` rows are known."""
        floor: np.ndarray = self._best[:, 0]
        return floor

    def lists(
        self,
        place: int | Int64[np.ndarray, "q m"],
        scores: Float32[np.ndarray, "q m"],
        rows: Int64[np.ndarray, "q m"],
        margin: Float64[np.ndarray, "q"],
        *,
        complete: bool,
    ) -> Int64[np.ndarray, "_"]:
        """Takes the best rows of a part; the queries whose list was too short, which must be scanned with `everything`.

        Args:
            place: of the segment, or of each row's.
            scores: approximate; everything that is not in a list scores at most the list's least.
            rows: counted from the segment's first; -1 where a list ends early.
            margin: of the scores.
            complete: nothing was left out of the lists.
        """
        self._raise(scores - margin[:, None])
        upper = scores + margin[:, None]
        able = (upper >= self.floor[:, None]) & (rows >= 0)
        short = able.all(axis=1) & (not complete)
        query, column = np.nonzero(able & ~short[:, None])
        if len(query):
            places = np.full(len(query), place) if isinstance(place, int) else place[query, column]
            self._add(Found(places, query, rows[query, column], upper[query, column]))
        return np.flatnonzero(short)

    def everything(
        self,
        place: int,
        which: Int64[np.ndarray, "w"],
        scores: Float32[np.ndarray, "w n"],
        rows: Int64[np.ndarray, "n"],
        margin: Float64[np.ndarray, "w"],
        *,
        counted: bool = False,
    ) -> None:
        """Takes all rows of a part of a segment; -inf says that a row may not answer.

        Args:
            place: of the segment.
            which: the queries that were scanned for.
            scores: approximate.
            rows: counted from the segment's first.
            margin: of the scores, by query.
            counted: `lists` had the best of these rows already; the same row must not raise the floor twice.
        """
        floor = self.floor[which]
        if not counted and scores.shape[1] > self.k and np.isneginf(floor).any():
            kth = np.partition(scores, scores.shape[1] - self.k, axis=1)[:, scores.shape[1] - self.k]
            floor = np.maximum(floor, kth - margin)
        limit = np.nextafter((floor - margin).astype(np.float32), np.float32(-np.inf))
        flat = np.flatnonzero(scores >= limit[:, None])
        flat = flat[~np.isneginf(scores.reshape(-1)[flat])]
        if not len(flat):
            return
        query, column = np.divmod(flat, scores.shape[1])
        found = scores[query, column].astype(np.float64)
        if not counted:
            self._raise_some(which, query, found - margin[query])
        self._add(Found(np.full(len(query), place), which[query], rows[column], found + margin[query]))

    def _raise_some(
        self, which: Int64[np.ndarray, "w"], query: Int64[np.ndarray, "n"], lower: Float64[np.ndarray, "n"]
    ) -> None:
        order = np.lexsort((-lower, query))
        query, lower = query[order], lower[order]
        starts = np.searchsorted(query, np.arange(len(which)))
        rank = np.arange(len(query)) - starts[query]
        first = rank < self.k
        table = np.full((len(self.queries), min(self.k, int(rank.max()) + 1)), -np.inf)
        table[which[query[first]], rank[first]] = lower[first]
        self._raise(table)

    def _raise(self, lower: Float64[np.ndarray, "q m"]) -> None:
        both = np.concatenate([self._best, lower], axis=1)
        self._best = np.partition(both, lower.shape[1], axis=1)[:, lower.shape[1] :]

    def _add(self, found: Found) -> None:
        self._found.append(found)
        self.pending += len(found.query)

    def take(self) -> Found:
        """What can still be an answer; the tally forgets it, but not the floor."""
        nothing = np.zeros(0, np.int64)
        parts = [Found(nothing, nothing, nothing, np.zeros(0)), *self._found]
        found = Found(
            np.concatenate([part.place for part in parts]),
            np.concatenate([part.query for part in parts]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.upper for part in parts]),
        )
        self._found, self.pending = [], 0
        return found.only(found.upper >= self.floor[found.query])
