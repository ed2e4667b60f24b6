"""The coarse colours of a reference's patches: a few mean colours each, small enough to be kept with its record.

With them, colours are compared without a picture being decoded: of near duplicates, and of patches that show the same
thing in different chapters.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, UInt8
from PIL import Image

from serving.colour import ciede2000, lab_of
from serving.errors import CorruptData

GRID = 4  # cells a side of each patch
VERSION = 1  # first byte: GRID x GRID means in linear light, row by row, sRGB, 8 bits, RGB
PATCH_BYTES = GRID * GRID * 3
_LOOK_SIDE = 192  # about the shorter side, pixels, of the reduced picture that the means are taken of

Boxes = Int32[np.ndarray, "n 4"]  # x0, y0, x1, y1 in the picture's pixels
Colours = UInt8[np.ndarray, "_ grid grid 3"]  # by patch, row, column; sRGB


def digest_of(pixels: UInt8[np.ndarray, "h w 3"], boxes: Boxes) -> bytes:
    """The packed colours of the patches: a version byte, then 48 bytes for each box.

    Args:
        pixels: sRGB.
        boxes: where the patches lie; what is outside of the picture is left out, and an empty box is taken as a pixel.

    Cost: an estimated 2 to 3 ms for five patches of 1000 x 1400 pixels. The picture is first reduced by a whole number,
        which averages the encoded values of a few pixels; only the rest of the mean is taken in linear light.
    """
    if not len(boxes):
        return bytes([VERSION])
    factor = max(1, min(pixels.shape[:2]) // _LOOK_SIDE)
    light = _linear()[np.asarray(Image.fromarray(pixels).reduce(factor))]
    x = _shares(_edges(boxes[:, 0], boxes[:, 2], pixels.shape[1]) / factor, light.shape[1])
    y = _shares(_edges(boxes[:, 1], boxes[:, 3], pixels.shape[0]) / factor, light.shape[0])
    rows = (y @ light.reshape(len(light), -1)).reshape(len(boxes), GRID, -1, 3)  # "boxes grid w 3"
    cells = x.reshape(len(boxes), 1, GRID, -1) @ rows  # "boxes grid grid 3", y before x
    return bytes([VERSION]) + _encoded(cells).tobytes()


def read_digest(data: bytes) -> Colours | None:
    """The mean colours by patch, row and column, sRGB; None where they are not known, or a later version wrote them.

    Raises:
        CorruptData: DATA_DAMAGED, the length is none that a digest has.
    """
    if not data or data[0] > VERSION:
        return None
    if data[0] != VERSION or (len(data) - 1) % PATCH_BYTES:
        raise CorruptData(
            f"a digest must begin with byte {VERSION} and hold {PATCH_BYTES} bytes a patch, "
            f"got byte {data[0]} and {len(data) - 1} bytes",
            reason="DATA_DAMAGED",
        )
    return np.frombuffer(data, np.uint8, offset=1).reshape(-1, GRID, GRID, 3)


def mean_colours(colours: Colours) -> UInt8[np.ndarray, "n 3"]:
    """The mean colour of each patch, taken in linear light, sRGB."""
    return _encoded(_linear()[colours].mean(axis=(1, 2), dtype=np.float64))


def mean_differences(
    one: UInt8[np.ndarray, "m n grid grid 3"], other: UInt8[np.ndarray, "m n grid grid 3"]
) -> Float64[np.ndarray, "m"]:
    """Mean CIEDE2000 over all cells, for each of m pairs of pictures with n patches each."""
    means: Float64[np.ndarray, "m"] = ciede2000(lab_of(one), lab_of(other)).mean(axis=(1, 2, 3))
    return means


def _linear() -> Float32[np.ndarray, "256"]:
    """Light in [0, 1] by sRGB level."""
    level = np.arange(256) / 255
    light: Float32[np.ndarray, "256"] = np.where(
        level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4
    ).astype(np.float32)
    return light


def _encoded(light: Float[np.ndarray, "... 3"]) -> UInt8[np.ndarray, "... 3"]:
    level = np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)
    encoded: UInt8[np.ndarray, "... 3"] = np.clip(np.rint(level * 255), 0, 255).astype(np.uint8)
    return encoded


def _shares(edges: Float64[np.ndarray, "n edges"], length: int) -> Float32[np.ndarray, "cells length"]:
    """How much each of `length` pixels counts for each cell, the cells of all boxes one after the other.

    A cell's edges may lie within a pixel, which then counts in part. Every row has sum 1.
    """
    low, high = edges[:, :-1].reshape(-1, 1), edges[:, 1:].reshape(-1, 1)
    at = np.arange(length)[None]
    covered = np.clip(np.minimum(high, at + 1) - np.maximum(low, at), 0, None).astype(np.float32)
    shares: Float32[np.ndarray, "cells length"] = covered / covered.sum(axis=1, keepdims=True, dtype=np.float32)
    return shares


def _edges(low: Int32[np.ndarray, "n"], high: Int32[np.ndarray, "n"], length: int) -> Float64[np.ndarray, "n edges"]:
    """Where the cells begin and end, pixels; within the picture, and never empty."""
    first = np.clip(low, 0, length - 1)
    return np.linspace(first, np.clip(high, first + 1, length), GRID + 1, axis=1)
