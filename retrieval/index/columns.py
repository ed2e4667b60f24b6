"""Memory of a segment: columns side by side in one anonymous mapping, which takes memory as it is written."""

from __future__ import annotations

import contextlib
import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int32, Int64

LINE = 64  # bytes; each column starts on a cache line
FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)


@dataclass(frozen=True, eq=False)
class Columns:
    """What is known of each row. Rows that were never written take no memory."""

    vectors: Float32[np.ndarray, "rows dim"] | Float16[np.ndarray, "rows dim"]
    owner: Int32[np.ndarray, "rows"]  # the place of its reference among the pool's references
    part: Int32[np.ndarray, "rows"]  # which of its reference's patches it is, from 0
    box: Int32[np.ndarray, "rows 4"]  # x0 y0 x1 y1, in the reference's pixels
    number: Int64[np.ndarray, "rows"]  # order of insertion, unique in an index; decides between equal scores
    key: Int64[np.ndarray, "rows"]  # what a sealed segment is ordered by

    @classmethod
    def allocate(
        cls, rows: int, dim: int, dtype: type[np.float32] | type[np.float16] = np.float32, *, filled: bool = False
    ) -> Columns:
        """Columns of zeros for `rows` rows; the memory goes back to the system with the last array that uses it.

        Args:
            rows: room.
            dim: length of a vector.
            dtype: of the vectors.
            filled: most of them will soon be written, so that memory may be taken 2 MiB at a time.

        Raises:
            MemoryError: the system refuses the mapping.
        """
        kinds: list[tuple[Any, tuple[int, ...]]] = [
            (dtype, (rows, dim)), (np.int32, (rows,)), (np.int32, (rows,)), (np.int32, (rows, 4)),
            (np.int64, (rows,)), (np.int64, (rows,)),
        ]  # fmt: skip
        sizes = [int(np.prod(shape)) * np.dtype(kind).itemsize for kind, shape in kinds]
        starts = np.cumsum([0, *(-(-size // LINE) * LINE for size in sizes)]).tolist()
        memory = _mapping(starts[-1], filled)
        return cls(
            *(
                np.frombuffer(memory, kind, int(np.prod(shape)), start).reshape(shape)
                for (kind, shape), start in zip(kinds, starts, strict=False)
            )
        )

    @property
    def row_bytes(self) -> int:
        """Memory of one row, bytes."""
        arrays = (self.vectors, self.owner, self.part, self.box, self.number, self.key)
        return sum(array.itemsize * int(np.prod(array.shape[1:])) for array in arrays)


def _mapping(size: int, filled: bool) -> mmap.mmap:
    try:
        memory = mmap.mmap(-1, max(size, 1), flags=FLAGS)
    except OSError as error:
        raise MemoryError(f"{size} bytes for a segment: {error}") from error
    # Measured, huge pages save an eighth of a search's time; but one row of a small pool must not take 2 MiB.
    advice = getattr(mmap, "MADV_HUGEPAGE" if filled else "MADV_NOHUGEPAGE", None)
    if advice is not None:
        with contextlib.suppress(OSError):  # a kernel without huge pages knows no such advice
            memory.madvise(advice)
    return memory
