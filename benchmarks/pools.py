"""Pools of ready-made vectors for the benchmarks of the retrieval engine: made-up vectors, imports, searches."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import numpy as np
import psutil
from jaxtyping import Float32

from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import maintenance_pb2_grpc as maintenance_grpc
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from panelhue.retrieval.v1 import retrieval_pb2_grpc as pb_grpc

PATCHES = 5  # of a reference: the whole picture and its corners
SIDE = 64  # pixels of a made-up picture
BATCH_BYTES = 3 << 20  # of one import message, below the 4 MiB that gRPC takes
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Stubs:
    """Both services of one server."""

    retrieval: pb_grpc.RetrievalServiceStub
    maintenance: maintenance_grpc.MaintenanceServiceStub


@contextmanager
def stubs(address: str) -> Iterator[Stubs]:
    """Stubs on a channel of their own, closed at the end."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Stubs(
            pb_grpc.RetrievalServiceStub(channel),  # type: ignore[no-untyped-call]  # generated
            maintenance_grpc.MaintenanceServiceStub(channel),  # type: ignore[no-untyped-call]  # generated
        )


def clustered(rows: int, dim: int, *, seed: int, chapter: int = 0) -> Float32[np.ndarray, "rows dim"]:
    """Unit vectors as patches have them: of one reference alike, of one chapter somewhat, of one series a little.

    Args:
        rows: how many; `PATCHES` one after the other belong to one reference.
        dim: length of a vector.
        seed: of the series; the same seed, chapter and dim give the same vectors.
        chapter: of the rows.
    """
    series = np.random.default_rng(seed).standard_normal(dim, np.float32)
    rng = np.random.default_rng((seed, chapter + 1))
    scene = rng.standard_normal(dim, np.float32)
    pages = rng.standard_normal((-(-rows // PATCHES), dim), np.float32).repeat(PATCHES, 0)[:rows]
    made = 0.5 * series + 0.6 * scene + 0.8 * pages + 0.6 * rng.standard_normal((rows, dim), np.float32)
    unit: Float32[np.ndarray, "rows dim"] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def create(servers: Stubs, series_id: str, dim: int) -> str:
    """Makes a series of ready-made vectors; the id of its space."""
    space = pb.EmbeddingSpace(model="synthetic", dim=dim)
    series = pb.Series(id=series_id, embedder="vectors", embedding_space=space)
    answer = servers.retrieval.CreateSeries(pb.CreateSeriesRequest(series=series))
    made: str = answer.series.embedding_space.id
    return made


def reference(vectors: Float32[np.ndarray, "n dim"], chapter: int, name: str) -> pb.ImportedReference:
    """One reference of made-up vectors; its picture's bytes are some 50 and say `name`."""
    return pb.ImportedReference(
        key=name,
        reference=pb.Reference(chapter=1000 * chapter, width=SIDE, height=SIDE, media_type="image/png"),
        data=PNG + name.encode(),
        vectors=vectors.astype("<f4").tobytes(),
        boxes=[common.Box(x1=SIDE, y1=SIDE)] * len(vectors),
    )


def reference_id(name: str) -> str:
    """The id of the reference that `reference` makes of that name."""
    return hashlib.sha256(PNG + name.encode()).hexdigest()


def references(vectors: Float32[np.ndarray, "n dim"], chapter: int, name: str) -> list[pb.ImportedReference]:
    """The rows as references of `PATCHES` each."""
    return [
        reference(vectors[first : first + PATCHES], chapter, f"{name}/{chapter}/{first // PATCHES}")
        for first in range(0, len(vectors), PATCHES)
    ]


def batches(items: Sequence[pb.ImportedReference]) -> Iterator[pb.ImportReferencesRequest]:
    """The messages of an import behind its options: as many references each as fit."""
    waiting = list(items)
    while waiting:
        size = [item.ByteSize() for item in waiting[:1000]]
        count = max(1, int(np.searchsorted(np.cumsum(size), BATCH_BYTES)))
        yield pb.ImportReferencesRequest(batch=pb.ImportBatch(references=waiting[:count]))
        waiting = waiting[count:]


def fill(servers: Stubs, series_id: str, space_id: str, items: Sequence[pb.ImportedReference]) -> int:
    """Imports references and waits until all are acknowledged; how many were added.

    Raises:
        RuntimeError: one was rejected.
    """
    options = pb.ImportReferencesOptions(series_id=series_id, embedding_space_id=space_id)
    first = iter([pb.ImportReferencesRequest(options=options)])
    added = 0
    for answer in servers.retrieval.ImportReferences(itertools.chain(first, batches(items))):
        for result in answer.results:
            if result.status == pb.AddReferencesResponse.STATUS_REJECTED:
                raise RuntimeError(f"{result.key} was rejected: {result.failure.message}")
            added += result.status == pb.AddReferencesResponse.STATUS_ADDED
    return added


def question(
    series_id: str, queries: Float32[np.ndarray, "q dim"], k: int, *, max_chapter: int | None = None
) -> pb.SearchVectorsRequest:
    """A search by vectors."""
    bound = common.Bound() if max_chapter is None else common.Bound(max_chapter=1000 * max_chapter)
    data = queries.astype("<f4").tobytes()
    return pb.SearchVectorsRequest(series_id=series_id, dim=queries.shape[1], vectors=data, k=k, bound=bound)


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that is not a mapped file, bytes (RssAnon): what it allocated itself and touched."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024


def resident_bytes(pid: int) -> int:
    """Memory of a process, mapped files included, bytes."""
    return int(psutil.Process(pid).memory_info().rss)
