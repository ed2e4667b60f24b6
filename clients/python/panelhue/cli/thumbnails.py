"""Pictures in a terminal: two pixels to a character, the upper one its ink and the lower one its paper."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from rich.color import Color
from rich.segment import Segment, Segments
from rich.style import Style

from panelhue.sheet import opened

GAP = 2  # characters between two pictures


def side_by_side(pictures: Sequence[bytes], columns: int, lines: int) -> Segments:
    """Pictures beside each other, as large as the room allows.

    Args:
        pictures: encoded.
        columns: of the room, characters.
        lines: of the room.

    Raises:
        BookError: a picture cannot be read.
    """
    width = max(4, (columns - GAP * (len(pictures) - 1)) // len(pictures))
    images = [_fitted(opened(data), width, 2 * lines) for data in pictures]
    height = max(image.height for image in images)
    made = []
    for y in range(0, height, 2):
        for place, image in enumerate(images):
            made += [Segment(" " * GAP)] if place else []
            made += [_cell(image, x, y) for x in range(image.width)]
        made.append(Segment.line())
    return Segments(made)


def _fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    image.thumbnail((width, height), Image.Resampling.LANCZOS)
    return image


def _cell(image: Image.Image, x: int, y: int) -> Segment:
    if y >= image.height:
        return Segment(" ")
    upper = _colour(image, x, y)
    if y + 1 >= image.height:
        return Segment("▀", Style(color=upper))
    return Segment("▀", Style(color=upper, bgcolor=_colour(image, x, y + 1)))


def _colour(image: Image.Image, x: int, y: int) -> Color:
    pixel = image.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return Color.from_rgb(*pixel[:3])
