"""Scans a segment on the CPU, in the calling thread, by whichever way is fastest for so many queries and rows.

Measured on the machine that this was written on, one thread, 100,000 rows of 512 numbers, all segments one after the
other: for one query every way is as slow as the memory (15 ms). For four, FAISS takes 42 ms over 4096 rows at a time
and 26 ms over 512, which stay in the processor's cache; for 64 it takes 160 ms, and a product of matrices 90 ms.
float16 rows are decoded as they are read: 9 ms for one query, 24 for four.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from retrieval.index.library import load_faiss
from retrieval.index.segments import Segment
from retrieval.index.tally import Tally

PRODUCT_QUERIES = {"fp32": 16, "fp16": 20}  # from so many queries on, a product of matrices is faster
CACHED = 1 << 20  # bytes of rows that are scanned for all queries before the next ones
DECODED_ROWS = 512  # float16 rows decoded at a time; 1 MiB at 512 numbers
SHORTLIST = {"fp32": 1, "fp16": 4}  # the list's length is k times this, and one more
GATHERED = 2  # rows are copied together when fewer than one in so many passes


@dataclass(frozen=True, eq=False)
class Chosen:
    """The rows of a segment that may answer: those of a range, or some of those."""

    start: int
    stop: int
    mask: Bool[np.ndarray, "rows"] | None  # of the whole segment; None: all of the range
    count: int


class Passing:
    """Which references may answer; tells quickly what that means for a segment.

    Args:
        mask: by place.
    """

    def __init__(self, mask: Bool[np.ndarray, "places"]) -> None:
        self._mask = mask
        self._before = np.concatenate([[0], np.cumsum(mask)])

    def choose(self, segment: Segment) -> Chosen | None:
        """The segment's rows that may answer; None if there are none."""
        low, high = segment.owners
        among = self._before[high + 1] - self._before[low] if high < len(self._mask) else -1
        if among == 0:
            return None
        if among == high + 1 - low:
            return everything(segment)
        mask = segment.passing(self._mask)
        count = int(np.count_nonzero(mask))
        if not count:
            return None
        start, stop = int(mask.argmax()), segment.rows - int(mask[::-1].argmax())
        return Chosen(start, stop, None if stop - start == count else mask, count)


def everything(segment: Segment) -> Chosen:
    """All rows of a segment."""
    return Chosen(0, segment.rows, None, segment.rows)


def scan(tally: Tally, place: int, segment: Segment, chosen: Chosen) -> None:
    """Adds to the tally what a segment holds.

    Cost: passing rows · queries · dim multiply-adds; at most a second time for queries whose last places are ties.
    """
    load_faiss().omp_set_num_threads(1)  # holds for the calling thread only
    if len(tally.queries) >= PRODUCT_QUERIES[segment.precision]:
        scan_everything(tally, place, segment, chosen, np.arange(len(tally.queries)))
    elif segment.precision == "fp16":
        _lists_fp16(tally, place, segment, chosen)
    else:
        _lists_fp32(tally, place, segment, chosen)


def _ranges(chosen: Chosen, size: int) -> Iterator[Chosen]:
    """The rows cut into ranges of at most `size`."""
    for start in range(chosen.start, chosen.stop, size):
        stop = min(start + size, chosen.stop)
        count = stop - start if chosen.mask is None else int(np.count_nonzero(chosen.mask[start:stop]))
        if count:
            yield Chosen(start, stop, None if count == stop - start else chosen.mask, count)


def _lists_fp32(tally: Tally, place: int, segment: Segment, chosen: Chosen) -> None:
    faiss = load_faiss()
    queries, margin = tally.queries, tally.margin(segment.norm, segment.error)
    rows_cached = max(64, CACHED // (4 * queries.shape[1]))
    for part in _ranges(chosen, segment.rows if len(queries) == 1 else rows_cached):
        m = min(part.count, SHORTLIST["fp32"] * tally.k + 1)
        scores, rows = np.empty((len(queries), m), np.float32), np.empty((len(queries), m), np.int64)
        bits = None if part.mask is None else np.packbits(part.mask[part.start : part.stop], bitorder="little")
        faiss.knn_inner_product(
            faiss.swig_ptr(queries), faiss.swig_ptr(segment.columns.vectors[part.start : part.stop]),
            queries.shape[1], len(queries), part.stop - part.start, m, faiss.swig_ptr(scores), faiss.swig_ptr(rows),
            None if bits is None else faiss.IDSelectorBitmap(bits),
        )  # fmt: skip
        short = tally.lists(place, scores, rows + part.start, margin, complete=m == part.count)
        if len(short):
            scan_everything(tally, place, segment, part, short, counted=True)


def _lists_fp16(tally: Tally, place: int, segment: Segment, chosen: Chosen) -> None:
    faiss = load_faiss()
    queries, m = tally.queries, min(chosen.count, SHORTLIST["fp16"] * tally.k + 1)
    part = None if chosen.mask is None else chosen.mask[chosen.start : chosen.stop]
    bits = None if part is None else np.packbits(part, bitorder="little")
    selector = None if bits is None else faiss.IDSelectorBitmap(bits)
    scanner = _codec(queries.shape[1]).sq.select_InvertedListScanner(
        faiss.METRIC_INNER_PRODUCT, None, True, selector, False
    )
    scanner.set_list(0, 0.0)  # rows are then numbered by their places
    scores = np.full((len(queries), m), -np.inf, np.float32)  # heaps, least first; FAISS changes their first places
    rows = np.full((len(queries), m), -1, np.int64)
    codes = faiss.swig_ptr(_raw(segment, chosen.start, chosen.stop))
    for query in range(len(queries)):
        scanner.set_query(faiss.swig_ptr(queries[query]))
        scanner.scan_codes(
            chosen.stop - chosen.start, codes, None, faiss.swig_ptr(scores[query]), faiss.swig_ptr(rows[query]), m
        )
    margin = tally.margin(segment.norm, segment.error)
    short = tally.lists(place, scores, rows + chosen.start, margin, complete=m == chosen.count)
    if len(short):
        scan_everything(tally, place, segment, chosen, short, counted=True)


def scan_everything(
    tally: Tally, place: int, segment: Segment, chosen: Chosen, which: Int64[np.ndarray, "w"], *, counted: bool = False
) -> None:
    """Adds all that can be an answer to some queries, by products of matrices; `counted` as in `Tally.everything`."""
    queries = tally.queries if len(which) == len(tally.queries) else tally.queries[which]
    margin = tally.margin(segment.norm, segment.error)[which]
    for part in _ranges(chosen, segment.rows if segment.precision == "fp32" else DECODED_ROWS):
        rows = np.arange(part.start, part.stop)
        mask = None if part.mask is None else part.mask[part.start : part.stop]
        vectors = decoded(segment, part.start, part.stop)
        if mask is not None and part.count * GATHERED < len(rows):
            rows, vectors, mask = rows[mask], vectors[mask], None
        scores = queries @ vectors.T
        if mask is not None:
            scores[:, ~mask] = -np.inf
        tally.everything(place, which, scores, rows, margin, counted=counted)


@lru_cache(maxsize=8)
def _codec(dim: int) -> Any:
    """FAISS's reader of float16 rows; it holds none."""
    faiss = load_faiss()
    return faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def _raw(segment: Segment, start: int, stop: int) -> np.ndarray:
    return segment.columns.vectors[start:stop].reshape(-1).view(np.uint8)


def decoded(segment: Segment, start: int, stop: int) -> Float32[np.ndarray, "n dim"]:
    """Rows in float32; a view where they are kept so."""
    vectors = segment.columns.vectors[start:stop]
    if vectors.dtype == np.float32:
        return vectors
    out = np.empty(vectors.shape, np.float32)
    load_faiss().omp_set_num_threads(1)
    swig_ptr = load_faiss().swig_ptr
    _codec(vectors.shape[1]).sa_decode_c(stop - start, swig_ptr(_raw(segment, start, stop)), swig_ptr(out))
    return out
