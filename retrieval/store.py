"""What must survive a restart: one LMDB environment per series. LMDB is the truth.

One transaction per change, with LMDB's default flags, so that a commit that returned is on the disk. No read
transaction outlives the call that made it. `docs/FORMAT.md` describes the bytes.

Opening writes nothing, so that a full disk can be read: a database that is not there yet reads as empty, and is made by
the first change.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import lmdb

from retrieval.transaction import META, Reader, Writer
from serving.errors import CorruptData, Overloaded, ServiceError, Unavailable

START_MAP_BYTES = 64 << 20
MAX_MAP_BYTES = 1 << 40
ROOM = 1 << 20  # bytes that a transaction may need beside its values: pages of the trees, copied on write
MAX_DATABASES = 32
DAMAGED = (
    lmdb.InvalidError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
    lmdb.ProblemError,
    lmdb.IncompatibleError,
)
LIST_BYTES = 1 << 20  # LMDB's lists for each open environment are of this size and twice it, hardly touched
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

T = TypeVar("T")


class Environment:
    """One LMDB environment: any number of readers, one writer at a time, a map that grows, errors in our own words.

    Args:
        path: its folder.
        map_bytes: size of the map at first; it is doubled when it is nearly full.
        max_map_bytes: the map does not grow beyond this.
        min_free_bytes: what writing leaves free of the file system, so that a full disk is never met half-way.

    Raises:
        CorruptData: DATA_DAMAGED, the file is no LMDB environment, or shorter than it says.
        Unavailable: STORE_FAILED, the system refuses to open it.
    """

    def __init__(
        self,
        path: Path,
        *,
        map_bytes: int = START_MAP_BYTES,
        max_map_bytes: int = MAX_MAP_BYTES,
        min_free_bytes: int = 0,
    ) -> None:
        self._path = path
        self._max_map_bytes = max_map_bytes
        self._min_free_bytes = min_free_bytes
        self._map_bytes = min(max_map_bytes, max(map_bytes, _file_bytes(path) + ROOM))
        self._writer = threading.Lock()
        self._gate = threading.Condition()
        self._readers = 0
        self._closed_gate = False
        self._broken = False  # it could not be reopened after a failure
        self._open()

    def _open(self) -> None:
        keep_large_blocks_apart()
        try:
            self._env = lmdb.open(
                str(self._path), map_size=self._map_bytes, max_dbs=MAX_DATABASES, max_readers=512, subdir=True
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
            with self._env.begin() as txn, txn.cursor() as cursor:
                names = [bytes(name) for name in cursor.iternext(keys=True, values=False)]
            self._dbs = {name: self._env.open_db(name, create=False) for name in names}
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
            Unavailable: STORE_FAILED, the disk failed and does so still.
        """
        if self._broken:
            with self._writer:
                if self._broken:
                    self._reopen()
        with self._gate:
            self._gate.wait_for(lambda: not self._closed_gate)
            self._readers += 1
        try:
            with self._env.begin(buffers=True) as txn:
                yield Reader(txn, self._dbs, str(self._path))
        except lmdb.Error as error:
            raise self._translate(error, 0) from error
        finally:
            with self._gate:
                self._readers -= 1
                self._gate.notify_all()

    def write(
        self,
        work: Callable[[Writer], T],
        room: int = 0,
        *,
        freeing: bool = False,
        then: Callable[[Writer], None] | None = None,
    ) -> T:
        """What `work` returns, with all its changes on the disk, or none of them.

        Args:
            work: may run more than once; must change nothing but the transaction it is given.
            room: bytes of the values that it writes.
            freeing: whether it makes room, and may use what other changes leave free of the disk.
            then: called when the changes are on the disk and before any other writer comes; must not fail.

        Raises:
            Overloaded: DISK_FULL or MAP_FULL; nothing was changed, and reading goes on.
            Unavailable: STORE_FAILED, the disk failed; nothing was acknowledged.
        """
        with self._writer:
            if self._broken:
                self._reopen()
            if not freeing and free_bytes(self._path) < self._min_free_bytes + room:
                raise self._disk_full()
            if self._used() + room + ROOM > self._map_bytes * 0.9:
                self._grow(room)
            while True:
                before = self._env.info()["last_txnid"]
                try:
                    with self._env.begin(write=True, buffers=True) as txn:
                        writer = Writer(txn, self._dbs, str(self._path), self._env)
                        result = work(writer)
                    self._dbs = writer.databases
                    if then is not None:
                        then(writer)
                    return result
                except lmdb.MapFullError as error:
                    if not self._grow(room):
                        raise Overloaded(
                            f"{self._path.name}: the series may take {self._max_map_bytes} bytes, and needs more",
                            reason="MAP_FULL",
                        ) from error
                except lmdb.Error as error:
                    self._reopen(before)
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

    def _reopen(self, last: int | None = None) -> None:
        """Begins anew after a failure to write, before anybody reads again; the caller holds the writer's lock.

        LMDB refuses everything once a write of its own meta page has failed. It puts the old page back, but where that
        fails too the file says that the change is there, and nobody knows whether the disk does: then one more change
        is committed on top, which cannot be on the disk without what is below it.

        Args:
            last: number of the last transaction that was acknowledged; None: as far as is known, all were.

        Raises:
            Unavailable: STORE_FAILED, the disk fails still; the next call tries again.
        """
        with self._alone():
            self._broken = True
            self._env.close()
            self._open()
            try:
                if last is None or self._env.info()["last_txnid"] > last:
                    self._confirm()
            except lmdb.Error as error:
                self._env.close()
                raise self._translate(error, ROOM) from error
            self._broken = False

    def _confirm(self) -> None:
        with self._env.begin(write=True) as txn, txn.cursor(db=self._dbs[META]) as cursor:
            if cursor.first():
                cursor.put(cursor.key(), cursor.value())

    def drop_databases(self, unwanted: Callable[[bytes], bool]) -> None:
        """Removes the databases whose name is `unwanted`. Waits until nobody reads.

        Raises:
            Overloaded, Unavailable: as `write`.
        """
        with self._writer, self._alone():
            names = [name for name in self._dbs if unwanted(name)]
            try:
                if names:
                    with self._env.begin(write=True) as txn:
                        for name in names:
                            txn.drop(self._dbs.pop(name))
            except lmdb.Error as error:
                raise self._translate(error, 0) from error

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
            return self._disk_full()
        return Unavailable(f"{self._path.name}: the store failed: {error}", reason="STORE_FAILED")

    def _disk_full(self) -> Overloaded:
        return Overloaded(f"{self._path}: the disk is full; nothing was lost", reason="DISK_FULL", retry_after=60.0)

    def _full(self, room: int) -> bool:
        """Whether `room` bytes are more than is left: LMDB reports a write cut short as an input/output error."""
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        over = limit != resource.RLIM_INFINITY and _file_bytes(self._path) + room + ROOM > limit
        return bool(room) and (over or free_bytes(self._path) < room + ROOM)


@functools.cache
def keep_large_blocks_apart() -> None:
    """Has the C library take blocks of 1 MiB and more from the system, always, and give them back at once.

    By itself it soon takes them out of memory that was in use before: then each open environment holds megabytes that
    nobody touches, some 600 MB for 256 of them, measured. Does nothing with other C libraries than glibc.
    """
    setting = getattr(ctypes.CDLL(None), "mallopt", None)
    if setting is not None:
        setting(-3, LIST_BYTES)  # M_MMAP_THRESHOLD
        setting(-1, 8 * LIST_BYTES)  # M_TRIM_THRESHOLD, so that smaller blocks are kept for the next array


def free_bytes(path: Path) -> int:
    """Bytes of the file system of `path` that this process may still write."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _file_bytes(path: Path) -> int:
    file = path / "data.mdb"
    return file.stat().st_size if file.exists() else 0
