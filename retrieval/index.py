"""Vectors to nearest rows, exactly: segments that never move, searched one after the other. Alone imports faiss.

Vectors lie in preallocated buffers of fixed size; the last one is still being filled. A reader takes a snapshot, which
is a number of rows and the buffers below it; rows are never changed once they are published, so a search holds no lock
and an append is visible to the next snapshot. FAISS scans the buffers where they lie: nothing is copied into an index.

Scores of one pair of vectors are the same wherever the row lies and whatever is masked, and equal scores keep the order
of insertion: the answer is a function of the rows and the mask alone (on a GPU, up to rounding).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from serving.errors import FailedState, ShapeMismatch

SEGMENT_ROWS = 4096  # 8 MiB at 512 dimensions: all queries of a page scan it while the processor's cache still has it
GPU_MAX_K = 2048  # FAISS's own limit
WITHOUT_FAISS = (
    "no FAISS is installed; install exactly one of panelhue[cpu], panelhue[gpu] (CUDA 13) and panelhue[gpu-cu12]"
)


@dataclass(frozen=True)
class Nearest:
    """The best rows of each query, best first; -inf and -1 where fewer rows passed."""

    scores: Float32[np.ndarray, "q k"]
    rows: Int64[np.ndarray, "q k"]


@lru_cache(maxsize=1)
def load_faiss() -> ModuleType:
    """FAISS itself, imported at the first call.

    Raises:
        FailedState: NO_FAISS, none is installed; the message names the extras.
    """
    try:
        import faiss
    except ImportError as error:
        raise FailedState(f"{WITHOUT_FAISS}: {error}", reason="NO_FAISS") from error
    if not hasattr(faiss, "knn_inner_product"):  # two builds in one folder leave a mixture of both
        raise FailedState(f"the FAISS that is installed is incomplete; {WITHOUT_FAISS}", reason="NO_FAISS")
    module: ModuleType = faiss
    return module


def faiss_version() -> str:
    """FAISS's version and kind, such as "1.15.1 (cpu)".

    Raises:
        FailedState: as `load_faiss`.
    """
    return f"{load_faiss().__version__} ({'gpu' if gpu_count() else 'cpu'})"


def gpu_count() -> int:
    """GPUs that FAISS can use; 0 with a CPU build."""
    faiss = load_faiss()
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


@runtime_checkable
class Scanner(Protocol):
    """Finds the best rows of one buffer. The order of equal scores is left open."""

    def scan(
        self,
        queries: Float32[np.ndarray, "q dim"],
        segment: Segment,
        rows: int,
        k: int,
        allowed: Bool[np.ndarray, "rows"] | None,
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """Scores and rows (counted from the segment's first), best first.

        Args:
            queries: contiguous.
            segment: where to search.
            rows: only that many rows of it.
            k: at most as many as are allowed.
            allowed: rows that may answer; None: all.
        """
        ...


class Segment:
    """A buffer for a fixed number of rows."""

    def __init__(self, rows: int, dim: int) -> None:
        self.vectors = np.empty((rows, dim), np.float32)
        self.resident: Any = None  # the scanner's copy on a device, once the segment is full


class CpuScanner:
    """Scans with FAISS on the CPU, in the calling thread.

    Args:
        threads: of one search. One is best for a page's few queries; searches of several pages run side by side.
    """

    def __init__(self, threads: int = 1) -> None:
        self._faiss = load_faiss()
        self._threads = threads

    def scan(
        self,
        queries: Float32[np.ndarray, "q dim"],
        segment: Segment,
        rows: int,
        k: int,
        allowed: Bool[np.ndarray, "rows"] | None,
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """As `Scanner.scan`."""
        faiss = self._faiss
        faiss.omp_set_num_threads(self._threads)  # holds for the calling thread only
        scores = np.empty((len(queries), k), np.float32)
        found = np.empty((len(queries), k), np.int64)
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        selector = None if bits is None else faiss.IDSelectorBitmap(bits)
        buffers = [faiss.swig_ptr(a) for a in (queries, segment.vectors)]
        results = [faiss.swig_ptr(a) for a in (scores, found)]
        faiss.knn_inner_product(*buffers, queries.shape[1], len(queries), rows, k, *results, selector)
        return scores, found


class GpuScanner:
    """Keeps full segments on one GPU; what the GPU cannot answer exactly is scanned on the CPU.

    Plain faiss-gpu ignores selectors without a word, so none is ever given to it: a few forbidden rows are met by
    asking for as many more, which is exact, and many are left to the CPU.
    """

    def __init__(self, device: int = 0) -> None:
        self._faiss = load_faiss()
        self._cpu = CpuScanner()
        self._device = device
        self._resources = self._faiss.StandardGpuResources()
        self._lock = threading.Lock()  # FAISS's GPU side is not thread-safe, not even for reading

    def scan(
        self,
        queries: Float32[np.ndarray, "q dim"],
        segment: Segment,
        rows: int,
        k: int,
        allowed: Bool[np.ndarray, "rows"] | None,
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """As `Scanner.scan`."""
        forbidden = 0 if allowed is None else rows - int(allowed.sum())
        if rows < len(segment.vectors) or k + forbidden > min(GPU_MAX_K, rows):
            return self._cpu.scan(queries, segment, rows, k, allowed)
        with self._lock:
            if segment.resident is None:
                config = self._faiss.GpuIndexFlatConfig()
                config.device = self._device
                index = self._faiss.GpuIndexFlatIP(self._resources, queries.shape[1], config)
                index.add(segment.vectors)
                segment.resident = index
            scores, found = segment.resident.search(queries, k + forbidden)
        return (scores, found) if allowed is None else _only(scores, found, allowed, k)


def _only(
    scores: Float32[np.ndarray, "q m"], rows: Int64[np.ndarray, "q m"], allowed: Bool[np.ndarray, "rows"], k: int
) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
    """The first `k` allowed ones of each query; there are at least as many."""
    keep = np.argsort(~allowed[rows], axis=1, kind="stable")[:, :k]  # allowed ones first, in their order
    return np.take_along_axis(scores, keep, 1), np.take_along_axis(rows, keep, 1)


def best_scanner() -> Scanner:
    """A scanner on the GPU where FAISS has one, else on the CPU.

    Raises:
        FailedState: as `load_faiss`.
    """
    return GpuScanner() if gpu_count() else CpuScanner()


@dataclass(frozen=True)
class Snapshot:
    """What an index held at one moment; any number of threads may search it."""

    scanner: Scanner
    segments: tuple[Segment, ...]
    rows: int
    dim: int

    def search(
        self, queries: Float32[np.ndarray, "q dim"], k: int, allowed: Bool[np.ndarray, "n"] | None = None
    ) -> Nearest:
        """The nearest allowed rows to each query, best first; equal scores in order of insertion.

        Args:
            queries: unit rows. Read only.
            k: rows wanted per query, at least 1.
            allowed: one entry per row of this snapshot; None: all.

        Raises:
            ShapeMismatch: the queries' length is not this index's.

        Cost: q · allowed · dim multiply-adds.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ShapeMismatch(f"queries must have shape ('q', {self.dim}), got {queries.shape}")
        queries = np.ascontiguousarray(queries, np.float32)
        scores, rows = [np.full((len(queries), k), -np.inf, np.float32)], [np.full((len(queries), k), -1, np.int64)]
        first = 0
        for segment in self.segments:
            count = min(self.rows - first, len(segment.vectors))
            part = None if allowed is None else allowed[first : first + count]
            found = self._segment(queries, segment, count, k, part)
            if found is not None:
                scores.append(found[0])
                rows.append(found[1] + first)
            first += count
        return _merge(np.concatenate(scores, 1), np.concatenate(rows, 1), k)

    def _segment(
        self,
        queries: Float32[np.ndarray, "q dim"],
        segment: Segment,
        rows: int,
        k: int,
        allowed: Bool[np.ndarray, "rows"] | None,
    ) -> tuple[Float32[np.ndarray, "q m"], Int64[np.ndarray, "q m"]] | None:
        passing = rows if allowed is None else int(allowed.sum())
        if not passing:
            return None
        wanted = min(passing, k + 1)  # one more than asked for shows whether the last place is a tie
        while True:
            scores, found = self.scanner.scan(queries, segment, rows, wanted, None if passing == rows else allowed)
            if wanted == passing or (scores[:, -1] < scores[:, k - 1]).all():
                return scores, found
            wanted = min(passing, 2 * wanted)


def _merge(scores: Float32[np.ndarray, "q m"], rows: Int64[np.ndarray, "q m"], k: int) -> Nearest:
    order = np.lexsort((rows, np.where(rows < 0, np.inf, -scores)), axis=1)[:, :k]
    return Nearest(np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1))


class Index:
    """All vectors of a pool, in order of insertion. One thread appends; any number search its snapshots.

    Args:
        dim: length of a vector.
        scanner: what searches a segment.
        segment_rows: size of a segment.
    """

    def __init__(self, dim: int, scanner: Scanner, *, segment_rows: int = SEGMENT_ROWS) -> None:
        self._dim = dim
        self._segment_rows = segment_rows
        self._published = Snapshot(scanner, (), 0, dim)

    @property
    def bytes(self) -> int:
        """Memory of the vectors, bytes."""
        return self._published.rows * self._dim * 4

    def snapshot(self) -> Snapshot:
        """All rows that were appended before this call."""
        return self._published

    def append(self, vectors: Float32[np.ndarray, "n dim"]) -> None:
        """Adds unit rows behind those that are there; they are in every later snapshot, all at once.

        Raises:
            ShapeMismatch: the vectors' length is not this index's.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self._dim:
            raise ShapeMismatch(f"vectors must have shape ('n', {self._dim}), got {vectors.shape}")
        old = self._published
        segments, rows = list(old.segments), old.rows
        while len(vectors):
            place = rows - (len(segments) - 1) * self._segment_rows if segments else self._segment_rows
            if place == self._segment_rows:
                segments.append(Segment(self._segment_rows, self._dim))
                place = 0
            part, vectors = vectors[: self._segment_rows - place], vectors[self._segment_rows - place :]
            segments[-1].vectors[place : place + len(part)] = part
            rows += len(part)
        self._published = Snapshot(old.scanner, tuple(segments), rows, self._dim)
