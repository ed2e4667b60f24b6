"""Transactions on the references of one series: adding many at once, reading, changing, removing, marking."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from jaxtyping import Float32, Int32

from retrieval import history, records
from retrieval.ledger import (
    Change,
    advance,
    no_such_reference,
    number_key,
    number_of,
    pool_of,
    put_pool,
    reference_of,
    series_of,
)
from retrieval.records import Past
from retrieval.transaction import BLOBS, REFERENCES, Reader, Writer
from retrieval.types import (
    GENERATED,
    Draft,
    NewReference,
    PoolState,
    Prepared,
    Provenance,
    Quota,
    Reference,
    Series,
    Stored,
    StoredPatches,
)
from serving.errors import (
    Conflict,
    InvalidInput,
    Overloaded,
    QuotaViolation,
    ServiceError,
    ShapeMismatch,
    Violation,
)

MAX_DEPTH = 1000  # provenance depth, as the contract says
RECORD_BYTES = 1024  # of a reference beside its picture and vectors, roughly


def room_of(items: Sequence[NewReference]) -> int:
    """Bytes that the references take, roughly."""
    return sum(len(item.data) + item.prepared.vectors.nbytes + RECORD_BYTES for item in items)


def keys_of(items: Sequence[NewReference]) -> list[bytes]:
    """The references' keys: SHA-256 of their bytes."""
    return [hashlib.sha256(item.data).digest() for item in items]


def add_many(
    txn: Writer, items: Sequence[NewReference], keys: Sequence[bytes], change: Change
) -> tuple[list[Stored], PoolState]:
    """What became of each of the references, in order, and the pool after all of them.

    Args:
        txn: the transaction.
        items: the references.
        keys: as `keys_of`; made outside of the transaction, in which others wait.
        change: when.
    """
    series, before = series_of(txn), pool_of(txn)
    pool, stored = before, []
    for item, key in zip(items, keys, strict=True):
        found = reference_of(txn, key)
        if found is not None:
            stored.append(Stored(found, False, pool.generation))
            continue
        reference = _made(txn, item, key, pool.generation + 1, change.now)
        error = _objection(series, pool, item, reference)
        if error is not None:
            stored.append(Stored(None, False, pool.generation, error))
            continue
        _put(txn, series, item, reference, key)
        pool = replace(
            pool,
            generation=reference.generation,
            references=pool.references + 1,
            patches=pool.patches + len(item.prepared.vectors),
            byte_size=pool.byte_size + reference.byte_size,
            update_ns=change.now,
        )
        stored.append(Stored(reference, True, pool.generation))
    if pool != before:
        put_pool(txn, pool)
    return stored, pool


def _made(view: Reader, item: NewReference, key: bytes, generation: int, now: int) -> Reference:
    draft, prepared = item.draft, item.prepared
    return Reference(
        id=key.hex(),
        chapter=draft.chapter,
        page=draft.page,
        tags=draft.tags,
        provenance=_settled(view, draft),
        width=prepared.width,
        height=prepared.height,
        media_type=prepared.media_type,
        byte_size=len(item.data),
        generation=generation,
        create_ns=now,
        digest=prepared.digest,
    )


def _settled(view: Reader, draft: Draft) -> Provenance:
    """The provenance with its depth: one more than that of the parents that are known, 1 when none is."""
    provenance = draft.provenance
    if provenance.origin != GENERATED or provenance.depth:
        return provenance
    parents = [reference_of(view, bytes.fromhex(parent)) for parent in provenance.parent_ids]
    depths = [parent.provenance.depth for parent in parents if parent is not None]
    return replace(provenance, depth=min(MAX_DEPTH, 1 + max(depths, default=0)))


def _objection(series: Series, pool: PoolState, item: NewReference, reference: Reference) -> ServiceError | None:
    """Why the series does not take the reference, None if it does."""
    space_id, dim = item.prepared.space_id, item.prepared.vectors.shape[1]
    if space_id and space_id != series.space.id:
        return Conflict(
            f"series {series.id!r} holds vectors of space {series.space.id}, got vectors of {space_id}; embed again",
            reason="SPACE_SWITCHED",
            metadata={"expected": series.space.id, "actual": space_id},
        )
    if dim != series.space.dim:
        return ShapeMismatch(f"vectors of series {series.id!r} have {series.space.dim} numbers, got {dim}")
    return _too_deep(series, reference) or _over_quota(series.quota, pool, reference, series.id)


def _too_deep(series: Series, reference: Reference) -> ServiceError | None:
    depth, limit = reference.provenance.depth, series.max_reference_depth
    if limit is None or depth <= limit:
        return None
    says = f"provenance depth must be at most {limit} in series {series.id!r}, got {depth}"
    return InvalidInput(
        says,
        reason="DEPTH_EXCEEDED",
        violations=[Violation("reference.provenance.depth", says)],
        metadata={"expected": str(limit), "actual": str(depth)},
    )


def _over_quota(quota: Quota, pool: PoolState, reference: Reference, series_id: str) -> ServiceError | None:
    broken = [
        (f"may hold {limit} {unit}, would hold {wanted}", limit, wanted)
        for limit, wanted, unit in (
            (quota.max_references, pool.references + 1, "references"),
            (quota.max_bytes, pool.byte_size + reference.byte_size, "bytes of pictures"),
        )
        if limit and wanted > limit
    ]
    if not broken:
        return None
    return Overloaded(
        f"series {series_id!r} {'; '.join(text for text, _, _ in broken)}",
        reason="QUOTA_EXCEEDED",
        metadata={"series": series_id, "expected": str(broken[0][1]), "actual": str(broken[0][2])},
        quota=[QuotaViolation(f"series:{series_id}", text) for text, _, _ in broken],
    )


def _put(txn: Writer, series: Series, item: NewReference, reference: Reference, key: bytes) -> None:
    patches = StoredPatches(reference.id, reference.generation, item.prepared.vectors, item.prepared.boxes)
    txn.put(REFERENCES, key, records.write_reference(reference))
    txn.put(BLOBS, key, records.pack(records.BLOB, item.data))
    txn.put(series.patches.encode(), number_key(reference.generation), records.write_patches(patches))


def listed(view: Reader, after: str, limit: int) -> list[Reference]:
    """At most `limit` references by id, beginning behind `after`."""
    found: list[Reference] = []
    for key, value in view.items(REFERENCES, bytes.fromhex(after) if after else None):
        if len(found) >= limit:
            break
        found.append(records.read_reference(value, view.where(REFERENCES, key)))
    return found


def patches(view: Reader, after: int, limit: int, database: str | None) -> list[StoredPatches]:
    """At most `limit` references' patches in order of sequence, behind `after`."""
    name = (database or series_of(view).patches).encode()
    found: list[StoredPatches] = []
    for key, value in view.items(name, number_key(after)):
        if len(found) >= limit:
            break
        found.append(records.read_patches(value, number_of(key), view.where(name, key)))
    return found


@dataclass(frozen=True, eq=False)
class PatchBlock:
    """The patches of some references, one after the other: what is read of many at once costs one copy."""

    last: int  # sequence number up to which the store was read
    references: tuple[Reference, ...]
    counts: tuple[int, ...]  # patches of each
    boxes: Int32[np.ndarray, "rows 4"]  # as StoredPatches
    vectors: Float32[np.ndarray, "rows dim"]

    def split(self) -> Iterator[StoredPatches]:
        """The patches of each reference, as views."""
        first = 0
        for reference, count in zip(self.references, self.counts, strict=True):
            rows = slice(first, first + count)
            yield StoredPatches(reference.id, reference.generation, self.vectors[rows], self.boxes[rows])
            first += count


def block_of(new: Sequence[tuple[Reference, Prepared]]) -> PatchBlock:
    """References, at least one, with what was stored of them."""
    return PatchBlock(
        new[-1][0].generation,
        tuple(reference for reference, _ in new),
        tuple(len(prepared.vectors) for _, prepared in new),
        np.concatenate([prepared.boxes for _, prepared in new]),
        np.concatenate([prepared.vectors for _, prepared in new]),
    )


def block(view: Reader, known: Mapping[int, Reference], after: int, limit: int, database: str) -> PatchBlock | None:
    """The patches of known references among the next `limit` behind the number `after`; None where there are none."""
    name, last, references = database.encode(), 0, []
    boxes, vectors = [np.zeros((0, 4), np.int32)], list[Float32[np.ndarray, "_ dim"]]()
    for key, value in islice(view.items(name, number_key(after)), limit):
        last = number_of(key)
        reference = known.get(last)
        if reference is not None:
            _, some, rows = records.look_at_patches(value, view.where(name, key))
            references.append(reference)
            boxes.append(some)
            vectors.append(rows)
    if not last:
        return None
    return PatchBlock(
        last,
        tuple(references),
        tuple(map(len, vectors)),
        np.concatenate(boxes),
        np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32),
    )


def numbered(view: Reader, sequences: Sequence[int]) -> list[Reference]:
    """The references of these sequence numbers, those that are in the pool."""
    name, found = series_of(view).patches.encode(), list[Reference]()
    for sequence in sequences:
        key = number_key(sequence)
        value = view.look(name, key)
        if value is not None:
            reference = reference_of(view, records.look_at_patches(value, view.where(name, key))[0])
            if reference is not None and reference.generation == sequence:  # else it was removed, and added again
                found.append(reference)
    return found


def vectors(view: Reader, sequences: Sequence[int], database: bytes) -> list[Float32[np.ndarray, "n dim"] | None]:
    """The vectors of references, copied; None for those that are not there any more."""
    found: list[Float32[np.ndarray, "n dim"] | None] = []
    for sequence in sequences:
        key = number_key(sequence)
        value = view.look(database, key)
        found.append(
            None if value is None else records.read_patches(value, sequence, view.where(database, key)).vectors
        )
    return found


def change(
    txn: Writer, series_id: str, reference_id: str, work: Callable[[Reference], Reference], how: Change
) -> tuple[Reference, PoolState]:
    """Replaces a reference's record by what `work` makes of it.

    Raises:
        NotFound: NO_SUCH_REFERENCE.
    """
    key = bytes.fromhex(reference_id)
    old = reference_of(txn, key)
    if old is None:
        raise no_such_reference(series_id, [reference_id])
    new = work(old)
    return new, _replace(txn, [(old, new)], how)


def mark(txn: Writer, marks: Mapping[str, str], how: Change) -> PoolState:
    """Marks references as near duplicates of others ("": of none), as one change; those not there are passed over."""
    changed = []
    for reference_id, original in marks.items():
        old = reference_of(txn, bytes.fromhex(reference_id))
        if old is not None and old.near_duplicate_of != original:
            changed.append((old, replace(old, near_duplicate_of=original)))
    return _replace(txn, changed, how) if changed else pool_of(txn)


def _replace(txn: Writer, changed: Sequence[tuple[Reference, Reference]], how: Change) -> PoolState:
    """Stores new records in the place of old ones, as one change of the pool."""
    marks = 0
    for old, new in changed:
        txn.put(REFERENCES, bytes.fromhex(old.id), records.write_reference(new))
        marks += bool(new.near_duplicate_of) - bool(old.near_duplicate_of)
    before = pool_of(txn)
    after = replace(before, near_duplicates=before.near_duplicates + marks)
    return advance(txn, before, after, how, Past(how.now, replaced=tuple(old for old, _ in changed)))


def remove(
    txn: Writer, series_id: str, reference_ids: Sequence[str], how: Change, *, allow_missing: bool
) -> tuple[list[Reference], PoolState]:
    """Removes the references named, all or none, as one change of the pool; those that were there, and the pool.

    Unless they are kept, their pictures and vectors go at once, and so do those of an earlier removal.

    Raises:
        NotFound: NO_SUCH_REFERENCE, one of them is not there.
    """
    gone, missing, reached, forgotten = [], [], 0, 0
    for reference_id in dict.fromkeys(reference_ids):
        reference = reference_of(txn, bytes.fromhex(reference_id))
        earlier = [] if how.keep else history.kept(txn, reference_id)
        if reference is not None:
            gone.append(reference)
        elif not earlier:
            missing.append(reference_id)
        reached = max([reached, *(generation for _, generation in earlier)])
        forgotten += history.forget(txn, reference_id, [sequence for sequence, _ in earlier])
    if missing and not allow_missing:
        raise no_such_reference(series_id, missing)
    before = pool_of(txn)
    pool = replace(before, removed=before.removed - forgotten, history_from=max(before.history_from, reached))
    if gone:
        pool = _take_out(txn, gone, pool, how)
    elif forgotten:
        put_pool(txn, pool)
    return gone, pool


def _take_out(txn: Writer, gone: Sequence[Reference], pool: PoolState, how: Change) -> PoolState:
    """Removes references that are there; the pool after it."""
    database, count = series_of(txn).patches.encode(), 0
    for reference in gone:
        key, place = bytes.fromhex(reference.id), number_key(reference.generation)
        count += records.count_patches(txn.need(database, place), txn.where(database, place))
        txn.drop(REFERENCES, key)
        if how.keep:
            history.keep_removed(txn, reference, pool.generation + 1)
        else:
            txn.drop(BLOBS, key)
            history.drop_patches(txn, reference.generation)
    after = replace(
        pool,
        references=pool.references - len(gone),
        patches=pool.patches - count,
        byte_size=pool.byte_size - sum(reference.byte_size for reference in gone),
        near_duplicates=pool.near_duplicates - sum(1 for reference in gone if reference.near_duplicate_of),
        removed=pool.removed + (len(gone) if how.keep else 0),
    )
    return advance(txn, pool, after, how, Past(how.now, removed=tuple(gone)))
