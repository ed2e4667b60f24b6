"""The drawing that the cases are made of, and the pieces that picture files are put together from."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, features

WIDTH, HEIGHT = 96, 128  # pixels
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
FORMATS = tuple(kind for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if kind != "AVIF" or
                features.check("avif"))  # fmt: skip
ENDINGS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "AVIF": ".avif",
}
LOSSLESS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}, "AVIF": {"quality": 95}}


def drawing(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A page in flat colours with dark lines, another one for each seed; each corner has a colour of its own."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(40, 256, (6, 4, 3), dtype=np.uint8)
    colours[..., 0] = np.maximum(colours[..., 0], 150)  # warm, so that it counts as colour beyond doubt
    colours[..., 2] //= 2
    page = Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)
    pixels = np.array(page)
    pixels[:: max(2, height // 6)] = 10
    pixels[:, :: max(2, width // 4)] = 10
    return Image.fromarray(pixels)


def file_of(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    """The file of a picture; lossless, or nearly so, unless said otherwise."""
    out = io.BytesIO()
    image.save(out, kind, **{**LOSSLESS.get(kind, {}), **how})
    return out.getvalue()


def chunk(name: bytes, body: bytes, crc: int | None = None) -> bytes:
    """A chunk of a PNG."""
    return (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) if crc is None else crc)
    )


def header(width: int, height: int, bits: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """The IHDR chunk of a PNG."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace))


def png(head: bytes, packed: bytes, extra: Iterable[bytes] = (), after: Iterable[bytes] = ()) -> bytes:
    """A PNG of its header chunk, compressed rows, and chunks before and after these."""
    return PNG_MAGIC + head + b"".join(extra) + chunk(b"IDAT", packed) + b"".join(after) + chunk(b"IEND", b"")


def with_chunks(data: bytes, *extra: bytes) -> bytes:
    """A PNG with chunks put in behind its header."""
    at = len(PNG_MAGIC) + 25
    return data[:at] + b"".join(extra) + data[at:]


def zeros(count: int) -> bytes:
    """So many zero bytes, packed by zlib at some thousand to one, without ever holding them."""
    block = 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)  # stands for itself, so it can be repeated
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    rest = last.compress(bytes(count % block)) + last.flush()
    check = (count % 65521) << 16 | 1  # Adler-32 of zeros
    return b"\x78\xda" + first * (count // block) + rest + struct.pack(">I", check)


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def with_segments(data: bytes, *extra: bytes) -> bytes:
    """A JPEG with bytes put in behind its first marker."""
    return data[:2] + b"".join(extra) + data[2:]


def riff(kind: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A RIFF file."""
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + kind + body


Tag = tuple[int, int, int, bytes]  # number, type, count, value or offset (padded to 4 bytes)


def directory(tags: Iterable[Tag], following: int = 0, order: str = "<") -> bytes:
    """A TIFF's directory of tags."""
    rows = [
        struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")[:4] for tag, kind, count, value in tags
    ]
    return struct.pack(order + "H", len(rows)) + b"".join(rows) + struct.pack(order + "I", following)


def long(value: int) -> bytes:
    """Four bytes, the least first."""
    return struct.pack("<I", value)


def tiff(tags: Iterable[Tag], tail: bytes = b"") -> bytes:
    """A TIFF whose directory comes first; `tail` begins right behind it."""
    return b"II*\0" + long(8) + directory(tags) + tail


def grey_tags(width: int, height: int, *more: Tag) -> list[Tag]:
    """What an uncompressed 8-bit grey TIFF needs; `more` goes before tags of the same number."""
    base: list[Tag] = [
        (256, 4, 1, long(width)),
        (257, 4, 1, long(height)),
        (258, 3, 1, long(8)),
        (259, 3, 1, long(1)),
        (262, 3, 1, long(1)),
        (273, 4, 1, long(8)),
        (277, 3, 1, long(1)),
        (278, 4, 1, long(height)),
        (279, 4, 1, long(width * height & 0xFFFFFFFF)),
    ]
    ours = {tag[0] for tag in more}
    return sorted([tag for tag in base if tag[0] not in ours] + list(more))
