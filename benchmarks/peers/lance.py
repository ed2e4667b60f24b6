"""LanceDB in process, as it is without an index: an exact scan of its files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.product import Product, Search, padded

NAME = "patches"


class Lance(Product):
    """One `add` is one version with files of its own."""

    packages = ("lancedb", "pyarrow")
    batch = 5000

    def start(self) -> None:
        import lancedb
        import pyarrow

        self._arrow: Any = pyarrow
        self._database: Any = lancedb.connect(str(self.folder))
        try:
            self._table: Any = self._database.open_table(NAME)
        except ValueError:
            self._table = None

    def create(self) -> None:
        pa = self._arrow
        fields = [("id", pa.int64()), ("chapter", pa.int64()), ("vector", pa.list_(pa.float32(), self.dim))]
        self._table = self._database.create_table(NAME, schema=pa.schema(fields))

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        pa = self._arrow
        rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.dim)
        ids = pa.array(np.arange(first, first + len(vectors)))
        self._table.add(pa.table({"id": ids, "chapter": pa.array(chapters), "vector": rows}))

    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        def search(queries: NDArray[np.float32]) -> NDArray[np.int64]:
            given: Any = queries[0] if len(queries) == 1 else list(queries)
            query = self._table.search(given, vector_column_name="vector").distance_type("dot").limit(k)
            if bound is not None:
                query = query.where(f"chapter <= {bound}", prefilter=True)
            found = query.select(["id", "_distance"]).to_arrow()
            ids = found["id"].to_numpy()
            if len(queries) == 1:
                return padded([ids], k)
            asked = found["query_index"].to_numpy()
            return padded([ids[asked == number] for number in range(len(queries))], k)

        return search

    def count(self) -> int:
        return int(self._table.count_rows())
