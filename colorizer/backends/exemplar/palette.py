"""The few colours of one context, and a single chroma out of votes for them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int64

_ROUNDS = 6  # of k-means; more change the result's error by less than its third digit
_SAMPLES = 6000


def palette_of(
    chroma: Float64[np.ndarray, "n 2"], size: int, rng: np.random.Generator
) -> tuple[Float64[np.ndarray, "k 2"], Int64[np.ndarray, " n"]]:
    """Centres of `size` clusters of chroma, and the cluster of every sample; k-means on a part of the samples."""
    centres = chroma[rng.choice(len(chroma), size, replace=len(chroma) < size)]
    some = chroma[rng.permutation(len(chroma))[:_SAMPLES]]
    for _ in range(_ROUNDS):
        centres = _means(some, _nearest(some, centres), centres)
    labels = _nearest(chroma, centres)
    return _means(chroma, labels, centres), labels


def _nearest(chroma: Float64[np.ndarray, "n 2"], centres: Float64[np.ndarray, "k 2"]) -> Int64[np.ndarray, " n"]:
    return np.asarray(((chroma[:, None] - centres[None]) ** 2).sum(axis=-1).argmin(axis=1))


def _means(
    chroma: Float64[np.ndarray, "n 2"], labels: Int64[np.ndarray, " n"], centres: Float64[np.ndarray, "k 2"]
) -> Float64[np.ndarray, "k 2"]:
    count = np.bincount(labels, minlength=len(centres))[:, None]
    sums = np.stack([np.bincount(labels, chroma[:, c], len(centres)) for c in (0, 1)], axis=1)
    return np.where(count > 0, sums / np.maximum(count, 1), centres)


def decide(
    votes: Float32[np.ndarray, "n k"], centres: Float64[np.ndarray, "k 2"], gamma: float
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, " n"]]:
    """One chroma from each row of votes, and how far the votes agree, in [0, 1].

    The chroma is the mean of the palette under the votes raised to `gamma`: 1 is the plain mean, which is muddy where
    two colours compete, and a large `gamma` the winner. Agreement is the mean's squared length over the mean squared
    length: 1 where all vote for one colour, 0 where they cancel out.

    Source: the annealed mean of Zhang, Isola and Efros, Colorful Image Colorization, ECCV 2016.
    """
    sharp = votes.astype(np.float64) ** gamma
    sharp /= np.maximum(sharp.sum(axis=1, keepdims=True), 1e-12)
    mean = np.einsum("nk,kc->nc", sharp, centres)  # no BLAS: the same bits whatever the number of threads
    power = np.einsum("nk,k->n", sharp, (centres**2).sum(axis=1))
    return mean, np.minimum(1.0, (mean**2).sum(axis=1) / (power + 1e-6))
