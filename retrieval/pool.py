"""One series' references in memory, beside the store that holds the truth; loaded at the first search, then kept up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32

from retrieval.bounds import Facts, Table
from retrieval.catalog import Catalog, no_such_series
from retrieval.index import Index, Scanner
from retrieval.index import Snapshot as Rows
from retrieval.types import Bound, Draft, Found, Hit, PoolState, Prepared, Reference, SeriesView, Timing
from serving.errors import CorruptData, FailedState
from serving.geometry import Box

LOAD_BATCH = 256  # references read from the store at a time; no transaction lasts longer
MIN_DEAD = 4096  # rows of removed references that are kept at least, before the index is made anew


@dataclass(frozen=True)
class Snapshot:
    """A pool at one generation; any number of threads may search it."""

    generation: int
    rows: Rows
    facts: Facts
    references: Sequence[Reference]  # by place; may be longer than the facts
    owner: Int32[np.ndarray, "rows"]  # the place of each row's reference
    boxes: Int32[np.ndarray, "rows 4"]  # in the reference's pixels

    def search(self, queries: Float32[np.ndarray, "q dim"], k: int, bound: Bound) -> Found:
        """The nearest patches that pass the bound, by query, best first. Fewer where fewer pass."""
        start = time.perf_counter_ns()
        passing = self.facts.mask(bound)
        allowed: Bool[np.ndarray, "rows"] | None = None if passing.all() else passing[self.owner]
        nearest = self.rows.search(queries, k, allowed)
        hits = tuple(
            Hit(query, rank, float(score), self.references[self.owner[row]], Box(*self.boxes[row].tolist()))
            for query, (scores, rows) in enumerate(zip(nearest.scores, nearest.rows, strict=True))
            for rank, (score, row) in enumerate(zip(scores, rows, strict=True))
            if row >= 0
        )
        candidates = self.rows.rows if allowed is None else int(allowed.sum())
        return Found(hits, self.generation, candidates, Timing(search_ns=time.perf_counter_ns() - start))


class _Loaded:
    """What is in memory of a pool; changed by one thread at a time."""

    def __init__(self, dim: int, scanner: Scanner) -> None:
        self.index = Index(dim, scanner)
        self.table = Table()
        self.references: list[Reference] = []
        self.dead = 0  # rows of removed references
        self._owner = np.zeros(0, np.int32)
        self._boxes = np.zeros((0, 4), np.int32)

    def append(
        self, references: Sequence[Reference], vectors: Float32[np.ndarray, "n dim"], boxes: Int32[np.ndarray, "n 4"],
        counts: Sequence[int],
    ) -> None:  # fmt: skip
        first = self.index.snapshot().rows
        places = [self.table.add(reference) for reference in references]
        self.references.extend(references)
        last = first + len(vectors)
        if last > len(self._owner):
            room = max(256, 2 * last)
            self._owner = np.concatenate([self._owner[:first], np.zeros(room - first, np.int32)])
            self._boxes = np.concatenate([self._boxes[:first], np.zeros((room - first, 4), np.int32)])
        self._owner[first:last] = np.repeat(np.asarray(places, np.int32), counts)
        self._boxes[first:last] = boxes
        self.index.append(vectors)

    def change(self, reference: Reference) -> None:
        place = self.table.replace(reference)
        self.references = [*self.references]  # snapshots keep the list they have
        self.references[place] = reference

    def snapshot(self, generation: int) -> Snapshot:
        rows = self.index.snapshot()
        facts = self.table.facts()
        return Snapshot(generation, rows, facts, self.references, self._owner[: rows.rows], self._boxes[: rows.rows])

    @property
    def bytes(self) -> int:
        return self.index.bytes + self._owner.nbytes + self._boxes.nbytes


class Pool:
    """A series' pool. Changes go to the store first, then to memory, then are published, one after the other.

    Args:
        catalog: where the truth is.
        series_id: the series.
        scanner: what searches.
    """

    def __init__(self, catalog: Catalog, series_id: str, scanner: Scanner) -> None:
        self._catalog, self._series_id, self._scanner = catalog, series_id, scanner
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        self._published: Snapshot | None = None
        self.retired = False  # its series was removed; another of the same name has another pool

    @property
    def index_bytes(self) -> int:
        """Memory that it takes, bytes; 0 while it is not loaded."""
        loaded = self._loaded
        return loaded.bytes if loaded else 0

    @property
    def loaded(self) -> bool:
        """Whether it is in memory."""
        return self._published is not None

    def snapshot(self, min_generation: int = 0) -> Snapshot:
        """The pool as it is now, loaded first if need be.

        Raises:
            FailedState: GENERATION_NOT_REACHED, the pool has not changed so often yet.
            CorruptData: the store does not hold what it promises.
        """
        snapshot = self._published
        if snapshot is None:
            with self._changing():
                snapshot = self._published or self._load()
        if snapshot.generation < min_generation:
            raise FailedState(
                f"the pool must have reached generation {min_generation}, got {snapshot.generation}",
                reason="GENERATION_NOT_REACHED",
                metadata={"expected": str(min_generation), "actual": str(snapshot.generation)},
            )
        return snapshot

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            if self.retired:
                raise no_such_series(self._series_id)
            yield

    def published(self) -> Snapshot | None:
        """The pool as it is now, None while it is not loaded."""
        return self._published

    def delete(self, check: Callable[[SeriesView], None]) -> int:
        """As `Catalog.delete`."""
        with self._changing():
            count = self._catalog.delete(self._series_id, check)
            self.retired = True
            self._loaded = self._published = None
        return count

    def unload(self) -> None:
        """Frees the memory; the next search loads it again."""
        with self._lock:
            self._loaded = self._published = None

    def _load(self) -> Snapshot:
        view = self._catalog.view(self._series_id)
        loaded = _Loaded(view.series.space.dim, self._scanner)
        known, state = self._catalog.known(self._series_id)
        after, found = 0, 0
        while everything := self._catalog.patches(self._series_id, after, LOAD_BATCH):
            after = everything[-1].sequence
            batch = [patches for patches in everything if patches.sequence in known]  # the others were removed
            if not batch:
                continue
            found += len(batch)
            loaded.append(
                [known[patches.sequence] for patches in batch],
                np.concatenate([patches.vectors for patches in batch]),
                np.concatenate([patches.boxes for patches in batch]),
                [len(patches.vectors) for patches in batch],
            )
        if found != len(known) or len(known) != state.references or loaded.index.snapshot().rows != state.patches:
            raise CorruptData(
                f"series {self._series_id!r}: expected {state.references} references with {state.patches} patches, "
                f"got {found} with {loaded.index.snapshot().rows}",
                reason="DATA_DAMAGED",
            )
        self._loaded = loaded
        return self._publish(state)

    def _publish(self, state: PoolState) -> Snapshot:
        assert self._loaded is not None
        self._published = self._loaded.snapshot(state.generation)
        return self._published

    def add(self, draft: Draft, data: bytes, prepared: Prepared) -> tuple[Reference, PoolState, bool]:
        """As `Catalog.add`; the reference is in every snapshot taken after this returns."""
        with self._changing():
            reference, state, new = self._catalog.add(self._series_id, draft, data, prepared)
            if new and self._loaded is not None:
                self._loaded.append([reference], prepared.vectors, prepared.boxes, [len(prepared.vectors)])
                self._publish(state)
        return reference, state, new

    def change(self, reference_id: str, work: Callable[[Reference], Reference]) -> tuple[Reference, PoolState]:
        """As `Catalog.change_reference`."""
        with self._changing():
            reference, state = self._catalog.change_reference(self._series_id, reference_id, work)
            if self._loaded is not None:
                self._loaded.change(reference)
                self._publish(state)
        return reference, state

    def remove(self, reference_ids: Sequence[str], *, allow_missing: bool) -> tuple[list[Reference], PoolState]:
        """As `Catalog.remove`; the rows stay in memory, masked, until they are many."""
        with self._changing():
            gone, state = self._catalog.remove(self._series_id, reference_ids, allow_missing=allow_missing)
            if gone and self._loaded is not None:
                self._loaded.table.remove([reference.id for reference in gone])
                self._loaded.dead = self._loaded.index.snapshot().rows - state.patches
                if self._loaded.dead > max(MIN_DEAD, state.patches):
                    self._loaded = self._published = None
                else:
                    self._publish(state)
        return gone, state
