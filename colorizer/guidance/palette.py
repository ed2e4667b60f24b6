"""The colours of a series, kept: what is surely coloured goes towards the nearest swatch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from PIL import Image

from colorizer.guidance.smoothing import even_out
from colorizer.guidance.swatches import GLOOM, pull_of
from colorizer.types import Swatch

_AREA = 320 * 320  # pixels at which it is decided where each region goes
_REACH, _SHARPNESS = 15.0, 25.0  # at that size; luma
_FAINT, _CLEAR = 5.0, 16.0  # chroma of a region, levels, that begins to be drawn, and that wholly is
_SURE = 0.6  # confidence that gives half the pull


def apply_palette(
    chroma: Float32[np.ndarray, "h w 2"],
    luma: Float32[np.ndarray, "h w"],
    confidence: Float32[np.ndarray, "h w"],
    palette: Sequence[Swatch],
    hue: float = 0.6,
    saturation: float = 0.03,
) -> Float32[np.ndarray, "h w 2"]:
    """`chroma` with its regions drawn towards the nearest colours of the palette; the input when there are none.

    Hue and saturation are decided for a region and not for a pixel: for the mean around it, up to the edges of the
    drawing, the surer pixels counting more. Every pixel is then turned and stretched as its region is, so that what is
    neutral stays neutral and shading stays as it is. A region is drawn the more, the surer and the clearer its colour
    is; what is faint, and what is like no swatch, stays.

    Args:
        chroma: as `colorizer.luma.chroma_of` gives it, at working size.
        luma: [0, 255].
        confidence: [0, 1], how sure the chroma is.
        palette: in any order; neutral colours draw nothing.
        hue: part of the way to the swatch's hue that a wholly sure colour goes, [0, 1].
        saturation: the same of saturation. Small by default, because where a back-end has guessed wrong a stronger
            colour is a worse one; one that guesses well may ask for more.

    Cost: 60 ms for 640 x 640 pixels and 16 swatches, 200 ms for 256 swatches not seen before; the decision is made at
    320 x 320. No part of it depends on the number of threads.
    """
    pull = pull_of(palette)
    if pull is None or luma.size == 0:
        return chroma
    weight = confidence.clip(0, 1)
    maps = [chroma[..., 0] * weight, chroma[..., 1] * weight, (luma + np.float32(GLOOM)) * weight, weight, luma]
    height, width = luma.shape
    scale = min(1.0, (_AREA / luma.size) ** 0.5)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    *small, guide = (_resized(one, size) for one in maps)
    blue, red, light, sure = even_out(np.stack(small), guide, _REACH, _SHARPNESS).reshape(4, -1)
    share = np.stack([blue, red]) / np.maximum(light, 1e-3)
    brightness = light / np.maximum(sure, 1e-5)
    turn, stretch = pull(share, (brightness - GLOOM).clip(0, 255))
    clear = ((np.hypot(share[0], share[1]) * brightness - _FAINT) / (_CLEAR - _FAINT)).clip(0, 1)
    rule = clear * sure / (sure + np.float32(_SURE)) * np.float32(1 + _SURE)
    turn, gain = np.float32(hue) * rule * turn, np.exp(np.float32(saturation) * rule * stretch)
    along, across = (
        _resized(one.astype(np.float32).reshape(guide.shape), (width, height))
        for one in (gain * np.cos(turn), gain * np.sin(turn))
    )
    out = np.empty_like(chroma)
    out[..., 0] = along * chroma[..., 0] - across * chroma[..., 1]
    out[..., 1] = across * chroma[..., 0] + along * chroma[..., 1]
    return out


def _resized(values: Float32[np.ndarray, "a b"], size: tuple[int, int]) -> Float32[np.ndarray, "c d"]:
    """`values` at another width and height, means of areas when smaller, straight lines between when larger."""
    if values.shape == (size[1], size[0]):
        return values
    smaller = size[0] * size[1] < values.size
    how = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(np.ascontiguousarray(values)).resize(size, how), np.float32)
