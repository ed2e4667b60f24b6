"""What the pools of a data folder hold, on top of `store`; every change is one transaction."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32

from retrieval import history, migration, records, references
from retrieval.ledger import (
    etag,
    is_patch_database,
    no_such_reference,
    no_such_series,
    pool_of,
    reference_of,
    series_of,
)
from retrieval.references import PatchBlock
from retrieval.series import SeriesCatalog
from retrieval.transaction import BLOBS, Reader
from retrieval.types import (
    Draft,
    NewReference,
    PoolState,
    Prepared,
    Reference,
    SeriesView,
    Space,
    Stored,
    StoredPatches,
)
from serving.errors import Overloaded, Unavailable

Still = Callable[[], None] | None  # may object by raising, when no restore can put another folder there any more
PURGED_AT_ONCE = 256  # removed references that one transaction drops; others write in between

__all__ = ["Catalog", "etag", "no_such_reference", "no_such_series"]


class Catalog(SeriesCatalog):
    """The series of one data folder as `SeriesCatalog` has them, and what their pools hold.

    Every call that names a series may raise NotFound (NO_SUCH_SERIES), CorruptData or FailedState (it cannot be read)
    and Unavailable (SERIES_BUSY, STORE_FAILED); every change Overloaded (DISK_FULL, MAP_FULL) too, and then nothing was
    changed.
    """

    # -- references

    def add_many(
        self, series_id: str, items: Sequence[NewReference], *, still: Still = None
    ) -> tuple[list[Stored], PoolState]:
        """What became of each reference, in order, and the pool after all; on the disk when this returns.

        One transaction; every new reference is a change of the pool of its own. The same bytes again, in the pool or
        earlier in `items`, are already present. One that the series does not take keeps no other one out; its error is
        Overloaded (QUOTA_EXCEEDED), InvalidInput (DEPTH_EXCEEDED), Conflict (SPACE_SWITCHED) or ShapeMismatch.
        """
        keys, change = references.keys_of(items), self._change()
        return self._shelf.write(
            series_id, lambda txn: references.add_many(txn, items, keys, change), references.room_of(items), still=still
        )

    def add(self, series_id: str, draft: Draft, data: bytes, prepared: Prepared) -> tuple[Reference, PoolState, bool]:
        """The stored reference, the pool after it, and whether it is new. On the disk when this returns.

        Raises:
            ServiceError: as the errors of `add_many`.
        """
        (stored,), pool = self.add_many(series_id, [NewReference(draft, data, prepared)])
        if stored.reference is None:
            assert stored.error is not None  # one of the two is there
            raise stored.error
        return stored.reference, pool, stored.new

    def find(self, series_id: str, reference_id: str) -> Reference | None:
        """The reference of that id, None where there is none."""
        return self._shelf.read(series_id, lambda view: reference_of(view, bytes.fromhex(reference_id)))

    def fresh(self, series_id: str, items: Sequence[NewReference]) -> list[NewReference]:
        """Those of the references that are not in the pool, each once."""
        by_key = dict(zip(references.keys_of(items), items, strict=True))
        return self._shelf.read(
            series_id, lambda view: [item for key, item in by_key.items() if reference_of(view, key) is None]
        )

    def get(self, series_id: str, reference_id: str) -> Reference:
        """The reference of that id.

        Raises:
            NotFound: NO_SUCH_REFERENCE.
        """
        found = self.find(series_id, reference_id)
        if found is None:
            raise no_such_reference(series_id, [reference_id])
        return found

    def data(self, series_id: str, reference_id: str) -> bytes:
        """The bytes of a reference as they were added; also of a removed one, while it is kept.

        Raises:
            NotFound: NO_SUCH_REFERENCE.
            CorruptData: CHECKSUM_MISMATCH.
        """
        key = bytes.fromhex(reference_id)

        def read(view: Reader) -> bytes | None:
            value = view.look(BLOBS, key)
            return None if value is None else bytes(records.unpack(records.BLOB, value, view.where(BLOBS, key)))

        data = self._shelf.read(series_id, read)
        if data is None:
            raise no_such_reference(series_id, [reference_id])
        return data

    def references(self, series_id: str, after: str = "", limit: int = 1000) -> tuple[list[Reference], PoolState]:
        """At most `limit` references by id, beginning behind `after`, and the pool that was read."""
        return self._shelf.read(series_id, lambda view: (references.listed(view, after, limit), pool_of(view)))

    def known(self, series_id: str, as_of: int = 0) -> tuple[dict[int, Reference], PoolState]:
        """What the pool holds, or held at the generation `as_of` (0: now), by sequence number in order, and its counts.

        Raises:
            FailedState: GENERATION_NOT_REACHED, or HISTORY_NOT_KEPT with the metadata `oldest` and `actual`.

        Cost: reads every reference's record, and the history behind `as_of`.
        """
        return self._shelf.read(series_id, lambda view: history.known(view, as_of))

    def numbered(self, series_id: str, sequences: Sequence[int]) -> list[Reference]:
        """The references of these sequence numbers, those that are in the pool. Cost: two look-ups for each."""
        return self._shelf.read(series_id, lambda view: references.numbered(view, sequences))

    def patches(
        self, series_id: str, after: int = 0, limit: int = 256, database: str | None = None
    ) -> list[StoredPatches]:
        """At most `limit` references' patches in order of sequence, behind `after`; also of removed ones that are kept.

        Args:
            series_id: the series.
            after: a sequence number.
            limit: references.
            database: where the vectors lie; None: those of the present space.

        Raises:
            Conflict: SPACE_SWITCHED, the series has left the space of that database.
            CorruptData: CHECKSUM_MISMATCH or DATA_DAMAGED.
        """
        return self._shelf.read(series_id, lambda view: references.patches(view, after, limit, database))

    def block(
        self, series_id: str, known: Mapping[int, Reference], after: int, limit: int, database: str
    ) -> PatchBlock | None:
        """The patches of known references (by sequence number) among the next `limit` behind the number `after`.

        None where there are no more, of unknown ones neither. Errors as of `patches`.
        """
        return self._shelf.read(series_id, lambda view: references.block(view, known, after, limit, database))

    def vectors(
        self, series_id: str, sequences: Sequence[int], database: str | None = None
    ) -> list[Float32[np.ndarray, "n dim"]]:
        """The vectors of references by sequence number; none (0 rows) for one whose vectors are gone.

        Args:
            series_id: the series.
            sequences: sequence numbers.
            database: where the vectors lie, as `Series.patches` said; None: those of the present space.

        Raises:
            Conflict: SPACE_SWITCHED, the series has left the space of that database.

        Cost: one transaction; per reference one look-up, one checksum and one copy.
        """
        series = self.view(series_id).series
        name = (database or series.patches).encode()
        found = self._shelf.read(series_id, lambda view: references.vectors(view, sequences, name))
        dim = next((rows.shape[1] for rows in found if rows is not None), series.space.dim)
        return [np.zeros((0, dim), np.float32) if rows is None else rows for rows in found]

    def change_reference(
        self, series_id: str, reference_id: str, work: Callable[[Reference], Reference], *, still: Still = None
    ) -> tuple[Reference, PoolState]:
        """Replaces a reference's record by what `work` makes of it.

        Raises:
            NotFound: NO_SUCH_REFERENCE.
        """
        how = self._change()
        return self._shelf.write(
            series_id, lambda txn: references.change(txn, series_id, reference_id, work, how), still=still
        )

    def mark(self, series_id: str, marks: Mapping[str, str], *, still: Still = None) -> PoolState:
        """Marks references (ids) as near duplicates of others ("": of none), as one change; the pool after it.

        Ids that are not there are passed over, and where nothing changes the generation stays.
        """
        how = self._change()
        return self._shelf.write(series_id, lambda txn: references.mark(txn, marks, how), still=still)

    def remove(
        self,
        series_id: str,
        reference_ids: Sequence[str],
        *,
        allow_missing: bool,
        purge: bool = False,
        still: Still = None,
    ) -> tuple[list[Reference], PoolState]:
        """Removes the references named, all or none, as one change of the pool; those that were there, and the pool.

        Args:
            series_id: the series.
            reference_ids: ids.
            allow_missing: whether ids that are not there are passed over.
            purge: whether pictures and vectors go at once, also those of an earlier removal. Otherwise they are kept
                for the history; without history they always go.
            still: as `Still`.

        Raises:
            NotFound: NO_SUCH_REFERENCE, one of them is not there.
        """
        how = self._change(purge)
        return self._shelf.write(
            series_id,
            lambda txn: references.remove(txn, series_id, reference_ids, how, allow_missing=allow_missing),
            freeing=not how.keep,
            still=still,
        )

    def purge_history(self, series_id: str, before_ns: int | None = None, *, everything: bool = False) -> int:
        """Drops the history before a time, in transactions of bounded size; how many removed references went with it.

        Args:
            series_id: the series.
            before_ns: nanoseconds since 1970; None: `history_seconds` ago.
            everything: whether all of it goes, whatever its age.
        """
        limit = self._clock() - int(self._history_seconds * 1e9) if before_ns is None else before_ns
        dropped, more = 0, True
        while more:
            some, more = self._shelf.write(
                series_id,
                lambda txn: history.purge(txn, None if everything else limit, PURGED_AT_ONCE),
                freeing=True,
            )
            dropped += some
        return dropped

    def history_wait(self, series_id: str) -> float:
        """Seconds until `purge_history` has something to do, at least: 0 if it has now, whatever is changed meanwhile.

        Unless the history's beginning moves (`PoolState.history_from`): then there may be something to do at once.
        """
        made = self._shelf.read(series_id, history.oldest)
        if made is None:
            return self._history_seconds or math.inf  # without history there will be none
        return max(0.0, self._history_seconds - (self._clock() - made) / 1e9)

    # -- migration

    def begin_migration(self, series_id: str, embedder: str, space: Space) -> SeriesView:
        """The series with a migration to another space under way; its references need vectors there from now on.

        Raises:
            FailedState: MIGRATION_UNDER_WAY or SAME_SPACE.
        """
        change = self._change()
        self._shelf.write(series_id, lambda txn: migration.begin(txn, embedder, space, change))
        return self.view(series_id)

    def put_migrated(
        self, series_id: str, patches: Sequence[StoredPatches], digests: Mapping[int, bytes] = MappingProxyType({})
    ) -> SeriesView:
        """Stores vectors of the new space; those of references that were removed meanwhile are passed over.

        `digests` of the patches, by sequence number, as far as they are known, become the references' own with the
        switch if the new space cuts pictures otherwise.

        Raises:
            FailedState: NO_MIGRATION.
            ShapeMismatch: their length is not that of the new space.
        """
        room = sum(patch.vectors.nbytes + references.RECORD_BYTES for patch in patches)
        self._shelf.write(series_id, lambda txn: migration.put_migrated(txn, patches, digests), room)
        return self.view(series_id)

    def lacking(self, series_id: str) -> list[int]:
        """Sequence numbers of references that lack vectors in the new space, in order.

        Raises:
            FailedState: NO_MIGRATION.

        Cost: reads keys alone.
        """
        return self._shelf.read(series_id, lambda view: migration.missing(view, series_of(view)))

    def note_problem(self, series_id: str, problem: str) -> SeriesView:
        """Notes why the migration does not go on, a sentence; vectors that come after all clear it.

        Raises:
            FailedState: NO_MIGRATION.
        """
        self._shelf.write(series_id, lambda txn: migration.note_problem(txn, problem))
        return self.view(series_id)

    def switch(self, series_id: str) -> list[int]:
        """Gives the series the new space, at once, as one change of the pool, and drops the old vectors.

        Returns:
            Sequence numbers of references that lack vectors in the new space; then nothing was changed. Empty: done.

        Raises:
            FailedState: NO_MIGRATION.
        """
        change = self._change()
        lacking = self._shelf.write(series_id, lambda txn: migration.switch(txn, change), freeing=True)
        if not lacking:
            self._drop_unused(series_id)
        return lacking

    def cancel_migration(self, series_id: str) -> SeriesView:
        """Ends the migration and drops what it built.

        Raises:
            FailedState: NO_MIGRATION.
        """
        self._shelf.write(series_id, migration.cancel, freeing=True)
        self._drop_unused(series_id)
        return self.view(series_id)

    def _drop_unused(self, series_id: str) -> None:
        """Drops databases of spaces that were left; they are empty already, so that it does no harm if this fails.

        It must not raise: the change before it is on the disk, and the caller has still to take note of it.
        """
        with contextlib.suppress(Overloaded, Unavailable), self._shelf.using(series_id) as (_, environment):
            series = self.view(series_id).series
            environment.drop_databases(lambda name: is_patch_database(name) and migration.is_unused(series, name))
