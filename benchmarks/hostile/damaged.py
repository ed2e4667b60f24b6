"""Pictures that are damaged: cut short, with bits turned, with parts that contradict one another; and no pictures."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.hostile.case import Case, of_bytes
from benchmarks.hostile.drawing import (
    ENDINGS,
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
    segment,
    tiff,
    with_chunks,
    with_segments,
)

CUTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.999)  # shares of the file that are left
FLIPS = 12  # files of each format whose bits are turned, from one bit to a few hundred


def damaged() -> Iterator[Case]:
    """All of this module."""
    yield from _cut_short()
    yield from _turned_bits()
    yield from _contradictions()
    yield from _strangers()
    yield from _polyglots()


def _noise() -> Image.Image:
    """Colour noise over a drawing: what can't be packed has its file's length from the pixels."""
    rng = np.random.default_rng(11)
    return Image.fromarray((np.asarray(drawing()) // 2 + rng.integers(0, 128, (HEIGHT, WIDTH, 3))).astype(np.uint8))


def _cut_short() -> Iterator[Case]:
    for kind in FORMATS:
        data = file_of(_noise(), kind)
        for share in CUTS:
            yield of_bytes(
                "cut short", f"{kind} at {share:.1%}", data[: int(len(data) * share)], ENDINGS[kind], expect="refused"
            )  # fmt: skip


def _turned_bits() -> Iterator[Case]:
    for kind in FORMATS:
        data, rng = file_of(drawing(), kind), np.random.default_rng(len(kind) * 1000)
        for turn in range(FLIPS):
            broken = bytearray(data)
            reach = min(len(data), 64) if turn % 2 else len(data)  # every other one in the header alone
            for _ in range(1 << (turn * 2 // 3)):
                broken[int(rng.integers(0, reach))] ^= 1 << int(rng.integers(0, 8))
            yield of_bytes("turned bits", f"{kind} {turn + 1}", bytes(broken), ENDINGS[kind])


def _contradictions() -> Iterator[Case]:
    def one(name: str, data: bytes, ending: str = ".png", expect: Any = "either") -> Case:
        return of_bytes("contradictions", name, data, ending, expect=expect)

    page, rows = file_of(drawing()), zlib.compress(bytes((WIDTH * 3 + 1) * HEIGHT))
    palette, jpeg = chunk(b"PLTE", bytes(range(240))), file_of(drawing(), "JPEG")
    yield one("PNG without pixels", PNG_MAGIC + header(64, 64) + chunk(b"IEND", b""), expect="refused")
    yield one("PNG without a header", PNG_MAGIC + chunk(b"IDAT", rows) + chunk(b"IEND", b""), expect="refused")
    yield one("PNG without an end", page[:-12])
    yield one("PNG with a header of 0 x 0", png(header(0, 0), rows), expect="refused")
    yield one("PNG with two headers", with_chunks(page, header(9000, 9000)))
    yield one("PNG of colour type 9", png(header(64, 64, 8, 9), rows), expect="refused")
    yield one("PNG of 3 bits", png(header(64, 64, 3, 0), rows), expect="refused")
    yield one("PNG of interlace 77", png(header(WIDTH, HEIGHT, interlace=77), rows))
    yield one("PNG with a palette and none needed", with_chunks(page, palette))
    yield one("PNG of a palette and none there", png(header(WIDTH, HEIGHT, 8, 3), rows))
    yield one("PNG of a palette of one colour", png(header(WIDTH, HEIGHT, 8, 3), zlib.compress(b"\xff" * (WIDTH + 1) * HEIGHT), [chunk(b"PLTE", b"abc")]))  # fmt: skip
    yield one("PNG of a palette that is no palette", png(header(WIDTH, HEIGHT, 8, 3), rows, [chunk(b"PLTE", b"abcd")]))
    yield one("PNG with 1,000 levels of transparency", png(header(WIDTH, HEIGHT, 8, 3), zlib.compress(bytes((WIDTH + 1) * HEIGHT)), [palette, chunk(b"tRNS", bytes(1000))]))  # fmt: skip
    yield one("PNG with a wrong checksum", page.replace(b"IEND", b"IENd"))
    yield one("PNG whose chunk has 2^32 - 1 bytes", page[:33] + b"\xff\xff\xff\xffteXt" + page[33:], expect="refused")
    yield one("PNG whose chunk has no name", with_chunks(page, chunk(b"\0\0\0\0", b"")))
    yield one("PNG with too many pixels packed", png(header(WIDTH, HEIGHT), zlib.compress(bytes(WIDTH * HEIGHT * 30))))
    yield one("PNG with filters of no kind", png(header(WIDTH, HEIGHT), zlib.compress(b"\x63" * (WIDTH * 3 + 1) * HEIGHT)))  # fmt: skip
    yield one("JPEG of no components", jpeg.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x08\x08"), ".jpg", "refused")
    yield one("JPEG of 12 bits", jpeg.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), ".jpg", "refused")
    yield one("JPEG with two frames", with_segments(jpeg, jpeg[jpeg.index(b"\xff\xc0") : jpeg.index(b"\xff\xc4")]), ".jpg")  # fmt: skip
    yield one("JPEG of arithmetic coding", jpeg.replace(b"\xff\xc0\0\x11", b"\xff\xc9\0\x11"), ".jpg")
    yield one("JPEG lossless", jpeg.replace(b"\xff\xc0\0\x11", b"\xff\xc3\0\x11"), ".jpg", "refused")
    yield one("JPEG with an empty segment", with_segments(jpeg, b"\xff\xe1\0\0"), ".jpg")
    yield one("JPEG with a segment beyond the end", with_segments(jpeg, b"\xff\xfe\xff\xff"), ".jpg")
    yield one("JPEG without Huffman tables", jpeg[: jpeg.index(b"\xff\xc4")] + jpeg[jpeg.index(b"\xff\xda") :], ".jpg")
    yield one("JPEG with a restart after every block", with_segments(jpeg, segment(0xDD, b"\0\1")), ".jpg")
    gif = file_of(drawing(), "GIF")
    yield one("GIF of a code of 12 bits", gif.replace(b",\0\0\0\0", b",\0\0\0\0", 1)[:-20] + b"\x0c" * 20, ".gif")
    yield one("GIF whose frame lies outside", b"GIF89a" + struct.pack("<HH", 40, 40) + b"\0\0\0," + struct.pack("<HHHHB", 9000, 9000, 40, 40, 0) + b"\x08\0;", ".gif")  # fmt: skip
    yield one("GIF of no frame", b"GIF89a" + struct.pack("<HH", 40, 40) + b"\0\0\0;", ".gif", "refused")
    yield one("BMP of -32768 rows", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 64, -32768, 1, 24, 0, 0, 0, 0, 0, 0), ".bmp")  # fmt: skip
    yield one("BMP of a header of 2^31 bytes", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + long(2**31 - 1) + bytes(60), ".bmp", "refused")  # fmt: skip
    yield one("BMP of a palette of 2^32 - 1", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 64, 64, 1, 8, 0, 0, 0, 0, 2**32 - 1, 0) + bytes(9000), ".bmp")  # fmt: skip
    yield from _odd_tiffs()
    webp = file_of(drawing(), "WEBP")
    yield one("WebP whose length is 0", webp[:4] + long(0) + webp[8:], ".webp")
    yield one("WebP whose length is 2^32 - 1", webp[:4] + b"\xff\xff\xff\xff" + webp[8:], ".webp")
    yield one("WebP of no part", b"RIFF\4\0\0\0WEBP", ".webp", "refused")


def _odd_tiffs() -> Iterator[Case]:
    pixels = bytes(64 * 64)
    odd = {
        "of no tags": b"II*\0" + long(8) + b"\0\0" + long(0),
        "with a directory outside": b"II*\0" + long(0x7FFFFFFF),
        "with a directory at itself": b"II*\0" + long(0),
        "with directories in a ring": tiff(grey_tags(64, 64), b"")[:-4] + long(8) + pixels,
        "of 65,535 samples": tiff(grey_tags(64, 64, (277, 3, 1, long(65535))), pixels),
        "of bits that do not fit": tiff(grey_tags(64, 64, (258, 3, 1, long(77))), pixels),
        "of an unknown packing": tiff(grey_tags(64, 64, (259, 3, 1, long(31337))), pixels),
        "of text for a width": tiff(grey_tags(64, 64, (256, 2, 4, b"64\0\0")), pixels),
        "with strips outside": tiff(grey_tags(64, 64, (273, 4, 1, long(2**31))), pixels),
        "of half a million rows a strip and none there": tiff(grey_tags(64, 500_000), b""),
        "of an unknown colour": tiff(grey_tags(64, 64, (262, 3, 1, long(999))), pixels),
        "big, of 2^60 tags": b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60) + bytes(4000),
        "old JPEG": tiff(grey_tags(64, 64, (259, 3, 1, long(6)), (262, 3, 1, long(6))), pixels),
    }
    for name, data in odd.items():
        yield of_bytes("contradictions", f"TIFF {name}", data, ".tif")


def _strangers() -> Iterator[Case]:
    page, kinds = drawing(), {}
    for kind in ("ICO", "PPM", "TGA", "PCX", "DDS", "ICNS", "SGI", "JPEG2000", "EPS", "PDF", "XBM", "MSP", "IM"):
        out = io.BytesIO()
        image = page.convert("1") if kind in ("XBM", "MSP") else page
        image.save(out, kind)
        kinds[kind] = out.getvalue()
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.png", file_of(page))
    kinds |= {
        "nothing": b"",
        "one zero": b"\0",
        "a megabyte of zeros": bytes(1 << 20),
        "a megabyte of 0xFF": b"\xff" * (1 << 20),
        "noise": np.random.default_rng(3).bytes(200_000),
        "an ELF program": b"\x7fELF\x02\x01\x01" + bytes(9000),
        "a Windows program": b"MZ" + bytes(9000),
        "a shell script": b"#!/bin/sh\ntouch /panelhue-hostile-was-here\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "SVG with an entity bomb": b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "a"><!ENTITY b "&a;&a;">]><svg>&b;</svg>',
        "SVG that reads a file": b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "HTML": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(/etc/passwd) (r) file\nshowpage\n",
        "ImageMagick's own": b"push graphic-context\nviewbox 0 0 640 480\nfill 'url(https://127.0.0.1/x.png\"|ls \"-la)'\n",
        "ZIP": inner.getvalue(),
        "RAR": b"Rar!\x1a\x07\x01\0" + bytes(500),
        "7z": b"7z\xbc\xaf\x27\x1c" + bytes(500),
        "gzip": b"\x1f\x8b\x08" + bytes(500),
        "tar": b"a.png".ljust(257, b"\0") + b"ustar" + bytes(800),
        "Photoshop": b"8BPS\0\1" + bytes(500),
        "JPEG XL": b"\xff\x0a" + bytes(500),
        "HEIC": b"\0\0\0\x18ftypheic" + bytes(500),
        "MP4": b"\0\0\0\x18ftypisom" + bytes(500),
        "text": "once upon a time – 昔々".encode(),
        "text in UTF-16": "once upon a time".encode("utf-16"),
        "a pickle": b"\x80\x04\x95\x1d\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02ls\x94\x85\x94R\x94.",
        "PNG in base64": b"iVBORw0KGgoAAAANSUhEUgAAAGAAAACACAIAAABr",
        "only PNG's first bytes": PNG_MAGIC,
        "only JPEG's first bytes": b"\xff\xd8\xff",
    }
    for name, data in kinds.items():
        yield of_bytes("no picture", name, data, expect="refused")


def _polyglots() -> Iterator[Case]:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("../escape.png", file_of(drawing(5)))
    archive_bytes, script = inner.getvalue(), b"<script>alert(1)</script>"
    page, jpeg = file_of(drawing()), file_of(drawing(), "JPEG")

    def one(name: str, data: bytes, ending: str, expect: Any = "taken") -> Case:
        return of_bytes("two in one", name, data, ending, expect=expect)

    yield one("PNG and ZIP", page + archive_bytes, ".png")
    yield one("JPEG and ZIP", jpeg + archive_bytes, ".jpg")
    yield one("GIF and script", file_of(drawing(), "GIF") + b"/*" + script + b"*/", ".gif")
    yield one("PNG and HTML", with_chunks(page, chunk(b"tEXt", b"Comment\0" + script)), ".png")
    yield one("JPEG and HTML", with_segments(jpeg, segment(0xFE, script)), ".jpg")
    yield one("JPEG and PHP", with_segments(jpeg, segment(0xFE, b"<?php system($_GET['c']); ?>")), ".jpg")
    yield one("PDF and JPEG", b"%PDF-1.7\n" + jpeg, ".jpg", "refused")
    yield one("ZIP and PNG", archive_bytes + page, ".png", "refused")
    yield one("JPEG and PNG", jpeg + page, ".jpg")
    yield one("WebP that says it is GIF too", b"GIF89a" + file_of(drawing(), "WEBP"), ".webp", "either")
