"""usearch in process: one file, written by `save`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.product import Product, Search


class Usearch(Product):
    """Option `exact`: compares with every row instead of walking the graph."""

    batch = 10_000
    packages = ("usearch",)

    def start(self) -> None:
        from usearch.index import Index

        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self.folder / "index.usearch"
        self._index: Any = Index(ndim=self.dim, metric="ip", dtype="f32")
        if self._file.exists():
            self._index.load(str(self._file))

    def create(self) -> None:
        pass

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        self._index.add(np.arange(first, first + len(vectors), dtype=np.uint64), vectors)

    def settle(self) -> str:
        self._index.save(str(self._file))
        return "save"

    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        if bound is not None:
            raise NotImplementedError("no filter in its Python interface")
        exact = bool(self.options.get("exact"))

        def search(queries: NDArray[np.float32]) -> NDArray[np.int64]:
            found = self._index.search(queries, k, exact=exact)
            return np.asarray(found.keys).astype(np.int64).reshape(len(queries), -1)

        return search

    def count(self) -> int:
        return len(self._index)
