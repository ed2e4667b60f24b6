"""Pools of ready-made vectors, and what is found in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from panelhue import types as t
from panelhue.maintenance_client import MaintenanceClient
from panelhue.retrieval_client import RetrievalClient
from tests.wire.speaking import picture

DIM = 8
SPACE = t.EmbeddingSpace(model="made-up", dim=DIM)
BOX = t.Box(0, 0, 64, 96)


@contextmanager
def clients(address: str) -> Iterator[tuple[RetrievalClient, MaintenanceClient]]:
    """Both clients of a retrieval server."""
    with RetrievalClient(address) as pools, MaintenanceClient(address) as upkeep:
        yield pools, upkeep


def rows(seed: int, count: int = 1, dim: int = DIM) -> np.ndarray:
    """Random unit rows, others for each seed."""
    made = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def tiny(seed: int) -> bytes:
    """Bytes that begin like a PNG; enough where no pixel is asked for."""
    return b"\x89PNG\r\n\x1a\n" + seed.to_bytes(8, "big")


def made(
    seed: int, vectors: np.ndarray | None = None, *, data: bytes | None = None, **fields: object
) -> t.ImportedReference:
    """A reference with ready-made vectors, another one for each seed."""
    vectors = rows(seed) if vectors is None else vectors
    return t.ImportedReference(
        name=f"n{seed}",
        data=tiny(seed) if data is None else data,
        vectors=vectors,
        boxes=(BOX,) * len(vectors),
        width=64,
        height=96,
        **fields,  # type: ignore[arg-type]
    )


def pool_of(
    pools: RetrievalClient, series: str, references: Iterable[t.ImportedReference] = (), **options: object
) -> list[str]:
    """Makes a series of ready-made vectors; the ids of its references, in their order."""
    pools.create_series(series, embedder="vectors", embedding_space=SPACE, **options)  # type: ignore[arg-type]
    return imported(pools, series, references)


def imported(pools: RetrievalClient, series: str, references: Iterable[t.ImportedReference]) -> list[str]:
    """The ids of references that are all added, in their order."""
    space = pools.get_series(series).embedding_space
    results = list(pools.import_references(series, references, embedding_space_id=space.id))
    assert {one.status for one in results} <= {t.AddStatus.ADDED}, results
    return [one.reference.id for one in results if one.reference is not None]


def found(pools: RetrievalClient, series: str, query: np.ndarray, **options: object) -> list[str]:
    """The ids of what one vector finds, best first."""
    hits = pools.search(series, query.astype("<f4").tobytes(), query.shape[-1], **options)  # type: ignore[arg-type]
    return [hit.reference_id for hit in hits]


def files(numbers: Sequence[int], **fields: object) -> list[t.ReferenceFile]:
    """Colour pictures to add."""
    return [t.ReferenceFile(f"f{n}", picture(n), **fields) for n in numbers]  # type: ignore[arg-type]


def ids_of(pools: RetrievalClient, series: str) -> set[str]:
    """The ids of all references of a series."""
    return {one.id for one in pools.list_references(series)}


def damage(path: Path, data: bytes) -> None:
    """Turns one bit of `data` over where it lies in the file."""
    at = path.read_bytes().find(data)
    assert at >= 0
    with path.open("r+b") as file:
        file.seek(at + len(data) - 1)
        file.write(bytes([data[-1] ^ 1]))
        file.flush()
        os.fsync(file.fileno())
