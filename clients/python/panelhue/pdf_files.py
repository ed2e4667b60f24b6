"""PDF books of finished pages: each picture's own data on a page of its size; here alone is img2pdf used."""

from __future__ import annotations

import importlib.util
import io
import shutil
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from panelhue.errors import UsageError
from panelhue.outputs import inside

DPI = 300.0  # of a page whose book has no size in points
PART = 64 * 1024**2  # bytes of pictures that are held at once, and one page more
_SHAPE = 0.02  # by which a page's shape may differ from its picture's; beyond, the picture's own size counts


@dataclass(frozen=True)
class PdfPage:
    """A page of a PDF that is to be written."""

    name: str  # of its picture's file
    size: tuple[float, float] | None  # points; None: of the picture at 300 DPI


@dataclass(frozen=True)
class PdfFacts:
    """What a PDF says of itself."""

    title: str
    keywords: str = ""
    right_to_left: bool = False


def check_pdf_writer() -> None:
    """Refuses to begin what could not be finished.

    Raises:
        UsageError: EXTRA_MISSING, img2pdf is not installed.
    """
    if importlib.util.find_spec("img2pdf") is None:
        raise UsageError(
            "to write a PDF, the extra `books` must be installed: pip install 'panelhue[books]'; "
            "or choose an output that ends in .cbz",
            reason="EXTRA_MISSING",
        )


def pack_pdf(path: Path, folder: Path, pages: Iterable[PdfPage], facts: PdfFacts, scratch: Path) -> None:
    """Writes a PDF of pages that lie in a folder; equal pages give equal bytes.

    The data of PNG and JPEG files goes in as it is; other files go in lossless. Nothing in it tells the time.

    Args:
        path: the PDF, or a draft of it.
        folder: where the pages lie.
        pages: in reading order.
        facts: what it says of itself.
        scratch: a folder for parts of it, emptied before and after.

    Cost: the room of the book on disk once more; 64 MiB and one page of memory.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        parts = _parts(folder, pages, scratch)
        first = _described(parts[0], facts, scratch / "first.pdf")
        _merge([first, *parts[1:]], path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _merge(parts: Sequence[Path], target: Path) -> None:
    """One PDF of all pages, which says what the first part says.

    By qpdf's own job, which reads each picture when it is its turn: `Pdf.pages.extend` holds all of them in memory.
    """
    import pikepdf

    names = [str(part.resolve()) for part in parts]
    options = ["--deterministic-id", "--object-streams=generate"]
    pikepdf.Job(["qpdf", names[0], *options, "--pages", *names, "--", str(target.resolve())]).run()


def _described(part: Path, facts: PdfFacts, target: Path) -> Path:
    """A copy of a part that says what the book says of itself."""
    import pikepdf

    with pikepdf.open(part) as book:
        _say(book, facts)
        book.save(target, static_id=True)
    return target


def _say(book: object, facts: PdfFacts) -> None:
    import pikepdf

    assert isinstance(book, pikepdf.Pdf)
    book.docinfo["/Title"] = facts.title
    book.docinfo["/Producer"] = "Panelhue"
    if facts.keywords:
        book.docinfo["/Keywords"] = facts.keywords
    preferences = pikepdf.Dictionary(DisplayDocTitle=True)
    if facts.right_to_left:
        preferences.Direction = pikepdf.Name.R2L
    book.Root.ViewerPreferences = preferences


def _parts(folder: Path, pages: Iterable[PdfPage], scratch: Path) -> Sequence[Path]:
    """PDFs of some pages each."""
    made: list[Path] = []
    waiting: list[bytes] = []
    for page in pages:
        waiting.append(_one_page(inside(folder, page.name).read_bytes(), page.size))
        if sum(map(len, waiting)) >= PART:
            made.append(_joined(waiting, scratch / f"{len(made)}.pdf"))
            waiting = []
    return [*made, _joined(waiting, scratch / f"{len(made)}.pdf")] if waiting else made


def _joined(pages: Sequence[bytes], path: Path) -> Path:
    import pikepdf

    with pikepdf.new() as part:
        sources = [pikepdf.open(io.BytesIO(page)) for page in pages]
        for source in sources:
            part.pages.extend(source.pages)
        part.save(path, static_id=True)
        for source in sources:
            source.close()
    return path


def _one_page(data: bytes, size: tuple[float, float] | None) -> bytes:
    import img2pdf

    def layout(width: int, height: int, _dpi: object) -> tuple[float, float, float, float]:
        page = _page_size(width, height, size)
        return (*page, *page)

    def made(picture: bytes) -> bytes:
        pdf: bytes = img2pdf.convert(
            picture, layout_fun=layout, nodate=True, rotation=img2pdf.Rotation.ifvalid, first_frame_only=True
        )
        return pdf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the servers have limits, and made this page
        try:
            return made(data)
        except Exception:  # img2pdf raises many kinds; a page that was kept as it came may be of an odd one
            return made(_plain(data))


def _page_size(width: int, height: int, size: tuple[float, float] | None) -> tuple[float, float]:
    if size is not None and abs(size[0] * height / (size[1] * width) - 1) <= _SHAPE:
        return size
    return width * 72 / DPI, height * 72 / DPI


def _plain(data: bytes) -> bytes:
    """The picture as an RGB PNG on white."""
    with Image.open(io.BytesIO(data)) as image:
        layer = image.convert("RGBA")
    page = Image.new("RGBA", layer.size, "white")
    page.alpha_composite(layer)
    out = io.BytesIO()
    page.convert("RGB").save(out, "PNG", compress_level=1)
    return out.getvalue()
