"""Everything that an environment holds, held against itself; in many short transactions, so that writing goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from retrieval import records
from retrieval.digest import read_digest
from retrieval.held import Held
from retrieval.onlooker import Glance, Onlooker
from retrieval.types import Finding, PoolState, Reference, Series, StoredPatches
from serving.errors import CorruptData, ServiceError

BATCH_BYTES = 16 << 20  # of values, read in one transaction
UNIT_TOLERANCE = 1e-3  # of a vector's length
MOST_FINDINGS = 1000  # about the pages of a file; beyond it they say nothing new

Look = Callable[[Glance, bytes, bytes], Iterator[Finding]]


@dataclass(frozen=True)
class CheckProgress:
    """How far a check is."""

    references: int = 0  # read so far
    byte_size: int = 0  # of the values read so far


def check(onlooker: Onlooker) -> Iterator[Finding | CheckProgress]:
    """What is wrong, and how far the check is; goes on behind a finding where it can, and ends with the progress.

    The pages themselves come first, then every value by itself, then what values say of each other. Damaged pages can
    end the process: `inspector` runs this in a child.

    Cost: one pass over all values in transactions of `BATCH_BYTES`; before it one transaction over the trees' pages,
    and after it one over the records, some 10 and 15 µs a reference.
    """
    return _Check(onlooker).run()


class _Check:
    def __init__(self, onlooker: Onlooker) -> None:
        self._onlooker = onlooker
        self._references = self._bytes = 0
        self._series: Series | None = None
        self._pool = PoolState()
        self._unreadable = False  # some value: sums would say nothing more

    def run(self) -> Iterator[Finding | CheckProgress]:
        yield from _first(self._onlooker.structure())
        yield from self._guarded(self._heads)
        looks: dict[bytes, Look] = {
            b"references": self._reference,
            b"blobs": self._blob,
            b"history": self._past,
            b"removed": self._gone,
            b"digests": self._digest,
        }
        names = self._names()
        for name in names:
            if name != b"meta":
                yield from self._sweep(name, looks.get(name, self._patches if name in self._vectors() else self._other))
        yield from self._guarded(self._sums)
        yield self._progress()

    def _progress(self) -> CheckProgress:
        return CheckProgress(self._references, self._bytes)

    def _names(self) -> list[bytes]:
        try:
            with self._onlooker.glancing() as view:
                return view.names()
        except ServiceError:  # told already
            return []

    def _guarded(self, look: Callable[[Glance], Iterator[Finding]]) -> Iterator[Finding]:
        """Findings of one transaction, told when it is over."""
        found: list[Finding] = []
        try:
            with self._onlooker.glancing() as view:
                found.extend(look(view))
        except CorruptData as error:
            found.append(Finding(error.message))
        yield from found

    def _sweep(self, database: bytes, look: Look) -> Iterator[Finding | CheckProgress]:
        """Findings of each value of a database."""
        after: bytes | None = None
        going = True
        while going:
            found: list[Finding] = []
            try:
                with self._onlooker.glancing() as view:
                    self._read_head(view)
                    going, after = self._batch(view, database, after, look, found)
            except CorruptData as error:
                self._unreadable = True
                found.append(Finding(error.message))
                going = False
            yield from found
            yield self._progress()

    def _batch(
        self, view: Glance, database: bytes, after: bytes | None, look: Look, found: list[Finding]
    ) -> tuple[bool, bytes | None]:
        """Whether there is more, and the last key that was read."""
        read = 0
        for key, value in view.items(database, after):
            if after is not None and key <= after:  # or it would go round for ever
                raise CorruptData(f"{view.where(database, key)}: expected a key behind {after.hex()}")
            after = key
            read += len(value)
            self._bytes += len(value)
            try:
                found.extend(look(view, key, value))
            except ServiceError as error:
                self._unreadable = True
                found.append(Finding(error.message, key.hex() if len(key) == 32 else ""))
            if read >= BATCH_BYTES:
                return True, after
        return False, after

    # -- the series

    def _read_head(self, view: Glance) -> None:
        """The series and its counts as this transaction sees them, as far as they can be read."""
        try:
            self._series = records.read_series(_need(view, b"meta", b"series"), view.where(b"meta", b"series"))
            self._pool = records.read_pool(_need(view, b"meta", b"pool"), view.where(b"meta", b"pool"))
        except ServiceError:  # `_heads` has told it
            self._series = None

    def _heads(self, view: Glance) -> Iterator[Finding]:
        self._read_head(view)
        for key in (b"series", b"pool"):
            try:
                read = records.read_series if key == b"series" else records.read_pool
                read(_need(view, b"meta", key), view.where(b"meta", key))
            except ServiceError as error:
                yield Finding(error.message)
        for key, _ in view.items(b"meta"):
            if key not in (b"series", b"pool"):
                yield Finding(f"{view.where(b'meta', key)}: expected no such value")
        if self._series is None:
            return
        for name in (b"references", b"blobs", *self._vectors()) if self._pool.references else ():
            if name not in view.names():
                yield Finding(f"expected a database {name.decode()!r}, got none")
        migration = self._series.migration
        if migration is not None and migration.after > self._pool.generation:
            yield Finding(f"migration: expected at most generation {self._pool.generation}, got {migration.after}")

    def _vectors(self) -> dict[bytes, int]:
        """Lengths of vectors by the database that holds them."""
        if self._series is None:
            return {b"patches": 0}
        found = {self._series.patches.encode(): self._series.space.dim}
        if self._series.migration is not None:
            found[self._series.migration.database.encode()] = self._series.migration.space.dim
        return found

    # -- single values

    def _reference(self, view: Glance, key: bytes, value: bytes) -> Iterator[Finding]:
        self._references += 1
        reference = records.read_reference(value, view.where(b"references", key))
        for text in _wrong_with(reference):
            yield Finding(f"{view.where(b'references', key)}: {text}", key.hex())
        if reference.id != key.hex():
            yield Finding(f"{view.where(b'references', key)}: expected its id, got {reference.id}", key.hex())
        if self._series is not None and not 0 < reference.generation <= self._pool.generation:
            yield Finding(
                f"{view.where(b'references', key)}: expected generation 1 to {self._pool.generation}, "
                f"got {reference.generation}",
                key.hex(),
            )

    def _blob(self, view: Glance, key: bytes, value: bytes) -> Iterator[Finding]:
        payload = records.unpack(records.BLOB, value, view.where(b"blobs", key))
        actual = hashlib.sha256(payload).hexdigest()
        if actual != key.hex():
            yield Finding(f"{view.where(b'blobs', key)}: expected sha256 {key.hex()}, got {actual}", key.hex())

    def _patches(self, view: Glance, key: bytes, value: bytes) -> Iterator[Finding]:
        where = view.where(b"patches", key)
        stored = records.read_patches(value, int.from_bytes(key, "big"), where)
        record = view.get(b"references", bytes.fromhex(stored.reference_id))
        reference = None if record is None else records.read_reference(record, where)
        dims = set(self._vectors().values())
        if len(key) != 8:
            yield Finding(f"{where}: expected a key of 8 bytes, got {len(key)}", stored.reference_id)
        if self._series is not None and stored.vectors.shape[1] not in dims:
            yield Finding(f"{where}: expected vectors of {dims}, got {stored.vectors.shape[1]}", stored.reference_id)
        for text in _wrong_patches(stored, reference):
            yield Finding(f"{where}: {text}", stored.reference_id)

    def _past(self, view: Glance, key: bytes, value: bytes) -> Iterator[Finding]:
        records.read_past(value, view.where(b"history", key))
        generation = int.from_bytes(key, "big")
        if self._series is not None and (len(key) != 8 or not 0 < generation <= self._pool.generation):
            yield Finding(f"history: expected generation 1 to {self._pool.generation}, got {generation}")

    def _gone(self, view: Glance, key: bytes, value: bytes) -> Iterator[Finding]:
        records.unpack(records.GONE, value, view.where(b"removed", key))
        if len(key) != 40 or len(value) != records.HEADER.size + 8:
            yield Finding(f"removed {key.hex()}: expected an id, a number and a generation, got {len(value)} bytes")

    def _digest(self, view: Glance, key: bytes, value: bytes) -> Iterator[Finding]:
        where = view.where(b"digests", key)
        read_digest(bytes(records.unpack(records.DIGEST, value, where)))
        if len(key) != 8:
            yield Finding(f"{where}: expected a key of 8 bytes, got {len(key)}")

    def _other(self, view: Glance, key: bytes, value: bytes) -> Iterator[Finding]:
        """Of a database that this version does not use: the checksum at least."""
        records.unpack(value[5:6], value, view.where(b"?", key))
        yield from ()

    # -- what values say of each other

    def _sums(self, view: Glance) -> Iterator[Finding]:
        self._read_head(view)
        if self._series is None or self._unreadable:  # sums of what could be read would be wrong findings
            return
        held = Held.of(view)
        yield from held.history(self._pool)
        yield from held.blobs(view)
        for name in self._vectors():
            yield from held.patches(view, name, serving=name == self._series.patches.encode(), pool=self._pool)
        yield from held.counts(self._pool, _need(view, b"meta", b"pool"))


def _wrong_with(reference: Reference) -> Iterator[str]:
    if reference.width < 1 or reference.height < 1:
        yield f"expected a picture, got {reference.width} x {reference.height} pixels"
    if reference.provenance.depth < 0:
        yield f"expected a depth of at least 0, got {reference.provenance.depth}"
    original = reference.near_duplicate_of
    if original and (len(original) != 64 or set(original) - set("0123456789abcdef") or original == reference.id):
        yield f"expected the id of another reference that it repeats, got {original!r}"


def _wrong_patches(stored: StoredPatches, reference: Reference | None) -> Iterator[str]:
    if not len(stored.vectors):
        yield "expected patches, got none"
        return
    lengths = np.linalg.norm(stored.vectors.astype(np.float64), axis=1)
    worst = lengths[np.argmax(np.abs(np.nan_to_num(lengths, nan=np.inf) - 1))]
    if not abs(worst - 1) <= UNIT_TOLERANCE:
        yield f"expected unit vectors, got one of length {worst}"
    left, top, right, bottom = stored.boxes.T
    width, height = (reference.width, reference.height) if reference is not None else (1 << 31, 1 << 31)
    inside = (left >= 0) & (top >= 0) & (left < right) & (top < bottom) & (right <= width) & (bottom <= height)
    if not inside.all():
        yield f"expected boxes within {width} x {height} pixels, got {stored.boxes[~inside][0].tolist()}"


def _need(view: Glance, database: bytes, key: bytes) -> bytes:
    value = view.get(database, key)
    if value is None:
        raise CorruptData(f"{view.where(database, key)}: expected a value, got none", reason="DATA_DAMAGED")
    return value


def _first(texts: Iterator[str]) -> list[Finding]:
    """What a walk finds, all of it before anything is told, as a transaction is held for it."""
    found = []
    try:
        for text in texts:
            found.append(Finding(text))
            if len(found) >= MOST_FINDINGS:
                found.append(Finding(f"expected pages as LMDB writes them, got more than {MOST_FINDINGS} that are not"))
                break
    except CorruptData as error:
        found.append(Finding(error.message))
    return found
