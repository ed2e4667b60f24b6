"""Pictures that are small as files and want much memory or time; each goes through the commands alone."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from benchmarks.hostile.case import Case, of_bytes
from benchmarks.hostile.drawing import (
    FORMATS,
    HEIGHT,
    PNG_MAGIC,
    WIDTH,
    chunk,
    drawing,
    file_of,
    grey_tags,
    header,
    long,
    png,
    riff,
    segment,
    tiff,
    with_chunks,
    with_segments,
    zeros,
)

MOST = 60 << 20  # bytes of a file, a little below what the servers take


def bombs() -> Iterator[Case]:
    """All of this module."""
    yield from _many_pixels()
    yield from _claims()
    yield from _packed_texts()
    yield from _floods()


def _bomb(name: str, make: Callable[[], bytes] | bytes, ending: str = ".png", expect: Any = "either") -> Case:
    large = 99.0 if expect == "taken" and ("99 mega" in name or "6,000,000" in name or "49 mega" in name) else 0.0
    return of_bytes("bombs", name, make, ending, alone=True, expect=expect, megapixels=large)


def _many_pixels() -> Iterator[Case]:
    """Just below and above the limit of 100 megapixels, and far above."""

    def flat(mode: str, side: int, kind: str, **how: Any) -> Callable[[], bytes]:
        return lambda: file_of(Image.new(mode, (side, side)), kind, **how)

    yield _bomb("PNG of 99 megapixels", lambda: png(header(9950, 9950), zeros(9950 * (9950 * 3 + 1))), expect="taken")
    yield _bomb("PNG of 99 megapixels with alpha", lambda: png(header(9950, 9950, 8, 6), zeros(9950 * (9950 * 4 + 1))), expect="taken")  # fmt: skip
    yield _bomb("PNG of 99 megapixels, 16 bits", lambda: png(header(9950, 9950, 16, 2), zeros(9950 * (9950 * 6 + 1))), expect="taken")  # fmt: skip
    yield _bomb("PNG of 99 megapixels, 16 bits grey", lambda: png(header(9950, 9950, 16, 0), zeros(9950 * (9950 * 2 + 1))), expect="taken")  # fmt: skip
    yield _bomb("PNG of 99 megapixels, interlaced", lambda: png(header(9950, 9950, 8, 0, 1), zeros(9950 * 9960 + 9950 * 3)))  # fmt: skip
    yield _bomb("PNG of 16 x 6,000,000", lambda: png(header(16, 6_000_000, 8, 0), zeros(17 * 6_000_000)), expect="taken")  # fmt: skip
    yield _bomb("PNG of 6,000,000 x 16", lambda: png(header(6_000_000, 16, 8, 0), zeros(6_000_001 * 16)), expect="taken")  # fmt: skip
    yield _bomb("PNG of one bit, 99 megapixels", lambda: png(header(9950, 9950, 1, 0), zeros(9950 * 1245)), expect="taken")  # fmt: skip
    yield _bomb("PNG of 100 megapixels and one row", lambda: png(header(10000, 10001), zeros(10001 * 30001)), expect="refused")  # fmt: skip
    yield _bomb("PNG of 2.5 gigapixels", lambda: png(header(50000, 50000, 8, 0), zeros(50001 * 50000)), expect="refused")  # fmt: skip
    yield _bomb("JPEG of 99 megapixels", flat("RGB", 9950, "JPEG"), ".jpg", "taken")
    yield _bomb("JPEG of 99 megapixels, progressive", flat("RGB", 9950, "JPEG", progressive=True), ".jpg", "taken")
    yield _bomb("WebP of 99 megapixels", flat("RGB", 9950, "WEBP", method=0, quality=0), ".webp", "taken")
    yield _bomb("WebP of 200 megapixels", flat("RGB", 14142, "WEBP", method=0, quality=0), ".webp", "refused")
    yield _bomb("GIF of 99 megapixels", flat("L", 9950, "GIF"), ".gif", "taken")
    yield _bomb("TIFF of 99 megapixels, float", flat("F", 9950, "TIFF", compression="tiff_adobe_deflate"), ".tif", "taken")  # fmt: skip
    yield _bomb("TIFF of 99 megapixels, CMYK", flat("CMYK", 9950, "TIFF", compression="tiff_adobe_deflate"), ".tif", "taken")  # fmt: skip
    yield _bomb("TIFF of 99 megapixels, Lab", flat("LAB", 9950, "TIFF", compression="tiff_adobe_deflate"), ".tif", "taken")  # fmt: skip
    yield _bomb("TIFF of 400 megapixels", flat("L", 20000, "TIFF", compression="tiff_lzw"), ".tif", "refused")
    if "AVIF" in FORMATS:
        yield _bomb("AVIF of 49 megapixels", flat("RGB", 7000, "AVIF", speed=10, quality=1), ".avif", "taken")
    frames = [Image.new("L", (3000, 3000), shade) for shade in (0, 255)] * 10
    yield _bomb("GIF of 20 frames of 9 megapixels", lambda: file_of(frames[0], "GIF", save_all=True, append_images=frames[1:]), ".gif", "taken")  # fmt: skip


def _claims() -> Iterator[Case]:
    """Headers that claim sizes which nothing behind them has."""
    side = 2**31 - 1
    yield _bomb("PNG that claims 2^31 - 1 squared", png(header(side, side, 8, 6), b""), expect="refused")
    yield _bomb("PNG that claims 60,000 squared", png(header(60_000, 60_000), b""), expect="refused")
    yield _bomb("GIF that claims 65,535 squared", b"GIF89a\xff\xff\xff\xff\0\0\0," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x08\0;", ".gif", "refused")  # fmt: skip
    yield _bomb("GIF whose second frame claims 65,535 squared", file_of(drawing(), "GIF")[:-1] + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x08\0;", ".gif")  # fmt: skip
    yield _bomb("BMP that claims 50,000 squared", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0), ".bmp", "refused")  # fmt: skip
    vp8x = struct.pack("<IB", 0x12, 0)[:4] + (16383).to_bytes(3, "little") * 2
    still = file_of(drawing(), "WEBP")[12:]
    frame = (
        struct.pack("<I", 0)[:3] * 2 + (95).to_bytes(3, "little") + (127).to_bytes(3, "little") + b"\x64\0\0\0" + still
    )
    yield _bomb("WebP animation that claims 16,384 squared", riff(b"WEBP", (b"VP8X", vp8x), (b"ANIM", bytes(6)), (b"ANMF", frame)), ".webp", "refused")  # fmt: skip
    jpeg = bytearray(file_of(drawing(), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    yield _bomb("JPEG that claims 65,535 squared", bytes(jpeg), ".jpg", "refused")
    jpeg[at : at + 4] = struct.pack(">HH", 9900, 9900)
    yield _bomb("JPEG that claims 98 megapixels", bytes(jpeg), ".jpg", "refused")
    yield _bomb("TIFF that claims 2^32 - 1 squared", tiff(grey_tags(2**32 - 1, 2**32 - 1)), ".tif", "refused")
    tile = [(322, 4, 1, long(60_000)), (323, 4, 1, long(60_000)), (324, 4, 1, long(8)), (325, 4, 1, long(8))]
    tags = [tag for tag in grey_tags(64, 64, (259, 3, 1, long(8)), *tile) if tag[0] not in (273, 278, 279)]
    yield _bomb("TIFF whose tile claims 60,000 squared", tiff(tags, bytes(64)), ".tif", "refused")


def _packed_texts() -> Iterator[Case]:
    """What is packed beside the pixels."""
    page = file_of(drawing())

    def packed(count: int) -> bytes:
        return zeros(count)

    yield _bomb("PNG with a zTXt of 1 GB", lambda: with_chunks(page, chunk(b"zTXt", b"a\0\0" + packed(1 << 30))))
    yield _bomb("PNG with an iTXt of 1 GB", lambda: with_chunks(page, chunk(b"iTXt", b"a\0\1\0\0\0" + packed(1 << 30))))
    yield _bomb("PNG with an iCCP of 1 GB", lambda: with_chunks(page, chunk(b"iCCP", b"a\0\0" + packed(1 << 30))))
    text = chunk(b"zTXt", b"a\0\0" + zeros(1_000_000))
    yield _bomb("PNG with 2,000 zTXt of 1 MB", lambda: with_chunks(page, *[text] * 2000))
    tail = PNG_MAGIC + page[8:-12]
    yield _bomb("PNG with 2,000 zTXt behind its pixels", lambda: tail + text * 2000 + chunk(b"IEND", b""))
    data = b"".join(b"%02x" % (n % 256) for n in range(500_000))
    raw = zlib.compress(b"\nexif\n  500000\n" + data)
    yield _bomb("PNG with raw EXIF in text", with_chunks(page, chunk(b"zTXt", b"Raw profile type exif\0\0" + raw)))


def _floods() -> Iterator[Case]:
    """So many small parts that looking at each takes long, or the same bytes named again and again."""
    page, jpeg = file_of(drawing()), file_of(drawing(), "JPEG")
    yield _bomb("PNG of five million empty chunks", lambda: with_chunks(page, chunk(b"teSt", b"") * (MOST // 12)))
    empty = chunk(b"IDAT", b"")
    at = page.index(b"IDAT") - 4
    yield _bomb("PNG of five million empty pieces", lambda: page[:at] + empty * (MOST // 12) + page[at:])
    yield _bomb(
        "PNG of five million chunks behind", lambda: page[:-12] + chunk(b"teSt", b"") * (MOST // 12) + page[-12:]
    )
    yield _bomb("JPEG of fifteen million comments", lambda: with_segments(jpeg, b"\xff\xfe\0\2" * (MOST // 4)), ".jpg")
    yield _bomb("JPEG of fifteen million APP1", lambda: with_segments(jpeg, b"\xff\xe1\0\2" * (MOST // 4)), ".jpg")
    yield _bomb("JPEG behind 60 MB of 0xFF", lambda: with_segments(jpeg, b"\xff" * MOST), ".jpg")
    yield _bomb("JPEG behind 60 MB of rubbish", lambda: jpeg[:20] + bytes(MOST) + jpeg[20:], ".jpg")
    yield _bomb("JPEG of 20,000 scans of 98 megapixels", lambda: _many_scans(9900, 9900, 20_000), ".jpg")
    yield _bomb("JPEG with 60 MB of EXIF", lambda: _much_exif(jpeg), ".jpg")
    yield _bomb(
        "PNG whose EXIF names 2 MB 65,000 times", lambda: with_chunks(page, chunk(b"eXIf", _overlapping(2 << 20)))
    )
    yield _bomb("GIF with a comment of 60 MB", lambda: _commented(255), ".gif")
    yield _bomb("GIF with 60 MB of comments of a byte", lambda: _commented(1), ".gif")
    yield _bomb("GIF with 60 MB of extensions", lambda: _extended(), ".gif")
    yield _bomb("BMP of runs of one, 30 megapixels", lambda: _run_length(), ".bmp")
    yield _bomb("TIFF whose tags name 2 MB 65,000 times", lambda: b"II*\0" + _overlapping(2 << 20)[4:], ".tif")
    yield _bomb("TIFF of six million strips", lambda: _strips(6_000_000), ".tif")
    yield _bomb("TIFF, big, of three million tags", lambda: _big_tags(3_000_000), ".tif")
    yield _bomb("TIFF of 2,000,000 directories", lambda: _directories(), ".tif")
    yield _bomb("WebP of 60 MB of unknown parts", lambda: riff(b"WEBP", (b"VP8X", bytes(4) + (95).to_bytes(3, "little") + (127).to_bytes(3, "little")), *[(b"junk", b"")] * (MOST // 8)), ".webp")  # fmt: skip
    yield _bomb("PNG with a profile of 60 MB", lambda: file_of(drawing(), icc_profile=_tables(50 << 20)))


def _many_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG whose scans say in a few bytes that nothing changes in any block."""
    out = io.BytesIO()
    Image.new("L", (16, 16)).save(out, "JPEG", progressive=True)
    data = bytearray(out.getvalue())
    at = data.index(b"\xff\xc2") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    first = data.index(b"\xff\xda")
    # A table with the one code 0: an end of band, whose run of 2^14 blocks is told by 14 bits behind it.
    table = segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")
    scan = segment(0xDA, b"\1\1\0\1\x3f\0") + bytes(900)
    return bytes(data[:first]) + (table + scan) * min(scans, MOST // (len(scan) + len(table))) + b"\xff\xd9"


def _much_exif(jpeg: bytes) -> bytes:
    """EXIF in a thousand segments, whose entries all name the same bytes."""
    data = _overlapping(50 << 20)
    parts = [data[at : at + 65_000] for at in range(0, len(data), 65_000)]
    return with_segments(jpeg, *[segment(0xE1, b"Exif\0\0" + part) for part in parts])


def _overlapping(size: int) -> bytes:
    """A TIFF directory of 65,000 entries, each of which says that its value is the same `size` bytes."""
    rows = b"".join(struct.pack("<HHII", tag, 1, size, 8) for tag in range(300, 65_300))
    body = struct.pack("<H", 65_000) + rows + long(0)
    return b"II*\0" + long(8) + body + bytes(max(0, size + 8 - len(body)))


def _commented(block: int) -> bytes:
    data, piece = file_of(drawing(), "GIF"), bytes((block,)) + b"c" * block
    at = data.index(b",")  # of the frame, unless the palette has one; then the file is merely damaged
    return data[:at] + b"!\xfe" + piece * (MOST // len(piece)) + b"\0" + data[at:]


def _extended() -> bytes:
    data = file_of(Image.new("L", (32, 32)), "GIF")
    at = data.rindex(b",")
    return data[:at] + b"!\x01\0" * (MOST // 3) + data[at:]


def _run_length() -> bytes:
    width, height = 6000, 5000
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, width * height * 2, 0, 0, 256, 0)
    palette = b"".join(bytes((n, 255 - n, 7, 0)) for n in range(256))
    body = b"\1\7" * (width * height)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(palette)) + head + palette + body


def _strips(count: int) -> bytes:
    """One row a strip, all of which lie at the same place."""
    tags = grey_tags(16, count, (278, 4, 1, long(1)))
    start = 8 + 2 + 12 * len(tags) + 4
    tags = grey_tags(
        16, count, (278, 4, 1, long(1)), (273, 4, count, long(start)), (279, 4, count, long(start + 4 * count))
    )
    return tiff(tags, long(8) * count + long(16) * count)


def _big_tags(count: int) -> bytes:
    row = struct.pack("<HHQQ", 300, 1, 1, 0)
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, count) + row * count + bytes(8)


def _directories() -> bytes:
    """A chain of directories of one tag each; the first is a sound picture."""
    tags, count, pixels = grey_tags(64, 64), 2_000_000, bytes(64 * 64)
    first = 8 + 2 + 12 * len(tags) + 4
    tags = grey_tags(64, 64, (273, 4, 1, long(first)))
    start = first + len(pixels)
    links = bytearray(18 * count)
    link = struct.Struct("<HHHI4sI")
    for place in range(count):
        following = start + 18 * (place + 1) if place + 1 < count else 0
        link.pack_into(links, 18 * place, 1, 256, 4, 1, long(64), following)
    head = tiff(tags)
    return head[:-4] + long(start) + pixels + bytes(links)


def _tables(size: int) -> bytes:
    """A profile with a table of many bytes that nobody needs."""
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return struct.pack(">I", len(srgb) + size) + srgb[4:] + bytes(size)


assert WIDTH < HEIGHT  # the WebP frames above say so
