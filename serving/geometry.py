"""Boxes and the published patch geometry; pure arithmetic."""

from __future__ import annotations

from typing import NamedTuple

from serving.errors import InvalidInput

STRETCH_LIMIT = 0.15  # relative difference of aspect ratios below which "fit" stretches instead of cropping
CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")  # the order of the four query patches


class Box(NamedTuple):
    """A rectangle in pixels: left and top inside, right and bottom outside."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.y1 - self.y0


def corner_boxes(width: int, height: int) -> tuple[Box, Box, Box, Box]:
    """The four overlapping 3/4-size corners of a picture, in the order of `CORNERS`.

    Args:
        width: picture width in pixels, at least 16.
        height: picture height in pixels, at least 16.

    Raises:
        ValueError: the picture is smaller than 16 pixels on a side (the caller checks this first).

    Source: ColorFlow, arXiv:2412.11815, retrieval stage; crop `side//4*3`, stride `side//4`.
    """
    if min(width, height) < 16:
        raise ValueError(f"a picture needs at least 16 x 16 pixels, got {width} x {height}")
    w, h, dx, dy = width // 4 * 3, height // 4 * 3, width // 4, height // 4
    tl, tr, bl, br = ((x, y) for y in (0, dy) for x in (0, dx))
    return (
        Box(*tl, tl[0] + w, tl[1] + h),
        Box(*tr, tr[0] + w, tr[1] + h),
        Box(*bl, bl[0] + w, bl[1] + h),
        Box(*br, br[0] + w, br[1] + h),
    )


def reference_boxes(width: int, height: int) -> tuple[Box, Box, Box, Box, Box]:
    """The five patches of a reference: the whole picture, then its four corners.

    Raises:
        ValueError: as `corner_boxes`.
    """
    return Box(0, 0, width, height), *corner_boxes(width, height)


def fit_box(width: int, height: int, target: tuple[int, int]) -> Box:
    """The part of a picture that "fit" keeps before it resizes, in pixels.

    The whole picture where its aspect ratio is within 15 % of the target's, else the largest centred part of the
    target's ratio.

    Raises:
        InvalidInput: nothing would be left, because the picture is far too thin. (The published method fails or
            makes black of nothing, by the version of PIL.)

    Source: ColorFlow, arXiv:2412.11815; published inference behaviour, steps 1 to 3 of "fit".
    """
    ratio, wanted = width / height, target[0] / target[1]
    if abs(ratio - wanted) / wanted < STRETCH_LIMIT:
        return Box(0, 0, width, height)
    if ratio > wanted:
        keep = int(height * wanted)
        left = int((width - keep) / 2)
        box = Box(left, 0, left + keep, height)
    else:
        keep = int(width / wanted)
        top = int((height - keep) / 2)
        box = Box(0, top, width, top + keep)
    if keep < 1:
        raise InvalidInput(f"a picture of {width} x {height} pixels leaves nothing at ratio {target[0]}:{target[1]}")
    return box
