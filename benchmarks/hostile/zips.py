"""ZIP files written by hand, so that every field may lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

STORED, DEFLATED, DEFLATE64, BZIP2, LZMA = 0, 8, 9, 12, 14


@dataclass(frozen=True)
class Entry:
    """One file of an archive; what is None is told as it is."""

    name: bytes | str
    data: bytes = b""  # as it lies in the archive
    method: int = STORED
    size: int | None = None  # unpacked, bytes
    packed: int | None = None
    crc: int | None = None
    flags: int = 0
    mode: int = 0o100644  # of Unix, or 0 with `system` 0
    system: int = 3
    extra: bytes = b""
    at: int | None = None  # where its local header lies; None: it gets one of its own
    comment: bytes = b""

    @property
    def raw_name(self) -> bytes:
        """Its name's bytes."""
        return self.name if isinstance(self.name, bytes) else self.name.encode()

    @property
    def all_flags(self) -> int:
        """Its flags, with that for UTF-8 where the name is text beyond ASCII."""
        return self.flags | (0x800 if isinstance(self.name, str) and not self.name.isascii() else 0)


def deflated(name: bytes | str, data: bytes, **more: object) -> Entry:
    """An entry that is packed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush()
    return Entry(name, packed, DEFLATED, size=len(data), crc=zlib.crc32(data), **more)  # type: ignore[arg-type]


def stored(name: bytes | str, data: bytes, **more: object) -> Entry:
    """An entry that is not packed."""
    return Entry(name, data, **more)  # type: ignore[arg-type]


def _numbers(entry: Entry) -> tuple[int, int, int]:
    crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
    packed = len(entry.data) if entry.packed is None else entry.packed
    return crc, packed, packed if entry.size is None else entry.size


def local(entry: Entry) -> bytes:
    """A local header with its data."""
    crc, packed, size = _numbers(entry)
    name = entry.raw_name
    head = struct.pack(
        "<4s5H3I2H", b"PK\3\4", 20, entry.all_flags, entry.method, 0, 33, crc, packed, size, len(name), 0
    )
    return head + name + entry.data


def central(entry: Entry, at: int) -> bytes:
    """An entry of the central directory."""
    crc, packed, size = _numbers(entry)
    name = entry.raw_name
    return (
        struct.pack(
            *("<4s6H3I5H2I", b"PK\1\2", entry.system << 8 | 20, 20, entry.all_flags, entry.method, 0, 33),
            *(crc, packed, size, len(name), len(entry.extra), len(entry.comment), 0, 0, entry.mode << 16, at),
        )
        + name
        + entry.extra
        + entry.comment
    )


def end(count: int, size: int, at: int, comment: bytes = b"") -> bytes:
    """The end record."""
    return struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count & 0xFFFF, count & 0xFFFF, size, at, len(comment)) + comment


def archive(entries: Iterable[Entry], *, comment: bytes = b"", before: bytes = b"") -> bytes:
    """A whole archive."""
    body, directory, count = bytearray(before), bytearray(), 0
    for entry in entries:
        at = entry.at
        if at is None:
            at = len(body)
            body += local(entry)
        directory += central(entry, at)
        count += 1
    return bytes(body + directory + end(count, len(directory), len(body), comment))
