"""Snapshots: verified copies of a series at one moment, beside the live ones; made while it is used, and restored."""

from __future__ import annotations

import json
import re
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from retrieval import records
from retrieval.catalog import Catalog
from retrieval.disk import bytes_of, copy_file, disk_errors, drafting, head_of, sha256_of
from retrieval.folder import sync_folder, write_synced
from retrieval.inspector import Inspector, Inspectors
from retrieval.names import check_name, name_of_time
from retrieval.renewal import before, renew
from retrieval.swaps import swap
from retrieval.types import SeriesView, SnapshotInfo
from serving.errors import AlreadyExists, CorruptData, FailedState, InvalidInput, NotFound, ServiceError

FORMAT_NAME, VERSION = "panelhue-snapshot", 1


class Snapshots:
    """The snapshots of one data folder. Calls may come from several threads; all take a disk's time.

    Args:
        catalog: the series.
        keep: the newest so many of each series are kept, older ones go after each new one; 0: all.
        seconds: older ones go after each new one; 0: none for its age. The newest is always kept.
        clock: nanoseconds since 1970.
        inspectors: gives what copies and checks, to one caller at a time.
        check: called between the steps of long work; ends it by raising.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        keep: int = 0,
        seconds: float = 0,
        clock: Callable[[], int] = time.time_ns,
        inspectors: Inspectors = Inspector,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._inspectors, self._check = inspectors, check
        self._catalog, self._folder = catalog, catalog.folder
        self._keep, self._seconds, self._clock = keep, seconds, clock

    def create(self, series_id: str, name: str = "") -> SnapshotInfo:
        """A new snapshot of a series as it is at one moment, verified and on the disk.

        Args:
            series_id: of the series.
            name: as a series' id; "": made from the time.

        Raises:
            InvalidInput: INVALID_NAME.
            AlreadyExists: SNAPSHOT_EXISTS.
            NotFound: NO_SUCH_SERIES.
            CorruptData: the series is damaged; there is no snapshot.
            Overloaded: DISK_FULL.

        Cost: one pass over the series to copy it without holes, two over the copy to verify it. Adding and searching go
        on; the file grows by what is changed while it is copied.
        """
        now = self._clock()
        name = check_name(name or name_of_time(now), "a snapshot's name")
        place = self._place(series_id, name)
        with drafting(self._folder) as draft, self._inspectors() as inspector:
            if place.exists():
                raise _exists(series_id, name)
            with self._catalog.holding(series_id) as live:
                inspector.copy(live, draft)
            info = self._verified(inspector, draft, SnapshotInfo(series_id, name, 0, 0, 0, "", now))
            versions = {"version": VERSION, "data_version": records.FORMAT_VERSION}
            fields = {"format": FORMAT_NAME, **versions, **asdict(info)}
            write_synced(draft / "manifest.json", json.dumps(fields, sort_keys=True) + "\n")
            self._publish(draft, place)
        self._prune(series_id, info)
        return info

    def _verified(self, inspector: Inspector, draft: Path, info: SnapshotInfo) -> SnapshotInfo:
        """What the copy in `draft` holds, after a check of all of it."""
        inspector.sound(draft)
        _, pool = head_of(draft)
        (draft / "lock.mdb").unlink(missing_ok=True)
        data = draft / "data.mdb"
        return replace(
            info,
            generation=pool.generation,
            references=pool.references,
            byte_size=data.stat().st_size,
            sha256=sha256_of(data, self._check),
        )

    def _publish(self, draft: Path, place: Path) -> None:
        for parent in (place.parent.parent, place.parent):
            parent.mkdir(exist_ok=True)
            sync_folder(parent.parent)
        sync_folder(draft)
        try:
            draft.rename(place)
        except OSError as error:  # another thread has made one of that name
            if place.exists():
                raise _exists(place.parent.name, place.name) from error
            raise
        sync_folder(place.parent)

    def _prune(self, series_id: str, newest: SnapshotInfo) -> None:
        older = [info for info in self.known(series_id) if info.name != newest.name]
        surplus = older[: max(0, len(older) + 1 - self._keep)] if self._keep else []
        limit = newest.create_ns - int(self._seconds * 1e9)
        for info in older:
            if info in surplus or (self._seconds and info.create_ns < limit):
                self._discard(self._place(series_id, info.name))

    def known(self, series_id: str = "") -> list[SnapshotInfo]:
        """Snapshots of a series, or of all ("") by series, then by time; not those whose manifest is damaged."""
        root = self._folder.path / "snapshots"
        if series_id:
            check_name(series_id, "a series' id")
        found = []
        for manifest in sorted(root.glob(f"{series_id or '*'}/*/manifest.json")):
            try:
                found.append(_read(manifest))
            except (ServiceError, OSError):  # damaged, of a newer version, or just removed
                continue
        return sorted(found, key=lambda info: (info.series_id, info.create_ns, info.name))

    def find(self, series_id: str, name: str) -> SnapshotInfo:
        """The snapshot of that name.

        Raises:
            NotFound: NO_SUCH_SNAPSHOT.
            CorruptData: DATA_DAMAGED, its manifest cannot be read.
            FailedState: NEWER_FORMAT.
        """
        place = self._place(series_id, name)
        if not place.exists():
            raise NotFound(
                f"series {series_id!r} has no snapshot {name!r}",
                reason="NO_SUCH_SNAPSHOT",
                metadata={"series": series_id, "snapshot": name},
            )
        with disk_errors(place):
            return _read(place / "manifest.json")

    def delete(self, series_id: str, name: str) -> int:
        """Removes a snapshot, damaged or not; the bytes that it took on disk.

        Raises:
            NotFound: NO_SUCH_SNAPSHOT.
        """
        place = self._place(series_id, name)
        if not place.exists():
            self.find(series_id, name)
        with disk_errors(place):
            size = bytes_of(place)
            self._discard(place)
        return size

    def _discard(self, place: Path) -> None:
        gone = self._folder.trash / f"old-{uuid.uuid4().hex}"
        try:
            place.rename(gone)
        except FileNotFoundError:  # another thread was faster
            return
        sync_folder(place.parent)
        shutil.rmtree(gone, ignore_errors=True)

    def restore(
        self,
        series_id: str,
        name: str,
        *,
        into: str = "",
        replacing: bool = False,
        on_swap: Callable[[], None] = lambda: None,
    ) -> SeriesView:
        """Puts a snapshot in the place of its series, or makes another series of it.

        Args:
            series_id: whose snapshot it is; it need not be there any more.
            name: of the snapshot.
            into: id of the series to make of it; "": the series itself.
            replacing: whether a series that is there is replaced.
            on_swap: called once the series is another and before anybody can use it: what is kept of it in memory must
                go.

        Returns:
            The series. Its pool's generation is greater than any before it, and its history begins there.

        Raises:
            NotFound: NO_SUCH_SNAPSHOT.
            AlreadyExists: SERIES_EXISTS, `into` is there.
            FailedState: REPLACE_NOT_SET, the series is there; NEWER_FORMAT.
            CorruptData: the snapshot is damaged; nothing was changed.
            Overloaded: DISK_FULL.
            Unavailable: SERIES_BUSY, the series' users do not leave.

        Cost: three passes over the snapshot; the series is held only for renames and one small transaction.
        """
        info = self.find(series_id, name)
        target = check_name(into or series_id, "a series' id")
        if into and replacing:
            raise InvalidInput("a snapshot that becomes another series replaces none", reason="INVALID_INPUT")
        self._refuse_taken(target, into, replacing=replacing)
        with drafting(self._folder) as draft:
            copy_file(self._place(series_id, name) / "data.mdb", draft / "data.mdb", self._check)
            self._compare(draft, info)
            if not (replacing and self._catalog.taken(target)):  # somebody may have made one meanwhile: it stays
                renew(draft, target, None, self._clock(), fresh=bool(into))
                (draft / "lock.mdb").unlink(missing_ok=True)
                return self._catalog.adopt(draft, target)
            with self._catalog.replacing(target) as place:
                renew(draft, target, before(place), self._clock(), fresh=False)
                swap(self._folder, target, draft)
                on_swap()
        return self._catalog.view(target)

    def _compare(self, draft: Path, info: SnapshotInfo) -> None:
        actual = sha256_of(draft / "data.mdb", self._check)
        if actual != info.sha256:
            raise CorruptData(
                f"snapshot {info.name!r} of {info.series_id!r}: expected sha256 {info.sha256}, got {actual}",
                reason="CHECKSUM_MISMATCH",
            )
        with self._inspectors() as inspector:
            found = self._verified(inspector, draft, info)
        if found != info:
            raise CorruptData(
                f"expected the snapshot that its manifest says, {info}, got {found}", reason="DATA_DAMAGED"
            )

    def _refuse_taken(self, target: str, into: str, *, replacing: bool) -> None:
        if replacing or not self._catalog.taken(target):
            return
        if into:
            raise AlreadyExists(
                f"a series {into!r} is there already", reason="SERIES_EXISTS", metadata={"series": into}
            )
        raise FailedState(
            f"series {target!r} is there; a restore must say that it replaces it",
            reason="REPLACE_NOT_SET",
            metadata={"series": target},
        )

    def _place(self, series_id: str, name: str) -> Path:
        check_name(series_id, "a series' id")
        return self._folder.path / "snapshots" / series_id / check_name(name, "a snapshot's name")


def _read(manifest: Path) -> SnapshotInfo:
    try:
        fields = json.loads(manifest.read_text())
        kind, version, data = fields.pop("format"), int(fields.pop("version")), int(fields.pop("data_version"))
        if kind == FORMAT_NAME and (version > VERSION or data > records.FORMAT_VERSION):
            raise records.newer(str(manifest), data)
        found = _checked(SnapshotInfo(**fields))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CorruptData(f"{manifest}: expected a snapshot's manifest, got {error}", reason="DATA_DAMAGED") from error
    if (kind, found.series_id, found.name) != (FORMAT_NAME, manifest.parent.parent.name, manifest.parent.name):
        raise CorruptData(f"{manifest}: expected the manifest of its folder, got {found}", reason="DATA_DAMAGED")
    return found


def _checked(info: SnapshotInfo) -> SnapshotInfo:
    """The same, if its values are of the kinds that we write: a list of snapshots is not to fail for one of them."""
    numbers = info.generation, info.references, info.byte_size, info.create_ns
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise ValueError(f"expected numbers from 0 to below 2^63, got {numbers}")
    if re.fullmatch(r"[0-9a-f]{64}", info.sha256) is None:
        raise ValueError(f"expected a sha256 of 64 hexadecimal digits, got {info.sha256[:80]!r}")
    return info


def _exists(series_id: str, name: str) -> AlreadyExists:
    return AlreadyExists(
        f"series {series_id!r} has a snapshot {name!r} already",
        reason="SNAPSHOT_EXISTS",
        metadata={"series": series_id, "snapshot": name},
    )
