"""The data folder itself: one owner at a time, a format version, and folders that appear and vanish at once."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from pathlib import Path

from retrieval.records import FORMAT_VERSION, newer
from serving.errors import CorruptData, FailedState

FORMAT_NAME = "panelhue-retrieval"


class DataFolder:
    """A locked data folder. Only one process may hold it.

    Args:
        path: made if it is not there. Must be empty or a data folder, on a local disk.

    Raises:
        FailedState: DATA_FOLDER_IN_USE, another process holds it; NOT_A_DATA_FOLDER, it holds something else;
            NEWER_FORMAT, a newer version wrote it.
        CorruptData: DATA_DAMAGED, its FORMAT file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        strangers = sorted(p.name for p in path.iterdir() if p.name not in {"LOCK", "FORMAT", "FORMAT.draft"})
        if strangers and not (path / "FORMAT").exists():
            raise FailedState(
                f"{path} must be empty or a data folder, got {', '.join(strangers[:3])} and no FORMAT file",
                reason="NOT_A_DATA_FOLDER",
            )
        self._lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take()
            version = self._check_format()
            for part in (self.series, self.trash):
                part.mkdir(exist_ok=True)
            sync_folder(path)
            if version != FORMAT_VERSION:  # last: until then a folder of an earlier format is one still
                self._write_format()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def series(self) -> Path:
        """Where the series' folders lie."""
        return self.path / "series"

    @property
    def trash(self) -> Path:
        """Where folders lie that are not complete yet, or not wanted any more."""
        return self.path / "trash"

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise FailedState(
                f"{self.path} is in use by the process {holder}; a data folder has one server",
                reason="DATA_FOLDER_IN_USE",
                metadata={"pid": holder},
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _write_format(self) -> None:
        write_synced(self.path / "FORMAT", json.dumps({"format": FORMAT_NAME, "version": FORMAT_VERSION}) + "\n")

    def _check_format(self) -> int:
        """The format of the folder. The parts of each format so far are in every later one."""
        file = self.path / "FORMAT"
        if not file.exists():
            self._write_format()
            return FORMAT_VERSION
        try:
            fields = json.loads(file.read_text())
            name, version = fields["format"], int(fields["version"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise CorruptData(f"{file}: expected a format and a version, got {error}", reason="DATA_DAMAGED") from error
        if name != FORMAT_NAME or version < 1:
            raise CorruptData(
                f"{file}: expected format {FORMAT_NAME!r}, got {name!r} version {version}", reason="DATA_DAMAGED"
            )
        if version > FORMAT_VERSION:
            raise newer(str(self.path), version)
        return version

    def sweep(self) -> None:
        """Removes what was being made or removed when an earlier process ended."""
        for leftover in self.trash.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)

    def draft(self) -> Path:
        """A new folder to make something in, out of sight; `publish` shows it."""
        path = self.trash / f"new-{uuid.uuid4().hex}"
        path.mkdir()
        return path

    def publish(self, draft: Path, series_id: str) -> None:
        """Shows the folder `draft` as a series; after this returns it survives a crash."""
        sync_folder(draft)
        draft.rename(self.series / series_id)
        sync_folder(self.series)

    def abandon(self, draft: Path) -> None:
        """Removes the folder `draft`, which was not published."""
        shutil.rmtree(draft, ignore_errors=True)

    def discard(self, series_id: str) -> None:
        """Removes a series' folder: gone at once, and the files soon after, even through a crash."""
        gone = self.trash / f"old-{uuid.uuid4().hex}"
        (self.series / series_id).rename(gone)
        sync_folder(self.series)
        shutil.rmtree(gone, ignore_errors=True)

    def close(self) -> None:
        """Lets go of the folder. Closing twice is allowed."""
        if self._lock >= 0:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = -1


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive a crash."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(path: Path, text: str) -> None:
    """Writes a small file so that it is there whole, or not at all, also after a crash."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)
