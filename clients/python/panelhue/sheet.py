"""The contact sheet of a run, for people who would rather look: grey, result, and the references that gave colour."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

from PIL import Image, ImageChops

from panelhue.books import SHEET_STEM, Book, Page
from panelhue.chapters import chapter_text
from panelhue.errors import BookError, PanelhueError
from panelhue.journal import Done, UsedHit
from panelhue.retrieval_client import RetrievalClient
from panelhue.workspaces import Workspace, read_result

ROWS = 8  # pages in one PNG
MANY = 60  # pages; above this the pictures in the HTML page are smaller
SIDE, SMALL_SIDE = 1100, 720  # longer side of a page in the HTML page, pixels
PATCH_SIDE = 320  # of a reference patch, pixels
PATCHES = 6  # shown per page
KEPT_PATCHES = 512  # in memory, as they are shown: some 20 kB each
MAX_PIXELS = 100_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # what the servers take; Pillow knows riskier ones
TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Shown:
    """A small picture as the sheet shows it, kept as a JPEG file: a book's worth of pixels would fill the memory."""

    data: bytes = field(repr=False)
    width: int
    height: int

    def image(self) -> Image.Image:
        """Its pixels."""
        with Image.open(io.BytesIO(self.data)) as image:
            image.load()
            return image


Thumbnail = Shown | None  # None: it cannot be shown


def shown(image: Image.Image, side: int) -> Shown:
    """The picture, at most `side` pixels wide and high; it is made smaller in place."""
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return Shown(file.getvalue(), image.width, image.height)


@dataclass(frozen=True)
class Patch:
    """A reference patch as it is shown."""

    hit: UsedHit
    picture: Thumbnail

    @property
    def caption(self) -> str:
        """Where it comes from."""
        parts = [f"ch {chapter_text(self.hit.chapter)}" if self.hit.chapter is not None else "no chapter"]
        parts += [f"p {self.hit.page}"] if self.hit.page is not None else []
        parts += [f"depth {self.hit.depth}"] if self.hit.depth else []
        return " · ".join(parts)


@dataclass(frozen=True)
class Row:
    """A page of the sheet."""

    done: Done
    grey: Thumbnail
    result: Thumbnail
    patches: Sequence[Patch]


@dataclass(frozen=True)
class Head:
    """What stands above the pages."""

    title: str
    facts: Sequence[tuple[str, str]]


def make_sheet(
    book: Book, place: Workspace, done: Mapping[str, Done], series: str, retrieval: RetrievalClient | None
) -> list[Path]:
    """Writes the contact sheet into the output folder, or beside the CBZ or PDF; gives its files, the HTML page first.

    Args:
        book: the grey pages.
        place: of the run.
        done: its finished pages, by name.
        series: where the references are; empty: patches are named and not shown.
        retrieval: who has them.

    Cost: each page and its result are read once; memory holds those of eight pages, as they are shown.
    """
    from panelhue.outputs import sweep_drafts, write_whole, written_whole
    from panelhue.sheet_html import FOOT, head_of, section_of
    from panelhue.sheet_png import png_of

    folder, stem = (
        (place.target, SHEET_STEM)
        if not place.is_archive
        else (place.target.parent, f"{SHEET_STEM}-{place.target.stem}{'-pdf' if place.is_pdf else ''}")
    )
    pages = [page for page in book.pages if page.name in done]
    head = Head(book.title, _facts([done[page.name] for page in pages], series))
    pictures = [
        folder / (f"{stem}-{turn + 1}.png" if turn else f"{stem}.png") for turn in range(-(-len(pages) // ROWS) or 1)
    ]
    paths, number = [folder / f"{stem}.html"], 0
    sweep_drafts([*paths, *pictures])
    with written_whole(paths[0]) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        file.write(head_of(head))
        for rows in _in_eights(_rows(pages, place, done, _Patches(series, retrieval))):
            paths.append(pictures[number // ROWS])
            write_whole(paths[-1], png_of(head, rows))
            for row in rows:
                number += 1
                file.write(section_of(number, row))
        file.write(FOOT)
    return paths


def _rows(pages: Sequence[Page], place: Workspace, done: Mapping[str, Done], patches: _Patches) -> Iterator[Row]:
    side = SIDE if len(pages) <= MANY else SMALL_SIDE
    for page in pages:
        one = done[page.name]
        yield Row(
            one,
            _thumbnail(page.read, side),
            _thumbnail(partial(read_result, place, one.output), side),
            [Patch(hit, patches.cut(hit)) for hit in shown_hits(one)],
        )


def _in_eights(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """The rows of one picture after the other; a sheet without pages has one, too."""
    some = list(islice(rows, ROWS))
    yield some
    while some := list(islice(rows, ROWS)):
        yield some


def shown_hits(done: Done) -> list[UsedHit]:
    """The hits of a page that are shown: those that gave colour first, each patch once, the best first."""
    best: dict[tuple[str, tuple[int, int, int, int]], UsedHit] = {}
    for hit in sorted(done.hits, key=lambda hit: (not hit.used, -hit.score)):
        best.setdefault((hit.reference_id, hit.box), hit)
    return list(best.values())[:PATCHES]


def _facts(done: Sequence[Done], series: str) -> list[tuple[str, str]]:
    chapters = [chapter for chapter in dict.fromkeys(one.chapter for one in done) if chapter is not None]
    makers = dict.fromkeys(f"{one.backend} {one.backend_version}".strip() for one in done)
    facts = [("pages", str(len(done)))]
    facts += [("series", series)] if series else []
    facts += (
        [("chapter" if len(chapters) == 1 else "chapters", ", ".join(map(chapter_text, chapters)))] if chapters else []
    )
    facts += [("back-end", ", ".join(makers))]
    facts += [("median", f"{median(one.seconds for one in done):.2f} s a page")] if done else []
    licences = sorted({one.weights_licence for one in done} - {""})
    return facts + ([("weights under", ", ".join(licences))] if licences else [])


def opened(data: bytes) -> Image.Image:
    """A picture for people, orientation applied, as RGB on white.

    Raises:
        BookError: it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, on large and damaged files
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BookError(f"a picture has at most {MAX_PIXELS} pixels, got {image.width} × {image.height}")
                image.load()
                return _upright(_on_white(image), _orientation(image))
    except BookError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on a damaged file
        raise BookError(f"a picture cannot be read: {error}", reason="IMAGE_UNREADABLE") from error


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    white.alpha_composite(layer)
    return white.convert("RGB")


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow turns it while loading
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged EXIF block fails in many ways, and the picture is good without it
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def shrunk(data: bytes, side: int) -> bytes:
    """The picture as a PNG whose longer side has at most `side` pixels; as it is if it is no larger.

    Raises:
        BookError: it cannot be read.
    """
    image = opened(data)
    if max(image.size) <= side:
        return data
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    if _is_grey(image):
        image = image.convert("L")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _is_grey(image: Image.Image) -> bool:
    red, green, blue = image.split()
    return not (ImageChops.difference(red, green).getbbox() or ImageChops.difference(green, blue).getbbox())


def _thumbnail(read: Callable[[], bytes], side: int) -> Thumbnail:
    try:
        image = opened(read())
    except (BookError, OSError):
        return None
    return shown(image, side)


class _Patches:
    """Patches of references; those of neighbouring pages, which are often the same ones, are fetched once."""

    def __init__(self, series: str, retrieval: RetrievalClient | None) -> None:
        self._series, self._retrieval = series, retrieval
        self._cut: dict[tuple[str, tuple[int, int, int, int]], Thumbnail] = {}
        self._whole: dict[str, Image.Image | None] = {}  # the last few references, whole

    def cut(self, hit: UsedHit) -> Thumbnail:
        key = (hit.reference_id, hit.box)
        if key not in self._cut:
            whole = self._reference(hit.reference_id)
            while len(self._cut) >= KEPT_PATCHES:
                del self._cut[next(iter(self._cut))]
            self._cut[key] = None if whole is None else shown(whole.crop(hit.box), PATCH_SIDE)
        return self._cut[key]

    def _reference(self, reference_id: str) -> Image.Image | None:
        if reference_id not in self._whole:
            while len(self._whole) >= 8:
                del self._whole[next(iter(self._whole))]
            self._whole[reference_id] = self._fetched(reference_id)
        return self._whole[reference_id]

    def _fetched(self, reference_id: str) -> Image.Image | None:
        if self._retrieval is None or not self._series:
            return None
        try:
            return opened(self._retrieval.download(self._series, reference_id).data)
        except PanelhueError:  # deleted since, or the server is gone: the sheet names it and goes on
            return None
