"""Searches a pool that is too big for memory: its vectors are read from the store, a segment at a time.

The answers are those of the pool in memory. A search takes no more memory than one segment and the pool's references,
so that a budget is kept whatever is searched; loading the pool and dropping it again would pass the budget by the
pool's size, just where memory is scarce, and would read as much.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from retrieval.bounds import Table
from retrieval.catalog import Catalog
from retrieval.index import NO_KEY, Index, Nearest, Scanner
from retrieval.loaded import StoredRows, batches
from retrieval.types import Reference, Series
from retrieval.view import View


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """The rows of a pool in the store."""

    catalog: Catalog
    series: Series
    scanner: Scanner
    known: dict[int, Reference]  # by sequence number, in order
    places: dict[int, int]  # by sequence number

    def search(
        self,
        queries: Float32[np.ndarray, "q dim"],
        k: int,
        passing: Bool[np.ndarray, "places"] | None = None,
        *,
        executor: Executor | None = None,
        helpers: int = 1,
    ) -> Nearest:
        """As `retrieval.index.Snapshot.search`. Cost: reads all vectors of the pool from the store."""
        best = _nothing(len(queries), k)
        for block in batches(self.catalog, self.series, self.known):
            if not block.references:
                continue
            index = Index(self.series.space.dim, self.scanner)
            owners = np.asarray([self.places[reference.generation] for reference in block.references], np.int32)
            index.append(
                block.vectors,
                np.repeat(owners, block.counts),
                np.concatenate([np.arange(count, dtype=np.int32) for count in block.counts]),
                block.boxes,
                np.full(len(block.vectors), NO_KEY, np.int64),
            )
            found = index.snapshot().search(queries, k, passing, executor=executor, helpers=helpers)
            best = _merged(best, found, k)
        return best


def streamed(catalog: Catalog, series: Series, scanner: Scanner, as_of: int = 0) -> View:
    """A pool as the store has it, now or at generation `as_of`, with its vectors left there.

    Raises:
        FailedState: HISTORY_NOT_KEPT or GENERATION_NOT_REACHED.
    """
    known, state = catalog.known(series.id, as_of)
    known = dict(sorted(known.items()))
    table, source = Table(), StoredRows(catalog, series)
    places = dict(zip(known, table.add(list(known.values())), strict=True))
    source.sequences = list(known)
    rows = StreamedRows(catalog, series, scanner, known, places)
    return View(series, state.generation, rows, table.facts(), list(known.values()), source)


def _nothing(queries: int, k: int) -> Nearest:
    minus: Int32[np.ndarray, "q k"] = np.full((queries, k), -1, np.int32)
    scores, numbers = np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)
    return Nearest(scores, minus, minus, np.full((queries, k, 4), -1, np.int32), numbers, 0)


def _merged(earlier: Nearest, later: Nearest, k: int) -> Nearest:
    """The best of both; of equal scores those of the earlier one, which were added before."""
    scores = np.concatenate([earlier.scores, later.scores], axis=1)
    order: Int64[np.ndarray, "q k"] = np.argsort(-scores, axis=1, kind="stable")[:, :k]

    def best(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        both = np.concatenate([a, b], axis=1)
        return np.take_along_axis(both, order if both.ndim == 2 else order[..., None], axis=1)

    return Nearest(
        best(earlier.scores, later.scores),
        best(earlier.owners, later.owners),
        best(earlier.parts, later.parts),
        best(earlier.boxes, later.boxes),
        best(earlier.numbers, later.numbers),  # counted anew in each batch; only their order in one has a meaning
        earlier.candidates + later.candidates,
    )
