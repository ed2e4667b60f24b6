"""A series' own record and its pool's counts inside a transaction; and what a change of the pool does to them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from retrieval import records
from retrieval.records import Past
from retrieval.transaction import HISTORY, META, REFERENCES, Reader, Writer
from retrieval.types import PoolState, Reference, Series
from serving.errors import NotFound

FIRST_PATCHES = b"patches"  # database of the vectors of a series' first space; the next is patches.2
SERIES_KEY, POOL_KEY = b"series", b"pool"


@dataclass(frozen=True)
class Change:
    """What every change of a pool is told."""

    now: int  # nanoseconds since 1970
    keep: bool = True  # whether what it replaces and removes is kept for the history


def series_of(view: Reader) -> Series:
    """The series' own fields."""
    return records.read_series(view.need(META, SERIES_KEY), view.where(META, SERIES_KEY))


def pool_of(view: Reader) -> PoolState:
    """The pool's counts.

    Cost: where format 1 wrote them, and nothing has changed since, reads every reference's record.
    """
    value, where = view.need(META, POOL_KEY), view.where(META, POOL_KEY)
    pool = records.read_pool(value, where)
    if records.version_of(value) > 1:
        return pool
    size = sum(records.read_reference(v, view.where(REFERENCES, k)).byte_size for k, v in view.items(REFERENCES))
    return replace(pool, byte_size=size, history_from=pool.generation)


def is_upgraded(view: Reader) -> bool:
    """Whether the pool's counts are as this format has them."""
    return records.version_of(view.need(META, POOL_KEY)) > 1


def put_series(txn: Writer, series: Series) -> None:
    """Stores the series' own fields."""
    txn.put(META, SERIES_KEY, records.write_series(series))


def put_pool(txn: Writer, pool: PoolState) -> None:
    """Stores the pool's counts."""
    txn.put(META, POOL_KEY, records.write_pool(pool))


def advance(txn: Writer, before: PoolState, after: PoolState, change: Change, past: Past) -> PoolState:
    """Stores the counts `after` as the next generation, and what the change replaced and removed; the counts stored.

    Without history nothing before this generation is known any more.
    """
    generation = before.generation + 1
    pool = replace(after, generation=generation, update_ns=change.now)
    if change.keep:
        txn.put(HISTORY, number_key(generation), records.write_past(past))
    else:
        pool = replace(pool, history_from=generation)
    put_pool(txn, pool)
    return pool


def number_key(number: int) -> bytes:
    """The key of a sequence or generation number; big-endian, so that the order of keys is that of the numbers."""
    return struct.pack(">Q", number)


def number_of(key: bytes) -> int:
    """The number of a key that `number_key` made."""
    return int.from_bytes(key, "big")


def patch_databases(view: Reader) -> list[bytes]:
    """The databases that hold vectors, of whatever space."""
    return [name for name in view.databases if is_patch_database(name)]


def is_patch_database(name: bytes) -> bool:
    """Whether a database of that name holds vectors."""
    return name == FIRST_PATCHES or name.startswith(FIRST_PATCHES + b".")


def reference_of(view: Reader, key: bytes) -> Reference | None:
    """The record of a reference that is in the pool, None where it is not."""
    value = view.look(REFERENCES, key)
    return None if value is None else records.read_reference(value, view.where(REFERENCES, key))


def etag(series: Series) -> str:
    """A short text that changes with every change of the series' own fields."""
    return hashlib.sha256(f"{series.id} {series.create_ns} {series.revision}".encode()).hexdigest()[:16]


def no_such_series(series_id: str) -> NotFound:
    """The error for a series that is not there."""
    return NotFound(f"there is no series {series_id!r}", reason="NO_SUCH_SERIES", metadata={"series": series_id})


def no_such_reference(series_id: str, ids: Sequence[str]) -> NotFound:
    """The error for references that are not in a pool."""
    more = f" (and {len(ids) - 1} more)" if len(ids) > 1 else ""
    return NotFound(
        f"series {series_id!r} holds no reference {ids[0]}{more}",
        reason="NO_SUCH_REFERENCE",
        metadata={"series": series_id, "reference": ids[0]},
    )
