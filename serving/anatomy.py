"""How a picture file is put together: a look at its parts before any library reads them.

A file of millions of tiny parts keeps a decoder busy for minutes and fills its lists with gigabytes, though it claims
few pixels; so does a JPEG that goes over all its blocks a thousand times. Such files are refused here. What is merely
damaged is left to the decoder, which says it better. Nothing is decoded, and no library is called.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from serving.errors import InvalidInput

PARTS = 100_000  # chunks, segments or blocks of a file; 64 MiB of pixels in PNG chunks of 1 KiB are 65,536
JUNK = 65_536  # bytes between a JPEG's parts that are none
SCANS, SCAN_PIXELS = 12, 3_000_000_000  # of a JPEG: so many at any size, more only up to so many pixels gone over
TINY_PIXELS = 512  # of a JPEG that one byte can hold: a bit a block of 64
EXIFS = 64  # EXIF segments of a JPEG; one is right, and Pillow copies all before it for each
PIECES = 500_000  # of a GIF's first frame; 64 MiB in pieces of 255 bytes are 263,173
RUNS, RUN_PIXELS = 8 << 20, 16_000_000  # bytes and pixels of a run-length BMP, which Pillow unpacks byte by byte
TAGS, STRIPS = 4096, 200_000  # of a TIFF's first directory

_BARE = {0x01, *range(0xD0, 0xDA)}  # markers of a JPEG that have no length
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # those that tell the size


@dataclass(frozen=True)
class Anatomy:
    """What a look has found."""

    width: int = 0  # pixels, as stored; 0: only decoding tells
    height: int = 0
    exif: bytes = b""  # the block of it that comes before the pixels


def look(data: bytes) -> Anatomy:
    """The size and EXIF block of a PNG, JPEG, GIF or BMP; of any other file nothing.

    Raises:
        InvalidInput: IMAGE_TOO_LARGE, it has more parts than a picture needs; IMAGE_UNREADABLE, a JPEG has fewer bytes
            than its pixels need.

    Cost: 0.2 µs a part, at most some 0.1 s.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data[:4] == b"GIF8":
        return _gif(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _tiff(data)
    return Anatomy()


def orientation_of(exif: bytes) -> int:
    """The EXIF orientation of a block, 1 to 8; 1 where it tells none, or is damaged."""
    body = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(body[:2])
    if order is None or len(body) < 10:
        return 1
    (at,) = struct.unpack_from(order + "I", body, 4)
    if at + 2 > len(body):
        return 1
    (count,) = struct.unpack_from(order + "H", body, at)
    for place in range(at + 2, min(at + 2 + 12 * count, len(body) - 11), 12):
        tag, kind, values, value = struct.unpack_from(order + "HHIH", body, place)
        if tag == 0x0112:
            return value if (kind, values) == (3, 1) and 1 <= value <= 8 else 1
    return 1


def _flood(kind: str, what: str, most: int) -> InvalidInput:
    return InvalidInput(f"a {kind} must have at most {most} {what}, and this one has more", reason="IMAGE_TOO_LARGE")


def _png(data: bytes) -> Anatomy:
    if len(data) < 33:
        return Anatomy()
    width, height = struct.unpack_from(">II", data, 16)
    exif, at, count, pixels = b"", 8, 0, False
    while at + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        pixels = pixels or name == b"IDAT"
        if name == b"eXIf" and not pixels:
            exif = data[at + 8 : at + 8 + size]
        at += 12 + size
        count += 1
        if count > PARTS:
            raise _flood("PNG", "parts", PARTS)
    return Anatomy(width, height, exif)


def _jpeg(data: bytes) -> Anatomy:
    width = height = count = junk = exifs = 0
    exif, at = b"", 2
    while 0 <= at < len(data) - 4:
        if data[at] != 0xFF:
            at, before = data.find(b"\xff", at), at
            junk += max(at, before) - before
        elif data[at + 1] in (0x00, 0xFF):
            at += 1
            junk += 1
        else:
            marker, size = (
                data[at + 1],
                2 if data[at + 1] in _BARE else 2 + int.from_bytes(data[at + 2 : at + 4], "big"),
            )
            if marker in _FRAMES and at + 9 <= len(data):
                height, width = struct.unpack_from(">HH", data, at + 5)
            if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
                exif = exif or data[at + 4 : at + size]
                exifs += 1
            if marker == 0xDA:
                _check_scans(data, at, width * height)
                break
            at += size
            count += 1
        if count > PARTS or junk > JUNK:
            raise _flood("JPEG", "parts", PARTS)
        if exifs > EXIFS:
            raise _flood("JPEG", "EXIF segments", EXIFS)
    return Anatomy(width, height, exif)


def _check_scans(data: bytes, first: int, pixels: int) -> None:
    scans = data.count(b"\xff\xda", first)  # among packed pixels 0xFF is never followed by that
    if scans > SCANS and scans * pixels > SCAN_PIXELS:
        raise _flood(f"JPEG of {pixels} pixels", "scans", max(SCANS, SCAN_PIXELS // pixels))
    if pixels > TINY_PIXELS * len(data):
        raise InvalidInput(
            f"a JPEG of {pixels} pixels must have at least {pixels // TINY_PIXELS} bytes, got {len(data)}",
            reason="IMAGE_UNREADABLE",
        )


def _gif(data: bytes) -> Anatomy:
    if len(data) < 13:
        return Anatomy()
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1) * (flags >> 7)
    count = frames = 0
    while at < len(data) and frames < 2:
        count += 1
        if count > PIECES:
            raise _flood("GIF", "parts", PIECES)
        if data[at] == 0x21:  # an extension
            at += 2
        elif data[at] == 0x2C and at + 10 <= len(data):  # a frame
            frames += 1
            flags = data[at + 9]
            at += 11 + (3 << (flags & 7) + 1) * (flags >> 7)
        elif data[at] == 0x3B:
            break
        else:
            at += 1  # no part begins so; decoders look further
            continue
        while at < len(data) and data[at]:
            at, count = at + 1 + data[at], count + 1
            if count > PIECES:
                raise _flood("GIF", "parts", PIECES)
        at += 1
    return Anatomy(width, height)


def _bmp(data: bytes) -> Anatomy:
    if len(data) < 54:
        return Anatomy()
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        return Anatomy(*struct.unpack_from("<HH", data, 18))
    width, height, _, _, packing = struct.unpack_from("<iiHHI", data, 18)
    if packing in (1, 2) and (len(data) > RUNS or abs(width * height) > RUN_PIXELS):
        raise InvalidInput(
            f"a run-length BMP must have at most {RUNS} bytes in its parts and {RUN_PIXELS} pixels, got {len(data)} "
            f"and {abs(width * height)}; save it as PNG",
            reason="IMAGE_TOO_LARGE",
        )
    return Anatomy(max(0, width), abs(height))


def _tiff(data: bytes) -> None:
    order, wide = "<" if data[:1] == b"I" else ">", data[2:4] in (b"+\0", b"\0+")
    head, number, entry, values = (16, "Q", 20, "Q") if wide else (8, "H", 12, "I")
    if len(data) < head:
        return
    at = struct.unpack_from(order + values, data, 8 if wide else 4)[0]
    if at + struct.calcsize(number) > len(data):
        return
    (count,) = struct.unpack_from(order + number, data, at)
    start = at + struct.calcsize(number)
    if count > TAGS and start + entry * TAGS < len(data):
        raise _flood("TIFF", "parts in its directory", TAGS)
    for place in range(start, min(start + entry * count, len(data) - entry + 1), entry):
        tag, _, many = struct.unpack_from(order + "HH" + values, data, place)
        if tag in (273, 279, 324, 325) and many > STRIPS:
            raise _flood("TIFF", "parts", STRIPS)
