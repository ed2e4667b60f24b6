"""What lies in a folder of pictures: plain files alone, read up to a limit, under names that can be shown."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from panelhue.errors import BookError

MOST_BYTES = 256 * 1024**2  # of a page's file
BLOCK = 1024 * 1024

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Controls, a backslash (a folder elsewhere), what marks or turns text unseen, and bytes that are no UTF-8.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\\\\\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|(?<=^[A-Za-z]):")


def read_plain(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a plain file, through links; never waits for another process, as a pipe would.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        BookError: FILE_KIND, it is a pipe, a device or the like; FILE_TOO_LARGE.
        OSError: it is not there, or may not be read.
    """
    check_plain(path)
    # What has become a pipe since then still makes nobody wait.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    with open(handle, "rb", buffering=0) as file:
        facts = os.fstat(handle)
        _check_kind(path, facts)
        if facts.st_size > most:
            raise _too_large(path, most)
        pieces, size = [], 0
        while block := file.read(BLOCK):
            size += len(block)
            if size > most:
                raise _too_large(path, most)
            pieces.append(block)
    return b"".join(pieces)


def check_plain(path: Path) -> None:
    """Returns if there is a plain file, perhaps through links.

    Raises:
        BookError: FILE_KIND.
        OSError: there is nothing.
    """
    _check_kind(path, path.stat())


def _check_kind(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        what = next((name for test, name in _KINDS if test(facts.st_mode)), "something else")
        raise BookError(f"{shown(path.name)} must be a plain file, and is {what}", reason="FILE_KIND")


def _too_large(path: Path, most: int) -> BookError:
    return BookError(f"{shown(path.name)} must have at most {most} bytes, and has more", reason="FILE_TOO_LARGE")


def shown(name: str) -> str:
    """The name with what cannot be printed, or would be a path elsewhere, as %xx."""
    return _UNFIT.sub(lambda found: "".join(f"%{byte:02x}" for byte in _bytes_of(found[0])), name)


def _bytes_of(letter: str) -> bytes:
    if ord(letter) < 0x100:
        return bytes([ord(letter)])
    return letter.encode("utf-8", "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass")


def fitting_names(names: Iterable[str]) -> dict[str, str]:
    """Names as they are shown, each with the file's own; two files never share one.

    Args:
        names: paths with forward slashes.
    """
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (shown(name) != name, name)):  # who needs no change keeps the name
        fit = shown(name)
        found[next(one for one in _versions(fit) if one not in found)] = name
    return found


def _versions(name: str) -> Iterator[str]:
    yield name
    path, number = PurePosixPath(name), 1
    while True:
        number += 1
        yield str(path.with_name(f"{path.stem}-{number}{path.suffix}"))


def files_of(folder: Path) -> tuple[list[str], list[str]]:
    """Paths of all files below a folder, with forward slashes, and notes on what was passed over.

    Hidden folders are left out. Links to files are the user's own business; links to folders could lead round in a
    circle and are passed over, and so are folders that may not be read.
    """
    names: list[str] = []
    notes: list[str] = []

    def failed(error: OSError) -> None:
        where = os.path.relpath(error.filename, folder)
        notes.append(f"{shown(where)}: a folder that cannot be read: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=failed):
        inner = os.path.relpath(place, folder)
        folders[:] = [name for name in folders if not hidden(name)]
        names += [name if inner == "." else f"{inner}/{name}" for name in files]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        notes += [f"{shown(os.path.normpath(os.path.join(inner, name)))}: a link to a folder" for name in links]
    return names, notes


def hidden(part: str) -> bool:
    """Whether a part of a path is what systems leave lying about."""
    return part.startswith(".") or part == "__MACOSX"
