"""Chroma at a fixed luma: into the gamut, onto whole bytes, and never a change of the page's own grey."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, UInt8

WEIGHTS = (19595, 38470, 7471)  # PIL's BT.601 weights of red, green and blue, in 1/65536; they add up to 65536
_R, _G, _B = (w / 65536 for w in WEIGHTS)
_STRIP = 1 << 18  # pixels handled at once, so that a 54 megapixel page needs no gigabytes


def luma_of(rgb: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """The grey picture that PIL's `convert('L')` makes of `rgb`, to the bit."""
    wide = rgb.astype(np.uint32)
    return ((wide[..., 0] * WEIGHTS[0] + wide[..., 1] * WEIGHTS[1] + wide[..., 2] * WEIGHTS[2] + 0x8000) >> 16).astype(
        np.uint8
    )


def chroma_of(rgb: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 2"]:
    """Colour without luma: (blue minus luma, red minus luma), each in [-255, 255], neutral at 0."""
    wide = rgb.astype(np.float32)
    luma = wide @ np.array([_R, _G, _B], np.float32)
    return np.stack([wide[..., 2] - luma, wide[..., 0] - luma], axis=-1)


def with_luma(luma: UInt8[np.ndarray, "h w"], chroma: Float[np.ndarray, "h w 2"]) -> UInt8[np.ndarray, "h w 3"]:
    """The sRGB picture with `chroma`'s hue whose `luma_of` equals `luma` at every pixel.

    Where the chroma does not fit into the gamut at that luma it is scaled down, hue kept; black and white become
    neutral that way. What is not a number counts as neutral.

    Args:
        luma: wanted grey, [0, 255].
        chroma: as `chroma_of` gives it; any finite size is allowed.

    Cost: some thirty operations a pixel, in strips of 2^18 pixels.
    """
    height, width = luma.shape
    out = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // max(1, width))
    for y in range(0, height, rows):
        out[y : y + rows] = _strip(luma[y : y + rows], chroma[y : y + rows])
    return out


def _strip(luma: UInt8[np.ndarray, "h w"], chroma: Float[np.ndarray, "h w 2"]) -> UInt8[np.ndarray, "h w 3"]:
    grey = luma.astype(np.float64)
    blue, red = (
        np.nan_to_num(chroma[..., i].astype(np.float64), posinf=0.0, neginf=0.0).clip(-1e4, 1e4) for i in (0, 1)
    )
    offsets = np.stack([red, -(_R * red + _B * blue) / _G, blue], axis=-1)
    scale = np.minimum(1.0, _room(grey, offsets).min(axis=-1))
    rgb = np.rint(grey[..., None] + scale[..., None] * offsets).clip(0, 255).astype(np.uint8)
    # Rounding moves the luma by less than half a step, but a tie may fall on the wrong side.
    for step in (1, -1):
        short = (luma.astype(np.int16) - luma_of(rgb)) * step > 0
        for channel in (2, 0, 1):  # blue weighs least
            able = short & (rgb[..., channel] < 255 if step > 0 else rgb[..., channel] > 0)
            rgb[..., channel] = (rgb[..., channel].astype(np.int16) + step * able).astype(np.uint8)
            short &= (luma.astype(np.int16) - luma_of(rgb)) * step > 0
    return np.where((luma_of(rgb) == luma)[..., None], rgb, luma[..., None])


def _room(grey: Float[np.ndarray, "h w"], offsets: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """How far each channel's offset may be stretched before the channel leaves [0, 255]."""
    space = np.where(offsets > 0, 255.0 - grey[..., None], grey[..., None])
    return np.asarray(space / np.maximum(np.abs(offsets), 1e-9))
