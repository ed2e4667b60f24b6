"""The values of one LMDB transaction, by database and key; and the databases that every series has."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from serving.errors import Conflict, CorruptData

META, REFERENCES, BLOBS, HISTORY, REMOVED = b"meta", b"references", b"blobs", b"history", b"removed"
DIGESTS = b"digests"  # of a migration to another crop recipe; made when there are some
DATABASES = (META, REFERENCES, BLOBS, HISTORY, REMOVED)  # of every series; those of vectors come and go


class Reader:
    """The values of one consistent view of an environment."""

    def __init__(self, txn: Any, databases: dict[bytes, Any], where: str) -> None:
        self._txn, self.databases, self._where = txn, databases, where

    def where(self, database: bytes, key: bytes) -> str:
        """The place of a value, for messages."""
        shown = key.decode() if database == META else key.hex()
        return f"{self._where}, {database.decode()} {shown}"

    def _database(self, name: bytes) -> Any:
        """The handle of a database, None where it is not there yet.

        Raises:
            Conflict: SPACE_SWITCHED, it held vectors of a space that the series has left.
        """
        if name not in self.databases and name not in (*DATABASES, DIGESTS):
            raise Conflict(
                f"{self._where}: expected vectors in {name.decode()}, got none: the series has left that space",
                reason="SPACE_SWITCHED",
            )
        return self.databases.get(name)

    def look(self, database: bytes, key: bytes) -> memoryview | None:
        """The value under `key` where it lies, None where there is none; gone when the view ends."""
        db = self._database(database)
        found: memoryview | None = None if db is None else self._txn.get(key, db=db)
        return found

    def get(self, database: bytes, key: bytes) -> bytes | None:
        """The value under `key`, None where there is none."""
        value = self.look(database, key)
        return None if value is None else bytes(value)

    def need(self, database: bytes, key: bytes) -> memoryview:
        """The value under `key`, which must be there, as `look`.

        Raises:
            CorruptData: DATA_DAMAGED, it is not.
        """
        value = self.look(database, key)
        if value is None:
            raise CorruptData(f"{self.where(database, key)}: expected a value, got none", reason="DATA_DAMAGED")
        return value

    def items(self, database: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, memoryview]]:
        """All keys after `after` (None: from the first) and their values where they lie, in order."""
        db = self._database(database)
        if db is None:
            return
        with self._txn.cursor(db=db) as cursor:
            found = cursor.first() if after is None else cursor.set_range(after)
            if found and after is not None and bytes(cursor.key()) == after:
                found = cursor.next()
            if found:
                for key, value in cursor.iternext():
                    yield bytes(key), value

    def backwards(self, database: bytes) -> Iterator[tuple[bytes, memoryview]]:
        """All keys from the last to the first, and their values where they lie."""
        db = self._database(database)
        if db is not None:
            with self._txn.cursor(db=db) as cursor:
                for key, value in cursor.iterprev():
                    yield bytes(key), value

    def keys(self, database: bytes, prefix: bytes = b"") -> list[bytes]:
        """All keys that begin with `prefix`, in order."""
        db = self._database(database)
        if db is None:
            return []
        with self._txn.cursor(db=db) as cursor:
            if not cursor.set_range(prefix):
                return []
            rest = (bytes(key) for key in cursor.iternext(keys=True, values=False))
            return list(takewhile(lambda key: key.startswith(prefix), rest))


class Writer(Reader):
    """As `Reader`, and changes values; they are kept if the transaction's work returns."""

    def __init__(self, txn: Any, databases: dict[bytes, Any], where: str, env: Any) -> None:
        super().__init__(txn, dict(databases), where)
        self._env = env
        self.meta: dict[bytes, bytes] = {}  # what was put into `meta`
        for name in DATABASES:
            if name not in databases:
                self.make(name)

    def make(self, database: bytes) -> None:
        """Makes an empty database."""
        self.databases[database] = self._env.open_db(database, txn=self._txn)

    def empty(self, database: bytes) -> None:
        """Removes every value of a database, if it is there."""
        db = self._database(database)
        if db is not None:
            self._txn.drop(db, delete=False)

    def put(self, database: bytes, key: bytes, value: bytes) -> None:
        """Sets the value under `key`."""
        if database == DIGESTS and database not in self.databases:
            self.make(database)
        self._txn.put(key, value, db=self._database(database))
        if database == META:
            self.meta[key] = value

    def drop(self, database: bytes, key: bytes) -> None:
        """Removes the value under `key`.

        Raises:
            CorruptData: DATA_DAMAGED, there is none.
        """
        if not self.drop_if_there(database, key):
            raise CorruptData(f"{self.where(database, key)}: expected a value, got none", reason="DATA_DAMAGED")

    def drop_if_there(self, database: bytes, key: bytes) -> bool:
        """Removes the value under `key`; whether there was one."""
        return bool(self._txn.delete(key, db=self._database(database)))
