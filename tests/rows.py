"""Rows for tests of the index, and what must be found among them: every row compared, in float64."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from retrieval.index import NO_KEY, CpuScanner, GpuScanner, Index, Nearest, Scanner, gpu_count, load_faiss

GRID = 8192  # rows of whole multiples of 1/8192: float64 sums are exact, float32 ones and float16 rows are not


def unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    rows = rng.standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def coarse(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Rows with many ties: signed unit vectors."""
    rows = np.eye(dim)[rng.integers(0, dim, count)] * rng.choice([-1, 1], (count, 1))
    return rows.astype(np.float32)


def alike(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Rows of which many are the same and many differ by less than float16 can tell; on the grid."""
    kinds = np.random.default_rng(0).integers(-GRID // 2, GRID // 2, (6, dim))
    steps = rng.integers(-1, 2, (count, dim)) * (rng.random((count, dim)) < 1 / dim)
    return ((kinds[rng.integers(0, 6, count)] + steps) / GRID).astype(np.float32)


class Rows:
    """Every row that an index was given: the oracle, and the source of the float32 rows of an index in float16."""

    def __init__(self, dim: int) -> None:
        self.rows = np.zeros((0, dim), np.float32)
        self.owners = np.zeros(0, np.int32)
        self.parts = np.zeros(0, np.int32)
        self.chapters = np.zeros(0, np.int64)  # by place; NO_KEY for none

    def put(
        self, index: Index, vectors: np.ndarray, chapters: Sequence[int] | None = None, *, patches: int = 1
    ) -> None:
        """Appends references of so many patches each, one chapter per reference."""
        count = -(-len(vectors) // patches)
        owners = (len(self.chapters) + np.arange(len(vectors)) // patches).astype(np.int32)
        parts = (np.arange(len(vectors)) % patches).astype(np.int32)
        self.chapters = np.append(self.chapters, np.full(count, NO_KEY) if chapters is None else chapters)
        self.rows = np.concatenate([self.rows, vectors])
        self.owners, self.parts = np.append(self.owners, owners), np.append(self.parts, parts)
        index.append(vectors, owners, parts, boxes_of(owners, parts), self.chapters[owners])

    def vectors(self, owners: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """As `RowSource.vectors`."""
        place = {pair: row for row, pair in enumerate(zip(self.owners.tolist(), self.parts.tolist(), strict=True))}
        return self.rows[[place[pair] for pair in zip(owners.tolist(), parts.tolist(), strict=True)]]

    def check(
        self, nearest: Nearest, queries: np.ndarray, k: int, passing: np.ndarray | None = None, n: int = -1
    ) -> None:
        """Fails if something else was found than is right among the first `n` rows, all if -1."""
        n = len(self.rows) if n < 0 else n
        allowed = np.ones(n, bool) if passing is None else passing[self.owners[:n]]
        assert nearest.candidates == allowed.sum()
        places = np.flatnonzero(allowed)
        for query, numbers, scores, owners, parts, boxes in zip(
            queries, nearest.numbers, nearest.scores, nearest.owners, nearest.parts, nearest.boxes, strict=True
        ):
            exact = (self.rows[places].astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
            best = np.lexsort((places, -exact))[:k]
            missing = [-1] * (k - len(best))
            assert numbers.tolist() == places[best].tolist() + missing
            assert scores.tolist() == exact[best].tolist() + [-np.inf] * len(missing)
            assert owners.tolist() == self.owners[places[best]].tolist() + missing
            assert parts.tolist() == self.parts[places[best]].tolist() + missing
            assert (boxes[: len(best)] == boxes_of(self.owners, self.parts)[places[best]]).all()


def boxes_of(owners: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """A different box for each patch."""
    return np.stack([owners, parts, owners + 7, parts + 9], axis=1).astype(np.int32)


class Stand(GpuScanner):
    """The GPU's way of searching with indexes on the CPU in the place of those on the GPU.

    Args:
        room: rows that fit on it.
    """

    def __init__(self, *, room: int = 10**9, **settings) -> None:
        super().__init__(**settings)
        self.room, self.used, self.searches = room, 0, 0
        self.busy = threading.Lock()

    def _open(self) -> None:
        return None

    def _empty(self, dim: int) -> StandIndex:
        return StandIndex(self, dim, self._precision == "fp16")


class StandIndex:
    """What FAISS's index on a GPU does, float16 queries and full memory included."""

    def __init__(self, stand: Stand, dim: int, half: bool) -> None:
        self._stand, self._half, self._index, self._rows = stand, half, load_faiss().IndexFlatIP(dim), 0

    def reserve(self, rows: int) -> None:
        if self._stand.used + rows > self._stand.room:
            raise RuntimeError("Error: out of memory")
        self._stand.used += rows
        self._rows = rows

    def __del__(self) -> None:
        self._stand.used -= self._rows

    def add(self, rows: np.ndarray) -> None:
        self._index.add(rows.astype(np.float16).astype(np.float32) if self._half else rows)
        assert self._index.ntotal <= self._rows

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        assert self._stand.busy.acquire(blocking=False), "FAISS's GPU side was used by two threads at once"
        try:
            self._stand.searches += 1
            return self._index.search(queries.astype(np.float16).astype(np.float32) if self._half else queries, k)
        finally:
            self._stand.busy.release()


ENGINES = ("cpu_fp32", "cpu_fp16", "gpu_sibling", "gpu_sibling_fp16")


def engine(kind: str, dim: int, segment_rows: int) -> tuple[Index, Rows]:
    """An empty index of one of the engines, small blocks on its device, and the rows that it will be compared with."""
    rows = Rows(dim)
    scanner: Scanner = CpuScanner()
    if kind.startswith("gpu_sibling"):
        scanner = Stand(precision="fp16" if kind.endswith("fp16") else "fp32", block_segments=3)
    elif kind == "gpu":
        if not gpu_count():
            import pytest

            pytest.skip("no GPU that FAISS can use")
        scanner = GpuScanner(block_segments=3)
    precision = "fp16" if kind == "cpu_fp16" else "fp32"
    return Index(dim, scanner, segment_rows=segment_rows, precision=precision, source=rows), rows
