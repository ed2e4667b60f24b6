"""Finished books: pages in a folder, each written whole or not at all, and a CBZ made of them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from panelhue.archives import safe_name
from panelhue.comicinfo import NAME
from panelhue.errors import BookError

_DRAFT = re.compile(r"\.(.+)\.\d+\.draft", re.DOTALL)
PART_BYTES = 200  # of a folder's or file's name; file systems take 255, and a draft's name is longer
PATH_BYTES, PATH_PARTS = 1000, 16  # of a page's path; Linux takes 4096 bytes with the folders around it
STAMP = (1980, 1, 1, 0, 0, 0)  # of every entry, so that the same pages make the same archive
ENDINGS: Mapping[str, str] = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


def output_names(names: Iterable[str], ending: str) -> dict[str, str]:
    """Where each page goes: its own name with the new ending; pages that would meet keep their old ending before it.

    No two pages get one file, not even where capitals count for nothing, and no file lies where a folder must be. What
    no file system takes is shortened: a part above 200 bytes, and a path above 1000 bytes or 16 folders.

    Args:
        names: paths within the book.
        ending: such as ".png".
    """
    names = list(names)
    wanted = {name: _fitting(PurePosixPath(name).with_suffix(ending)) for name in names}
    counts = Counter(str(target).lower() for target in wanted.values())
    lone = {name: counts[str(target).lower()] == 1 for name, target in wanted.items()}
    files: set[str] = set()
    folders: set[str] = set()
    chosen: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (not lone[name], name)):
        first = wanted[name] if lone[name] else _fitting(PurePosixPath(name + ending))
        for target in _choices(first, name):
            around = {str(folder).lower() for folder in target.parents}
            if str(target).lower() not in files | folders and not around & files:
                break
        chosen[name] = str(target)
        files.add(str(target).lower())
        folders |= around
    return {name: chosen[name] for name in names}


def _choices(first: PurePosixPath, name: str) -> Iterator[PurePosixPath]:
    """A page's file; else one beside it; else, where its folder is another page's file, one at the top."""
    yield first
    for number in itertools.count():
        stamped = f"{_cut(first.stem, PART_BYTES - 20)}-{_stamp(f'{number}{name}')}{first.suffix}"
        yield first.with_name(stamped)
        yield PurePosixPath(stamped)


def _fitting(path: PurePosixPath) -> PurePosixPath:
    """The path, shortened if no file system takes it; two that differ stay different."""
    whole = str(path)
    if len(_bytes_of(whole)) > PATH_BYTES or len(path.parts) > PATH_PARTS:
        return PurePosixPath(f"{_cut(path.stem, PART_BYTES - 20)}-{_stamp(whole)}{path.suffix}")
    if all(len(_bytes_of(part)) <= PART_BYTES for part in path.parts):
        return path
    *folders, last = path.parts
    short = [
        part if len(_bytes_of(part)) <= PART_BYTES else f"{_cut(part, PART_BYTES - 20)}-{_stamp(part)}"
        for part in folders
    ]
    if len(_bytes_of(last)) > PART_BYTES:
        last = f"{_cut(path.stem, PART_BYTES - 20)}-{_stamp(last)}{path.suffix}"
    return PurePosixPath(*short, last)


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _cut(text: str, most: int) -> str:
    return _bytes_of(text)[:most].decode("utf-8", "ignore")


def _stamp(text: str) -> str:
    return hashlib.sha256(_bytes_of(text)).hexdigest()[:8]


def sha256_of(path: Path) -> str | None:
    """SHA-256 of a file's bytes as 64 hexadecimal digits; None where there is no such file."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def inside(folder: Path, name: str) -> Path:
    """The path of a page within a folder.

    Raises:
        BookError: it would lie outside, by its name or by a link.
    """
    path = folder / safe_name(name, "the book")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BookError(f"{name} would be written outside {folder}", reason="OUTPUT_OUTSIDE")
    return path


def sync_folder(folder: Path) -> None:
    """Makes what was renamed in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A draft beside `path` that takes its place, synced, if the block ends well; otherwise nothing changes.

    The draft is there, empty, and locked until the end, which tells it from one that a killed process left behind; so
    the block writes to it, and puts no other file in its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft, handle = _claimed(path)
    try:
        yield draft
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def _claimed(path: Path) -> tuple[Path, int]:
    """An empty draft for `path`, and the handle that has its lock."""
    for number in itertools.chain([os.getpid()], itertools.count(10**9)):  # another thread may have the first one
        draft = path.with_name(f".{path.name}.{number}.draft")
        handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            if _locked(handle, draft, without=True):
                os.ftruncate(handle, 0)
                return draft, handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    raise AssertionError("there is always another number")


def _locked(handle: int, draft: Path, *, without: bool) -> bool:
    """Whether we have the lock of a draft that still is the file of its name.

    Args:
        handle: of the draft.
        draft: its path.
        without: the answer where the file system knows no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(draft))
    except FileNotFoundError:  # it was swept, or took its place, just before we had the lock
        return False


def sweep_drafts(paths: Iterable[Path]) -> None:
    """Removes the drafts that killed processes left beside these files; those that are being written stay."""
    wanted: dict[Path, set[str]] = {}
    for path in paths:
        wanted.setdefault(path.parent, set()).add(path.name)
    for folder, names in wanted.items():
        for draft in folder.glob(".*.draft"):
            name = draft.name
            while (found := _DRAFT.fullmatch(name)) is not None:  # those of older versions may have had drafts
                name = found[1]
            if name in names:
                _sweep(draft)


def _sweep(draft: Path) -> None:
    with contextlib.suppress(OSError):  # gone meanwhile, somebody else's, or no file at all: not ours to remove
        handle = os.open(draft, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if _locked(handle, draft, without=False):
                draft.unlink()
        finally:
            os.close(handle)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file, synced, so that a reader finds all of it or what was there before."""
    with written_whole(path) as draft:
        draft.write_bytes(data)


def pack_cbz(path: Path, folder: Path, names: Iterable[str], info: bytes | None) -> None:
    """Writes a CBZ of pages that lie in a folder; equal pages give equal bytes.

    Args:
        path: the archive.
        folder: where the pages lie.
        names: their paths within it, in reading order.
        info: the book's ComicInfo.xml; None: it has none.
    """
    with written_whole(path) as draft:
        write_cbz(draft, folder, names, info)


def write_cbz(draft: Path, folder: Path, names: Iterable[str], info: bytes | None) -> None:
    """As `pack_cbz`, into a draft that the caller puts into its place."""
    with zipfile.ZipFile(draft, "w") as archive:
        if info is not None:
            archive.writestr(_entry(NAME, zipfile.ZIP_DEFLATED), info)
        for name in names:
            archive.writestr(_entry(name, zipfile.ZIP_STORED), inside(folder, name).read_bytes())


def _entry(name: str, method: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, STAMP)
    entry.compress_type = method
    entry.external_attr = 0o644 << 16
    entry.create_system = 3
    return entry
