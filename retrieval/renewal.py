"""The copy of a series made into the series that takes its place, later than everything that anybody has seen of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from retrieval.disk import head_of
from retrieval.ledger import pool_of, put_pool, put_series, series_of
from retrieval.store import Environment
from retrieval.transaction import Writer
from retrieval.types import PoolState, Series
from serving.errors import ServiceError

UNKNOWN_CHANGES = 1 << 32  # more changes than any pool has seen since its last snapshot, where that cannot be read


def before(place: Path) -> tuple[Series, PoolState] | None:
    """What the series is that will be replaced; None if it is not there or cannot be read."""
    try:
        return head_of(place) if place.exists() else None
    except ServiceError:
        return None


def renew(draft: Path, target: str, replaced: tuple[Series, PoolState] | None, now: int, *, fresh: bool) -> None:
    """Writes into the copy who it is now, and a generation that is greater than any before it."""

    def store(txn: Writer) -> None:
        series, pool = series_of(txn), pool_of(txn)
        if fresh:
            series = replace(series, id=target, revision=1, create_ns=now, update_ns=now)
            generation = pool.generation + 1
        elif replaced is None:
            series = replace(series, revision=series.revision + UNKNOWN_CHANGES, update_ns=now)
            generation = pool.generation + UNKNOWN_CHANGES
        else:
            series = replace(series, revision=max(series.revision, replaced[0].revision) + 1, update_ns=now)
            generation = max(pool.generation, replaced[1].generation) + 1
        pool = replace(pool, generation=generation, history_from=generation, update_ns=now)
        put_series(txn, series)
        put_pool(txn, pool)

    environment = Environment(draft)
    try:
        environment.write(store)
    finally:
        environment.close()
