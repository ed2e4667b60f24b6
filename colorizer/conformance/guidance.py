"""Whether a back-end follows what a person asks of its colours; the measuring part of two of the promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from colorizer.luma import chroma_of, luma_of, with_luma
from colorizer.types import Hint, Hit, Job, Swatch

Paint = Callable[[Job], UInt8[np.ndarray, "h w 3"]]

_PAINT, _SWATCH, _ASIDE = (196, 92, 30), (206, 60, 44), (60, 96, 190)  # orange, a red near it, a blue far from both
_FAINT = 6.0  # chroma, levels, from which a colour has a hue


def off_palette(job: Job, paint: Paint) -> tuple[float, float]:
    """Mean angle, degrees, between the picture's hues and a swatch, without that swatch and with it.

    All references are drawn in one paint, which is near the swatch but not the same; another swatch is far away.

    Args:
        job: a page with references.
        paint: what the back-end makes of a job.
    """
    context = tuple(tuple(_painted(hit) for hit in corner) for corner in job.context)
    plain = replace(job, context=context)
    palette = (Swatch("coat", _SWATCH), Swatch("sky", _ASIDE))
    before, after = paint(plain), paint(replace(plain, palette=palette))
    wanted = _chroma(_SWATCH)
    return _hue_off(before, wanted), _hue_off(after, wanted)


def off_hint(job: Job, paint: Paint) -> tuple[float, float]:
    """Mean distance of chroma, levels, from a hint's colour under its disc, without the hint and with it.

    Args:
        job: a page of at least 16 x 16 pixels.
        paint: what the back-end makes of a job.
    """
    height, width = job.page.shape
    radius = min(width, height) / 4
    hint = Hint(width / 2, height / 2, radius, _ASIDE)
    page = job.page.copy()
    page[_square(hint)] = 120  # a tone that can take colour, whatever was drawn there
    plain = replace(job, page=page)
    wanted = _chroma(_ASIDE)
    pictures = (paint(plain), paint(replace(plain, hints=(hint,))))
    before, after = (float(np.linalg.norm(chroma_of(p)[_square(hint)] - wanted, axis=-1).mean()) for p in pictures)
    return before, after


def _square(hint: Hint) -> tuple[slice, slice]:
    """The square within the hint's disc."""
    half = hint.radius * 0.7
    return slice(int(hint.y - half), int(hint.y + half)), slice(int(hint.x - half), int(hint.x + half))


def _chroma(rgb: tuple[int, int, int]) -> Float32[np.ndarray, "2"]:
    return np.asarray(chroma_of(np.array([[rgb]], np.uint8))[0, 0])


def _painted(hit: Hit) -> Hit:
    """The hit as a drawing in one paint: chroma goes with luma."""
    luma = luma_of(hit.pixels)
    share = luma[..., None].astype(np.float32) / luma_of(np.array([[_PAINT]], np.uint8))[0, 0]
    return replace(hit, pixels=with_luma(luma, share * _chroma(_PAINT)))


def _hue_off(picture: UInt8[np.ndarray, "h w 3"], wanted: Float32[np.ndarray, "2"]) -> float:
    """Mean angle to `wanted` of all pixels that have a hue, weighted by their chroma; 180 where none has one."""
    chroma: Float64[np.ndarray, "n 2"] = chroma_of(picture).reshape(-1, 2).astype(np.float64)
    size = np.hypot(chroma[:, 0], chroma[:, 1])
    size[size < _FAINT] = 0
    if not size.any():
        return 180.0
    cross = chroma[:, 0] * wanted[1] - chroma[:, 1] * wanted[0]
    angle = np.abs(np.degrees(np.arctan2(cross, chroma @ wanted.astype(np.float64))))
    return float((angle * size).sum() / size.sum())
