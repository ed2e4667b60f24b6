"""Double pages: told by their shape, and split into the two pages in their reading order."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from PIL import Image, ImageChops, ImageOps

from panelhue.books import Book, Page
from panelhue.errors import BookError

RATIO = 1.15  # width over height from which a picture is a double page
MAX_PIXELS = 100_000_000  # as the servers take them
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def split_spreads(book: Book, right_to_left: bool) -> Book:
    """The book with each double page as two pages; the others as they are.

    A picture at least 1.15 times as wide as high counts as a double page. One whose size cannot be told is left as it
    is, so that whoever gets it says what is wrong.

    Args:
        book: it stays open, and is closed by the new one.
        right_to_left: whether the right half is read first.

    Cost: each picture is read once to see its size.
    """
    taken = {page.name for page in book.pages}
    pages = [part for page in book.pages for part in _parts(page, right_to_left, taken)]
    return replace(book, pages=tuple(_renumbered(pages)))


def _parts(page: Page, right_to_left: bool, taken: set[str]) -> Iterator[Page]:
    if not _is_spread(page):
        yield page
        return
    sides = ("right", "left") if right_to_left else ("left", "right")
    for number, side in enumerate(sides, 1):
        half, name = _Half(page, side), _new_name(page.name, number, taken)
        size = (page.size[0] / 2, page.size[1]) if page.size is not None else None
        yield replace(page, name=name, read=half.read, identity=half.identity, size=size)


def _is_spread(page: Page) -> bool:
    if page.size is not None:
        width, height = page.size
    else:
        try:
            width, height = _size(page.read())
        except (BookError, OSError):
            return False
    return width >= RATIO * height > 0


def _new_name(name: str, number: int, taken: set[str]) -> str:
    path = PurePosixPath(name)
    made = str(path.with_name(f"{path.stem}-{number}.png"))
    while made in taken:
        made = str(PurePosixPath(made).with_name(f"{PurePosixPath(made).stem}_.png"))
    taken.add(made)
    return made


def _renumbered(pages: list[Page]) -> Iterator[Page]:
    counts: dict[int | None, int] = {}
    for page in pages:
        counts[page.chapter] = counts.get(page.chapter, 0) + 1
        yield replace(page, number=counts[page.chapter])


@dataclass(frozen=True)
class _Half:
    page: Page
    side: str

    def read(self) -> bytes:
        return half_of(self.page.read(), self.side)

    def identity(self) -> str:
        return hashlib.sha256(f"half-1 {self.side} {self.page.digest()}".encode()).hexdigest()


def _guarded(data: bytes, use: Callable[[Image.Image], object]) -> object:
    """What `use` makes of the picture in `data`, with every kind of damage as a BookError."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about damage and size, which is looked at here
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BookError(f"a picture has at most {MAX_PIXELS} pixels, got {image.width} × {image.height}")
                return use(image)
    except (BookError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on a damaged file
        raise BookError(f"a picture cannot be read: {error}", reason="IMAGE_UNREADABLE") from error


def _size(data: bytes) -> tuple[int, int]:
    """Width and height as the picture is shown."""

    def upright(image: Image.Image) -> tuple[int, int]:
        sideways = image.getexif().get(0x0112, 1) in _SIDEWAYS
        return (image.height, image.width) if sideways else image.size

    found = _guarded(data, upright)
    assert isinstance(found, tuple)
    return found


def half_of(data: bytes, side: str) -> bytes:
    """The left or right half of a picture, upright, as a lossless file; the middle column goes to the left one.

    Values, palette, transparency and ICC profile stay as they are, so that whoever decodes it decides about colour. It
    is a PNG, or a TIFF for CMYK and other kinds that a PNG does not hold.

    Args:
        data: a picture file.
        side: "left" or "right".

    Raises:
        BookError: the picture cannot be read, or holds more than 100 million pixels.
    """

    def cut(image: Image.Image) -> bytes:
        icc = image.info.get("icc_profile")
        if image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info:
            image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG as Adobe's inverted kind
        turned = ImageOps.exif_transpose(image)
        middle = (turned.width + 1) // 2
        half = turned.crop((0, 0, middle, turned.height) if side == "left" else (middle, 0, *turned.size))
        return _encoded(half, icc, image.info.get("transparency"))

    made = _guarded(data, cut)
    assert isinstance(made, bytes)
    return made


def _encoded(image: Image.Image, icc: bytes | None, transparency: object) -> bytes:
    out = io.BytesIO()
    if image.mode.startswith("I;16"):
        image = image.convert("I").convert("I;16") if image.mode != "I;16" else image
    image.info = {}  # nothing comes along unseen: EXIF, or text
    more = {"icc_profile": icc} if icc else {}
    if image.mode in _PNG_MODES:
        if transparency is not None:
            more["transparency"] = transparency  # type: ignore[assignment]  # a level, a colour or a table
        image.save(out, "PNG", compress_level=1, **more)
    else:
        image.save(out, "TIFF", compression="raw" if image.mode in ("F", "I") else "tiff_lzw", **more)
    return out.getvalue()
