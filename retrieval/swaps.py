"""A series' folder put in the place of another, through a journal: whenever the process ends, one of them is there.

`DIR/swaps/<series id>.json` names both folders in `DIR/trash` and is on the disk before the first rename. What a start
finds is finished where the old folder has gone already, and undone where it has not.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from retrieval.folder import DataFolder, sync_folder, write_synced
from retrieval.names import NAME

VERSION = 1
IN_TRASH = re.compile(r"(new|old)-[0-9a-f]{1,64}")


@dataclass(frozen=True)
class Swap:
    """One exchange of folders."""

    series_id: str
    new: str  # name in trash of the folder that shall be the series
    old: str  # name in trash for the folder that was the series


def swap(folder: DataFolder, series_id: str, draft: Path) -> None:
    """Makes the folder `draft`, which lies in trash and is synced, the series; what was the series is thrown away.

    The caller keeps everybody from the series. If this raises, the series is as it was, or the next start makes it so.
    """
    journal = journals(folder) / f"{series_id}.json"
    made = Swap(series_id, draft.name, f"old-{uuid.uuid4().hex}")
    journal.parent.mkdir(exist_ok=True)
    sync_folder(folder.path)
    sync_folder(draft)
    sync_folder(folder.trash)
    try:
        write_synced(journal, json.dumps({"version": VERSION, **asdict(made)}) + "\n")
        _exchange(folder, made)
    except BaseException:
        with contextlib.suppress(OSError):  # the journal stays, and the next start sees to it
            _undo(folder, made)
            _forget(journal)
        raise
    gone = folder.trash / f"gone-{uuid.uuid4().hex}"  # a name that no journal knows, so that none brings it back
    with contextlib.suppress(OSError):
        (folder.trash / made.old).rename(gone)
    with contextlib.suppress(OSError):
        _forget(journal)
    shutil.rmtree(gone, ignore_errors=True)


def settle(folder: DataFolder) -> bool:
    """Finishes or undoes what was under way when the last process ended; to be called before trash is emptied.

    Returns:
        Whether trash may be emptied: not if a journal cannot be read, as what it names may lie there.
    """
    for begun in journals(folder).glob("*.draft"):  # a journal that was not written to its end: nothing was moved yet
        if begun.is_file():
            begun.unlink()
    readable = True
    for journal in sorted(journals(folder).glob("*.json")):
        try:
            found = _read(journal)
        except (ValueError, KeyError, TypeError, RecursionError, OSError):
            readable = False
            continue
        _settle(folder, found)
        _forget(journal)
    return readable


def _read(journal: Path) -> Swap:
    """What a journal says, if it names folders where ours lie: nothing else is to be moved."""
    fields = json.loads(journal.read_text())
    found = Swap(fields["series_id"], fields["new"], fields["old"])
    if type(fields["version"]) is not int or fields["version"] > VERSION:
        raise ValueError("a newer version wrote it")
    if not NAME.fullmatch(found.series_id) or not all(IN_TRASH.fullmatch(name) for name in (found.new, found.old)):
        raise ValueError("it names no folders of ours")
    return found


def journals(folder: DataFolder) -> Path:
    """Where the journals lie; the folder is made when it is first needed."""
    return folder.path / "swaps"


def _exchange(folder: DataFolder, made: Swap) -> None:
    place = folder.series / made.series_id
    if place.exists():
        place.rename(folder.trash / made.old)
    (folder.trash / made.new).rename(place)
    sync_folder(folder.series)
    sync_folder(folder.trash)


def _settle(folder: DataFolder, made: Swap) -> None:
    """The series is there: as before if it has not been moved yet, else the new one, else the old one."""
    place, new, old = folder.series / made.series_id, folder.trash / made.new, folder.trash / made.old
    if not place.exists() and new.exists():
        new.rename(place)
    elif not place.exists() and old.exists():
        old.rename(place)
    sync_folder(folder.series)
    sync_folder(folder.trash)


def _undo(folder: DataFolder, made: Swap) -> None:
    place, new, old = folder.series / made.series_id, folder.trash / made.new, folder.trash / made.old
    if place.exists() and not new.exists():
        place.rename(new)
    if old.exists():
        old.rename(place)
    sync_folder(folder.series)
    sync_folder(folder.trash)


def _forget(journal: Path) -> None:
    journal.unlink()
    sync_folder(journal.parent)
