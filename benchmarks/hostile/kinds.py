"""Pictures that are odd but sound: every mode, size, orientation and profile; each must give the right picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from benchmarks.hostile.case import Case, of_bytes
from benchmarks.hostile.drawing import (
    ENDINGS,
    FORMATS,
    HEIGHT,
    WIDTH,
    chunk,
    directory,
    drawing,
    file_of,
    header,
    long,
    png,
    segment,
    with_chunks,
    with_segments,
)

NEAR = {"PNG": 1.5, "BMP": 1.5, "TIFF": 1.5, "WEBP": 1.5, "GIF": 4.0, "JPEG": 4.0, "AVIF": 6.0}  # mean levels of luma
TURNS = {  # what a camera stores for each orientation, so that the upright drawing comes out
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def kinds() -> Iterator[Case]:
    """All of this module."""
    yield from _modes()
    yield from _sizes()
    yield from _orientations()
    yield from _profiles()
    yield from _animations()
    yield from _oddities()


def _sound(group: str, name: str, data: bytes, kind: str = "PNG", off: float = 0.0, **more: Any) -> Case:
    return of_bytes(group, name, data, ENDINGS[kind], expect="taken", right=off, **more)


def _modes() -> Iterator[Case]:
    page = drawing()
    modes: dict[str, tuple[str, ...]] = {
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "TIFF": ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"),
        "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
        "WEBP": ("L", "RGB", "RGBA"),
        "GIF": ("1", "L", "P"),
        "BMP": ("1", "L", "P", "RGB", "RGBA"),
        "AVIF": ("L", "RGB", "RGBA"),
    }
    for kind in FORMATS:
        for mode in modes[kind]:
            how: dict[str, Any] = {"save_all": False}
            # One bit cannot look like the drawing, and I and F say nothing of their white.
            off = 0.0 if mode in ("1", "P", "PA", "I", "F") else NEAR[kind] + 1.5 * (mode in ("CMYK", "YCbCr", "LAB"))
            with_mode = _in_mode(page, mode)
            yield _sound("modes", f"{kind} {mode}", file_of(with_mode, kind, **how), kind, off)
    inverted = file_of(Image.fromarray(255 - np.asarray(page.convert("CMYK")), "CMYK"), "JPEG")
    at = inverted.index(b"\xff\xee")
    plain = inverted[:at] + inverted[at + 2 + int.from_bytes(inverted[at + 2 : at + 4], "big") :]
    yield _sound("modes", "JPEG CMYK without Adobe's marker", plain, "JPEG", 6.0)
    for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "tiff_deflate", "zstd", "lzma", "webp"):
        try:
            data = file_of(page, "TIFF", compression=name)
        except (OSError, KeyError, ValueError):  # this libtiff was built without it
            continue
        yield _sound("modes", f"TIFF by {name}", data, "TIFF", 5.0)
    for name in ("group3", "group4"):
        yield _sound("modes", f"TIFF by {name}", file_of(page.convert("1"), "TIFF", compression=name), "TIFF")


def _in_mode(page: Image.Image, mode: str) -> Image.Image:
    if mode == "LAB":
        lab = ImageCms.profileToProfile(
            page, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
        assert lab is not None
        return lab
    grey = np.asarray(page.convert("L"))
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257)
    if mode == "I":
        return Image.fromarray(grey.astype(np.int32))
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32) / 255)
    if mode == "RGBX":
        return Image.fromarray(np.dstack([np.asarray(page), np.full((HEIGHT, WIDTH), 255, np.uint8)]), "RGBX")
    return page.convert("P").convert("PA") if mode == "PA" else page.convert(mode)


def _sizes() -> Iterator[Case]:
    sizes = ((1, 1), (1, 4000), (4000, 1), (15, 200), (16, 16), (16, 9000), (9000, 16), (17, 16), (255, 257))
    for width, height in sizes:
        page = Image.new("RGB", (width, height), (200, 120, 40))
        taken = "taken" if min(width, height) >= 16 else "refused"
        for kind in ("PNG", "JPEG", "GIF"):
            yield of_bytes("sizes", f"{kind} {width} x {height}", file_of(page, kind), ENDINGS[kind], expect=taken)


def _orientations() -> Iterator[Case]:
    page = drawing()
    for kind in FORMATS:
        if kind in ("GIF", "BMP"):
            continue
        for number, turn in TURNS.items():
            exif = Image.Exif()
            exif[0x0112] = number
            data = file_of(page if turn is None else page.transpose(turn), kind, exif=exif)
            yield _sound("orientations", f"{kind} {number}", data, kind, NEAR[kind])
    for number in (0, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = number
        yield _sound("orientations", f"JPEG {number}", file_of(page, "JPEG", exif=exif), "JPEG", NEAR["JPEG"])


def exif_blocks() -> Iterator[tuple[str, bytes]]:
    """Blocks of EXIF that are broken, each in its way."""
    entry = struct.Struct("<HHI4s")
    head = b"Exif\0\0II*\0" + long(8)
    yield "nothing behind its name", b"Exif\0\0"
    yield "half a header", b"Exif\0\0II"
    yield "no byte order", b"Exif\0\0XX*\0" + long(8) + bytes(20)
    yield "a directory far outside", b"Exif\0\0II*\0" + long(0x7FFFFFFF)
    yield "a directory at itself", b"Exif\0\0II*\0" + long(0)
    yield "65,535 entries and none there", head + b"\xff\xff"
    yield "an orientation of text", head + directory([(0x0112, 2, 4, b"six\0")])
    yield "an orientation of no type", head + directory([(0x0112, 999, 1, long(6))])
    yield "an orientation of many values", head + directory([(0x0112, 3, 1000, long(20))]) + bytes(2000)
    yield "an orientation beyond the end", head + directory([(0x0112, 3, 1 << 30, long(1 << 30))])
    yield "directories in a ring", head + directory([(0x0112, 3, 1, long(1))], following=8)
    yield "an EXIF pointer to itself", head + directory([(0x8769, 4, 1, long(8)), (0x0112, 3, 1, long(1))])
    yield "an odd resolution", head + directory([(0x011A, 5, 1, long(0)), (0x0128, 3, 1, long(2))])
    yield "a resolution over zero", head + directory([(0x011A, 5, 1, long(26)), (0x0128, 3, 1, long(2))]) + bytes(16)
    rows = b"".join(entry.pack(tag, 1, 60_000, long(100)) for tag in range(1, 4000))
    yield "4,000 entries of one place", head + struct.pack("<H", 3999) + rows + long(0) + bytes(9000)


def _profiles() -> Iterator[Case]:
    page, grey = drawing(), drawing().convert("L")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    swapped = bytearray(srgb)
    for at in range(132, 132 + 12 * struct.unpack(">I", srgb[128:132])[0], 12):
        swapped[at : at + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(srgb[at : at + 4], srgb[at : at + 4])
    odd: dict[str, bytes] = {
        "sRGB": srgb,
        "of text": b"this is no profile",
        "of zeros": bytes(300),
        "cut short": srgb[: len(srgb) // 2],
        "for Lab": lab,
        "with a size that lies": struct.pack(">I", 0xFFFFFFFF) + srgb[4:],
        "with 2^32 - 1 tags": srgb[:128] + b"\xff\xff\xff\xff" + srgb[132:],
        "with tags outside": srgb[:132] + b"".join(b"rTRC" + b"\x7f\xff\xff\xff" * 2 for _ in range(9)) + srgb[240:],
        "of 4 MB": srgb + bytes(4 << 20),
        "of another make": srgb[:4] + b"evil" + srgb[8:],
        "of no version": srgb[:8] + b"\xff\xff\xff\xff" + srgb[12:],
    }
    for name, profile in odd.items():
        off = 0.0 if name == "for Lab" else 4.0
        for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
            case = _sound("profiles", f"{kind} {name}", file_of(page, kind, icc_profile=profile), kind, off)
            # Pillow unpacks no more than a megabyte of a PNG's profile.
            yield replace(case, expect="refused") if (kind, name) == ("PNG", "of 4 MB") else case
    yield _sound("profiles", "PNG with red and blue exchanged", file_of(page, icc_profile=bytes(swapped)))
    yield _sound("profiles", "PNG grey with one for RGB", file_of(grey, icc_profile=srgb), off=1.5)
    yield _sound("profiles", "JPEG CMYK with one for RGB", file_of(page.convert("CMYK"), "JPEG", icc_profile=srgb), "JPEG", 6.0)  # fmt: skip
    pieces = b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes((n, 200)) + srgb[n * 9 : n * 9 + 9]) for n in range(1, 60))
    data = file_of(page, "JPEG")
    yield _sound("profiles", "JPEG with some of 200 pieces", with_segments(data, pieces), "JPEG", NEAR["JPEG"])


def _animations() -> Iterator[Case]:
    frames = [drawing(), drawing(1), drawing(2)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        if kind in FORMATS:
            data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
            yield _sound("animations", f"{kind} of three frames", data, kind, NEAR[kind] + 1)
    many = [Image.new("L", (32, 32), shade) for shade in range(250)]
    yield _sound(
        "animations", "GIF of 250 frames", file_of(many[0], "GIF", save_all=True, append_images=many[1:]), "GIF"
    )
    moved = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    yield of_bytes("animations", "APNG that claims 2^31 - 1 frames", with_chunks(file_of(drawing()), moved))
    outside = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 0, 5000, 5000, 90000, 90000, 1, 1, 0, 0)
    )
    yield of_bytes("animations", "APNG whose frame lies outside", with_chunks(file_of(drawing()), outside))
    yield _sound("animations", "MPO of two", file_of(frames[0], "MPO", save_all=True, append_images=[frames[1]]), "JPEG", 9.0)  # fmt: skip


def _oddities() -> Iterator[Case]:
    page = drawing()
    yield _sound("oddities", "PNG interlaced", _interlaced(), off=0.0)
    yield _sound("oddities", "JPEG progressive", file_of(page, "JPEG", progressive=True), "JPEG", NEAR["JPEG"])
    yield _sound("oddities", "GIF interlaced", file_of(page, "GIF", interlace=1), "GIF", NEAR["GIF"])
    for dpi in ((0, 0), (1, 100_000), (72.5, 3)):
        yield _sound("oddities", f"PNG of {dpi[0]:g} x {dpi[1]:g} dpi", file_of(page, dpi=dpi), off=1.5)
    yield _sound("oddities", "JPEG of 65535 x 1 dpi", file_of(page, "JPEG", dpi=(65535, 1)), "JPEG", NEAR["JPEG"])
    for bits, colour in ((1, 0), (2, 0), (4, 0), (16, 0), (16, 2), (16, 4), (16, 6)):
        row = b"\0" + bytes(-(-WIDTH * bits * {0: 1, 2: 3, 4: 2, 6: 4}[colour] // 8))
        packed = zlib.compress(row * HEIGHT)
        yield _sound("oddities", f"PNG of {bits} bits, colour type {colour}", png(header(WIDTH, HEIGHT, bits, colour), packed))  # fmt: skip
    yield _sound("oddities", "PNG in 5,000 chunks of a byte", _in_bytes(file_of(page)), off=1.5)
    yield _sound("oddities", "PNG with an ending behind its end", file_of(page) + b"and more" * 1000, off=1.5)
    yield _sound("oddities", "JPEG with rubbish behind its end", file_of(page, "JPEG") + b"\xff\xd8\xff" * 999, "JPEG", 4.0)  # fmt: skip
    yield _sound("oddities", "PNG wholly transparent", file_of(Image.new("RGBA", (40, 40))))
    yield _sound("oddities", "PNG wholly black", file_of(Image.new("RGB", (40, 40))))
    yield _sound("oddities", "JPEG named .png", file_of(page, "JPEG"), "PNG", NEAR["JPEG"])
    yield _sound("oddities", "PNG named .jpg", file_of(page), "JPEG", 1.5)
    yield _sound("oddities", "GIF named .webp", file_of(page, "GIF"), "WEBP", NEAR["GIF"])
    yield _sound("oddities", "TIFF named .bmp", file_of(page, "TIFF"), "BMP", 1.5)
    data = file_of(page, "JPEG")
    for name, body in exif_blocks():
        clipped = body[:65_000]
        yield _sound("broken EXIF", f"JPEG: {name}", with_segments(data, segment(0xE1, clipped)), "JPEG", NEAR["JPEG"])
        yield _sound("broken EXIF", f"PNG: {name}", with_chunks(file_of(page), chunk(b"eXIf", body[6:])), off=1.5)
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + b'<x tiff:Orientation="6">' + b"<a>" * 20_000
    yield of_bytes("broken EXIF", "JPEG: an orientation in XMP", with_segments(data, segment(0xE1, xmp)), ".jpg", expect="taken")  # fmt: skip


def _interlaced() -> bytes:
    """All seven passes of a grey page."""
    rows = []
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):  # fmt: skip
        rows += [b"\0" + bytes((x ^ y) & 0xFF for x in range(x0, WIDTH, dx)) for y in range(y0, HEIGHT, dy)]
    return png(header(WIDTH, HEIGHT, 8, 0, interlace=1), zlib.compress(b"".join(rows)))


def _in_bytes(data: bytes) -> bytes:
    """The same PNG with its pixels in chunks of one byte; at most 5,000 of them, the rest as it was."""
    at = data.index(b"IDAT") - 4
    size = struct.unpack(">I", data[at : at + 4])[0]
    body = data[at + 8 : at + 8 + size]
    pieces = [chunk(b"IDAT", body[n : n + 1]) for n in range(min(5000, len(body)))]
    rest = [chunk(b"IDAT", body[5000:])] if len(body) > 5000 else []
    return data[:at] + b"".join([*pieces, *rest]) + chunk(b"IEND", b"")
