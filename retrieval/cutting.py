"""What the cutting processes do: decode a stored reference and cut patches out of it, away from the server's process.

What is in a reference's file comes from strangers, also where nobody decoded it when it was imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from retrieval.types import Shown
from serving.geometry import Box
from serving.images import ImageLimits, decode_picture, encode_picture
from serving.workers import WorkerContext


@dataclass(frozen=True)
class Cut:
    """Patches wanted of one picture."""

    data: bytes  # the picture's file
    boxes: tuple[Box, ...]
    max_side: int  # pixels, of a patch's longer side; 0: as it is


@dataclass(frozen=True)
class Pieces:
    """The patches of one picture."""

    shown: tuple[Shown | None, ...]  # by box, as PNG; None: the box does not lie in the picture
    width: int  # of the picture, pixels, orientation applied
    height: int


def build(limits: ImageLimits) -> Callable[[Cut, WorkerContext], Pieces]:
    """The handler of one process."""
    return partial(_cut, limits)


def _cut(limits: ImageLimits, wanted: Cut, context: WorkerContext) -> Pieces:
    """The patches. Cost: the picture decoded once, 10 to 40 ms a megapixel, and each patch encoded.

    Raises:
        InvalidInput: IMAGE_UNREADABLE, IMAGE_TOO_LARGE or IMAGE_TOO_SMALL.
    """
    pixels = decode_picture(wanted.data, limits).pixels
    height, width = pixels.shape[:2]
    shown: list[Shown | None] = []
    for box in wanted.boxes:
        context.check()
        inside = box.x1 <= width and box.y1 <= height
        shown.append(_shown(pixels[box.y0 : box.y1, box.x0 : box.x1], wanted.max_side) if inside else None)
    return Pieces(tuple(shown), width, height)


def _shown(pixels: UInt8[np.ndarray, "h w 3"], max_side: int) -> Shown:
    patch = _shrunk(pixels, max_side)
    return Shown(encode_picture(patch, "image/png"), "image/png", patch.shape[1], patch.shape[0])


def _shrunk(pixels: UInt8[np.ndarray, "h w 3"], max_side: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if not max_side or longer <= max_side:
        return np.ascontiguousarray(pixels)
    size = max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
