"""What must survive a restart: one LMDB environment per series. Alone imports lmdb; LMDB is the truth.

One transaction per change, with LMDB's default flags, so that a commit that returned is on the disk. No read
transaction outlives the call that made it. `docs/FORMAT.md` describes the bytes.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from serving.errors import CorruptData, Overloaded, ServiceError, Unavailable

START_MAP_BYTES = 64 << 20
MAX_MAP_BYTES = 1 << 40
ROOM = 1 << 20  # bytes that a transaction may need beside its values: pages of the trees, copied on write
DATABASES = (b"meta", b"references", b"blobs", b"patches")
DAMAGED = (
    lmdb.InvalidError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
    lmdb.ProblemError,
    lmdb.IncompatibleError,
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

T = TypeVar("T")


class Environment:
    """One LMDB environment: any number of readers, one writer at a time, a map that grows, errors in our own words.

    Args:
        path: its folder.
        map_bytes: size of the map at first; it is doubled when it is nearly full.
        max_map_bytes: the map does not grow beyond this.

    Raises:
        CorruptData: DATA_DAMAGED, the file is no LMDB environment, or shorter than it says.
        Unavailable: STORE_FAILED, the system refuses to open it.
    """

    def __init__(self, path: Path, *, map_bytes: int = START_MAP_BYTES, max_map_bytes: int = MAX_MAP_BYTES) -> None:
        self._path = path
        self._max_map_bytes = max_map_bytes
        self._map_bytes = min(max_map_bytes, max(map_bytes, _file_bytes(path) + ROOM))
        self._writer = threading.Lock()
        self._gate = threading.Condition()
        self._readers = 0
        self._closed_gate = False
        self._open()

    def _open(self) -> None:
        try:
            self._env = lmdb.open(
                str(self._path), map_size=self._map_bytes, max_dbs=len(DATABASES), max_readers=512, subdir=True
            )
        except lmdb.Error as error:
            raise self._translate(error, 0) from error
        try:
            self._env.reader_check()
            used = self._used()
            if used > _file_bytes(self._path) and self._env.info()["last_txnid"]:
                raise CorruptData(  # touching a page beyond the end would kill the process
                    f"{self._path}: expected a file of at least {used} bytes, got {_file_bytes(self._path)}",
                    reason="DATA_DAMAGED",
                )
            self._dbs = {name: self._env.open_db(name) for name in DATABASES}
        except lmdb.Error as error:
            self._env.close()
            raise self._translate(error, 0) from error
        except ServiceError:
            self._env.close()
            raise

    def _used(self) -> int:
        return int((self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"])

    def disk_bytes(self) -> int:
        """Bytes that the environment takes on disk."""
        return sum(file.stat().st_blocks * 512 for file in self._path.iterdir())

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A consistent view. Short: never held while waiting for anybody.

        Raises:
            CorruptData: DATA_DAMAGED, LMDB finds its own pages damaged.
        """
        with self._gate:
            self._gate.wait_for(lambda: not self._closed_gate)
            self._readers += 1
        try:
            with self._env.begin() as txn:
                yield Reader(txn, self._dbs, str(self._path))
        except lmdb.Error as error:
            raise self._translate(error, 0) from error
        finally:
            with self._gate:
                self._readers -= 1
                self._gate.notify_all()

    def write(self, work: Callable[[Writer], T], room: int = 0) -> T:
        """What `work` returns, with all its changes on the disk, or none of them.

        Args:
            work: may run more than once; must change nothing but the transaction it is given.
            room: bytes of the values that it writes.

        Raises:
            Overloaded: DISK_FULL or MAP_FULL; nothing was changed, and reading goes on.
            Unavailable: STORE_FAILED, the disk failed; nothing was acknowledged.
        """
        with self._writer:
            if self._used() + room + ROOM > self._map_bytes * 0.9:
                self._grow(room)
            while True:
                try:
                    with self._env.begin(write=True) as txn:
                        return work(Writer(txn, self._dbs, str(self._path)))
                except lmdb.MapFullError as error:
                    if not self._grow(room):
                        raise Overloaded(
                            f"{self._path.name}: the series may take {self._max_map_bytes} bytes, and needs more",
                            reason="MAP_FULL",
                        ) from error
                except lmdb.Error as error:
                    self._reopen_if_broken()
                    raise self._translate(error, room) from error

    def _grow(self, room: int) -> bool:
        """Whether the map could be made larger."""
        wanted = min(self._max_map_bytes, max(self._map_bytes * 2, self._map_bytes + 2 * room))
        if wanted <= self._map_bytes:
            return False
        with self._alone():
            self._env.set_mapsize(wanted)
            self._map_bytes = wanted
        return True

    def _reopen_if_broken(self) -> None:
        """After a failure to write LMDB's own meta page the environment refuses everything until it is reopened."""
        try:
            with self._env.begin(write=True):
                pass
        except lmdb.Error:
            with self._alone():
                self._env.close()
                self._open()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No reader is inside, and none comes in; the caller holds the writer's lock."""
        with self._gate:
            self._closed_gate = True
            self._gate.wait_for(lambda: self._readers == 0)
        try:
            yield
        finally:
            with self._gate:
                self._closed_gate = False
                self._gate.notify_all()

    def close(self) -> None:
        """Waits for whoever is inside, then closes."""
        with self._writer, self._alone():
            self._env.close()

    def _translate(self, error: lmdb.Error, room: int) -> ServiceError:
        if isinstance(error, DAMAGED):
            return CorruptData(f"{self._path}: expected an LMDB environment, got: {error}", reason="DATA_DAMAGED")
        if (
            isinstance(error, lmdb.DiskError)
            or any(os.strerror(code) in str(error) for code in FULL)
            or self._full(room)
        ):
            return Overloaded(f"{self._path}: the disk is full; nothing was lost", reason="DISK_FULL", retry_after=60)
        return Unavailable(f"{self._path.name}: the store failed: {error}", reason="STORE_FAILED")

    def _full(self, room: int) -> bool:
        """Whether `room` bytes are more than is left: LMDB reports a write cut short as an input/output error."""
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        over = limit != resource.RLIM_INFINITY and _file_bytes(self._path) + room + ROOM > limit
        return bool(room) and (over or shutil.disk_usage(self._path).free < room + ROOM)


class Reader:
    """The values of one consistent view of an environment."""

    def __init__(self, txn: Any, dbs: dict[bytes, Any], where: str) -> None:
        self._txn, self._dbs, self._where = txn, dbs, where

    def where(self, database: bytes, key: bytes) -> str:
        """The place of a value, for messages."""
        shown = key.decode() if database == b"meta" else key.hex()
        return f"{self._where}, {database.decode()} {shown}"

    def get(self, database: bytes, key: bytes) -> bytes | None:
        """The value under `key`, None where there is none."""
        value = self._txn.get(key, db=self._dbs[database])
        return None if value is None else bytes(value)

    def need(self, database: bytes, key: bytes) -> bytes:
        """The value under `key`, which must be there.

        Raises:
            CorruptData: DATA_DAMAGED, it is not.
        """
        value = self.get(database, key)
        if value is None:
            raise CorruptData(f"{self.where(database, key)}: expected a value, got none", reason="DATA_DAMAGED")
        return value

    def items(self, database: bytes, after: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """All keys after `after` (None: from the first) and their values, in order."""
        with self._txn.cursor(db=self._dbs[database]) as cursor:
            found = cursor.first() if after is None else cursor.set_range(after)
            if found and after is not None and bytes(cursor.key()) == after:
                found = cursor.next()
            while found:
                yield bytes(cursor.key()), bytes(cursor.value())
                found = cursor.next()


class Writer(Reader):
    """As `Reader`, and changes values; they are kept if the transaction's work returns."""

    def put(self, database: bytes, key: bytes, value: bytes) -> None:
        """Sets the value under `key`."""
        self._txn.put(key, value, db=self._dbs[database])

    def drop(self, database: bytes, key: bytes) -> None:
        """Removes the value under `key`.

        Raises:
            CorruptData: DATA_DAMAGED, there is none.
        """
        if not self._txn.delete(key, db=self._dbs[database]):
            raise CorruptData(f"{self.where(database, key)}: expected a value, got none", reason="DATA_DAMAGED")


def _file_bytes(path: Path) -> int:
    file = path / "data.mdb"
    return file.stat().st_size if file.exists() else 0
