"""Colour that stays inside outlines: regions that vote as one, and the way to full size."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from scipy import ndimage

from colorizer.backends.exemplar.features import blur

_FAR = 1e-3  # weight of a pixel whose luma is quite another


def regions(luma: Float32[np.ndarray, "h w"], unit: float) -> Int64[np.ndarray, " n"]:
    """The number of each pixel's region, from 0; regions meet where the luma changes most.

    Args:
        luma: [0, 255].
        unit: pixels; regions are some five units wide and follow edges.
    """
    dy, dx = np.gradient(blur(luma, max(0.5, unit)))
    slope = blur(np.hypot(dx, dy), max(0.4, 0.5 * unit))
    seeds, _ = ndimage.label(slope == ndimage.minimum_filter(slope, max(3, round(5 * unit) | 1)))
    flooded = ndimage.watershed_ift(np.clip(slope * 6, 0, 255).astype(np.uint8), seeds.astype(np.int32))
    region: Int64[np.ndarray, " n"] = flooded.ravel().astype(np.int64)
    return region


def pooled(
    votes: Float32[np.ndarray, "n k"], region: Int64[np.ndarray, " n"], share: float
) -> Float32[np.ndarray, "n k"]:
    """Each pixel's votes, mixed with `share` of the mean of its region."""
    count = np.maximum(1, np.bincount(region))
    for k in range(votes.shape[1]):
        mean = np.bincount(region, votes[:, k]) / count
        votes[:, k] = (1 - share) * votes[:, k] + share * mean[region]
    return votes


def enlarge(
    small: Float32[np.ndarray, "h w c"],
    small_guide: Float32[np.ndarray, "h w"],
    guide: UInt8[np.ndarray, "rows W"] | Float32[np.ndarray, "rows W"],
    top: int,
    height: int,
    sharpness: float = 12.0,
) -> Float32[np.ndarray, "rows W c"]:
    """Rows `top` onwards of `small` at the size of a page of `height` rows.

    Of the four small pixels around a pixel, those count whose luma is like the pixel's own.

    Args:
        small: maps at working size.
        small_guide: luma at working size, [0, 255].
        guide: the page's luma in these rows, [0, 255].
        top: the first of these rows.
        height: rows of the whole page.
        sharpness: difference of luma at which a small pixel's weight has fallen to 1/e.

    Source: joint bilateral upsampling, Kopf et al., SIGGRAPH 2007.
    """
    h, w = small_guide.shape
    rows, width = guide.shape
    y0, y1, fy = _between(top, rows, height, h)
    x0, x1, fx = _between(0, width, width, w)
    grey = guide.astype(np.float32)
    total, out = np.zeros(grey.shape, np.float32), np.zeros((*grey.shape, small.shape[2]), np.float32)
    for ys, wy in ((y0, 1 - fy), (y1, fy)):
        for xs, wx in ((x0, 1 - fx), (x1, fx)):
            at = np.ix_(ys, xs)
            near = np.exp(-np.abs(small_guide[at] - grey) / np.float32(sharpness)) + np.float32(_FAR)
            weight = (wy[:, None] * wx[None, :] + np.float32(0.02)) * near
            total += weight
            out += weight[..., None] * small[at]
    return np.asarray(out / total[..., None], np.float32)


def _between(
    first: int, count: int, size: int, small: int
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    at = (np.arange(first, first + count) + 0.5) * small / size - 0.5
    low = np.floor(at).astype(np.int64)
    return low.clip(0, small - 1), (low + 1).clip(0, small - 1), (at - low).astype(np.float32)
