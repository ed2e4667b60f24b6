"""What a pool held before: references that were removed, records that were replaced, and how they are let go."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace

from retrieval import records
from retrieval.ledger import number_key, number_of, patch_databases, pool_of, put_pool, series_of
from retrieval.records import Past
from retrieval.transaction import BLOBS, HISTORY, REFERENCES, REMOVED, Reader, Writer
from retrieval.types import PoolState, Reference
from serving.errors import FailedState


def keep_removed(txn: Writer, reference: Reference, generation: int) -> None:
    """Notes that a reference was removed at `generation` and that its picture and vectors are kept."""
    txn.put(REMOVED, _removed_key(reference), records.pack(records.GONE, struct.pack("<Q", generation)))


def _removed_key(reference: Reference) -> bytes:
    return bytes.fromhex(reference.id) + number_key(reference.generation)


def kept(view: Reader, reference_id: str) -> list[tuple[int, int]]:
    """Sequence numbers of the removed references of that id which are kept, and the generations of their removal."""
    found = []
    for key in view.keys(REMOVED, bytes.fromhex(reference_id)):
        payload = records.unpack(records.GONE, view.need(REMOVED, key), view.where(REMOVED, key))
        found.append((number_of(key[32:]), int(struct.unpack("<Q", payload)[0])))
    return found


def forget(txn: Writer, reference_id: str, sequences: Iterable[int]) -> int:
    """Drops removed references: vectors, and the picture unless it is still needed; how many were kept until now."""
    key, count = bytes.fromhex(reference_id), 0
    for sequence in sequences:
        if not txn.drop_if_there(REMOVED, key + number_key(sequence)):
            continue  # it went before
        count += 1
        drop_patches(txn, sequence)
    if count and txn.look(REFERENCES, key) is None and not txn.keys(REMOVED, key):
        txn.drop(BLOBS, key)  # neither added again nor removed another time
    return count


def drop_patches(txn: Writer, sequence: int) -> None:
    """Drops the vectors of a reference in every space."""
    for database in patch_databases(txn):
        txn.drop_if_there(database, number_key(sequence))


def known(view: Reader, as_of: int) -> tuple[dict[int, Reference], PoolState]:
    """What the pool holds, or held at the generation `as_of` (0: now), by sequence number, and its counts then.

    Raises:
        FailedState: GENERATION_NOT_REACHED or HISTORY_NOT_KEPT.

    Cost: reads every reference's record, and the history behind `as_of`.
    """
    pool = pool_of(view)
    check(pool, as_of)
    found: dict[int, Reference] = {}
    for key, value in view.items(REFERENCES):
        reference = records.read_reference(value, view.where(REFERENCES, key))
        found[reference.generation] = reference
    if as_of in (0, pool.generation):
        return dict(sorted(found.items())), pool
    for key, value in view.backwards(HISTORY):
        if number_of(key) <= as_of:
            break
        past = records.read_past(value, view.where(HISTORY, key))
        found.update((reference.generation, reference) for reference in (*past.replaced, *past.removed))
    found = {sequence: found[sequence] for sequence in sorted(found) if sequence <= as_of}
    return found, _counts(view, found, replace(pool, generation=as_of))


def check(pool: PoolState, as_of: int) -> None:
    """Returns if a pool with these counts still knows what it held at the generation `as_of` (0: now).

    Raises:
        FailedState: GENERATION_NOT_REACHED or HISTORY_NOT_KEPT.
    """
    if as_of > pool.generation:
        raise FailedState(
            f"the pool must have reached generation {as_of}, got {pool.generation}",
            reason="GENERATION_NOT_REACHED",
            metadata={"expected": str(as_of), "actual": str(pool.generation)},
        )
    if as_of and as_of < pool.history_from:
        raise FailedState(
            f"the pool's history reaches back to generation {pool.history_from}, got {as_of}",
            reason="HISTORY_NOT_KEPT",
            metadata={"oldest": str(pool.history_from), "actual": str(as_of)},
        )


def _counts(view: Reader, found: dict[int, Reference], pool: PoolState) -> PoolState:
    """The counts of the pool that held `found`; its time is that of its last addition."""
    database = series_of(view).patches.encode()
    patches = 0
    for sequence in found:
        key = number_key(sequence)
        patches += records.count_patches(view.need(database, key), view.where(database, key))
    return replace(
        pool,
        references=len(found),
        patches=patches,
        byte_size=sum(reference.byte_size for reference in found.values()),
        near_duplicates=sum(1 for reference in found.values() if reference.near_duplicate_of),
        update_ns=max((reference.create_ns for reference in found.values()), default=0),
    )


def purge(txn: Writer, before_ns: int | None, most: int) -> tuple[int, bool]:
    """Drops the oldest of the history: what was replaced and removed before `before_ns`, or all of it (None).

    What no generation that can be named reaches any more goes too, however young it is.

    Args:
        txn: the transaction.
        before_ns: nanoseconds since 1970.
        most: removed references and changes that one transaction drops.

    Returns:
        How many removed references were dropped, and whether there is more to drop.
    """
    before, dropped = pool_of(txn), 0
    reached = before.history_from
    for _ in range(most):
        oldest = _oldest(txn)
        if oldest is None or not _goes(*oldest, reached, before_ns) or dropped >= most:
            break
        generation, past = oldest
        reached = max(reached, generation)
        some, rest = past.removed[: most - dropped], past.removed[most - dropped :]
        dropped += sum(forget(txn, reference.id, [reference.generation]) for reference in some)
        if rest:
            txn.put(HISTORY, number_key(generation), records.write_past(Past(past.create_ns, (), rest)))
        else:
            txn.drop(HISTORY, number_key(generation))
    after = replace(before, history_from=reached, removed=before.removed - dropped)
    if after != before:
        put_pool(txn, after)
    oldest = _oldest(txn)
    return dropped, oldest is not None and _goes(*oldest, reached, before_ns)


def oldest(view: Reader) -> int | None:
    """When the oldest of the history was made, nanoseconds since 1970; None where there is none.

    0 where no generation that can be named reaches it any more: it goes at once.
    """
    found = _oldest(view)
    if found is None:
        return None
    generation, past = found
    return 0 if generation <= pool_of(view).history_from else past.create_ns


def _oldest(view: Reader) -> tuple[int, Past] | None:
    for key, value in view.items(HISTORY):
        return number_of(key), records.read_past(value, view.where(HISTORY, key))
    return None


def _goes(generation: int, past: Past, reached: int, before_ns: int | None) -> bool:
    return before_ns is None or generation <= reached or past.create_ns < before_ns
