"""FAISS's approximate indexes behind one face: built over numbered rows, searched with an effort."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from retrieval.index.library import gpu_count, load_faiss
from serving.errors import FailedState

Kind = Literal["ivf", "hnsw", "gpu_ivf", "cagra"]
Rows = Callable[[], Iterable[Float32[np.ndarray, "_ dim"]]]  # all rows, in order, piece by piece; may be called twice
Lists = tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]
LIST_ROWS = 39  # FAISS wants at least so many rows per list to train with; more make a list little better
LINKS = 32  # of a row in a graph; twice as many at the bottom
MOST_EFFORT = 4096  # beyond it an exact search is faster


@runtime_checkable
class Structure(Protocol):
    """An approximate index. Any number of threads may search it."""

    masks: bool  # whether it can search among some of its rows only
    efforts: tuple[int, ...]  # that make sense, from the least on

    def search(
        self, queries: Float32[np.ndarray, "q dim"], k: int, effort: int, allowed: Bool[np.ndarray, "rows"] | None
    ) -> Lists:
        """Scores and rows, best first, -1 where it found fewer; `allowed` is None unless `masks`."""
        ...


def build(
    kind: Kind, rows: Rows, count: int, dim: int, seed: int, check: Callable[[], None] = lambda: None
) -> Structure:
    """A structure over `count` rows; the same one for the same rows and seed. It keeps them in float16.

    `check` is called between the steps of the training, and ends it by raising; so may `rows`.

    Raises:
        FailedState: INDEX_KIND_UNAVAILABLE, this FAISS or this machine has no such kind.

    Cost: in the calling thread alone, so that a server goes on serving; for "ivf" some 1,600 · count · dim
    multiply-adds to train and 2 · count^1.5 · dim to fill, for "hnsw" a search of the graph per row.
    """
    if kind == "cagra":
        return Cagra(rows, dim)
    if kind == "hnsw":
        return Hnsw(rows, count, dim, seed)
    return (Ivf if kind == "ivf" else GpuIvf)(rows, count, dim, seed, check)


def unavailable(kind: str, why: str) -> FailedState:
    """The error for a kind that cannot be had here."""
    return FailedState(f"index kind {kind!r} is not available: {why}", reason="INDEX_KIND_UNAVAILABLE")


def _doubled(most: int) -> tuple[int, ...]:
    """Powers of two below `most`, and `most`."""
    return (*(1 << n for n in range(most.bit_length()) if 1 << n < most), most)


def _selector(allowed: Bool[np.ndarray, "rows"] | None) -> tuple[Any, Any]:
    """FAISS's selector, and the bits, which must live as long."""
    if allowed is None:
        return None, None
    bits = np.packbits(allowed, bitorder="little")
    return load_faiss().IDSelectorBitmap(bits), bits


class Ivf:
    """Rows in lists around centres; the effort is how many lists are searched."""

    masks = True

    def __init__(self, rows: Rows, count: int, dim: int, seed: int, check: Callable[[], None]) -> None:
        faiss = load_faiss()
        self._lists = max(1, min(int(2 * count**0.5), count // LIST_ROWS))
        self.efforts = _doubled(self._lists)
        centres = faiss.IndexFlatIP(dim)
        index = faiss.IndexIVFScalarQuantizer(
            centres, dim, self._lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
        )
        index.cp.seed = seed + 1  # FAISS takes a negative one for none
        sample = _sample(rows, count, LIST_ROWS * self._lists, seed)
        steps, index.cp.niter = index.cp.niter, 1  # one at a time: FAISS cannot be stopped in the middle
        clusters = faiss.Clustering(dim, self._lists, index.cp)
        for _ in range(steps):
            check()
            clusters.train(sample, centres)  # goes on from its own centres
        index.train(sample)  # nothing is left to learn; FAISS asks for it
        for piece in rows():
            index.add(piece)
        self._index, self._centres = index, centres  # FAISS does not own the centres

    def search(
        self, queries: Float32[np.ndarray, "q dim"], k: int, effort: int, allowed: Bool[np.ndarray, "rows"] | None
    ) -> Lists:
        """As `Structure.search`."""
        selector, _bits = _selector(allowed)
        params = load_faiss().SearchParametersIVF(nprobe=effort, sel=selector)
        scores, rows = self._index.search(queries, k, params=params)
        return scores, rows


class Hnsw:
    """A graph of neighbours; the effort is how many candidates a search keeps."""

    masks = True

    def __init__(self, rows: Rows, count: int, dim: int, seed: int) -> None:
        faiss = load_faiss()
        self.efforts = tuple(e for e in _doubled(MOST_EFFORT) if e >= 16)
        index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.rng = faiss.RandomGenerator(seed)
        index.train(_sample(rows, count, 1, seed))  # float16 has nothing to learn; FAISS asks for it
        faiss.omp_set_num_threads(1)  # the graph depends on the order in which rows come
        for piece in rows():
            index.add(piece)
        self._index = index

    def search(
        self, queries: Float32[np.ndarray, "q dim"], k: int, effort: int, allowed: Bool[np.ndarray, "rows"] | None
    ) -> Lists:
        """As `Structure.search`."""
        selector, _bits = _selector(allowed)
        params = load_faiss().SearchParametersHNSW(efSearch=max(effort, k), sel=selector)
        scores, rows = self._index.search(queries, k, params=params)
        return scores, rows


class GpuIvf:
    """`Ivf` on a GPU, whole searches only."""

    masks = False  # plain faiss-gpu ignores selectors without a word

    def __init__(self, rows: Rows, count: int, dim: int, seed: int, check: Callable[[], None]) -> None:
        if not gpu_count():
            raise unavailable("gpu_ivf", "expected a GPU that FAISS can use, got none")
        faiss, host = load_faiss(), Ivf(rows, count, dim, seed, check)
        self.efforts = tuple(effort for effort in host.efforts if effort <= 2048)  # FAISS's own limit
        self._lock = threading.Lock()
        self._resources = faiss.StandardGpuResources()
        try:
            self._index = faiss.index_cpu_to_gpu(self._resources, 0, host._index)
        except RuntimeError as error:
            raise unavailable("gpu_ivf", f"the device refuses it: {error}") from error

    def search(
        self, queries: Float32[np.ndarray, "q dim"], k: int, effort: int, allowed: Bool[np.ndarray, "rows"] | None
    ) -> Lists:
        """As `Structure.search`."""
        assert allowed is None
        params = load_faiss().SearchParametersIVF(nprobe=effort)
        with self._lock:  # FAISS's GPU side is not thread-safe
            scores, rows = self._index.search(queries, k, params=params)
        return scores, rows


class Cagra:
    """cuVS's graph on a GPU, whole searches only; the effort is how many candidates a search keeps."""

    masks = False  # left to the exact search, which needs less than the graph under a narrow bound

    def __init__(self, rows: Rows, dim: int) -> None:
        faiss = load_faiss()
        if not hasattr(faiss, "GpuIndexCagra") or not gpu_count():
            raise unavailable("cagra", "expected panelhue[gpu], whose FAISS has cuVS, and a GPU, got neither or one")
        self.efforts = tuple(effort for effort in _doubled(1024) if effort >= 64)
        self._lock = threading.Lock()
        self._resources = faiss.StandardGpuResources()
        self._index = faiss.GpuIndexCagra(self._resources, dim, faiss.METRIC_INNER_PRODUCT)
        try:
            self._index.train(np.concatenate(list(rows())))
        except RuntimeError as error:
            raise unavailable("cagra", f"the device refuses it: {error}") from error

    def search(
        self, queries: Float32[np.ndarray, "q dim"], k: int, effort: int, allowed: Bool[np.ndarray, "rows"] | None
    ) -> Lists:
        """As `Structure.search`."""
        assert allowed is None
        params = load_faiss().SearchParametersCagra()
        params.itopk_size = max(effort, k)
        with self._lock:
            scores, rows = self._index.search(queries, k, params=params)
        return scores, rows


def _sample(rows: Rows, count: int, wanted: int, seed: int) -> Float32[np.ndarray, "n dim"]:
    """Some of the rows, each as likely as another."""
    chosen = np.sort(np.random.default_rng(seed).choice(count, min(count, wanted), replace=False))
    parts, first = [], 0
    for piece in rows():
        mine = chosen[(chosen >= first) & (chosen < first + len(piece))] - first
        parts.append(piece[mine])
        first += len(piece)
    return np.concatenate(parts)
