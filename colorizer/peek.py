"""A picture's size from its header; nothing is decoded, and nothing fails."""

from __future__ import annotations

import io

from PIL import BmpImagePlugin, GifImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin

_OPENERS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"GIF8", GifImagePlugin.GifImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
)  # those whose header Pillow reads in Python; native readers are left to the worker process
_ORIENTATION = 0x0112
_TURNED = range(5, 9)  # EXIF orientations in which width and height change places


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height, orientation applied, as the header says; (0, 0) where only decoding would tell.

    Cost: some 50 µs.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    for magic, opener in _OPENERS:
        if data.startswith(magic):
            return _size_by(opener, data)
    return 0, 0


def _size_by(opener: type[ImageFile.ImageFile], data: bytes) -> tuple[int, int]:
    try:
        with opener(io.BytesIO(data)) as image:
            # A PNG may carry its EXIF behind the pixels; looking for it there would decode them.
            turned = "exif" in image.info and image.getexif().get(_ORIENTATION) in _TURNED
            width, height = image.size
    except Exception:  # a damaged file; the worker says what is wrong with it
        return 0, 0
    return (height, width) if turned else (width, height)


def _webp_size(data: bytes) -> tuple[int, int]:
    """By the container's three forms; see RFC 9649. Orientation lies at the end of the file and is not looked for."""
    kind, head = data[12:16], data[20:30]
    if len(head) < 10:
        return 0, 0
    if kind == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    return 0, 0
