"""Chroma: its server over HTTP, and the same engine in process."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.processes import end, free_port, launch
from benchmarks.peers.product import Product, Search, padded

NAME = "patches"
START_SECONDS = 120.0


class ChromaEmbedded(Product):
    """Option `ef_search`: how many candidates the graph's walk keeps; Chroma's own default is 100."""

    packages = ("chromadb",)

    def start(self) -> None:
        import chromadb

        self._client: Any = chromadb.PersistentClient(str(self.folder), settings=self._quiet())
        self._collection: Any = None

    def _quiet(self) -> Any:
        import chromadb

        return chromadb.Settings(anonymized_telemetry=False)

    def create(self) -> None:
        hnsw: dict[str, Any] = {"space": "ip"}
        if "ef_search" in self.options:
            hnsw["ef_search"] = self.options["ef_search"]
        self._collection = self._client.create_collection(
            NAME, configuration={"hnsw": hnsw}, embedding_function=None
        )  # fmt: skip

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        self._collection.add(
            ids=[str(first + n) for n in range(len(vectors))],
            embeddings=vectors,
            metadatas=[{"chapter": int(chapter)} for chapter in chapters],
        )

    def _opened(self) -> Any:
        if self._collection is None:
            self._collection = self._client.get_collection(NAME, embedding_function=None)
        return self._collection

    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        collection = self._opened()
        where = None if bound is None else {"chapter": {"$lte": bound}}

        def search(queries: NDArray[np.float32]) -> NDArray[np.int64]:
            found = collection.query(query_embeddings=queries, n_results=k, where=where, include=["distances"])
            return padded([[int(one) for one in ids] for ids in found["ids"]], k)

        return search

    def count(self) -> int:
        return int(self._opened().count())


class ChromaServer(ChromaEmbedded):
    """`chroma run`, spoken to by HttpClient."""

    server = True

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        program = str(Path(sys.executable).parent / "chroma")
        command = [program, "run", "--path", "data", "--host", "127.0.0.1", "--port", str(self._port)]
        self._process = launch(command, self.folder, environment={"ANONYMIZED_TELEMETRY": "False"})
        self._collection = None
        self._client = None

    ground = "data"

    def create(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._reached()
                break
            except Exception:  # whatever its client raises before the server listens
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        super().create()

    def _reached(self) -> Any:
        if self._client is None:
            import chromadb

            self._client = chromadb.HttpClient("127.0.0.1", self._port, settings=self._quiet())
        return self._client

    def _opened(self) -> Any:
        self._reached()
        return super()._opened()

    def reach(self) -> Any:
        return self.folder, self.dim, dict(self.options), self._port

    @classmethod
    def connect(cls, reach: Any) -> Product:
        folder, dim, options, port = reach
        product = cls(folder, dim, options)
        product._port, product._client, product._collection = port, None, None
        product._reached()
        return product

    def family(self) -> list[int]:
        return [self._process.pid]

    def kill(self) -> None:
        if hasattr(self, "_process"):
            end(self._process.pid)
            self._process.wait()
