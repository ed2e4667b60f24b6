"""Final scores: float64 products of the float32 vectors, rounded once, equal ones in order of insertion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from retrieval.index.segments import Segment
from retrieval.index.tally import Found

CHUNK = 2048  # pairs scored at a time: 16 MiB at 512 numbers


@runtime_checkable
class RowSource(Protocol):
    """Where the float32 vectors are, when the index keeps float16 ones."""

    def vectors(self, owners: Int32[np.ndarray, "n"], parts: Int32[np.ndarray, "n"]) -> Float32[np.ndarray, "n dim"]:
        """The rows that were appended under these owners and parts, in this order; no pair comes twice.

        Called by any thread that searches. What it raises ends the search. It must know every row of a snapshot that
        is still in use, also those of references that were removed since.
        """
        ...


@dataclass(frozen=True, eq=False)
class Nearest:
    """The best rows of each query, best first; -inf and -1 where fewer rows passed."""

    scores: Float32[np.ndarray, "q k"]
    owners: Int32[np.ndarray, "q k"]  # the place of the row's reference
    parts: Int32[np.ndarray, "q k"]  # which of its patches
    boxes: Int32[np.ndarray, "q k 4"]
    numbers: Int64[np.ndarray, "q k"]  # the row's place in the order of insertion
    candidates: int  # rows that passed


class Answers:
    """The best rows so far that have their final scores. One thread uses it."""

    def __init__(self, queries: Float32[np.ndarray, "q dim"], k: int) -> None:
        self._wide: Float64[np.ndarray, "q dim"] = queries.astype(np.float64)
        self._k = k
        self._query = np.zeros(0, np.int64)
        self._score = np.zeros(0, np.float32)
        self._facts = np.zeros((0, 7), np.int64)  # number, owner, part, box

    def add(self, found: Found, segments: Sequence[Segment], source: RowSource | None) -> None:
        """Scores what was found and keeps the best.

        Cost: one read of each row found, and one call of the source for up to `CHUNK` of them.
        """
        order = np.argsort(found.place, kind="stable")
        for first in range(0, len(order), CHUNK):
            chunk = order[first : first + CHUNK]
            self._score_part(found.query[chunk], found.place[chunk], found.row[chunk], segments, source)

    def absorb(self, other: Answers) -> None:
        """Adds another thread's."""
        self._keep(other._query, other._score, other._facts)

    def _score_part(
        self, query: Int64[np.ndarray, "n"], place: Int64[np.ndarray, "n"], row: Int64[np.ndarray, "n"],
        segments: Sequence[Segment], source: RowSource | None,
    ) -> None:  # fmt: skip
        vectors = np.empty((len(row), self._wide.shape[1]), np.float32)
        facts, elsewhere = np.empty((len(row), 7), np.int64), np.zeros(len(row), np.bool_)
        for n in np.unique(place).tolist():
            here, columns = np.flatnonzero(place == n), segments[n].columns
            mine = row[here]
            facts[here, 0], facts[here, 1], facts[here, 2] = (
                columns.number[mine],
                columns.owner[mine],
                columns.part[mine],
            )
            facts[here, 3:] = columns.box[mine]
            if segments[n].precision == "fp32":
                vectors[here] = columns.vectors[mine]
            else:
                elsewhere[here] = True
        if elsewhere.any():
            vectors[elsewhere] = _fetched(facts[elsewhere], source)
        # A sum over the last, contiguous axis has the same order for every shape: a batch scores as one query does.
        scores = np.vecdot(vectors.astype(np.float64), self._wide[query]).astype(np.float32)
        self._keep(query, scores, facts)

    def _keep(
        self, query: Int64[np.ndarray, "n"], score: Float32[np.ndarray, "n"], facts: Int64[np.ndarray, "n 7"]
    ) -> None:
        self._query = np.concatenate([self._query, query])
        self._score = np.concatenate([self._score, score])
        self._facts = np.concatenate([self._facts, facts])
        if len(self._query) > 4 * self._k * len(self._wide):
            self._prune()

    def _prune(self) -> Int64[np.ndarray, "n"]:
        """Keeps the best of each query, in order; the rank of each that is kept."""
        order = np.lexsort((self._facts[:, 0], -self._score, self._query))
        query = self._query[order]
        rank = np.arange(len(query)) - np.searchsorted(query, np.arange(len(self._wide)))[query]
        order = order[rank < self._k]
        self._query, self._score, self._facts = self._query[order], self._score[order], self._facts[order]
        return rank[rank < self._k]

    def nearest(self, candidates: int) -> Nearest:
        """All of it, in order."""
        rank = self._prune()
        shape = (len(self._wide), self._k)
        scores, facts = np.full(shape, -np.inf, np.float32), np.full((*shape, 7), -1, np.int64)
        scores[self._query, rank] = self._score
        facts[self._query, rank] = self._facts
        narrow = facts[..., 1:].astype(np.int32)
        return Nearest(scores, narrow[..., 0], narrow[..., 1], narrow[..., 2:], facts[..., 0], candidates)


def _fetched(facts: Int64[np.ndarray, "n 7"], source: RowSource | None) -> Float32[np.ndarray, "n dim"]:
    """The rows' float32 vectors."""
    assert source is not None
    _, first, back = np.unique(facts[:, 0], return_index=True, return_inverse=True)
    owners, parts = facts[first, 1].astype(np.int32), facts[first, 2].astype(np.int32)
    return source.vectors(owners, parts)[back]
