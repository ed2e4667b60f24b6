"""Where segments are searched: on the CPU, or in blocks of many segments on one GPU.

Plain faiss-gpu ignores selectors without a word, so none is ever given to it: a few forbidden rows are met by asking
for as many more, and a block of which many are forbidden is searched on the CPU. What a GPU finds is scored again as
everything else is, so that its rounding changes no answer.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int64

from retrieval.index.library import gpu_count, load_faiss
from retrieval.index.scan import Chosen, decoded, scan_everything
from retrieval.index.segments import Precision, Segment
from retrieval.index.tally import Tally, half_error

BLOCK_SEGMENTS = 64  # 512 MiB of float32 rows at 512 numbers: what is copied anew at most when a pool has grown
GPU_MAX_K = 2048  # FAISS's own limit
GPU_SLACK = 4.0  # a GPU may use other instructions than a plain sum; generous, since it costs a few rows' final scores


@dataclass(eq=False)
class Block:
    """Sealed segments on a device."""

    segments: tuple[Segment, ...]
    index: Any  # FAISS's; None once it was dropped
    precision: Precision
    bytes: int
    starts: Int64[np.ndarray, "n"] = field(init=False)  # the first row of each segment

    def __post_init__(self) -> None:
        counts = [segment.rows for segment in self.segments]
        self.starts = np.cumsum([0, *counts[:-1]])


@runtime_checkable
class Scanner(Protocol):
    """Where segments are searched."""

    @property
    def resident_bytes(self) -> int:
        """Memory that rows take on the device, of all indexes together, bytes."""
        ...

    def place(self, segments: Sequence[Segment], blocks: Sequence[Block], /) -> tuple[Block, ...]:
        """Blocks of these segments on the device: those of `blocks` that are still right, and new ones.

        Fewer, or none, where the device has no room; what is in no block is searched on the CPU.
        """
        ...

    def drop(self, blocks: Sequence[Block], /) -> None:
        """Frees the blocks' memory; snapshots that know them go on on the CPU."""
        ...

    def lists(self, block: Block, tally: Tally, places: dict[int, int], chosen: dict[int, Chosen], /) -> bool:
        """Adds what a block holds to the tally; False if that is the CPU's to do, and nothing was added.

        Args:
            block: all of whose segments are in the snapshot.
            tally: of the search.
            places: the place of each of its segments in the snapshot, by `id`.
            chosen: which rows may answer, by place; a segment that has none is not in it.
        """
        ...


class CpuScanner:
    """Searches everything on the CPU; there is no device."""

    resident_bytes = 0

    def place(self, _segments: Sequence[Segment], _blocks: Sequence[Block]) -> tuple[Block, ...]:
        """As `Scanner.place`: none."""
        return ()

    def drop(self, _blocks: Sequence[Block]) -> None:
        """As `Scanner.drop`: there are none."""

    def lists(self, _block: Block, _tally: Tally, _places: dict[int, int], _chosen: dict[int, Chosen]) -> bool:
        """As `Scanner.lists`: it is always the CPU's to do."""
        return False


class GpuScanner:
    """Keeps blocks on one GPU; whatever fails there is searched on the CPU.

    Args:
        device: which GPU.
        precision: of rows on the device.
        block_segments: segments in a block.
    """

    def __init__(self, device: int = 0, *, precision: Precision = "fp32", block_segments: int = BLOCK_SEGMENTS) -> None:
        self._device, self._precision, self._block_segments = device, precision, block_segments
        self._lock = threading.Lock()  # FAISS's GPU side is not thread-safe, not even for reading
        self._resources = self._open()
        self._bytes = 0

    def _open(self) -> Any:
        return load_faiss().StandardGpuResources()

    def _empty(self, dim: int) -> Any:
        """An index on the device without rows."""
        faiss = load_faiss()
        config = faiss.GpuIndexFlatConfig()
        config.device, config.useFloat16 = self._device, self._precision == "fp16"
        return faiss.GpuIndexFlatIP(self._resources, dim, config)

    @property
    def resident_bytes(self) -> int:
        """As `Scanner.resident_bytes`."""
        return self._bytes

    def place(self, segments: Sequence[Segment], blocks: Sequence[Block]) -> tuple[Block, ...]:
        """As `Scanner.place`. A full block stays as it is; the last one is made anew once there are more segments."""
        wanted = [
            tuple(segments[first : first + self._block_segments])
            for first in range(0, len(segments), self._block_segments)
        ]
        known = {tuple(map(id, block.segments)): block for block in blocks if block.index is not None}
        kept = [known.get(tuple(map(id, group))) for group in wanted]
        self.drop([block for block in blocks if block not in kept])
        made: list[Block | None] = [block or self._upload(group) for block, group in zip(kept, wanted, strict=True)]
        return tuple(block for block in made if block is not None)

    def _upload(self, segments: tuple[Segment, ...]) -> Block | None:
        dim = segments[0].columns.vectors.shape[1]
        rows = sum(segment.rows for segment in segments)
        try:
            with self._lock:
                index = self._empty(dim)
                index.reserve(rows)  # growth by doubling would need twice the memory
            for segment in segments:
                vectors = decoded(segment, 0, segment.rows)
                with self._lock:  # one segment at a time, so that searches come in between
                    index.add(vectors)
        except (RuntimeError, MemoryError):  # FAISS's way to say that the device has no room
            return None
        size = rows * dim * (2 if self._precision == "fp16" else 4)
        with self._lock:
            self._bytes += size
        return Block(segments, index, self._precision, size)

    def drop(self, blocks: Sequence[Block]) -> None:
        """As `Scanner.drop`."""
        with self._lock:
            for block in blocks:
                if block.index is not None:
                    block.index = None
                    self._bytes -= block.bytes

    def lists(self, block: Block, tally: Tally, places: dict[int, int], chosen: dict[int, Chosen]) -> bool:
        """As `Scanner.lists`."""
        rows = int(sum(segment.rows for segment in block.segments))
        mine = [places[id(segment)] for segment in block.segments]
        passing = sum(chosen[place].count for place in mine if place in chosen)
        m = min(passing, 4 * tally.k + 1)
        wanted = m + rows - passing
        if not passing or wanted > min(GPU_MAX_K, rows):
            return not passing
        found = self._search(block, tally.queries, wanted)
        if found is None:
            return False
        segment = np.searchsorted(block.starts, found[1], side="right") - 1
        place, row = np.asarray(mine)[segment], found[1] - block.starts[segment]
        scores, place, row = _allowed(found[0], place, row, chosen, m)
        margin = self._margin(block, tally)
        short = tally.lists(place, scores, row, margin, complete=m == passing)
        if len(short):
            for n in mine:
                if n in chosen:
                    own = block.segments[mine.index(n)]
                    scan_everything(tally, n, own, chosen[n], short, counted=True)
        return True

    def _search(
        self, block: Block, queries: Float32[np.ndarray, "q dim"], k: int
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]] | None:
        """The block's best rows, None if the block was dropped or the device fails."""
        with self._lock:
            if block.index is None:
                return None
            try:
                scores, rows = block.index.search(queries, k)
            except (RuntimeError, MemoryError):
                return None
        return scores, rows

    def _margin(self, block: Block, tally: Tally) -> Float64[np.ndarray, "q"]:
        norm, error = max(s.norm for s in block.segments), max(s.error for s in block.segments)
        margin: np.ndarray = GPU_SLACK * tally.margin(norm, 0.0) + tally.margin(0.0, error)
        if block.precision == "fp16":  # the device rounds the rows, and each query as well
            exact = all(segment.precision == "fp16" for segment in block.segments)
            row = 0.0 if exact else half_error(tally.queries.shape[1], norm)
            query = half_error(tally.queries.shape[1], tally.lengths)
            margin = margin + tally.lengths * row + query * (norm + row)
        return margin


def _allowed(
    scores: Float32[np.ndarray, "q n"], place: Int64[np.ndarray, "q n"], row: Int64[np.ndarray, "q n"],
    chosen: dict[int, Chosen], m: int,
) -> tuple[Float32[np.ndarray, "q m"], Int64[np.ndarray, "q m"], Int64[np.ndarray, "q m"]]:  # fmt: skip
    """The first `m` of each query that may answer; there are at least as many."""
    allowed = np.zeros(scores.shape, np.bool_)
    for n, part in chosen.items():
        here = place == n
        if here.any():
            rows = row[here]
            inside = (rows >= part.start) & (rows < part.stop)
            allowed[here] = inside if part.mask is None else inside & part.mask[rows]
    keep = np.argsort(~allowed, axis=1, kind="stable")[:, :m]  # allowed ones first, in their order
    return np.take_along_axis(scores, keep, 1), np.take_along_axis(place, keep, 1), np.take_along_axis(row, keep, 1)


def best_scanner() -> Scanner:
    """A scanner on the GPU where FAISS has one, else on the CPU.

    Raises:
        FailedState: as `load_faiss`.
    """
    return GpuScanner() if gpu_count() else CpuScanner()
