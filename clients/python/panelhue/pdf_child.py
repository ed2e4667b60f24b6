"""A process that reads one PDF: `python -m panelhue.pdf_child FILE`; here alone is PDFium loaded.

PDFium is native code and PDFs come from strangers, so it may crash, loop or fill the memory. Here that ends one
process, and one page. A line with a page's index comes in; a line of JSON goes out, and behind it as many bytes as that
says.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import resource
import signal
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image

CPU_SECONDS = 8.0  # of a page, or of opening
MEMORY = 4 * 1024**3  # bytes of address space
DPI = 200.0  # at which drawings are rendered; the pixels of a picture on the page come first
MAX_SIDE = 8000  # pixels of a rendered page's longer side
MAX_PIXELS = 24_000_000  # of a rendered page
EDGE = 0.01  # of the page's width or height: so far may a picture end before or behind the page's edge
LOOK_SIDE, LOOK_CELLS = 480, 24  # pixels, and cells of them, at which a picture is compared with its page
LOOK_MEAN, LOOK_MOST = 8.0, 48.0  # levels of 255 by which they may differ, over all cells and in one
MAX_PAGES = 20_000


def main(path: Path) -> None:
    """Answers until standard input ends."""
    with contextlib.suppress(ValueError, OSError):  # not every system limits the address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = sys.stdout.buffer
    try:
        with _limited():
            document = pypdfium2.PdfDocument(path)
            answer(out, described(document))
    except pypdfium2.PdfiumError as error:
        encrypted = getattr(error, "err_code", None) in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY)
        return answer(out, {"error": "encrypted" if encrypted else "damaged", "message": str(error)})
    for line in sys.stdin:
        try:
            with _limited():
                data = page_picture(document, int(line))
                answer(out, {}, data)
        except (pypdfium2.PdfiumError, MemoryError, ValueError, OSError) as error:
            answer(out, {"error": "page", "message": str(error) or type(error).__name__})
    return None


class _limited:  # noqa: N801 - reads as a word of the language
    """Within it this process ends by a signal after its seconds of computing."""

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)


def answer(out: BinaryIO, facts: Mapping[str, Any], data: bytes = b"") -> None:
    """Writes one answer."""
    out.write(json.dumps({**facts, "bytes": len(data)}).encode() + b"\n")
    out.write(data)
    out.flush()


def described(document: pypdfium2.PdfDocument) -> dict[str, Any]:
    """Pages' sizes in points as they are shown, the title, and whether it is read from right to left."""
    count = len(document)
    if not 0 < count <= MAX_PAGES:
        return {"error": "damaged", "message": f"a PDF has 1 to {MAX_PAGES} pages, got {count}"}
    buffer = ctypes.create_string_buffer(16)
    size = pdfium.FPDF_VIEWERREF_GetName(document, b"Direction", buffer, len(buffer))
    return {
        "sizes": [_size(document, index) for index in range(count)],
        "title": document.get_metadata_value("Title"),
        "right_to_left": {b"R2L": True, b"L2R": False}.get(buffer.value) if size else None,
    }


def _size(document: pypdfium2.PdfDocument, index: int) -> tuple[float, float]:
    try:
        width, height = document.get_page_size(index)
        return (float(width), float(height))
    except pypdfium2.PdfiumError:  # that page's own trouble
        return (0.0, 0.0)


def page_picture(document: pypdfium2.PdfDocument, index: int) -> bytes:
    """The page as a picture file: its one picture as it is, or else a PNG of the rendered page."""
    page = document[index]
    try:
        images = [one for one in page.get_objects() if isinstance(one, pypdfium2.PdfImage)]
        if len(images) == 1 and _fills(images[0], page) and _uncovered(page):
            data, picture = _embedded(images[0])
            if picture is not None and _alike(picture, page):
                return data
        return _png(_rendered(page, _scale(page, images)))
    finally:
        page.close()


def _fills(image: pypdfium2.PdfImage, page: pypdfium2.PdfPage) -> bool:
    """Whether the picture stands upright and ends where the page does."""
    matrix = image.get_matrix()
    upright = matrix.a > 0 and matrix.d > 0 and abs(matrix.b) + abs(matrix.c) < 1e-3 * (matrix.a + matrix.d)
    if page.get_rotation() or not upright or image.level:
        return False
    left, bottom, right, top = page.get_bbox()
    bounds, width, height = image.get_bounds(), right - left, top - bottom
    off = (
        (bounds[0] - left) / width,
        (bounds[2] - right) / width,
        (bounds[1] - bottom) / height,
        (bounds[3] - top) / height,
    )
    return bool(max(map(abs, off)) <= EDGE)


def _uncovered(page: pypdfium2.PdfPage) -> bool:
    """Whether nothing that shows is drawn after the picture; what is drawn before lies beneath it."""
    objects = list(page.get_objects())
    place = next(place for place, one in enumerate(objects) if isinstance(one, pypdfium2.PdfImage))
    return not any(_shows(one) for one in objects[place + 1 :])


def _shows(one: pypdfium2.PdfObject) -> bool:
    if one.type == pdfium.FPDF_PAGEOBJ_TEXT:  # what a machine has read lies there unseen
        return bool(pdfium.FPDFTextObj_GetTextRenderMode(one) != pdfium.FPDF_TEXTRENDERMODE_INVISIBLE)
    return bool(one.type != pdfium.FPDF_PAGEOBJ_FORM)  # whose own objects are in the list as well


def _embedded(image: pypdfium2.PdfImage) -> tuple[bytes, Image.Image | None]:
    """A picture's file, and the picture; a JPEG in grey or RGB is the very file, everything else becomes a PNG."""
    if image.get_filters() == ["DCTDecode"]:
        data = bytes(image.get_data(decode_simple=False))
        picture = _opened(data, tuple(image.get_px_size()))
        if picture is not None:
            icc = _profile(image)
            if icc and "icc_profile" not in picture.info and picture.info.get("exif") is None:
                data = with_profile(data, icc)
            return data, picture
    picture = image.get_bitmap(render=False).to_pil()
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    return _png(picture), picture


def _opened(data: bytes, size: tuple[int, int]) -> Image.Image | None:
    """A JPEG that means the same as a file of its own, at a size at which it can be compared."""
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG",))
        turned = picture.getexif().get(0x0112, 1) != 1  # a PDF's viewer does not turn it, a picture's would
        if turned or picture.size != size or picture.mode not in ("L", "RGB"):
            return None
        picture.draft(picture.mode, (LOOK_SIDE, LOOK_SIDE))  # decoded small: it is only compared
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return picture


def _profile(image: pypdfium2.PdfImage) -> bytes:
    """The ICC profile that the PDF gives the picture; empty if it gives none."""
    size, page = ctypes.c_size_t(0), image.page
    if page is None or not pdfium.FPDFImageObj_GetIccProfileDataDecoded(image, page, None, 0, ctypes.byref(size)):
        return b""
    if not 128 <= size.value <= 4 * 1024**2:
        return b""
    buffer = (ctypes.c_uint8 * size.value)()
    done = pdfium.FPDFImageObj_GetIccProfileDataDecoded(image, page, buffer, size.value, ctypes.byref(size))
    return bytes(buffer) if done else b""


def with_profile(jpeg: bytes, icc: bytes) -> bytes:
    """The JPEG file with a profile in it, as the ICC's specification lays it into APP2 segments."""
    step = 65535 - 2 - 14
    parts = [icc[start : start + step] for start in range(0, len(icc), step)]
    segments = b"".join(
        b"\xff\xe2" + struct.pack(">H", len(part) + 16) + b"ICC_PROFILE\0" + bytes([number, len(parts)]) + part
        for number, part in enumerate(parts, 1)
    )
    after = 4 + int.from_bytes(jpeg[4:6], "big") if jpeg[2:4] == b"\xff\xe0" else 2  # behind JFIF's own segment
    return jpeg[:after] + segments + jpeg[after:]


def _alike(picture: Image.Image, page: pypdfium2.PdfPage) -> bool:
    """Whether the page looks like its picture: masks, clips, other colour spaces and the like would show here."""
    shown = _rendered(page, LOOK_SIDE / max(page.get_size()), annotations=False)
    one, other = (_cells(image) for image in (picture, shown))
    off = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return sum(off) / len(off) <= LOOK_MEAN and max(off) <= LOOK_MOST


def _cells(image: Image.Image) -> bytes:
    small = image.convert("RGB").resize((LOOK_CELLS, LOOK_CELLS), Image.Resampling.BOX)
    return small.tobytes()


def _scale(page: pypdfium2.PdfPage, images: list[pypdfium2.PdfImage]) -> float:
    """Pixels a point: those of the largest picture on the page if it covers a quarter, else 200 DPI; within bounds."""
    width, height = page.get_size()
    scale, largest = DPI / 72, 0.0
    for image in images:
        left, bottom, right, top = image.get_bounds()
        area = (right - left) * (top - bottom)
        if area > max(largest, width * height / 4):
            largest = area
            across, _ = image.get_px_size()
            scale = max(1.0, across / max(right - left, 1e-3)) if not page.get_rotation() % 180 else scale
    scale = min(scale, MAX_SIDE / max(width, height, 1e-3), (MAX_PIXELS / max(width * height, 1e-3)) ** 0.5)
    return float(max(scale, 1e-3))


def _rendered(page: pypdfium2.PdfPage, scale: float, annotations: bool = True) -> Image.Image:
    image: Image.Image = page.render(scale=scale, may_draw_forms=False, draw_annots=annotations).to_pil()
    return image.convert("RGB") if image.mode not in ("L", "RGB") else image


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
