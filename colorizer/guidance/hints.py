"""Colours that a person asked for, spread over the region they were put on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32

from colorizer.guidance.smoothing import smooth
from colorizer.luma import chroma_of
from colorizer.types import Hint

_SURE = 20.0  # weight of a pixel inside a disc
_ELSEWHERE = 0.002  # and of any other; with the strength it sets the reach, some sixty pixels on an even ground
_STRENGTH, _SHARPNESS, _LEAK = 10.0, 2.5, 1e-6
_FROM, _FULL = 0.25, 0.6  # influence at which a hint begins to show, and to rule


def apply_hints(
    chroma: Float32[np.ndarray, "h w 2"],
    luma: Float32[np.ndarray, "h w"],
    hints: Sequence[Hint],
    scale: tuple[float, float],
) -> Float32[np.ndarray, "h w 2"]:
    """`chroma` with the hints' colours in and around their discs, up to the outlines there; the input when none.

    Args:
        chroma: what the context says, at working size.
        luma: [0, 255], at working size.
        hints: in pixels of the page; where discs overlap their colours mix.
        scale: working pixels for one page pixel, across and down.

    Cost: one `smooth` of 150 rounds with a channel for each hint.
    """
    if not hints:
        return chroma
    discs = np.stack([_disc(luma.shape, hint, scale) for hint in hints], axis=-1)
    sure = np.asarray(discs.any(axis=-1), bool)
    weight = np.where(sure, _SURE, _ELSEWHERE).astype(np.float32)
    shares = discs.astype(np.float32) / np.maximum(1, discs.sum(axis=-1, keepdims=True))
    reach = smooth(luma, shares.astype(np.float32), weight, _STRENGTH, _SHARPNESS, 150, _LEAK)
    reach = np.where(discs, shares, reach.clip(0, 1))
    wanted = np.stack([chroma_of(np.array([[hint.rgb]], np.uint8))[0, 0] for hint in hints])
    total = reach.sum(axis=-1, keepdims=True)
    colour = np.einsum("hwk,kc->hwc", reach, wanted) / np.maximum(total, 1e-6)
    rule = np.where(sure.reshape(*luma.shape, 1), 1.0, ((total - _FROM) / (_FULL - _FROM)).clip(0, 1))
    return np.asarray(chroma + rule * (colour - chroma), np.float32)


def _disc(shape: tuple[int, ...], hint: Hint, scale: tuple[float, float]) -> Bool[np.ndarray, "h w"]:
    """Working pixels under the hint's disc; at least the one under its middle."""
    height, width = shape
    x, y = hint.x * scale[0], hint.y * scale[1]
    across, down = (np.arange(width) + 0.5 - x) / scale[0], (np.arange(height) + 0.5 - y) / scale[1]
    disc = np.zeros((height, width), bool)
    disc[np.hypot(down[:, None], across[None, :]) <= hint.radius] = True
    disc[min(height - 1, max(0, int(y))), min(width - 1, max(0, int(x)))] = True
    return disc
