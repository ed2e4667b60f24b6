"""The pictures and figures of docs/GALLERY.md, from the made-up series through both real servers.

    python -m examples.gallery

Draws four chapters, adds the true colours of the first to a pool, colourises the others by `panelhue colorize --grow`,
then makes one page again with the other back-end, with a palette and with hints. Nothing is touched up.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from examples.colour_error import mean_ciede2000, psnr
from examples.demo import SERIES, panelhue, pixels, servers
from examples.made_up_series import CHARACTERS, Page, Probe, draw_page, write_series
from panelhue import Bound, ColorizeOptions, ColorizerClient, Finished, Hint, PageFile, SeriesContext, Swatch

Picture = UInt8[np.ndarray, "h w 3"]
PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "gallery"
GAP = 8  # between pictures of a row, pixels
HINTS = 3  # that a person would click
SHEET_WIDTH = 900  # pixels
SHAPE = 1.4125  # height of a page over its width
GIVEN = SeriesContext(SERIES, Bound(max_depth=0))  # what people gave, no page that was made


def save_row(target: Path, pictures: Sequence[Picture]) -> None:
    """Writes pictures of one size side by side."""
    height, width = pictures[0].shape[:2]
    row = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height), "white")
    for place, picture in enumerate(pictures):
        row.paste(Image.fromarray(picture), (place * (width + GAP), 0))
    row.save(target, quality=82, method=6)


def rgb_of(colour: Iterable[int]) -> int:
    """0xRRGGBB from three channels."""
    red, green, blue = (int(channel) for channel in colour)
    return red << 16 | green << 8 | blue


def names_of(page: Page) -> tuple[Swatch, ...]:
    """The true colours of who appears on a page, as a studio would name them."""
    return tuple(
        Swatch(f"{who} {part}", rgb_of(colour)) for who in page.characters for part, colour in CHARACTERS[who].items()
    )


def worst_probes(page: Page, made: Picture) -> list[Probe]:
    """Places whose colour is furthest from the truth, each of another part."""
    size = np.zeros((1, 1, 3), np.uint8)
    far: dict[tuple[str, str], tuple[float, Probe]] = {}
    for probe in page.probes:
        error = mean_ciede2000(made[probe.y, probe.x] + size, np.asarray(probe.colour, np.uint8) + size)
        key = (probe.character, probe.part)
        if error > far.get(key, (0.0, probe))[0]:
            far[key] = (error, probe)
    return [probe for _, probe in sorted(far.values(), key=lambda one: -one[0])[:HINTS]]


def marked(picture: Picture, probes: Sequence[Probe]) -> Picture:
    """A picture with a ring where each hint lies, filled with its colour."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for probe in probes:
        box = (probe.x - 7, probe.y - 7, probe.x + 7, probe.y + 7)
        draw.ellipse(box, fill=probe.colour, outline="black", width=2)
    return np.asarray(image)


def made_again(
    painter: ColorizerClient,
    page: Page,
    backend: str = "",
    palette: tuple[Swatch, ...] = (),
    hints: tuple[Hint, ...] = (),
) -> Picture:
    """A page, from given colour alone."""
    grey = io.BytesIO()
    Image.fromarray(page.grey).save(grey, "PNG")
    options = ColorizeOptions(backend=backend, series=GIVEN, palette=palette)
    *_, last = painter.colorize([PageFile("page", grey.getvalue(), hints=hints)], options)
    assert isinstance(last, Finished), last
    with Image.open(io.BytesIO(last.picture.data)) as image:
        return np.asarray(image.convert("RGB"))


def figures_of(made: Picture, page: Page) -> dict[str, float]:
    """How far a page is from the truth, and how far the grey page was."""
    grey = np.repeat(page.grey[..., None], 3, axis=2)
    return {
        "ciede": round(mean_ciede2000(made, page.colour), 2),
        "grey_ciede": round(mean_ciede2000(grey, page.colour), 2),
        "gain": round(psnr(made, page.colour) - psnr(grey, page.colour), 2),  # dB
    }


def of_one_page(out: Path, painter: ColorizerClient, page: Page) -> dict[str, dict[str, float]]:
    """Writes the pictures of one page made in several ways; gives their figures."""
    plain = made_again(painter, page)
    other = made_again(painter, page, backend="incontext")
    named = made_again(painter, page, palette=names_of(page))
    probes = worst_probes(page, plain)
    clicks = tuple(Hint(probe.x, probe.y, rgb_of(probe.colour)) for probe in probes)
    hinted = made_again(painter, page, hints=clicks)
    save_row(out / "page.webp", [np.repeat(page.grey[..., None], 3, axis=2), plain, page.colour])
    save_row(out / "backends.webp", [plain, other])
    save_row(out / "palette.webp", [plain, named])
    save_row(out / "hints.webp", [marked(plain, probes), hinted])
    ways = {"exemplar": plain, "incontext": other, "exemplar, palette": named, "exemplar, hints": hinted}
    return {way: figures_of(picture, page) for way, picture in ways.items()}


def of_chapters(
    out: Path, work: Path, shape: tuple[int, int, int], environment: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Colourises all chapters, each from those before; writes a row of pages and the contact sheet; gives figures."""
    chapters, pages, width = shape
    panelhue("ingest", work / "truth" / "ch01", "--series", SERIES, "--create", environment=environment)
    found = {}
    for chapter in range(2, chapters + 1):
        name = f"ch{chapter:02d}"
        where = ("--series", SERIES, "--chapter", str(chapter), "-o", work / "colour" / name, "--grow")
        panelhue("colorize", work / "grey" / name, *where, environment=environment)
        for number in range(1, pages + 1):
            page = draw_page(chapter, number, width=width, height=round(SHAPE * width))
            made = pixels(work / "colour" / name / f"p{number:02d}.png")
            found[f"chapter {chapter}, page {number}"] = figures_of(made, page)
    save_row(
        out / "chapters.webp", [pixels(work / "colour" / f"ch{n:02d}" / "p01.png") for n in range(2, chapters + 1)]
    )
    with Image.open(work / "colour" / "ch02" / "contact-sheet.png") as sheet:
        small = sheet.convert("RGB")
    small.thumbnail((SHEET_WIDTH, 4 * SHEET_WIDTH))
    small.save(out / "contact-sheet.webp", quality=82, method=6)
    return found


def run(out: Path, chapters: int, pages: int, width: int) -> None:
    """Makes everything."""
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="panelhue-gallery-"))
    height = round(SHAPE * width)
    try:
        write_series(work, chapters, pages, width=width, height=height)
        with servers(work) as environment, ColorizerClient(environment["PANELHUE_COLORIZER"]) as painter:
            by_chapter = of_chapters(out, work, (chapters, pages, width), environment)
            ways = of_one_page(out, painter, draw_page(2, 1, width=width, height=height))
    finally:
        shutil.rmtree(work)
    told = {"chapters": by_chapter, "ways": ways}
    (out / "figures.json").write_text(json.dumps(told, indent=1) + "\n")


def table(kind: str) -> str:
    """The figures of "chapters" or "ways" as Markdown."""
    lines = ["| | CIEDE2000 of the grey page | of the result | PSNR gain, dB |", "|---|--:|--:|--:|"]
    for name, one in json.loads((PICTURES / "figures.json").read_text())[kind].items():
        lines.append(f"| {name} | {one['grey_ciede']:.2f} | {one['ciede']:.2f} | {one['gain']:+.2f} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Makes the pictures and figures of docs/GALLERY.md anew.")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder (default: docs/pictures/gallery)")
    parser.add_argument("--chapters", type=int, default=4, help="the first is given in colour (default: %(default)s)")
    parser.add_argument("--pages", type=int, default=2, help="in each chapter (default: %(default)s)")
    parser.add_argument("--width", type=int, default=420, help="of a page, pixels (default: %(default)s)")
    chosen = parser.parse_args()
    run(chosen.out, max(2, chosen.chapters), chosen.pages, chosen.width)
    size = sum(path.stat().st_size for path in chosen.out.iterdir())
    print(f"pictures in {chosen.out}, {size // 1024} KiB in all")


if __name__ == "__main__":
    main()
