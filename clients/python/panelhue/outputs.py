"""Finished books: pages in a folder, each written whole or not at all, and a CBZ made of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from panelhue.archives import safe_name
from panelhue.comicinfo import NAME
from panelhue.errors import BookError

STAMP = (1980, 1, 1, 0, 0, 0)  # of every entry, so that the same pages make the same archive
ENDINGS: Mapping[str, str] = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


def output_names(names: Iterable[str], ending: str) -> dict[str, str]:
    """Where each page goes: its own name with the new ending; pages that would meet keep their old ending before it.

    Args:
        names: paths within the book.
        ending: such as ".png".
    """
    wanted = {name: str(PurePosixPath(name).with_suffix(ending)) for name in names}
    counts: dict[str, int] = {}
    for target in wanted.values():
        counts[target.lower()] = counts.get(target.lower(), 0) + 1
    return {name: target if counts[target.lower()] == 1 else name + ending for name, target in wanted.items()}


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
    """A draft beside `path` that takes its place, synced, if the block ends well; otherwise nothing changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        yield draft
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


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
    with written_whole(path) as draft, zipfile.ZipFile(draft, "w") as archive:
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
