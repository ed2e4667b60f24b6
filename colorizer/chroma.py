"""The colour of a page without its drawing, as a layer for an artist."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

NEUTRAL = 4  # channels that differ by less are neutral: rounding at a fixed luma moves a channel by up to 2


def chroma_layer(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 4"]:
    """The colour of each pixel at full value, RGBA, for a multiply layer under the line art.

    Where the page has colour its largest channel becomes 255, hue and saturation kept, with alpha 255. Where the page
    is neutral (channels within 4 of each other) it is white with alpha 0.

    Args:
        pixels: sRGB, HWC, [0, 255].
    """
    low, high = pixels.min(axis=2), pixels.max(axis=2)
    coloured = high - low >= NEUTRAL
    gain = (255.0 / np.maximum(high, 1)).astype(np.float32)
    layer = np.full((*high.shape, 4), 255, np.uint8)
    layer[..., :3] = np.where(coloured[..., None], np.rint(pixels * gain[..., None]), 255).astype(np.uint8)
    layer[..., 3] = np.where(coloured, 255, 0)
    return layer


def encode_layer(layer: UInt8[np.ndarray, "h w 4"]) -> bytes:
    """The layer as a PNG file with alpha."""
    out = io.BytesIO()
    Image.fromarray(layer).save(out, "PNG", compress_level=4)
    return out.getvalue()
