"""Transactions that build the vectors of another embedding space beside those that serve, and switch to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from retrieval import records
from retrieval.ledger import (
    FIRST_PATCHES,
    Change,
    number_key,
    number_of,
    patch_databases,
    pool_of,
    put_pool,
    put_series,
    reference_of,
    series_of,
)
from retrieval.transaction import DIGESTS, REFERENCES, REMOVED, Reader, Writer
from retrieval.types import Migration, Series, Space, StoredPatches
from serving.errors import FailedState, ShapeMismatch


def migration_of(series: Series) -> Migration:
    """The migration under way.

    Raises:
        FailedState: NO_MIGRATION.
    """
    if series.migration is None:
        raise FailedState(f"series {series.id!r}: no migration is under way", reason="NO_MIGRATION")
    return series.migration


def begin(txn: Writer, embedder: str, space: Space, change: Change) -> Series:
    """The series with a migration to `space` under way, whose database is empty.

    Raises:
        FailedState: MIGRATION_UNDER_WAY, or SAME_SPACE: the series has that space already.
    """
    series = series_of(txn)
    if series.migration is not None:
        raise FailedState(
            f"series {series.id!r}: a migration to {series.migration.space.id} is under way",
            reason="MIGRATION_UNDER_WAY",
            metadata={"space": series.migration.space.id},
        )
    if space.id == series.space.id:
        raise FailedState(f"series {series.id!r} has the space {space.id} already", reason="SAME_SPACE")
    database = _next_database(txn)
    txn.make(database)
    txn.empty(DIGESTS)  # an earlier version knows nothing of what it may have left there
    after = replace(series, migration=Migration(embedder, space, database.decode(), start_ns=change.now))
    put_series(txn, after)
    return after


def _next_database(view: Reader) -> bytes:
    """A name that no database has; never one that a search may still ask for."""
    numbers = [int(name.rpartition(b".")[2]) for name in patch_databases(view) if name != FIRST_PATCHES]
    return FIRST_PATCHES + b".%d" % (1 + max(numbers, default=1))


def put_migrated(txn: Writer, patches: Sequence[StoredPatches], digests: Mapping[int, bytes]) -> Series:
    """Stores vectors of the new space; those of references that were removed meanwhile are passed over.

    Args:
        txn: the transaction.
        patches: the vectors.
        digests: of the patches, by sequence number, as far as they are known; kept until the switch where the new
            space cuts pictures otherwise.

    Raises:
        FailedState: NO_MIGRATION.
        ShapeMismatch: their length is not that of the new space.
    """
    series = series_of(txn)
    migration = migration_of(series)
    database, done = migration.database.encode(), 0
    for patch in patches:
        if patch.vectors.shape[1] != migration.space.dim:
            raise ShapeMismatch(
                f"vectors of space {migration.space.id} have {migration.space.dim} numbers, "
                f"got {patch.vectors.shape[1]}"
            )
        reference = reference_of(txn, bytes.fromhex(patch.reference_id))
        if reference is None or reference.generation != patch.sequence:
            continue
        key = number_key(patch.sequence)
        done += txn.look(database, key) is None
        txn.put(database, key, records.write_patches(patch))
        if digests.get(patch.sequence) and migration.space.crop_recipe != series.space.crop_recipe:
            txn.put(DIGESTS, key, records.pack(records.DIGEST, digests[patch.sequence]))
    after = max([migration.after, *(patch.sequence for patch in patches)])
    series = replace(series, migration=replace(migration, after=after, done=migration.done + done, problem=""))
    put_series(txn, series)
    return series


def note_problem(txn: Writer, problem: str) -> Series:
    """Notes why the migration does not go on ("": it does).

    Raises:
        FailedState: NO_MIGRATION.
    """
    series = series_of(txn)
    series = replace(series, migration=replace(migration_of(series), problem=problem))
    put_series(txn, series)
    return series


def missing(view: Reader, series: Series) -> list[int]:
    """Sequence numbers of the pool's references that have no vectors in the new space yet, in order.

    Raises:
        FailedState: NO_MIGRATION.
    """
    gone = {number_of(key[32:]) for key in view.keys(REMOVED)}
    have = set(view.keys(migration_of(series).database.encode()))
    wanted = [key for key in view.keys(series.patches.encode()) if key not in have]
    return [sequence for sequence in map(number_of, wanted) if sequence not in gone]


def switch(txn: Writer, change: Change) -> list[int]:
    """What `missing` gives; if that is nothing, the series has the new space now, and the old vectors are gone.

    Raises:
        FailedState: NO_MIGRATION.
    """
    series = series_of(txn)
    migration = migration_of(series)
    lacking = missing(txn, series)
    if lacking:
        return lacking
    gone = {number_of(key[32:]) for key in txn.keys(REMOVED)}
    database = migration.database.encode()
    count = sum(
        records.count_patches(value, txn.where(database, key))
        for key, value in txn.items(database)
        if number_of(key) not in gone
    )
    before = pool_of(txn)
    generation = before.generation + 1
    put_pool(txn, replace(before, generation=generation, history_from=generation, patches=count, update_ns=change.now))
    put_series(
        txn,
        replace(
            series,
            embedder=migration.embedder,
            space=migration.space,
            patches=migration.database,
            migration=None,
            revision=series.revision + 1,
            update_ns=change.now,
        ),
    )
    txn.empty(series.patches.encode())
    if migration.space.crop_recipe != series.space.crop_recipe:
        _renew_digests(txn)
    return []


def _renew_digests(txn: Writer) -> None:
    """Gives all records the digests that came with the new vectors: theirs are of patches that were cut otherwise.

    A record for which none came has none then; it is made anew when it is needed.

    Cost: reads every reference's record, and writes it.
    """
    for key in txn.keys(REFERENCES):
        reference = reference_of(txn, key)
        assert reference is not None  # its key is there
        place = number_key(reference.generation)
        value = txn.look(DIGESTS, place)
        new = b"" if value is None else bytes(records.unpack(records.DIGEST, value, txn.where(DIGESTS, place)))
        if new != reference.digest:
            txn.put(REFERENCES, key, records.write_reference(replace(reference, digest=new)))
    txn.empty(DIGESTS)


def cancel(txn: Writer) -> Series:
    """The series without its migration, whose vectors are gone.

    Raises:
        FailedState: NO_MIGRATION.
    """
    series = series_of(txn)
    txn.empty(migration_of(series).database.encode())
    txn.empty(DIGESTS)
    series = replace(series, migration=None)
    put_series(txn, series)
    return series


def is_unused(series: Series, database: bytes) -> bool:
    """Whether a database of vectors belongs neither to the present space nor to one that is being built."""
    used = {series.patches, series.migration.database if series.migration else series.patches}
    return database.decode() not in used
