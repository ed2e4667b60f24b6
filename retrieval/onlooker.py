"""An environment looked at by a process that does not own it. Beside `store`, this module alone imports lmdb.

LMDB lets several processes read one environment while one of them writes; only one process may have it open twice, so
that the server's own checks and copies are made from a child process. There, a damaged tree ends the child, not the
server.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from retrieval import tree
from retrieval.store import FULL, START_MAP_BYTES
from serving.errors import CorruptData, Overloaded, ServiceError, Unavailable

MOST_DATABASES = 64
TRIES = 5
# What is no damage; anything else that LMDB says is about its own pages, or comes of them.
OUTSIDE = (lmdb.DiskError, lmdb.MemoryError, lmdb.ReadersFullError, lmdb.LockError)
REFUSALS = (errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


class Onlooker:
    """A read-only view of an environment, live or at rest.

    Args:
        path: its folder.

    Raises:
        CorruptData: DATA_DAMAGED, it is no LMDB environment.
        Unavailable: STORE_FAILED, the system refuses to open it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _refuse_short(path / "data.mdb")
        try:
            self._env = lmdb.open(
                str(path),
                map_size=START_MAP_BYTES,  # LMDB takes more if the file is larger
                max_dbs=MOST_DATABASES,
                max_readers=512,
                readonly=True,
                create=False,
            )
        except lmdb.Error as error:
            raise self._translate(error) from error
        self._dbs: dict[bytes, Any] = {}

    def close(self) -> None:
        """Lets go of the file."""
        self._env.close()

    @contextmanager
    def glancing(self) -> Iterator[Glance]:
        """A consistent view; while it is held, the file cannot use again the pages that others free.

        Raises:
            CorruptData: DATA_DAMAGED, LMDB finds its own pages damaged.
        """
        try:
            self._open_all()
            with self._begin() as txn:
                yield Glance(txn, self._dbs, str(self.path))
        except lmdb.Error as error:
            raise self._translate(error) from error

    def _open_all(self) -> None:
        with self._begin() as txn, txn.cursor() as cursor:
            names = [bytes(key) for key in cursor.iternext(keys=True, values=False)]
        for name in names:
            if name not in self._dbs:
                self._dbs[name] = self._env.open_db(name, create=False)

    def _begin(self) -> Any:
        for _ in range(TRIES):
            try:
                return self._env.begin(buffers=True)
            except lmdb.MapResizedError:  # the owner has made the map larger
                self._env.set_mapsize(0)
        return self._env.begin(buffers=True)

    def structure(self) -> Iterator[str]:
        """What is wrong with the pages themselves; see `tree.Walk`. One view is held from begin to end."""
        with (
            self.glancing() as view,
            (self.path / "data.mdb").open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            try:
                meta = _meta_of(data, view.transaction)
            except tree.Damage as damage:
                yield str(damage)
                return
            yield from tree.Walk(data, meta).findings()

    def copy(self, target: Path) -> int:
        """Writes the environment as it is at one moment into the empty folder `target`, without holes.

        Returns:
            The number of the transaction that was copied.

        Cost: one read transaction and one pass over what is stored.
        """
        try:
            with self._begin() as txn:
                self._env.copy(str(target), compact=True, txn=txn)
                return int(txn.id())
        except lmdb.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: lmdb.Error) -> ServiceError:
        said = str(error)
        if any(os.strerror(code) in said for code in FULL):
            return Overloaded(
                f"{self.path.name}: the disk is full; nothing was lost", reason="DISK_FULL", retry_after=60.0
            )
        if isinstance(error, OUTSIDE) or any(os.strerror(code) in said for code in REFUSALS):
            return Unavailable(f"{self.path.name}: the store failed: {error}", reason="STORE_FAILED")
        return CorruptData(f"{self.path}: expected an LMDB environment, got: {error}", reason="DATA_DAMAGED")


class Glance:
    """The values of one consistent view; a database that is not there reads as empty."""

    def __init__(self, txn: Any, dbs: dict[bytes, Any], where: str) -> None:
        self._txn, self._dbs, self._where = txn, dbs, where
        self.transaction = int(txn.id())

    def names(self) -> list[bytes]:
        """Names of all databases, in order."""
        return sorted(self._dbs)

    def where(self, database: bytes, key: bytes) -> str:
        """The place of a value, for messages."""
        shown = key.decode(errors="replace") if database == b"meta" else key.hex()
        return f"{self._where}, {database.decode(errors='replace')} {shown}"

    def get(self, database: bytes, key: bytes) -> bytes | None:
        """The value under `key`, None where there is none."""
        value = self._txn.get(key, db=self._dbs[database]) if database in self._dbs else None
        return None if value is None else bytes(value)

    def items(self, database: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """All keys after `after` (None: from the first) and their values, in order."""
        if database not in self._dbs:
            return
        with self._txn.cursor(db=self._dbs[database]) as cursor:
            found = cursor.first() if after is None else cursor.set_range(after)
            if found and after is not None and bytes(cursor.key()) == after:
                found = cursor.next()
            while found:
                yield bytes(cursor.key()), bytes(cursor.value())
                found = cursor.next()

    def heads(self, database: bytes, size: int) -> Iterator[tuple[bytes, bytes, int]]:
        """All keys of a database, the first `size` bytes of their values, and the values' lengths, in order."""
        if database not in self._dbs:
            return
        with self._txn.cursor(db=self._dbs[database]) as cursor:
            for key, value in cursor.iternext():
                yield bytes(key), bytes(value[:size]), len(value)


def _refuse_short(file: Path) -> None:
    """Raises before LMDB maps what is not there."""
    size = file.stat().st_size if file.exists() else 0
    if size < tree.META_BYTES:
        raise CorruptData(f"{file}: expected an LMDB environment, got {size} bytes", reason="DATA_DAMAGED")
    try:
        with file.open("rb") as head:
            newest = max(tree.metas(head.read(2 << 16)), key=lambda meta: meta.transaction)
    except tree.Damage:  # told by the walk, if LMDB opens it at all
        return
    wanted = (newest.last_page + 1) * newest.page_size
    if wanted > file.stat().st_size:
        raise CorruptData(f"{file}: expected {wanted} bytes, got {size}", reason="DATA_DAMAGED")


def _meta_of(data: tree.Buffer, transaction: int) -> tree.Meta:
    for attempt in range(TRIES):  # the owner may be writing one of the two
        try:
            found = tree.metas(data)
        except tree.Damage:
            if attempt == TRIES - 1:
                raise
            continue
        for meta in found:
            if meta.transaction == transaction:
                return meta
    raise tree.Damage(f"meta pages: expected one of transaction {transaction}, got {found}")
