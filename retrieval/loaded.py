"""What is in memory of a pool: index, facts and references; and how it is read from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Int32

from retrieval.bounds import Table
from retrieval.catalog import Catalog
from retrieval.index import NO_KEY, SEGMENT_ROWS, Index, Precision, Recall, Scanner
from retrieval.index.structures import Kind
from retrieval.references import PatchBlock
from retrieval.types import FP16, PoolState, Reference, Series
from retrieval.view import View
from serving.errors import Conflict, CorruptData, FailedState

LOAD_BATCH = 64  # references read from the store at a time; no transaction lasts longer, and the cache holds them
ROW_BYTES = 40  # of a row beside its vector: owner, part, box, number and key
# Measured with tracemalloc: 1520 bytes a reference, and 9,000 beside them (tests/unit/test_residency.py).
REFERENCE_BYTES = 1700  # Python's objects of a reference with tags, a parent and a digest, and its place in the tables
APPROXIMATE_ROWS = 10_000  # below, an exact search takes some 2 ms
KINDS: dict[str, Kind] = {"ivf": "ivf", "hnsw": "hnsw", "cagra": "cagra"}
POOL_BYTES = 40_000  # of a pool that holds nothing: its objects, and the pages that its first rows begin


def expected_bytes(series: Series, state: PoolState) -> int:
    """What a pool takes in memory, bytes, by what it counts."""
    row = series.space.dim * (2 if series.index.precision == FP16 else 4) + ROW_BYTES
    return POOL_BYTES + state.references * REFERENCE_BYTES + state.patches * row


class StoredRows:
    """The float32 vectors of a pool's rows, read from the store.

    Args:
        catalog: the store.
        series: as its vectors were when the pool was loaded.
    """

    def __init__(self, catalog: Catalog, series: Series) -> None:
        self._catalog, self._series = catalog, series
        self.sequences: list[int] = []  # by place

    def vectors(self, owners: Int32[np.ndarray, "n"], parts: Int32[np.ndarray, "n"]) -> Float32[np.ndarray, "n dim"]:
        """The rows of these owners' parts.

        Raises:
            Conflict: POOL_CHANGED, they were purged, or the series was switched to another space.
        """
        if not len(owners):
            return np.zeros((0, self._series.space.dim), np.float32)
        places, back = np.unique(owners, return_inverse=True)
        wanted = [self.sequences[place] for place in places.tolist()]
        try:
            found = self._catalog.vectors(self._series.id, wanted, self._series.patches)
        except Conflict as error:
            raise self._gone() from error
        if not all(len(rows) for rows in found):
            raise self._gone()
        return np.stack([found[owner][part] for owner, part in zip(back.tolist(), parts.tolist(), strict=True)])

    def _gone(self) -> Conflict:
        return Conflict(
            f"series {self._series.id!r}: the vectors of a search were purged or replaced; ask again",
            reason="POOL_CHANGED",
            retry_after=0.0,
        )


class Loaded:
    """What is in memory of a pool; changed by one thread at a time. Views that it gave stay as they are.

    Args:
        catalog: where vectors are read again.
        series: as its vectors are now.
        scanner: what searches.
    """

    def __init__(self, catalog: Catalog, series: Series, scanner: Scanner) -> None:
        self.series = series
        self.source = StoredRows(catalog, series)
        precision: Precision = "fp16" if series.index.precision == FP16 else "fp32"
        self.index = Index(
            series.space.dim, scanner, segment_rows=SEGMENT_ROWS, precision=precision, source=self.source
        )
        self.table = Table()
        self.references: list[Reference | None] = []
        self.recall: Recall | None = None  # of the approximate search that serves
        self.note = ""  # why the series is not searched as its options ask
        self.tried = 0  # rows when an approximate search was last built, or was not good enough

    def append(self, block: PatchBlock) -> None:
        """Adds references with their patches, all at once."""
        if not block.references:
            return
        places = self.table.add(block.references)
        self.references.extend(block.references)
        self.source.sequences.extend(reference.generation for reference in block.references)
        keys = [NO_KEY if reference.chapter is None else reference.chapter for reference in block.references]
        self.index.append(
            block.vectors,
            np.repeat(np.asarray(places, np.int32), block.counts),
            np.concatenate([np.arange(count, dtype=np.int32) for count in block.counts]),
            block.boxes,
            np.repeat(np.asarray(keys, np.int64), block.counts),
        )

    def change(self, references: Sequence[Reference]) -> None:
        """Takes over what has changed of references."""
        if not references:
            return
        places = self.table.replace(references)
        self.references = [*self.references]  # views keep the list they have
        for place, reference in zip(places, references, strict=True):
            self.references[place] = reference

    def remove(self, reference_ids: Sequence[str]) -> None:
        """Makes references no longer answer; their rows stay until a compaction."""
        if not reference_ids:
            return
        places = self.table.remove(reference_ids)
        self.references = [*self.references]
        for place in places:
            self.references[place] = None

    def view(self, generation: int) -> View:
        """All of it, as at a generation."""
        rows, facts = self.index.snapshot(), self.table.facts()
        exact = rows.approximate is None
        return View(self.series, generation, rows, facts, self.references, self.source, exact)

    @property
    def rows(self) -> int:
        """Rows in the index, of removed references too."""
        return self.index.snapshot().rows

    def approximate(self, check: Callable[[], None] = lambda: None) -> None:
        """Builds the approximate search that the series asks for, if it is worth it, and lets it serve if it is good.

        Args:
            check: called between steps of a second or so; ends the building by raising.

        Cost: minutes for millions of rows; searches and changes go on.

        Raises:
            FailedState: INDEX_KIND_UNAVAILABLE, this FAISS has no such kind.
        """
        options = self.series.index
        kind = KINDS.get(options.kind)
        self.note = ""
        if kind is None:
            return
        rows = self.rows
        if rows < APPROXIMATE_ROWS:
            self.note = f"a search of {rows} patches is exact: an approximate one is built from {APPROXIMATE_ROWS} on"
            return
        self.tried = rows
        try:
            self.recall = self.index.approximate(kind, floor=options.recall_floor, check=check)
        except FailedState as error:
            self.note = error.message
            if error.reason == "INDEX_KIND_UNAVAILABLE":
                raise

    @property
    def bytes(self) -> int:
        """Memory, bytes; Python's objects by what was measured of them."""
        return POOL_BYTES + len(self.references) * REFERENCE_BYTES + self.index.bytes


def batches(catalog: Catalog, series: Series, known: Mapping[int, Reference], after: int = 0) -> Iterator[PatchBlock]:
    """The known references behind a sequence number and their patches, in order of insertion, some at a time.

    Those that have no vectors in the series' database are left out.
    """
    while (block := catalog.block(series.id, known, after, LOAD_BATCH, series.patches)) is not None:
        after = block.last
        yield block


def read(catalog: Catalog, series: Series, scanner: Scanner, known: Mapping[int, Reference]) -> Loaded:
    """Those of the known references that have vectors in the series' database."""
    loaded = Loaded(catalog, series, scanner)
    for block in batches(catalog, series, known):
        loaded.append(block)
    return loaded


def load(catalog: Catalog, series: Series, scanner: Scanner, as_of: int = 0) -> tuple[Loaded, PoolState]:
    """A pool as the store has it, now or at generation `as_of`.

    Raises:
        FailedState: HISTORY_NOT_KEPT or GENERATION_NOT_REACHED.
        CorruptData: the store does not hold what it promises.
    """
    known, state = catalog.known(series.id, as_of)
    loaded = read(catalog, series, scanner, known)
    rows = loaded.index.snapshot().rows
    if len(loaded.references) != state.references or rows != state.patches:
        if as_of:
            catalog.known(series.id, as_of)  # says so if the history was dropped meanwhile
        raise CorruptData(
            f"series {series.id!r}: expected {state.references} references with {state.patches} patches, "
            f"got {len(loaded.references)} with {rows}",
            reason="DATA_DAMAGED",
        )
    return loaded, state


def catch_up(catalog: Catalog, loaded: Loaded, now: Mapping[int, Reference]) -> None:
    """Takes over what has changed of a pool since it was read, so that it holds `now` as far as that has vectors.

    Cost: reads the vectors of what is new alone.
    """
    held = {reference.generation: reference for reference in loaded.references if reference is not None}
    loaded.remove([reference.id for sequence, reference in held.items() if sequence not in now])
    loaded.change([now[n] for n, reference in held.items() if n in now and now[n] != reference])
    new = {sequence: reference for sequence, reference in now.items() if sequence not in held}
    for block in batches(catalog, loaded.series, new, min(new) - 1) if new else ():
        loaded.append(block)
