"""All vectors of a pool: segments that never move, the last one open. Grows without copying what is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from retrieval.index.answers import RowSource
from retrieval.index.approximate import Recall
from retrieval.index.columns import Columns
from retrieval.index.compaction import dead_share, rewritten
from retrieval.index.device import Scanner
from retrieval.index.recall import FLOOR, measured
from retrieval.index.segments import Precision, Segment, longest, sealed
from retrieval.index.snapshot import Snapshot
from retrieval.index.structures import Kind
from serving.errors import ShapeMismatch

SEGMENT_ROWS = 4096  # 8 MiB at 512 dimensions; at most two of them are in memory beside the rows


class Index:
    """All vectors of a pool. One thread appends, one may compact meanwhile, any number search snapshots.

    Args:
        dim: length of a vector.
        scanner: where it is searched; indexes share one.
        segment_rows: size of a segment.
        precision: of sealed segments; answers are the same.
        source: of the float32 rows; needed for "fp16".
    """

    def __init__(
        self, dim: int, scanner: Scanner, *, segment_rows: int = SEGMENT_ROWS, precision: Precision = "fp32",
        source: RowSource | None = None,
    ) -> None:  # fmt: skip
        assert precision == "fp32" or source is not None
        self._dim, self._segment_rows, self._precision = dim, segment_rows, precision
        self._number = 0
        self._publishing = threading.Lock()  # held for an assignment, never during work
        self._compacting, self._placing = threading.Lock(), threading.Lock()
        self._published = Snapshot(dim, (), None, scanner, source)

    @property
    def bytes(self) -> int:
        """Memory of the rows, bytes; the open segment's by the rows in it."""
        return sum(segment.bytes for segment in self._published.segments)

    @property
    def device_bytes(self) -> int:
        """Memory of the rows that are on the device too, bytes."""
        return sum(block.bytes for block in self._published.blocks if block.index is not None)

    def snapshot(self) -> Snapshot:
        """All rows that were appended before this call."""
        return self._published

    def append(
        self,
        vectors: Float32[np.ndarray, "n dim"],
        owners: Int32[np.ndarray, "n"],
        parts: Int32[np.ndarray, "n"],
        boxes: Int32[np.ndarray, "n 4"],
        keys: Int64[np.ndarray, "n"],
    ) -> None:
        """Adds rows behind those that are there; they are in every later snapshot, all at once, or none if it raises.

        Args:
            vectors: usually unit rows.
            owners: the place of each row's reference.
            parts: which of its reference's patches it is.
            boxes: in pixels of the reference.
            keys: what bounds go by, such as the chapter in thousandths; `NO_KEY` for none. Only speed depends on it.

        Raises:
            ShapeMismatch: the vectors' length is not this index's.
            MemoryError: no memory for another segment.

        Cost: a copy of the rows, and now and then the sealing of a segment.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self._dim:
            raise ShapeMismatch(f"vectors must have shape ('n', {self._dim}), got {vectors.shape}")
        numbers = np.arange(self._number, self._number + len(vectors))
        last, full, done = self._published.open, list[Segment](), 0
        while done < len(vectors):
            last = last or _empty(self._segment_rows, self._dim, filled=bool(self._published.sealed or full))
            taken = slice(done, done + self._segment_rows - last.rows)
            last = _filled(
                last, vectors[taken], (owners[taken], parts[taken], boxes[taken], numbers[taken], keys[taken])
            )
            done += len(vectors[taken])
            if last.rows == self._segment_rows:
                full.append(sealed(last, self._precision))
                last = None
        self._number += len(vectors)
        with self._publishing:
            old = self._published
            self._published = replace(old, sealed=(*old.sealed, *full), open=last)

    def dead_share(self, alive: Bool[np.ndarray, "places"]) -> float:
        """The greatest share of removed references' rows in a sealed segment, [0, 1]; places beyond `alive` live."""
        return max((dead_share(segment, alive) for segment in self._published.sealed), default=0.0)

    def compact(self, alive: Bool[np.ndarray, "places"]) -> bool:
        """Rewrites sealed segments with many dead rows without them and joins small neighbours; whether any was.

        Appends and searches go on meanwhile; no answer changes, since dead rows do not pass.

        Args:
            alive: by place; a dead one never lives again, and places beyond its end live.

        Cost: a copy of the live rows of what is rewritten, one segment at a time.
        """
        with self._compacting:
            old = self._published.sealed
            new = rewritten(old, alive, self._segment_rows)
            if new is None:
                return False
            with self._publishing:
                now = self._published
                self._published = replace(now, sealed=(*new, *now.sealed[len(old) :]))
            return True

    def place_on_device(self) -> int:
        """Copies the sealed segments to the scanner's device; how many rows are there now, 0 without a device or room.

        To be called again after growth or a compaction: only what is new, and the last block, is copied. The last
        block is freed before it is copied anew, so that growth takes no more memory than the rows. Searches go on.
        """
        with self._placing:
            now = self._published
            blocks = now.scanner.place(now.sealed, now.blocks)
            with self._publishing:
                self._published = replace(self._published, blocks=blocks)
        return sum(segment.rows for block in blocks for segment in block.segments)

    def drop_from_device(self) -> int:
        """Frees the device's memory at once, for earlier snapshots too; how many bytes that was."""
        with self._placing:
            blocks = self._published.blocks
            self._published.scanner.drop(blocks)
            with self._publishing:
                self._published = replace(self._published, blocks=())
        return sum(block.bytes for block in blocks)

    def approximate(
        self, kind: Kind, *, floor: float = FLOOR, k: int = 10, queries: int = 64, seed: int = 0,
        check: Callable[[], None] = lambda: None,
    ) -> Recall:  # fmt: skip
        """Builds an approximate search over the sealed segments and lets it serve; what was measured of it.

        Rows that come later are searched exactly beside it; call it again when they have become many. Searches and
        appends go on meanwhile. The arguments and errors are those of `recall.measured`; after an error the search
        stays as it was.
        """
        made = measured(self._published, kind, floor=floor, k=k, queries=queries, seed=seed, check=check)
        assert made.recall is not None
        with self._publishing:
            self._published = replace(self._published, approximate=made)
        return made.recall

    def exact(self) -> None:
        """Ends the approximate search."""
        with self._publishing:
            self._published = replace(self._published, approximate=None)


def _empty(rows: int, dim: int, *, filled: bool) -> Segment:
    return Segment(Columns.allocate(rows, dim, filled=filled), 0, 0.0, 0.0, (np.iinfo(np.int32).max, -1))


def _filled(segment: Segment, vectors: Float32[np.ndarray, "n dim"], facts: Sequence[np.ndarray]) -> Segment:
    """The segment with more rows, written behind those that its readers see."""
    rows = slice(segment.rows, segment.rows + len(vectors))
    columns = segment.columns
    columns.vectors[rows] = vectors
    for column, values in zip(
        (columns.owner, columns.part, columns.box, columns.number, columns.key), facts, strict=True
    ):
        column[rows] = values
    low, high = min(segment.owners[0], int(facts[0].min())), max(segment.owners[1], int(facts[0].max()))
    return Segment(columns, rows.stop, max(segment.norm, longest(vectors)), 0.0, (low, high))
