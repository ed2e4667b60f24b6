"""A finished page: its panels put together, its grey twin, and points whose true colour is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from examples.made_up_series.canvas import INK, RGB, SUPERSAMPLE, Canvas, Pen
from examples.made_up_series.cast import CHARACTERS
from examples.made_up_series.layout import WIDTH, Quad, panels
from examples.made_up_series.scenes import WEATHERS
from examples.made_up_series.staging import FIGURE_TINT, draw_shot
from examples.made_up_series.story import Shot, chapter_title, page_script

BORDER = 3.4  # width of a panel's border, page units
PAD = 4  # final pixels round a panel, for the border's outer half
PROBE_REACH = 2.5  # a probe's part fills at least this radius round it, final pixels
PROBE_MATCH = 6  # and shows its lit colour within this much per channel


@dataclass(frozen=True)
class Probe:
    """A pixel at which a character's part shows its flat, lit colour."""

    x: int  # column, pixels from the left
    y: int  # row, pixels from the top
    character: str
    part: str
    colour: RGB  # the true colour under this panel's light
    neutral: bool  # the light is neutral, so `colour` is the true colour itself


@dataclass(frozen=True)
class Page:
    """A page in its true colours and in grey."""

    chapter: int  # counted from 1
    number: int  # in its chapter, counted from 1
    colour: UInt8[np.ndarray, "h w 3"]  # RGB, [0, 255]
    grey: UInt8[np.ndarray, "h w"]  # PIL's convert('L') of `colour`
    characters: tuple[str, ...]  # who appears, in the order of CHARACTERS
    probes: tuple[Probe, ...]


def draw_page(chapter: int, number: int, *, seed: int = 0, width: int = 800, height: int = 1130) -> Page:
    """One page of the series, the same to the byte for the same arguments on one machine.

    Args:
        chapter: counted from 1.
        number: of the page in its chapter, counted from 1.
        seed: of the series; changes places, layouts and poses, never the characters' true colours.
        width: of the page, pixels, at least 120.
        height: of the page, pixels, at least `width`.

    Returns:
        The page, its grey twin and its probes.

    Raises:
        ValueError: a number is out of range.

    Cost: about a third of a second for the default size on one core; halving the size saves little.
    """
    _check(chapter, number, seed, width, height)
    unit = width / WIDTH
    rng = np.random.default_rng([seed, chapter, number])
    shots = page_script(chapter, number)
    title = f"Chapter {chapter}: {chapter_title(chapter)}" if number == 1 else ""
    quads = panels(shots, height / unit, rng, head=0.42 if title else 0.0)
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    probes: list[Probe] = []
    for index, (shot, quad) in enumerate(zip(shots, quads, strict=True)):
        probes += _add_panel(sheet, shot, quad * unit, unit, rng, seed, title if index == 0 else "")
    font = ImageFont.load_default(size=max(4.0, 13 * unit))
    ImageDraw.Draw(sheet).text(
        (width / 2, height - 19 * unit), f"{chapter} - {number}", font=font, fill=(90, 84, 96), anchor="mm"
    )
    names = {name for shot in shots for name, _, _ in shot.figures}
    present = tuple(name for name in CHARACTERS if name in names)
    return Page(chapter, number, np.asarray(sheet), np.asarray(sheet.convert("L")), present, tuple(probes))


def draw_series(chapters: int, pages: int, *, seed: int = 0, width: int = 800, height: int = 1130) -> Iterator[Page]:
    """The pages of `chapters` chapters of `pages` pages each, in reading order; arguments as `draw_page` takes them."""
    for chapter in range(1, chapters + 1):
        for number in range(1, pages + 1):
            yield draw_page(chapter, number, seed=seed, width=width, height=height)


def _check(chapter: int, number: int, seed: int, width: int, height: int) -> None:
    if chapter < 1 or number < 1:
        raise ValueError(f"chapter and page are counted from 1, got chapter {chapter}, page {number}")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    if width < 120 or height < width:
        raise ValueError(f"a page must be at least 120 pixels wide and as high as it is wide, got {width} x {height}")


def _add_panel(
    sheet: Image.Image, shot: Shot, quad: Quad, unit: float, rng: np.random.Generator, seed: int, title: str
) -> list[Probe]:
    low = np.floor(quad.min(axis=0)).astype(int) - PAD
    high = np.ceil(quad.max(axis=0)).astype(int) + PAD
    canvas = Canvas(int(high[0] - low[0]), int(high[1] - low[1]))
    inner = _inner(quad)
    start = ((inner[0] - low[0]) * SUPERSAMPLE, (inner[1] - low[1]) * SUPERSAMPLE)
    pen = Pen(canvas, np.eye(2) * unit * SUPERSAMPLE, (float(start[0]), float(start[1])), unit * SUPERSAMPLE)
    extent = ((inner[2] - inner[0]) / unit, (inner[3] - inner[1]) / unit)
    draw_shot(canvas, pen, shot, extent, rng, seed, title)
    frame = (quad - low) * SUPERSAMPLE
    border = BORDER * unit * SUPERSAMPLE
    corners = [tuple(corner) for corner in frame.tolist()]
    canvas.draw.line([*corners, corners[0], corners[1]], fill=INK, width=max(2, round(border)), joint="curve")
    mask = _mask(canvas.image.size, frame, border / 2)
    pixels = canvas.pixels()
    sheet.paste(Image.fromarray(pixels), (int(low[0]), int(low[1])), mask.reduce(SUPERSAMPLE))
    shows = np.where(
        np.asarray(_mask(canvas.image.size, frame, -border).reduce(SUPERSAMPLE)) == 255, np.asarray(canvas.shows), 0
    )
    return _probes(canvas, shows.astype(np.uint8), pixels, shot, (int(low[0]), int(low[1])))


def _inner(quad: Quad) -> tuple[float, float, float, float]:
    """The largest upright box in a panel whose left and right sides may slant."""
    return (
        float(max(quad[0, 0], quad[3, 0])),
        float(quad[0, 1]),
        float(min(quad[1, 0], quad[2, 0])),
        float(quad[3, 1]),
    )


def _mask(size: tuple[int, int], frame: Float[np.ndarray, "4 2"], grow: float) -> Image.Image:
    outwards = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * grow
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon([tuple(corner) for corner in (frame + outwards).tolist()], fill=255)
    return mask


def _probes(
    canvas: Canvas,
    shows: UInt8[np.ndarray, "h w"],
    pixels: UInt8[np.ndarray, "h w 3"],
    shot: Shot,
    corner: tuple[int, int],
) -> list[Probe]:
    found = []
    figures = WEATHERS[shot.weather].light.softened(FIGURE_TINT)
    areas = ndimage.find_objects(shows, max_label=len(canvas.labels))
    for name, value in canvas.labels.items():
        area = areas[value - 1]
        if area is None:
            continue
        character, part = name.split("/")
        true = CHARACTERS[character][part]
        for colour in dict.fromkeys(
            (true, figures.lit(true))
        ):  # some close shots are lit neutrally whatever the weather
            near = np.abs(pixels[area].astype(int) - colour).max(axis=2) <= PROBE_MATCH
            reach = ndimage.distance_transform_edt(np.pad((shows[area] == value) & near, 1))
            row, column = (int(v) for v in np.unravel_index(int(np.argmax(reach)), reach.shape))
            if reach[row, column] >= PROBE_REACH:
                x, y = area[1].start + column - 1 + corner[0], area[0].start + row - 1 + corner[1]
                found.append(Probe(x, y, character, part, colour, colour == true))
                break
    return found
