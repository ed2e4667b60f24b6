"""This server over gRPC, started as a user starts it."""

from __future__ import annotations

import io
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.peers.processes import end
from benchmarks.peers.product import Product, Search, padded
from benchmarks.peers.vectors import PAGE
from benchmarks.servers import start
from panelhue import Bound, IndexKind, RetrievalClient
from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from panelhue.retrieval.v1 import retrieval_pb2_grpc as pb_grpc

SERIES = "peers"
SIDE = 64  # pixels of a reference's picture
AHEAD = 2  # batches sent before the answer of the first is awaited
ANSWER_SECONDS = 300.0


def picture(number: int) -> bytes:
    """A small PNG of one colour that no other reference has."""
    out = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (255 - (number >> 16), (number >> 8) & 255, number & 255)).save(out, "PNG")
    return out.getvalue()


class PanelhueServer(Product):
    """A page's five patches are one reference; its page number and the box's left edge say which row a hit is."""

    packages = ("panelhue", "faiss-cpu", "lmdb")
    server = True
    ground = "data"

    def __init__(self, folder: Path, dim: int, options: Any) -> None:
        super().__init__(folder, dim, options)
        self.batch = 1500 * 512 // dim // PAGE * PAGE  # some 3 MB, below the 4 MiB of a message

    def start(self) -> None:
        self._server = start("retrieval-server", self.folder, "--data", str(self.folder / "data"))
        self._client = RetrievalClient(self._server.address)

    def create(self) -> None:
        space = pb.EmbeddingSpace(model="made-up", dim=self.dim)
        series = pb.Series(id=SERIES, embedder="vectors", embedding_space=space, index=self._index())
        self._channel = grpc.insecure_channel(self._server.address)
        stub: Any = pb_grpc.RetrievalServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        made = stub.CreateSeries(pb.CreateSeriesRequest(series=series)).series
        options = pb.ImportReferencesOptions(series_id=SERIES, embedding_space_id=made.embedding_space.id)
        self._out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._out.put(pb.ImportReferencesRequest(options=options))
        self._waiting = 0
        self._answers: Iterator[Any] = stub.ImportReferences(iter(self._out.get, None))

    def _index(self) -> Any:
        return pb.IndexOptions(kind=f"KIND_{self.options.get('index', 'EXACT')}")

    def warm(self) -> None:
        until = time.monotonic() + ANSWER_SECONDS
        while self._client.stats(SERIES).serving_kind is not IndexKind[self.options.get("index", "EXACT")]:
            if time.monotonic() > until:
                raise RuntimeError(f"the index is not built yet: {self._client.stats(SERIES).index_note}")
            time.sleep(0.1)

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        references = [
            self._reference((first + row) // PAGE, vectors[row : row + PAGE], int(chapters[row]))
            for row in range(0, len(vectors), PAGE)
        ]
        self._out.put(pb.ImportReferencesRequest(batch=pb.ImportBatch(references=references)))
        self._waiting += 1
        while self._waiting > AHEAD:
            self._answer()

    def _reference(self, number: int, vectors: NDArray[np.float32], chapter: int) -> Any:
        return pb.ImportedReference(
            key=str(number),
            reference=pb.Reference(chapter=chapter, page=number, width=SIDE, height=SIDE),
            data=picture(number),
            vectors=vectors.astype("<f4").tobytes(),
            boxes=[common.Box(x0=n, y0=0, x1=SIDE, y1=SIDE) for n in range(len(vectors))],
        )

    def _answer(self) -> None:
        for result in next(self._answers).results:
            if result.status != pb.AddReferencesResponse.STATUS_ADDED:
                raise RuntimeError(f"reference {result.key}: {result.failure.reason} {result.failure.message}")
        self._waiting -= 1

    def acknowledged(self) -> None:
        while self._waiting:
            self._answer()
        self._out.put(None)
        if next(self._answers, None) is not None:
            raise RuntimeError("the server answered for a batch that it was not sent")

    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        limit = Bound() if bound is None else Bound(max_chapter=bound)

        def search(queries: NDArray[np.float32]) -> NDArray[np.int64]:
            found: list[list[int]] = [[] for _ in queries]
            for hit in self._client.search(SERIES, queries.astype("<f4").tobytes(), self.dim, k=k, bound=limit):
                found[hit.query].append((hit.page or 0) * PAGE + hit.box.x0)
            return padded(found, k)

        return search

    def count(self) -> int:
        return int(self._client.stats(SERIES).patches)

    def reach(self) -> Any:
        return self.folder, self.dim, dict(self.options), self._server.address

    @classmethod
    def connect(cls, reach: Any) -> Product:
        folder, dim, options, address = reach
        product = cls(folder, dim, options)
        product._client = RetrievalClient(address)
        return product

    def family(self) -> list[int]:
        return [self._server.process.pid]

    def kill(self) -> None:
        if hasattr(self, "_server"):
            end(self._server.process.pid)
            self._server.process.wait()
