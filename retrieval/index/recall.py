"""How much an approximate search finds of what there is, on the pool's own rows; the effort that makes it enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32

from retrieval.index.approximate import Approximate, Recall, cover
from retrieval.index.scan import decoded
from retrieval.index.segments import Segment
from retrieval.index.snapshot import Snapshot
from retrieval.index.structures import Kind
from serving.errors import FailedState

FLOOR = 0.95  # of the true best rows, in the worst bound that was measured
NOISE = 0.3  # length of what is added to a row to make a query of it: another picture of the same thing
WIDTHS = (0.75, 0.5, 0.25, 0.12)  # shares of the rows below a bound on chapters


def measured(
    snapshot: Snapshot, kind: Kind, *, floor: float = FLOOR, k: int = 10, queries: int = 64, seed: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Approximate:  # fmt: skip
    """An approximate search of the snapshot's sealed segments, of as little effort as reaches the floor.

    Args:
        snapshot: with sealed segments.
        kind: of structure.
        floor: least recall at k, [0, 1], without a bound and under each that is tried.
        k: rows wanted.
        queries: how many are tried per bound; own rows with some noise.
        seed: of the structure, the queries and the noise.
        check: called between steps; ends it by raising.

    Raises:
        FailedState: RECALL_TOO_LOW, no effort is enough, the message names the best figure;
            INDEX_KIND_UNAVAILABLE; INDEX_TOO_SMALL, there is no sealed segment.

    Cost: the building, then (2 + log2(efforts)) · queries · 6 searches.
    """
    if not snapshot.sealed:
        raise FailedState(
            f"an approximate index needs a full segment, got {snapshot.rows} rows in none", reason="INDEX_TOO_SMALL"
        )
    made = cover(kind, snapshot.sealed, seed, check)
    exact = replace(snapshot, open=None, approximate=None)
    trial = own_queries(snapshot.sealed, queries, seed)
    best = 0.0
    for effort in made.structure.efforts:
        candidate = made.with_effort(effort)
        recall = measure_recall(exact, candidate, trial, k, check)
        if recall.least >= floor:
            return replace(candidate, recall=recall)
        best = max(best, recall.least)
    raise FailedState(
        f"index kind {kind!r} must find {floor:.3f} of the best {k} rows, got {best:.3f} at most; search stays exact",
        reason="RECALL_TOO_LOW",
        metadata={"expected": f"{floor:.4f}", "actual": f"{best:.4f}", "kind": kind},
    )


def measure_recall(
    exact: Snapshot, candidate: Approximate, queries: Float32[np.ndarray, "q dim"], k: int,
    check: Callable[[], None] = lambda: None,
) -> Recall:  # fmt: skip
    """The share of the true best `k` rows that it finds, without a bound and under several; `check` may end it."""
    approximate = replace(exact, approximate=candidate)
    figures = []
    for passing in (None, *chapter_bounds(exact.sealed)):
        check()
        truth = exact.search(queries, k, passing)
        found = approximate.search(queries, k, passing)
        there = truth.numbers >= 0
        least = np.where(there, truth.scores, np.inf).min(axis=1)  # a row as good as the last one is a hit
        hits = ((found.scores >= least[:, None]) & (found.numbers >= 0)).sum()
        figures.append((truth.candidates / exact.rows, float(hits / max(1, there.sum()))))
    return Recall(candidate.kind, candidate.effort, k, len(queries), tuple(figures))


def own_queries(segments: tuple[Segment, ...], count: int, seed: int) -> Float32[np.ndarray, "count dim"]:
    """Rows of the pool, moved by noise and made as long as they were."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *(segment.rows for segment in segments)])
    chosen = np.sort(rng.integers(0, starts[-1], count))
    place = np.searchsorted(starts, chosen, side="right") - 1
    rows = np.concatenate(
        [
            decoded(segments[n], row, row + 1)
            for n, row in zip(place.tolist(), (chosen - starts[place]).tolist(), strict=True)
        ]
    )
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    noise = rng.standard_normal(rows.shape)
    moved = rows + noise * (NOISE * length / np.maximum(np.linalg.norm(noise, axis=1, keepdims=True), 1e-30))
    queries: np.ndarray = moved * (length / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-30))
    return queries.astype(np.float32)


def chapter_bounds(segments: tuple[Segment, ...]) -> Iterator[Bool[np.ndarray, "places"]]:
    """Masks such as bounds on chapters make: up to a chapter, by several shares of the rows, and the middle half."""
    keys = np.concatenate([segment.columns.key[: segment.rows] for segment in segments])
    owners = np.concatenate([segment.columns.owner[: segment.rows] for segment in segments])
    places = int(owners.max()) + 1

    def of(low: float, high: float) -> Bool[np.ndarray, "places"]:
        least, most = np.quantile(keys, [low, high], method="nearest")
        mask = np.zeros(places, np.bool_)
        mask[owners[(keys >= least) & (keys <= most)]] = True
        return mask

    yield from (of(0.0, width) for width in WIDTHS)
    yield of(0.25, 0.75)
