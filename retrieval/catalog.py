"""The series of a data folder and what their pools hold, on top of `store`; every change is one transaction."""

from __future__ import annotations

import hashlib
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from retrieval import records
from retrieval.folder import DataFolder
from retrieval.store import MAX_MAP_BYTES, START_MAP_BYTES, Environment, Reader, Writer
from retrieval.types import (
    GENERATED,
    Draft,
    PoolState,
    Prepared,
    Provenance,
    Reference,
    Series,
    SeriesView,
    StoredPatches,
)
from serving.errors import AlreadyExists, NotFound, ServiceError, Unavailable

MAX_DEPTH = 1000  # provenance depth, as the contract says


@dataclass
class _Entry:
    series: Series | None  # None: it cannot be read, `error` says why
    pool: PoolState
    error: ServiceError | None = None
    environment: Environment | None = None
    users: int = 0
    leaving: bool = False


class Catalog:
    """All series of one data folder. Calls may come from several threads; those that write may take a disk's time.

    Args:
        path: the data folder.
        map_bytes, max_map_bytes: as `Environment`.
        max_open: environments kept open; the least recently used are closed beyond it.
        clock: nanoseconds since 1970.

    Raises:
        FailedState, CorruptData: as `DataFolder`. A single series that cannot be read does not stop the others.
    """

    def __init__(
        self,
        path: Path,
        *,
        map_bytes: int = START_MAP_BYTES,
        max_map_bytes: int = MAX_MAP_BYTES,
        max_open: int = 256,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._folder = DataFolder(path)
        self._map_bytes, self._max_map_bytes, self._max_open, self._clock = map_bytes, max_map_bytes, max_open, clock
        self._guard = threading.Condition()
        self._open: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self._entries: dict[str, _Entry] = {}
        self._folder.sweep()
        for folder in sorted(self._folder.series.iterdir()):
            self._entries[folder.name] = self._first_look(folder.name)

    def _first_look(self, series_id: str) -> _Entry:
        entry = _Entry(None, PoolState())
        self._entries[series_id] = entry
        try:
            with self._using(series_id) as environment, environment.reading() as view:
                entry.series = records.read_series(view.need(b"meta", b"series"), view.where(b"meta", b"series"))
                entry.pool = _pool(view)
        except ServiceError as error:
            entry.series, entry.error = None, error
        return entry

    @contextmanager
    def _using(self, series_id: str) -> Iterator[Environment]:
        """The open environment of a series, kept open until the block ends.

        Raises:
            NotFound: NO_SUCH_SERIES.
            CorruptData, FailedState: it cannot be read.
        """
        with self._guard:
            entry = self._entry(series_id)
            entry.users += 1
            try:
                if entry.environment is None:
                    entry.environment = self._environment(self._folder.series / series_id)
            except BaseException:
                entry.users -= 1
                raise
            self._open[series_id] = entry
            self._open.move_to_end(series_id)
            self._close_surplus()
            environment = entry.environment
        try:
            yield environment
        finally:
            with self._guard:
                entry.users -= 1
                self._guard.notify_all()

    def _entry(self, series_id: str) -> _Entry:
        entry = self._entries.get(series_id)
        if entry is None or entry.leaving:
            raise no_such_series(series_id)
        if entry.error is not None:
            raise entry.error
        return entry

    def _environment(self, path: Path) -> Environment:
        return Environment(path, map_bytes=self._map_bytes, max_map_bytes=self._max_map_bytes)

    def _close_surplus(self) -> None:
        for series_id in [s for s, e in self._open.items() if not e.users][: max(0, len(self._open) - self._max_open)]:
            environment = self._open.pop(series_id).environment
            self._entries[series_id].environment = None
            if environment is not None:
                environment.close()

    def close(self) -> None:
        """Closes everything and lets go of the folder."""
        with self._guard:
            for entry in self._entries.values():
                entry.leaving = True
            self._guard.wait_for(lambda: not any(e.users for e in self._entries.values()), timeout=60)
            for entry in self._entries.values():
                if entry.environment is not None and not entry.users:
                    entry.environment.close()
                    entry.environment = None
            self._open.clear()
        self._folder.close()

    # -- series

    def ids(self) -> list[str]:
        """Ids of all series that can be read, in order."""
        with self._guard:
            return sorted(s for s, e in self._entries.items() if e.series is not None and not e.leaving)

    def damaged(self) -> dict[str, ServiceError]:
        """Series that cannot be read, and why."""
        with self._guard:
            return {s: e.error for s, e in self._entries.items() if e.error is not None}

    def taken(self, series_id: str) -> bool:
        """Whether a series of that id is there, readable or not."""
        with self._guard:
            return series_id in self._entries

    def view(self, series_id: str) -> SeriesView:
        """A series with its pool's counts.

        Raises:
            NotFound: NO_SUCH_SERIES.
            CorruptData, FailedState: it cannot be read.
        """
        with self._guard:
            entry = self._entry(series_id)
            assert entry.series is not None  # else there is an error
            return SeriesView(entry.series, entry.pool, etag(entry.series))

    def create(self, series: Series) -> SeriesView:
        """Makes an empty series; times and revision are set here.

        Raises:
            AlreadyExists: SERIES_EXISTS.
        """
        now = self._clock()
        made = replace(series, revision=1, create_ns=now, update_ns=now)
        with self._guard:
            if series.id in self._entries:
                raise AlreadyExists(
                    f"a series {series.id!r} is there already", reason="SERIES_EXISTS", metadata={"series": series.id}
                )
            draft = self._folder.draft()
            environment = self._environment(draft)
            try:
                environment.write(lambda txn: _put_meta(txn, made, PoolState(update_ns=now)))
            finally:
                environment.close()
            self._folder.publish(draft, series.id)
            self._entries[series.id] = _Entry(made, PoolState(update_ns=now))
        return self.view(series.id)

    def change(self, series_id: str, work: Callable[[Series, str], Series]) -> SeriesView:
        """Replaces a series' own fields by what `work` makes of them (it is given the etag too, and may raise)."""
        with self._using(series_id) as environment:

            def store(txn: Writer) -> Series:
                old = records.read_series(txn.need(b"meta", b"series"), txn.where(b"meta", b"series"))
                new = replace(work(old, etag(old)), revision=old.revision + 1, update_ns=self._clock())
                txn.put(b"meta", b"series", records.write_series(new))
                return new

            series = environment.write(store)
            with self._guard:
                entry = self._entries[series_id]
                if entry.series is None or entry.series.revision < series.revision:
                    entry.series = series
        return self.view(series_id)

    def delete(self, series_id: str, check: Callable[[SeriesView], None]) -> int:
        """Removes a series; how many references went with it. `check` may object by raising.

        A series that cannot be read is removed without a check.
        """
        with self._guard:
            entry = self._entries.get(series_id)
            if entry is None or entry.leaving:
                raise no_such_series(series_id)
            if entry.series is not None:  # first, so that an objection disturbs nobody
                check(SeriesView(entry.series, entry.pool, etag(entry.series)))
            entry.leaving = True
            try:
                if not self._guard.wait_for(lambda: entry.users == 0, timeout=60):
                    raise Unavailable(f"series {series_id!r} is busy; try again", reason="SERIES_BUSY", retry_after=5)
                if entry.series is not None:
                    check(SeriesView(entry.series, entry.pool, etag(entry.series)))
            except BaseException:
                entry.leaving = False
                raise
            if entry.environment is not None:
                entry.environment.close()
            self._open.pop(series_id, None)
            self._folder.discard(series_id)
            del self._entries[series_id]
            return entry.pool.references

    # -- references

    def add(self, series_id: str, draft: Draft, data: bytes, prepared: Prepared) -> tuple[Reference, PoolState, bool]:
        """The stored reference, the pool after it, and whether it is new. On the disk when this returns.

        Raises:
            Overloaded, Unavailable: as `Environment.write`.
        """
        key = hashlib.sha256(data).digest()

        def store(txn: Writer) -> tuple[Reference, PoolState, bool]:
            pool = _pool(txn)
            found = txn.get(b"references", key)
            if found is not None:
                return records.read_reference(found, txn.where(b"references", key)), pool, False
            now = self._clock()
            reference = Reference(
                id=key.hex(),
                chapter=draft.chapter,
                page=draft.page,
                tags=draft.tags,
                provenance=_settled(txn, draft.provenance),
                width=prepared.width,
                height=prepared.height,
                media_type=prepared.media_type,
                byte_size=len(data),
                generation=pool.generation + 1,
                create_ns=now,
            )
            count = len(prepared.vectors)
            after = PoolState(pool.generation + 1, pool.references + 1, pool.patches + count, now)
            patches = StoredPatches(reference.id, reference.generation, prepared.vectors, prepared.boxes)
            txn.put(b"references", key, records.write_reference(reference))
            txn.put(b"blobs", key, records.pack(records.BLOB, data))
            txn.put(b"patches", _sequence_key(reference.generation), records.write_patches(patches))
            txn.put(b"meta", b"pool", records.write_pool(after))
            return reference, after, True

        with self._using(series_id) as environment:
            reference, pool, new = environment.write(store, len(data) + prepared.vectors.nbytes)
            self._note(series_id, pool)
        return reference, pool, new

    def _note(self, series_id: str, pool: PoolState) -> None:
        with self._guard:
            entry = self._entries[series_id]
            if entry.pool.generation < pool.generation:
                entry.pool = pool

    def find(self, series_id: str, reference_id: str) -> Reference | None:
        """The reference of that id, None where there is none."""
        key = bytes.fromhex(reference_id)
        with self._using(series_id) as environment, environment.reading() as view:
            value = view.get(b"references", key)
            return None if value is None else records.read_reference(value, view.where(b"references", key))

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
        """The bytes of a reference as they were added.

        Raises:
            NotFound: NO_SUCH_REFERENCE.
            CorruptData: CHECKSUM_MISMATCH.
        """
        key = bytes.fromhex(reference_id)
        with self._using(series_id) as environment, environment.reading() as view:
            value, where = view.get(b"blobs", key), view.where(b"blobs", key)
        if value is None:
            raise no_such_reference(series_id, [reference_id])
        return bytes(records.unpack(records.BLOB, value, where))

    def references(self, series_id: str, after: str = "", limit: int = 1000) -> tuple[list[Reference], PoolState]:
        """At most `limit` references by id, beginning behind `after`, and the pool that was read."""
        found: list[Reference] = []
        with self._using(series_id) as environment, environment.reading() as view:
            for key, value in view.items(b"references", bytes.fromhex(after) if after else None):
                if len(found) >= limit:
                    break
                found.append(records.read_reference(value, view.where(b"references", key)))
            return found, _pool(view)

    def patches(self, series_id: str, after: int = 0, limit: int = 256) -> list[StoredPatches]:
        """At most `limit` references' patches in the order in which they were added, behind the sequence `after`."""
        found: list[StoredPatches] = []
        with self._using(series_id) as environment, environment.reading() as view:
            for key, value in view.items(b"patches", _sequence_key(after)):
                if len(found) >= limit:
                    break
                sequence = int.from_bytes(key, "big")
                found.append(records.read_patches(value, sequence, view.where(b"patches", key)))
        return found

    def change_reference(
        self, series_id: str, reference_id: str, work: Callable[[Reference], Reference]
    ) -> tuple[Reference, PoolState]:
        """Replaces a reference's record by what `work` makes of it.

        Raises:
            NotFound: NO_SUCH_REFERENCE.
        """
        key = bytes.fromhex(reference_id)

        def store(txn: Writer) -> tuple[Reference, PoolState]:
            value = txn.get(b"references", key)
            if value is None:
                raise no_such_reference(series_id, [reference_id])
            new = work(records.read_reference(value, txn.where(b"references", key)))
            pool = _pool(txn)
            after = replace(pool, generation=pool.generation + 1, update_ns=self._clock())
            txn.put(b"references", key, records.write_reference(new))
            txn.put(b"meta", b"pool", records.write_pool(after))
            return new, after

        with self._using(series_id) as environment:
            reference, pool = environment.write(store)
            self._note(series_id, pool)
        return reference, pool

    def remove(
        self, series_id: str, reference_ids: Sequence[str], *, allow_missing: bool
    ) -> tuple[list[Reference], PoolState]:
        """Removes the references named, all or none, as one change of the pool; those that were there, and the pool.

        Raises:
            NotFound: NO_SUCH_REFERENCE, one of them is not there.
        """

        def store(txn: Writer) -> tuple[list[Reference], PoolState]:
            gone, missing, patches = [], [], 0
            for reference_id in dict.fromkeys(reference_ids):
                key = bytes.fromhex(reference_id)
                value = txn.get(b"references", key)
                if value is None:
                    missing.append(reference_id)
                    continue
                reference = records.read_reference(value, txn.where(b"references", key))
                place = _sequence_key(reference.generation)
                where = txn.where(b"patches", place)
                patches += len(records.read_patches(txn.need(b"patches", place), reference.generation, where).vectors)
                txn.drop(b"references", key)
                txn.drop(b"blobs", key)
                txn.drop(b"patches", place)
                gone.append(reference)
            if missing and not allow_missing:
                raise no_such_reference(series_id, missing)
            pool = _pool(txn)
            if gone:
                pool = PoolState(
                    pool.generation + 1, pool.references - len(gone), pool.patches - patches, self._clock()
                )
                txn.put(b"meta", b"pool", records.write_pool(pool))
            return gone, pool

        with self._using(series_id) as environment:
            gone, pool = environment.write(store)
            self._note(series_id, pool)
        return gone, pool

    def disk_bytes(self, series_id: str) -> int:
        """Bytes that the series takes on disk."""
        with self._using(series_id) as environment:
            return environment.disk_bytes()


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


def _sequence_key(sequence: int) -> bytes:
    return struct.pack(">Q", sequence)  # big-endian, so that the order of keys is the order of insertion


def _pool(view: Reader) -> PoolState:
    return records.read_pool(view.need(b"meta", b"pool"), view.where(b"meta", b"pool"))


def _put_meta(txn: Writer, series: Series, pool: PoolState) -> None:
    txn.put(b"meta", b"series", records.write_series(series))
    txn.put(b"meta", b"pool", records.write_pool(pool))


def _settled(view: Reader, provenance: Provenance) -> Provenance:
    """The provenance with its depth: one more than that of the parents that are known, 1 when none is."""
    if provenance.origin != GENERATED or provenance.depth:
        return provenance
    keys = [bytes.fromhex(parent) for parent in provenance.parent_ids]
    values = [(key, view.get(b"references", key)) for key in keys]
    known = [records.read_reference(v, view.where(b"references", k)).provenance.depth for k, v in values if v]
    return replace(provenance, depth=min(MAX_DEPTH, 1 + max(known, default=0)))
