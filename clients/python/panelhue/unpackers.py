"""RAR, 7z and TAR archives: a program on PATH unpacks them into one temporary file, from which pages are read.

No name of an entry ever becomes a path here: what the program writes to its standard output is cut at the sizes that it
has listed, and checked against the listed checksums. The temporary file has no name either, so nothing is left behind.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import IO

from panelhue._programs import Refused, copied, said
from panelhue.archives import BLOCK, ArchiveLimits, safe_name
from panelhue.errors import BookError

KINDS = {  # in the order in which they are tried; bsdtar passes over wrong checksums, so it comes last
    "RAR": ("7zz", "7z", "unrar", "unar", "bsdtar"),
    "7z": ("7zz", "7z", "7za", "7zr", "unar", "bsdtar"),
}
PACKAGES = "7zz or 7z (package 7zip), unrar, unar, bsdtar (package libarchive-tools)"


@dataclass(frozen=True)
class Listed:
    """A file of an archive as its program lists it."""

    name: str
    size: int  # bytes, unpacked
    crc: int | None = None  # CRC-32 of what it holds
    encrypted: bool = False
    link: bool = False


@dataclass(frozen=True)
class Entry:
    """Where a file lies in the temporary file."""

    offset: int
    size: int
    trouble: str = ""  # why it cannot be read; empty: it can


class Spooled:
    """The files of an archive, one after the other in a file. A context manager; safe to use from several threads."""

    def __init__(self, path: Path, file: IO[bytes], entries: dict[str, Entry], notes: Sequence[str] = ()) -> None:
        self.path, self.notes = path, tuple(notes)
        self._file, self._entries = file, entries

    def __enter__(self) -> Spooled:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drops the temporary file."""
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Names of the files, with forward slashes, in the archive's order."""
        return list(self._entries)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            BookError: FILE_UNREADABLE, it is damaged.
        """
        entry = self._entries[name]
        data = b"" if entry.trouble else os.pread(self._file.fileno(), entry.size, entry.offset)
        if entry.trouble or len(data) != entry.size:
            why = entry.trouble or "the archive ends before it does"
            raise BookError(f"{name} in {self.path.name} is damaged: {why}", reason="FILE_UNREADABLE")
        return data


def open_tar(path: Path, limits: ArchiveLimits | None = None) -> Spooled:
    """The files of a TAR archive (CBT), read where they lie.

    Raises:
        BookError: as `archives.Archive` raises it.
    """
    file = path.open("rb")
    try:  # nothing is packed in a TAR archive, so there is no ratio to look at
        return Spooled(path, file, _tar_entries(path, file, replace(limits or ArchiveLimits(), ratio=inf)))
    except BaseException:
        file.close()
        raise


def open_packed(path: Path, kind: str, limits: ArchiveLimits | None = None) -> Spooled:
    """The files of a RAR or 7z archive, unpacked by the first program on PATH that can do it.

    Args:
        path: the archive.
        kind: "RAR" or "7z".
        limits: what it may hold.

    Raises:
        BookError: no such program is there (TOOL_MISSING), none can read it (NOT_AN_ARCHIVE), or as
            `archives.Archive` raises it.

    Cost: the time and the room, in the folder for temporary files, of unpacking it once.
    """
    complaints = []
    for name, program in programs_for(path, kind):
        file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the book
        try:
            return _HOW[name](path.resolve(), program, file, limits or ArchiveLimits())
        except Refused as error:
            file.close()
            complaints.append(f"{name}: {error}")
        except BaseException:
            file.close()
            raise
    raise BookError(
        f"{path.name} is no {kind} archive that can be read ({'; '.join(complaints)})", reason="NOT_AN_ARCHIVE"
    )


def programs_for(path: Path, kind: str) -> list[tuple[str, str]]:
    """Programs on PATH that unpack such an archive, name and path, the best first; at least one.

    Args:
        path: the archive, for the message.
        kind: "RAR" or "7z".

    Raises:
        BookError: TOOL_MISSING, there is none.
    """
    found = [(name, program) for name in KINDS[kind] if (program := shutil.which(name))]
    if not found:
        raise BookError(
            f"{path.name} is a {kind} archive, and none of the programs that unpack those is on PATH: {PACKAGES}; "
            "install one of them, or convert the book to CBZ",
            reason="TOOL_MISSING",
        )
    return found


def _by_seven_zip(path: Path, program: str, file: IO[bytes], limits: ArchiveLimits) -> Spooled:
    # A password that nobody has: without one it would ask for it.
    listing = said([program, "l", "-slt", "-ba", "-sccUTF-8", "-pnone", "--", str(path)], path)
    listed = list(_seven_zip_listing(listing))
    return _streamed(path, [program, "x", "-so", "-bd", "-y", "-pnone", "--", str(path)], listed, file, limits)


def _seven_zip_listing(text: str) -> Iterator[Listed]:
    for block in text.split("\n\n"):
        facts = dict(line.partition(" = ")[::2] for line in block.splitlines() if " = " in line)
        if "Path" not in facts or facts.get("Folder") == "+" or facts.get("Attributes", "").startswith("D"):
            continue
        mode = facts.get("Attributes", "").rpartition(" ")[2]
        yield Listed(
            facts["Path"],
            _number(facts.get("Size", "")),
            int(facts["CRC"], 16) if facts.get("CRC") else None,
            facts.get("Encrypted") == "+",
            bool(facts.get("Symbolic Link") or facts.get("Hard Link")) or mode[:1] in ("l", "b", "c", "p", "s"),
        )


def _by_unrar(path: Path, program: str, file: IO[bytes], limits: ArchiveLimits) -> Spooled:
    listing = said([program, "lt", "-cfg-", "-p-", "-scfu", "--", str(path)], path)
    return _streamed(
        path,
        [program, "p", "-inul", "-cfg-", "-p-", "--", str(path)],
        list(_unrar_listing(listing)),
        file,
        limits,
    )


def _unrar_listing(text: str) -> Iterator[Listed]:
    for block in text.split("\n\n"):
        facts = {key.strip(): value for key, _, value in (line.partition(": ") for line in block.splitlines())}
        if "Name" not in facts or facts.get("Type") == "Directory":
            continue
        crc = facts.get("CRC32", "")
        yield Listed(
            facts["Name"],
            _number(facts.get("Size", "")),
            int(crc, 16) if crc else None,
            "encrypted" in facts.get("Flags", ""),
            facts.get("Type", "File") != "File",
        )


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise Refused(f"its listing has a file of {text!r} bytes") from error


def _streamed(
    path: Path, command: Sequence[str], listed: Sequence[Listed], file: IO[bytes], limits: ArchiveLimits
) -> Spooled:
    """What a program writes to its standard output, cut at the listed sizes."""
    if not listed:
        raise Refused("it lists no files")
    _check(path, listed, limits)
    total = sum(one.size for one in listed)
    _, complaint = copied(command, file, total, path)
    entries, offset = {}, 0
    for one in listed:
        entries[safe_name(one.name, path.name)] = Entry(offset, one.size, _trouble(file, offset, one, complaint))
        offset += one.size
    if complaint and all(entry.trouble for entry in entries.values()):
        raise Refused(complaint)
    return Spooled(path, file, entries)


def _trouble(file: IO[bytes], offset: int, one: Listed, complaint: str) -> str:
    crc, end = 0, offset + one.size
    while offset < end and (block := os.pread(file.fileno(), min(BLOCK, end - offset), offset)):
        crc, offset = zlib.crc32(block, crc), offset + len(block)
    whole = offset == end and (crc == one.crc if one.crc is not None else not complaint)
    return "" if whole else complaint or "its checksum differs"


def _check(path: Path, listed: Sequence[Listed], limits: ArchiveLimits) -> None:
    """Refuses what must not be unpacked, before anything is."""
    if len(listed) > limits.entries:
        raise _too_large(path, f"{len(listed)} entries, at most {limits.entries} are taken")
    for one in listed:
        safe_name(one.name, path.name)
        if one.link:
            raise BookError(f"{path.name} holds a link or device ({one.name}); refused", reason="ARCHIVE_UNSAFE")
        if one.encrypted:
            raise BookError(f"{path.name} is encrypted ({one.name}); decrypt it first", reason="ARCHIVE_ENCRYPTED")
        if one.size > limits.entry_bytes:
            raise _too_large(path, f"{one.size} bytes in {one.name!r}, at most {limits.entry_bytes} are taken")
    total, packed = sum(one.size for one in listed), max(1, path.stat().st_size)
    if total > limits.total_bytes:
        raise _too_large(path, f"{total} bytes when unpacked, at most {limits.total_bytes} are taken")
    if total > limits.ratio_from and total / packed > limits.ratio:
        raise _too_large(path, f"it unpacks to {total / packed:.0f} times its size, at most {limits.ratio:.0f}")


def _too_large(path: Path, what: str) -> BookError:
    return BookError(f"{path.name} is refused as an archive bomb: {what}", reason="ARCHIVE_TOO_LARGE")


def _by_bsdtar(path: Path, program: str, file: IO[bytes], limits: ArchiveLimits) -> Spooled:
    """The archive as a TAR archive, made on the way; nothing is unpacked to disk."""
    packed = path.stat().st_size
    most = int(min(limits.total_bytes, max(limits.ratio_from, packed * limits.ratio))) + limits.entries * 2048
    code, complaint = copied([program, "-cf", "-", "--format", "pax", f"@{path}"], file, most, path)
    try:
        entries = _tar_entries(path, file, limits)
    except BookError as error:
        if error.reason != "NOT_AN_ARCHIVE":
            raise
        entries = {}
    if not entries:
        raise Refused(complaint or "it finds no files")
    notes = []
    if code:  # it stops where the damage is: the last file that it began is not whole, and the rest never comes
        name, last = next(reversed(entries.items()))
        entries[name] = Entry(last.offset, last.size, complaint or "the archive is damaged")
        notes.append(f"{path.name} is damaged from {name} on; what follows it is not there")
    return Spooled(path, file, entries, notes)


def _tar_entries(path: Path, file: IO[bytes], limits: ArchiveLimits) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    listed: list[Listed] = []
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", ignore_zeros=False) as archive:
            while (one := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                if one.isdir():
                    continue
                listed.append(Listed(one.name, one.size, link=not one.isreg() or one.issparse()))
                if len(listed) > limits.entries:
                    break
                entries[safe_name(one.name, path.name)] = Entry(one.offset_data, one.size)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        if not entries:
            raise BookError(f"{path.name} is no TAR archive: {error}", reason="NOT_AN_ARCHIVE") from error
    if not listed:
        raise BookError(f"{path.name} is no TAR archive with files in it", reason="NOT_AN_ARCHIVE")
    _check(path, listed, limits)
    return entries


def _by_unar(path: Path, program: str, file: IO[bytes], limits: ArchiveLimits) -> Spooled:
    """Unpacked into a temporary folder, as it has no other way; only what it has listed is taken from there."""
    from panelhue._programs import lsar_listing, unar_into

    listed = [Listed(*facts) for facts in lsar_listing(program, path)]
    if not listed:
        raise Refused("it lists no files")
    _check(path, listed, limits)
    with tempfile.TemporaryDirectory(prefix="panelhue-") as folder:
        complaint = unar_into(program, path, Path(folder), max(one.size for one in listed))
        entries = {}
        for one in listed:
            name = safe_name(one.name, path.name)
            offset = file.seek(0, os.SEEK_END)
            found = _append(Path(folder), name, one.size, file)
            trouble = _trouble(file, offset, one, complaint) if found else complaint or "it was not unpacked"
            entries[name] = Entry(offset, one.size, trouble)
    if complaint and all(entry.trouble for entry in entries.values()):
        raise Refused(complaint)
    return Spooled(path, file, entries)


def _append(folder: Path, name: str, size: int, file: IO[bytes]) -> bool:
    """Whether `name` is a plain file of that size in the folder; it is then copied to the file's end."""
    path = folder / name
    try:
        plain = path.resolve() == folder.resolve() / name and path.is_file() and path.stat().st_size == size
    except OSError:
        return False
    if plain:
        with path.open("rb") as source:
            shutil.copyfileobj(source, file, BLOCK)
        file.flush()
    return plain


_HOW: dict[str, Callable[[Path, str, IO[bytes], ArchiveLimits], Spooled]] = {
    **dict.fromkeys(("7zz", "7z", "7za", "7zr"), _by_seven_zip),
    "unrar": _by_unrar,
    "bsdtar": _by_bsdtar,
    "unar": _by_unar,
}
