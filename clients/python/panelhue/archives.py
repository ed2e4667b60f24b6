"""ZIP archives from strangers: what is listed is checked before anything is read, and what is read is counted."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from panelhue.errors import BookError
from panelhue.folders import shown

BLOCK = 1024 * 1024
ENCRYPTED = 0x1  # bit 0 of an entry's flags
DIRECTORY_BYTES = 16 * 1024**2  # of the list of all entries: 20,000 of them with names of 700 letters
TEXT_BYTES = 2 * 1024**2  # of an entry that is no picture but a ComicInfo.xml
# Others unpack a block in one piece, however large it becomes.
METHODS = {zipfile.ZIP_STORED: "not at all", zipfile.ZIP_DEFLATED: "deflate"}


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold."""

    entries: int = 20_000
    entry_bytes: int = 256 * 1024**2  # one entry, uncompressed
    total_bytes: int = 16 * 1024**3  # all entries, uncompressed
    ratio: float = 200.0  # uncompressed over compressed bytes
    ratio_from: int = 32 * 1024**2  # bytes; below this a blank page may compress as well as it likes


class _Bounded(io.BufferedReader):
    """A file of which no more than the longest list of entries is read at once, whatever its end says."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > DIRECTORY_BYTES:
            raise BookError(f"its list of files has {size} bytes, at most {DIRECTORY_BYTES} are taken")
        return super().read(size)


class Archive:
    """The files of a ZIP archive. A context manager; nothing is ever written to disk.

    Args:
        path: the archive.
        limits: what it may hold.

    Raises:
        BookError: it may not be read (BOOK_UNREADABLE), is no ZIP archive (NOT_AN_ARCHIVE), is encrypted
            (ARCHIVE_ENCRYPTED), names a place outside itself or holds a link (ARCHIVE_UNSAFE), or expands beyond the
            limits (ARCHIVE_TOO_LARGE).
    """

    notes: tuple[str, ...] = ()  # what was passed over, a sentence each

    def __init__(self, path: Path, limits: ArchiveLimits | None = None) -> None:
        self.path = path
        self._limits = limits or ArchiveLimits()
        self._zip, self._file = self._opened()
        try:
            entries = list(self._checked())
        except BaseException:
            self.close()
            raise
        self._entries = dict(entries)
        if len(entries) > len(self._entries):
            names = [name for name, _ in entries]
            twice = dict.fromkeys(name for name in names if names.count(name) > 1) if len(names) < 1000 else ["a file"]
            self.notes = tuple(f"{name}: there twice; the last one counts" for name in twice)

    def _opened(self) -> tuple[zipfile.ZipFile, _Bounded]:
        try:
            file = _Bounded(io.FileIO(self.path))
        except OSError as error:
            raise BookError(f"{self.path.name} cannot be read: {error.strerror}", reason="BOOK_UNREADABLE") from error
        try:
            return zipfile.ZipFile(file), file
        except BaseException as error:
            file.close()
            if isinstance(error, BookError):
                raise self._too_large(error.message) from error
            if not isinstance(error, Exception) or isinstance(error, PermissionError):
                raise
            # zipfile raises nearly anything on a damaged file
            raise BookError(
                f"{self.path.name} is no ZIP archive that can be read: {error}", reason="NOT_AN_ARCHIVE"
            ) from error

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Names of the files, with forward slashes, in the archive's order."""
        return list(self._entries)

    def _checked(self) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        infos = self._zip.infolist()
        if len(infos) > self._limits.entries:
            raise self._too_large(f"{len(infos)} entries, at most {self._limits.entries} are taken")
        self._check_sizes(infos)
        for info in infos:
            name = safe_name(info.filename, self.path.name)
            if info.flag_bits & ENCRYPTED:
                raise BookError(f"{self.path.name} is encrypted ({name}); decrypt it first", reason="ARCHIVE_ENCRYPTED")
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise BookError(f"{self.path.name} holds a link or device ({name}); refused", reason="ARCHIVE_UNSAFE")
            if not info.is_dir() and not info.filename.endswith("\\"):
                yield name, info

    def _check_sizes(self, infos: list[zipfile.ZipInfo]) -> None:
        limits = self._limits
        # Entries may share their bytes, so that their sum is more than there is.
        packed = max(1, min(sum(info.compress_size for info in infos), self.path.stat().st_size))
        total = sum(info.file_size for info in infos)
        if total > limits.total_bytes:
            raise self._too_large(f"{total} bytes when unpacked, at most {limits.total_bytes} are taken")
        for info in infos:
            if info.file_size > limits.entry_bytes:
                raise self._too_large(
                    f"{info.file_size} bytes in {info.filename!r}, at most {limits.entry_bytes} are taken"
                )
        for size, small, what in [(total, packed, "it")] + [
            (i.file_size, max(1, i.compress_size), repr(i.filename)) for i in infos
        ]:
            if size > limits.ratio_from and size / small > limits.ratio:
                raise self._too_large(
                    f"{what} unpacks to {size / small:.0f} times its size, at most {limits.ratio:.0f}"
                )

    def _too_large(self, what: str) -> BookError:
        return BookError(f"{self.path.name} is refused as an archive bomb: {what}", reason="ARCHIVE_TOO_LARGE")

    def read(self, name: str) -> bytes:
        """The bytes of a file; what really comes out is counted, whatever the header says.

        Raises:
            BookError: the file is damaged (FILE_UNREADABLE) or passes the limits (ARCHIVE_TOO_LARGE).
        """
        info, pieces, size = self._entries[name], [], 0
        if info.compress_type not in METHODS:
            raise BookError(
                f"{name} in {self.path.name} must be packed by deflate, or not at all, and is packed by method "
                f"{info.compress_type}; pack the archive anew",
                reason="FILE_UNREADABLE",
            )
        most = min(self._limits.entry_bytes, TEXT_BYTES) if name.lower().endswith(".xml") else self._limits.entry_bytes
        try:
            with self._zip.open(info) as stream:
                while block := stream.read(BLOCK):
                    size += len(block)
                    if size > most:
                        raise self._too_large(f"{name} goes on after {most} bytes")
                    pieces.append(block)
        except BookError:
            raise
        except Exception as error:  # zipfile raises nearly anything on a damaged entry
            raise BookError(f"{name} in {self.path.name} is damaged: {error}", reason="FILE_UNREADABLE") from error
        return b"".join(pieces)


def safe_name(name: str, archive: str) -> str:
    """The name with forward slashes, in letters that can be shown.

    Raises:
        BookError: ARCHIVE_UNSAFE, it would lie outside a folder into which it were unpacked, or holds what steers
            terminals.
    """
    unified = name.replace("\\", "/")
    path, windows = PurePosixPath(unified), PureWindowsPath(name)
    if any(ord(letter) < 32 for letter in name):
        raise BookError(f"{archive} holds a name with control characters ({name!r}); refused", reason="ARCHIVE_UNSAFE")
    bad = path.is_absolute() or windows.drive or windows.root or ".." in path.parts
    if bad or not path.parts:
        raise BookError(f"{archive} names a place outside itself ({name!r}); refused", reason="ARCHIVE_UNSAFE")
    return shown(str(path))
