"""Colour that stays inside outlines: regions that vote as one, smoothing that edges stop, the way to full size."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy import ndimage

from colorizer.backends.exemplar.features import blur

_LEAK = 1e-4  # part of the coupling that passes any edge; keeps the system well conditioned


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


def smooth(
    guide: Float32[np.ndarray, "h w"],
    value: Float32[np.ndarray, "h w c"],
    weight: Float32[np.ndarray, "h w"],
    strength: float,
    sharpness: float,
    iterations: int = 40,
    leak: float = _LEAK,
) -> Float32[np.ndarray, "h w c"]:
    """`value` evened out between neighbours of like `guide`.

    Minimises sum of weight * (x - value)^2 + strength * exp(-|difference of guide| / sharpness) * (x_i - x_j)^2 by
    conjugate gradients with a diagonal preconditioner, a fixed number of rounds.

    Source: weighted least squares, Farbman et al., SIGGRAPH 2008. Differs: the guide is luma itself, not its logarithm.
    """
    down, right = (strength * (np.exp(-np.abs(np.diff(guide, axis=a)) / sharpness) + leak)[..., None] for a in (0, 1))
    own = weight[..., None] + np.float32(1e-6)
    diagonal = own.copy()
    diagonal[:-1] += down
    diagonal[1:] += down
    diagonal[:, :-1] += right
    diagonal[:, 1:] += right

    def apply(x: Float32[np.ndarray, "h w c"]) -> Float32[np.ndarray, "h w c"]:
        y = own * x
        flow = down * np.diff(x, axis=0)
        y[1:] += flow
        y[:-1] -= flow
        flow = right * np.diff(x, axis=1)
        y[:, 1:] += flow
        y[:, :-1] -= flow
        return np.asarray(y, np.float32)

    x = value.copy()
    rest = own * value - apply(x)
    step = rest / diagonal
    power = _dot(rest, step)
    for _ in range(iterations):
        image = apply(step)
        size = (power / (_dot(step, image) + 1e-20)).astype(np.float32)
        x += size * step
        rest -= size * image
        fresh = rest / diagonal
        new = _dot(rest, fresh)
        step = fresh + (new / (power + 1e-20)).astype(np.float32) * step
        power = new
    return x


def _dot(a: Float32[np.ndarray, "h w c"], b: Float32[np.ndarray, "h w c"]) -> Float64[np.ndarray, " c"]:
    total: Float64[np.ndarray, " c"] = (a * b).sum(axis=(0, 1), dtype=np.float64)
    return total
