"""qdrant-client's local mode: the client's own emulation of the server, in Python and numpy, over SQLite."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.product import Product, Search, padded

NAME = "patches"


class QdrantLocal(Product):
    """Exact by nature."""

    packages = ("qdrant-client",)
    batch = 250

    def start(self) -> None:
        from qdrant_client import QdrantClient, models

        self._models: Any = models
        self._client: Any = QdrantClient(path=str(self.folder))

    def create(self) -> None:
        params = self._models.VectorParams(size=self.dim, distance=self._models.Distance.DOT)
        self._client.create_collection(NAME, vectors_config=params)

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        points = [
            self._models.PointStruct(id=first + n, vector=vector.tolist(), payload={"chapter": int(chapter)})
            for n, (vector, chapter) in enumerate(zip(vectors, chapters, strict=True))
        ]
        self._client.upsert(NAME, points, wait=True)

    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        m, condition = self._models, None
        if bound is not None:
            condition = m.Filter(must=[m.FieldCondition(key="chapter", range=m.Range(lte=bound))])

        def search(queries: NDArray[np.float32]) -> NDArray[np.int64]:
            if len(queries) == 1:
                found = [self._client.query_points(NAME, query=queries[0].tolist(), limit=k, query_filter=condition)]
            else:
                requests = [m.QueryRequest(query=query.tolist(), limit=k, filter=condition) for query in queries]
                found = self._client.query_batch_points(NAME, requests)
            return padded([[point.id for point in one.points] for one in found], k)

        return search

    def count(self) -> int:
        return int(self._client.count(NAME).count)
