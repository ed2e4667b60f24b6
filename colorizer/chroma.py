"""The colour of a page without its drawing, as a layer for an artist."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

NEUTRAL = 4  # channels that differ by less are neutral: rounding at a fixed luma moves a channel by up to 2


def chroma_layer(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 4"]:
    """The colour of each pixel without its luma, RGBA, for a layer over the grey page in the blend mode "Color".

    Where the page has colour, every channel is raised by as much as makes the largest 255, so that the differences
    between the channels stay: "Color" (W3C's, also Photoshop's and Krita's) takes just those, and gives the page back
    to within 2 levels. "Multiply" keeps the hue and darkens. Alpha is 255 there; where the page is neutral (channels
    within 4 of each other) the layer is white with alpha 0.

    Args:
        pixels: sRGB, HWC, [0, 255].
    """
    low, high = pixels.min(axis=2), pixels.max(axis=2)
    coloured = high - low >= NEUTRAL
    layer = np.full((*high.shape, 4), 255, np.uint8)
    layer[..., :3] = np.where(coloured[..., None], pixels + (255 - high)[..., None], 255)
    layer[..., 3] = np.where(coloured, 255, 0)
    return layer


def encode_layer(layer: UInt8[np.ndarray, "h w 4"]) -> bytes:
    """The layer as a PNG file with alpha."""
    out = io.BytesIO()
    Image.fromarray(layer).save(out, "PNG", compress_level=4)
    return out.getvalue()
