"""A folder into which books and pictures arrive: what is there, what has stopped growing, what was done already.

The folder is looked at again and again rather than watched: notices of the system do not come from network folders, and
whether a file has stopped growing can only be seen by looking twice.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from panelhue.books import BOOKS, PICTURES, SHEET_STEM, Book, Page, natural_key
from panelhue.errors import Cancelled, Conflict, Overloaded, Timeout, Unavailable, UsageError
from panelhue.folders import read_plain, shown

LEDGER, LOCK = "watch.jsonl", "watch.lock"
FIRST, LONGEST = 1.0, 300.0  # seconds until something that was put off is tried again; doubled each time
COSTLY = {"PAGE_TIMEOUT", "OUT_OF_MEMORY", "WORKER_DIED"}  # reasons that may pass, or be the page's own fault
TURNS = 4  # that a thing with pages of these is given
FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Arrival:
    """A book or a picture that lies in the folder."""

    name: str  # within the folder
    path: Path
    loose: bool  # a picture by itself
    stamp: str  # changes when anything in it is added, grows or is written anew

    @property
    def page(self) -> str:
        """The name of a picture's page: its own, as it can be shown and written."""
        return shown(self.name)


def arrivals(folder: Path) -> list[Arrival]:
    """What lies in a folder, in natural order: archives, folders with pictures, and pictures.

    What is hidden, and what is none of these, is passed over.
    """
    found = []
    for entry in sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name)):
        path = Path(entry.path)
        with contextlib.suppress(OSError):  # it went while we looked
            if not entry.name.startswith(".") and (stamp := _stamp(path)):
                found.append(Arrival(entry.name, path, _is_picture(path), stamp))
    return found


def _is_picture(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in PICTURES and not path.name.startswith(SHEET_STEM)


def _stamp(path: Path) -> str:
    """Of a file its size and time; of a folder those of every file in it; empty for what is no book."""
    if path.is_dir():
        files = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        if not any(_is_picture(file) for file in files):
            return ""
    elif _is_picture(path) or path.suffix.lower() in BOOKS:
        files = [path]
    else:
        return ""
    facts = hashlib.sha256()
    for file in sorted(files):
        try:
            state = file.stat()
        except OSError:  # a link to nothing in a folder, such as an editor's lock
            state = file.lstat()
        facts.update(
            f"{file.relative_to(path.parent)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="replace")
        )
    return facts.hexdigest()[:32]


class Ledger:
    """What a watch has done, in its output folder. A context manager that keeps another watch out.

    Args:
        folder: where it lies; made if need be.

    Raises:
        UsageError: another watch is at work here.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, str] = {}  # name to stamp
        self._failed: dict[str, str] = {}  # in this life: a new start tries again
        self._lock = (folder / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise UsageError(f"another `panelhue watch` writes to {folder.parent}") from error
        except BaseException:
            self._lock.close()
            raise
        self._file = (folder / LEDGER).open("a+b")
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        self._file.truncate(whole)  # a line that a kill cut short
        for line in data[:whole].splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._take(json.loads(line))

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lock.close()

    def _take(self, entry: Mapping[str, Any]) -> None:
        self.done[entry["name"]] = entry["stamp"]

    def finish(self, arrival: Arrival) -> None:
        """Says that something is done; it is never done again unless it changes."""
        entry = {"v": 1, "name": arrival.name, "stamp": arrival.stamp}
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._take(entry)

    def fail(self, arrival: Arrival) -> None:
        """Says that something cannot be done as it is; it is tried again when it changes, or by another watch."""
        self._failed[arrival.name] = arrival.stamp

    def is_new(self, arrival: Arrival) -> bool:
        """Whether there is something to do."""
        return arrival.stamp not in (self.done.get(arrival.name), self._failed.get(arrival.name))


class Settling:
    """Tells which arrivals have stopped growing.

    Args:
        seconds: how long something must have been as it is.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[str, tuple[str, float]] = {}  # name to stamp, and when it was first seen with it

    def settled(self, found: Sequence[Arrival], now: float) -> list[Arrival]:
        """Of what lies there now, what has been as it is for long enough.

        Args:
            found: everything that is there.
            now: of a clock that does not go back, seconds.
        """
        since = {}
        for arrival in found:
            stamp, first = self._since.get(arrival.name, ("", now))
            since[arrival.name] = (arrival.stamp, first if stamp == arrival.stamp else now)
        self._since = since
        return [one for one in found if now - since[one.name][1] >= self._seconds]


class Patience:
    """What is tried again later, as it failed for a while and not for good."""

    def __init__(self) -> None:
        self._put_off: dict[str, tuple[str, int, float]] = {}  # name to stamp, how often, and until when

    def put_off(self, arrival: Arrival, now: float) -> float:
        """Seconds until it is tried again; twice as many each time, until it changes or is forgotten."""
        often = self.turns(arrival)
        seconds = min(LONGEST, FIRST * 2.0 ** min(often, 30))
        self._put_off[arrival.name] = (arrival.stamp, often + 1, now + seconds)
        return seconds

    def turns(self, arrival: Arrival) -> int:
        """How often it was put off as it is now."""
        stamp, often, _ = self._put_off.get(arrival.name, ("", 0, 0.0))
        return often if stamp == arrival.stamp else 0

    def is_due(self, arrival: Arrival, now: float) -> bool:
        """Whether it may be begun."""
        stamp, _, until = self._put_off.get(arrival.name, ("", 0, 0.0))
        return stamp != arrival.stamp or now >= until

    def forget(self, arrival: Arrival) -> None:
        """It has its end."""
        self._put_off.pop(arrival.name, None)


def passing(error: Exception) -> bool:
    """Whether it is none of the file's doing: a server that is busy, away or too slow, or a disk that is full."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return isinstance(error, Unavailable | Overloaded | Timeout | Cancelled | Conflict)


def work_of(settled: Sequence[Arrival]) -> Iterator[list[Arrival]]:
    """What is done together: all pictures by themselves, and each book alone; in their order."""
    loose = [one for one in settled if one.loose]
    if loose:
        yield loose
    yield from ([one] for one in settled if not one.loose)


def loose_book(folder: Path, pictures: Sequence[Arrival]) -> Book:
    """Pictures that arrived by themselves, as one book; a page has the number in its name, so that it never changes."""
    pages = [Page(one.page, _number(one.page), None, partial(read_plain, one.path)) for one in pictures]
    return Book(folder, tuple(pages))


def _number(name: str) -> int:
    digits = re.findall(r"\d{1,6}", PurePosixPath(name).stem)
    return max(1, int(digits[-1])) if digits else 1


def place_of(arrival: Arrival, output: Path) -> Path:
    """Where a book goes: a folder for a folder, a PDF for a PDF, a CBZ for every other."""
    if arrival.path.is_dir():
        return output / arrival.name
    ending = ".pdf" if arrival.path.suffix.lower() == ".pdf" else ".cbz"
    return output / f"{Path(arrival.name).stem}{ending}"
