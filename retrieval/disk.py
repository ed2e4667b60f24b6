"""Files and folders that are on the disk when a call returns, and what a full disk is called."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.folder import DataFolder
from retrieval.ledger import pool_of, series_of
from retrieval.store import FULL, Environment
from retrieval.types import PoolState, Series
from serving.errors import Overloaded, Unavailable

CHUNK = 1 << 20


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns the system's errors into ours.

    Raises:
        Overloaded: DISK_FULL, `path` has no room.
        Unavailable: STORE_FAILED, anything else that the system refuses.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise Overloaded(
                f"{path}: the disk is full; nothing was lost", reason="DISK_FULL", retry_after=60.0
            ) from error
        raise Unavailable(f"{path}: {error}", reason="STORE_FAILED") from error


def sync_file(path: Path) -> None:
    """Makes what a file holds survive a crash."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def copy_file(source: Path, target: Path, check: Callable[[], None] = lambda: None) -> None:
    """Copies a file, synced; `target` must not be there. `check` may end it by raising."""
    with source.open("rb") as read, target.open("xb") as written:
        while chunk := read.read(CHUNK):
            check()
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())


def sha256_of(path: Path, check: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a file, 64 lower-case hexadecimal digits. `check` may end it by raising."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            check()
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def drafting(folder: DataFolder) -> Iterator[Path]:
    """A new folder in trash; whoever wants it renames it, and else it is gone when the block ends.

    Raises:
        Overloaded, Unavailable: as `disk_errors`.
    """
    with disk_errors(folder.path):
        draft = folder.draft()
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def bytes_of(folder: Path) -> int:
    """What the files of a folder take on disk, bytes."""
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir())


def head_of(folder: Path) -> tuple[Series, PoolState]:
    """The own fields and the counts of a series that nobody else has open.

    Raises:
        CorruptData, FailedState, Unavailable: it cannot be read.
    """
    environment = Environment(folder)
    try:
        with environment.reading() as view:
            return series_of(view), pool_of(view)
    finally:
        environment.close()
