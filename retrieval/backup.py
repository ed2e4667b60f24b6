"""A backup: every series, each as at one moment, in a new data folder on which a server can be started."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from retrieval.catalog import Catalog
from retrieval.disk import bytes_of, disk_errors
from retrieval.folder import DataFolder, sync_folder
from retrieval.inspector import Inspector, Inspectors
from serving.errors import AlreadyExists, FailedState, Overloaded, ServiceError

DRAFT = ".panelhue-backup-"


@dataclass(frozen=True)
class BackedUp:
    """How far a backup is."""

    name: str  # of the folder
    series_id: str  # what was copied, or could not be; "": the backup is complete and in its place
    done: int  # series seen to so far
    total: int
    byte_size: int  # written so far
    error: ServiceError | None = None  # why the series could not be copied


def back_up(catalog: Catalog, target: Path, inspectors: Inspectors = Inspector) -> Iterator[BackedUp]:
    """Copies all series into the new data folder `target`, one after the other; says so after each, and at the end.

    A series that cannot be copied is told and left out. The folder has another name until all is done; if the caller
    stops listening, nothing is left. Snapshots are not copied.

    Args:
        catalog: what is copied; it is used meanwhile.
        target: must not be there; the folder that holds it is made if need be. Not within the data folder.
        inspectors: gives what copies and checks.

    Raises:
        AlreadyExists: BACKUP_EXISTS.
        FailedState: BACKUP_INSIDE_DATA.
        Overloaded: DISK_FULL.

    Cost: two passes over every series.
    """
    if target.exists():
        raise AlreadyExists(f"a backup {target.name!r} is there already", reason="BACKUP_EXISTS")
    if target.resolve().is_relative_to(catalog.folder.path.resolve()):
        raise FailedState(f"a backup must lie outside of {catalog.folder.path}", reason="BACKUP_INSIDE_DATA")
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_backups(target.parent)
        draft = target.parent / f"{DRAFT}{uuid.uuid4().hex}"
        folder = DataFolder(draft)
        try:
            yield from _copies(catalog, folder, target, inspectors)
        finally:
            folder.close()
            shutil.rmtree(draft, ignore_errors=True)


def _copies(catalog: Catalog, folder: DataFolder, target: Path, inspectors: Inspectors) -> Iterator[BackedUp]:
    size = 0
    ids = sorted({*catalog.ids(), *catalog.damaged()})
    with inspectors() as inspector:
        for done, series_id in enumerate(ids, 1):
            error = None
            try:
                size += _copy(catalog, inspector, folder, series_id)
            except Overloaded:  # the disk is full: the others would not fit either
                raise
            except ServiceError as failure:
                if failure.reason == "DRAINING":  # what is there by then is no backup
                    raise
                error = failure
            yield BackedUp(target.name, series_id, done, len(ids), size, error)
    _publish(folder, target)
    yield BackedUp(target.name, "", len(ids), len(ids), size)


def _copy(catalog: Catalog, inspector: Inspector, folder: DataFolder, series_id: str) -> int:
    draft = folder.draft()
    try:
        with catalog.holding(series_id) as live:
            inspector.copy(live, draft)
        inspector.sound(draft)
        (draft / "lock.mdb").unlink(missing_ok=True)
        size = bytes_of(draft)
        folder.publish(draft, series_id)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return size


def _publish(folder: DataFolder, target: Path) -> None:
    for part in (folder.series, folder.trash, folder.path):
        sync_folder(part)
    if target.exists():
        raise AlreadyExists(f"a backup {target.name!r} is there already", reason="BACKUP_EXISTS")
    folder.path.rename(target)
    sync_folder(target.parent)


def sweep_backups(parent: Path) -> None:
    """Removes the beginnings of backups whose process has ended."""
    for leftover in parent.glob(f"{DRAFT}*"):
        try:
            lock = os.open(leftover / "LOCK", os.O_RDWR)
        except OSError:
            with contextlib.suppress(OSError):  # it ended before it had one, and the folder is empty
                leftover.rmdir()
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(leftover, ignore_errors=True)
        except OSError:  # its process lives
            continue
        finally:
            os.close(lock)
