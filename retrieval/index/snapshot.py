"""What an index held at one moment, and the search in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from retrieval.index.answers import Answers, Nearest, RowSource
from retrieval.index.approximate import Approximate
from retrieval.index.device import Block, Scanner
from retrieval.index.scan import Chosen, Passing, everything, scan
from retrieval.index.segments import Segment
from retrieval.index.tally import Tally
from serving.errors import InvalidInput, ShapeMismatch

PENDING = 1 << 16  # rows that wait for their final scores at most; more only where nearly all rows are alike
HELPED_SEGMENTS = 4  # per thread that helps; fewer are done before it has begun


class _Worker:
    """One thread's part of a search."""

    def __init__(self, tally: Tally, segments: Sequence[Segment], source: RowSource | None) -> None:
        self.tally, self.answers = tally, Answers(tally.queries, tally.k)
        self._segments, self._source = segments, source

    def run(self, work: deque[tuple[int, Chosen]]) -> None:
        """Scans segments until there are no more."""
        while True:
            try:
                place, chosen = work.popleft()
            except IndexError:
                return
            scan(self.tally, place, self._segments[place], chosen)
            if self.tally.pending > PENDING:
                self.settle()

    def settle(self) -> None:
        """Gives what was found its final scores."""
        self.answers.add(self.tally.take(), self._segments, self._source)

    def absorb(self, other: _Worker) -> None:
        self.tally.absorb(other.tally)
        self.answers.absorb(other.answers)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What an index held at one moment; any number of threads may search it."""

    dim: int
    sealed: tuple[Segment, ...]
    open: Segment | None
    scanner: Scanner
    source: RowSource | None = None  # of float32 rows, where segments have float16 ones
    blocks: tuple[Block, ...] = ()  # sealed segments that are on a device too
    approximate: Approximate | None = None  # searches the segments that it covers in place of the exact search

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All of them, the open one last."""
        return self.sealed if self.open is None else (*self.sealed, self.open)

    @property
    def rows(self) -> int:
        """Rows in it, of removed references too until a compaction."""
        return sum(segment.rows for segment in self.segments)

    def search(
        self,
        queries: Float32[np.ndarray, "q dim"],
        k: int,
        passing: Bool[np.ndarray, "places"] | None = None,
        *,
        executor: Executor | None = None,
        helpers: int = 1,
    ) -> Nearest:
        """The nearest rows to each query among those whose reference passes, best first.

        The scores are products of float32 vectors in float64, rounded to float32; equal ones come in order of
        insertion. Without an approximate search, the answer is a function of the rows and the mask alone: not of the
        precision in which rows are kept, the device, the cut into segments, the other queries of the batch, or the
        number of threads.

        Args:
            queries: usually unit rows. Read only.
            k: rows wanted per query, at least 1.
            passing: which references may answer, by place; no row has a place beyond it. None: all.
            executor: threads that help; the caller's own thread works too.
            helpers: how many of them at most.

        Raises:
            ShapeMismatch: the queries' length is not this index's.
            InvalidInput: INVALID_K, `k` is below 1.

        Cost: q · rows that pass · dim multiply-adds.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ShapeMismatch(f"queries must have shape ('q', {self.dim}), got {queries.shape}")
        if k < 1:
            raise InvalidInput(f"k must be at least 1, got {k}", reason="INVALID_K")
        segments = self.segments
        limit = None if passing is None else Passing(passing)
        chosen: dict[int, Chosen] = {}
        for place, segment in enumerate(segments):
            rows = everything(segment) if limit is None else limit.choose(segment)
            if rows is not None:
                chosen[place] = rows
        first = _Worker(Tally(np.ascontiguousarray(queries, np.float32), k), segments, self.source)
        if len(queries):
            done = self._ahead(first.tally, chosen)
            work = deque((place, rows) for place, rows in chosen.items() if place not in done)
            _run(first, work, segments, self.source, executor, helpers)
            first.settle()
        return first.answers.nearest(sum(rows.count for rows in chosen.values()))

    def _ahead(self, tally: Tally, chosen: dict[int, Chosen]) -> set[int]:
        """Adds what an approximate search or the device finds; the places of the segments that are done with."""
        if self.approximate is not None and (done := self.approximate.lists(tally, self.sealed, chosen)):
            return done
        places, done = {id(segment): place for place, segment in enumerate(self.sealed)}, set[int]()
        for block in self.blocks:
            mine = [places.get(id(segment), -1) for segment in block.segments]
            if min(mine) >= 0 and self.scanner.lists(block, tally, places, chosen):
                done.update(mine)
        return done


def _run(
    first: _Worker, work: deque[tuple[int, Chosen]], segments: Sequence[Segment], source: RowSource | None,
    executor: Executor | None, helpers: int,
) -> None:  # fmt: skip
    count = min(helpers, len(work) // HELPED_SEGMENTS) if executor else 0
    others = [_Worker(first.tally.spawn(), segments, source) for _ in range(count)]
    futures = [executor.submit(other.run, work) for other in others] if executor else []
    try:
        first.run(work)
    finally:
        work.clear()  # so that the others end soon if this one failed
        waiting = [future for future in futures if not future.cancel()]  # one that never began has nothing to give
        for future in waiting:
            future.exception()
    for other, future in zip(others, futures, strict=True):
        if not future.cancelled():
            future.result()
            first.absorb(other)
