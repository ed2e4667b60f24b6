"""FAISS in process: the floor of a search, and no store."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.product import Product, Search


class FaissFlat(Product):
    """IndexFlatIP; its file is written once, after the last row."""

    batch = 10_000
    packages = ("faiss-cpu",)

    def start(self) -> None:
        import faiss

        self._faiss: Any = faiss
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file, self._chapters_file = self.folder / "index.faiss", self.folder / "chapters.npy"
        if self._file.exists():
            self._index = faiss.read_index(str(self._file))
            self._chapters = np.load(self._chapters_file)

    def create(self) -> None:
        self._index = self._faiss.IndexFlatIP(self.dim)
        self._parts: list[NDArray[np.int64]] = []

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        self._index.add(vectors)
        self._parts.append(chapters)

    def settle(self) -> str:
        np.save(self._chapters_file, np.concatenate(self._parts))
        self._faiss.write_index(self._index, str(self._file))
        return "write_index"

    def settings(self) -> list[str]:
        return [f"{threads} threads" for threads in range(1, len(os.sched_getaffinity(0)) + 1)]

    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        self._faiss.omp_set_num_threads(int(setting.split()[0]))  # OpenMP keeps it per calling thread
        if bound is None:
            return lambda queries: self._index.search(queries, k)[1]
        mask = np.packbits(self._chapters <= bound, bitorder="little")
        selector = self._faiss.IDSelectorBitmap(mask)
        parameters = self._faiss.SearchParameters(sel=selector)
        return lambda queries: self._index.search(queries, k, params=parameters)[1]

    def count(self) -> int:
        return int(self._index.ntotal)
