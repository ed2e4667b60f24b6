"""Segments: runs of rows that never change once they are published, in float32 or in float16 with a known error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64

from retrieval.index.columns import Columns

Precision = Literal["fp32", "fp16"]
NO_KEY = int(np.iinfo(np.int64).min)  # the key of a row without a chapter: it passes bounds on chapters, so it is first
PIECE = 512  # rows that are copied at a time, so that a copy needs little memory beside
DTYPES: dict[str, type[np.float32] | type[np.float16]] = {"fp32": np.float32, "fp16": np.float16}


@dataclass(frozen=True, eq=False)
class Segment:
    """The first `rows` rows of some columns; later rows may be being written."""

    columns: Columns
    rows: int
    norm: float  # no row is longer
    error: float  # no row is further from the vector that it stands for; 0 for float32
    owners: tuple[int, int]  # the least and the greatest owner

    @property
    def bytes(self) -> int:
        """Memory of the rows, bytes."""
        return self.rows * self.columns.row_bytes

    @property
    def precision(self) -> Precision:
        """How its vectors are kept."""
        return "fp16" if self.columns.vectors.dtype == np.float16 else "fp32"

    def passing(self, mask: Bool[np.ndarray, "places"]) -> Bool[np.ndarray, "rows"]:
        """Which rows belong to a reference that passes; one beyond the mask's end does."""
        if self.owners[1] >= len(mask):
            mask = np.concatenate([mask, np.ones(self.owners[1] + 1 - len(mask), np.bool_)])
        rows: np.ndarray = mask[self.columns.owner[: self.rows]]
        return rows


def longest(vectors: Float32[np.ndarray, "n dim"]) -> float:
    """At least the greatest length of a row, and above it by less than 1e-4 of it; 0 without rows.

    Cost: one pass in float32, whose rounding is allowed for; unit rows need no more.
    """
    most = float(np.einsum("nd,nd->n", vectors, vectors).max(initial=np.float32(0)))
    rounding: float = (vectors.shape[1] + 2) * 2.0**-23
    if 1e-30 < most < 1e30 and rounding < 1e-4:  # else squares may have left float32's range
        return float(np.sqrt(most)) * (1 + rounding)
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return float(np.sqrt(squares.max(initial=0.0))) * (1 + 1e-12)


def build(pieces: Sequence[tuple[Segment, Int64[np.ndarray, "_"]]], precision: Precision) -> Segment | None:
    """A segment of the given rows of others, ordered by key and then by number; None without rows.

    Cost: one copy of the rows, `PIECE` at a time.
    """
    rows = sum(len(chosen) for _, chosen in pieces)
    if not rows:
        return None
    made = Columns.allocate(rows, pieces[0][0].columns.vectors.shape[1], DTYPES[precision], filled=True)
    for name in ("owner", "part", "box", "number", "key"):
        getattr(made, name)[:] = np.concatenate([getattr(s.columns, name)[chosen] for s, chosen in pieces])
    order = np.lexsort((made.number, made.key))
    for name in ("owner", "part", "box", "number", "key"):
        getattr(made, name)[:] = getattr(made, name)[order]
    target = np.empty(rows, np.int64)
    target[order] = np.arange(rows)
    error, first = 0.0, 0
    for segment, chosen in pieces:
        error = max(error, _copy(segment, chosen, made, target[first : first + len(chosen)]))
        first += len(chosen)
    norm = max(segment.norm for segment, _ in pieces)
    return Segment(made, rows, norm + error, error, _span(made))


def _copy(segment: Segment, chosen: Int64[np.ndarray, "n"], made: Columns, target: Int64[np.ndarray, "n"]) -> float:
    """The greatest distance between a row that is copied and what it stands for."""
    error = segment.error
    for first in range(0, len(chosen), PIECE):
        source = segment.columns.vectors[chosen[first : first + PIECE]]
        copy = source.astype(made.vectors.dtype)
        made.vectors[target[first : first + PIECE]] = copy
        if copy.dtype != source.dtype:
            error = max(error, longest(source - copy.astype(np.float32)))  # exact: they are within a factor of two
    return error


def _span(columns: Columns) -> tuple[int, int]:
    return int(columns.owner.min()), int(columns.owner.max())


def sealed(segment: Segment, precision: Precision) -> Segment:
    """A full segment in its last form: ordered by key, in the precision asked for. Earlier readers keep the old one."""
    keys = segment.columns.key
    if precision == "fp32" and segment.rows == len(keys) and (keys[1:] >= keys[:-1]).all():
        return segment
    made = build([(segment, np.arange(segment.rows))], precision)
    assert made is not None
    return made
