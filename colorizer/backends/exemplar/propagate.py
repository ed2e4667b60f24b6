"""Colour that stays inside outlines: regions that vote as one, and the way to full size."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64
from scipy import ndimage

from colorizer.backends.exemplar.features import blur


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
