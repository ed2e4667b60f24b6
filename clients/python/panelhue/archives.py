"""ZIP archives from strangers: what is listed is checked before anything is read, and what is read is counted."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from panelhue.errors import BookError

BLOCK = 1024 * 1024
ENCRYPTED = 0x1  # bit 0 of an entry's flags


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold."""

    entries: int = 20_000
    entry_bytes: int = 256 * 1024**2  # one entry, uncompressed
    total_bytes: int = 16 * 1024**3  # all entries, uncompressed
    ratio: float = 200.0  # uncompressed over compressed bytes
    ratio_from: int = 32 * 1024**2  # bytes; below this a blank page may compress as well as it likes


class Archive:
    """The files of a ZIP archive. A context manager; nothing is ever written to disk.

    Args:
        path: the archive.
        limits: what it may hold.

    Raises:
        BookError: it is no ZIP archive (NOT_AN_ARCHIVE), is encrypted (ARCHIVE_ENCRYPTED), names a place outside itself
            or holds a link (ARCHIVE_UNSAFE), or expands beyond the limits (ARCHIVE_TOO_LARGE).
    """

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, limits: ArchiveLimits | None = None) -> None:
        self.path = path
        self._limits = limits or ArchiveLimits()
        self._read = 0
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise BookError(
                f"{path.name} is no ZIP archive that can be read: {error}", reason="NOT_AN_ARCHIVE"
            ) from error
        try:
            self._entries = dict(self._checked())
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()

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
        limits, packed = self._limits, max(1, sum(info.compress_size for info in infos))
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
        try:
            with self._zip.open(info) as stream:
                while block := stream.read(BLOCK):
                    size += len(block)
                    if size > self._limits.entry_bytes:
                        raise self._too_large(f"{name} goes on after {self._limits.entry_bytes} bytes")
                    pieces.append(block)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as error:
            raise BookError(f"{name} in {self.path.name} is damaged: {error}", reason="FILE_UNREADABLE") from error
        return b"".join(pieces)


def safe_name(name: str, archive: str) -> str:
    """The name with forward slashes.

    Raises:
        BookError: ARCHIVE_UNSAFE, it would lie outside a folder into which it were unpacked.
    """
    unified = name.replace("\\", "/")
    path, windows = PurePosixPath(unified), PureWindowsPath(name)
    bad = path.is_absolute() or windows.drive or windows.root or ".." in path.parts
    if bad or not path.parts or any(ord(letter) < 32 for letter in name):
        raise BookError(f"{archive} names a place outside itself ({name!r}); refused", reason="ARCHIVE_UNSAFE")
    return str(path)
