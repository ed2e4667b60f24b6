"""How much of each predictor to take, and how strong the colours may be, learned from what they had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import nnls

_NEUTRAL = 0.015  # an error at chroma C counts 1 / (1 + _NEUTRAL * C), as the eye has it near grey; see CIE94
_FIRM = 1e-3  # of the prior, where nothing is predicted
_STEP, _TOP = 0.05, 1.2  # of the common strength
_FAINT = 4.0  # product of two lengths of chroma up to which hues say little


@dataclass(frozen=True)
class Stance:
    """What is believed of a context before its evidence; see docs/decisions/0003-exemplar.md."""

    shares: tuple[float, ...]  # of each predictor
    weight: float  # of that belief, in groups
    doubt: float  # standard errors that are taken off the mean gain; 0: the strength is not questioned
    strength: float  # factor on the outcome
    steady: float = 0.0  # share of `steady` in what is taken


@dataclass(frozen=True)
class Blend:
    """A mixture of predictors: chroma is strength * sum of share * prediction."""

    shares: tuple[float, ...]
    strength: float

    def __call__(self, predicted: Sequence[Float64[np.ndarray, "n 2"]]) -> Float64[np.ndarray, "n 2"]:
        """The mixed chroma."""
        total = np.zeros_like(predicted[0])
        for share, chroma in zip(self.shares, predicted, strict=True):
            total += self.strength * share * chroma
        return total


def without_evidence(stance: Stance) -> Blend:
    """What the stance alone says."""
    return Blend(stance.shares, stance.strength)


def learn(
    held: Sequence[Float64[np.ndarray, "n 2"]],
    truth: Float64[np.ndarray, "n 2"],
    group: Int64[np.ndarray, " n"],
    stance: Stance,
) -> Blend:
    """The mixture with the least error on held-out groups, drawn towards the stance.

    The pixels of one group share a scene, so that evidence is counted in groups and not in pixels: each weighs the
    same, and the belief weighs `stance.weight` of them. With `stance.doubt` the strength is the one whose gain,
    less so many standard errors between groups, is greatest: references that contradict each other leave a page grey.

    Args:
        held: chroma of each predictor for samples that it had not seen.
        truth: their true chroma.
        group: what was left out together.
        stance: the belief, one share for each predictor.

    Source: stacked regressions with non-negative weights, Breiman, 1996.
    """
    if not len(truth):
        return without_evidence(stance)
    squares, products, energy = _evidence(held, truth, group)
    prior = squares.mean(axis=0) * stance.weight + np.eye(len(held)) * _FIRM
    root = np.linalg.cholesky(squares.sum(axis=0) + prior)
    wanted = products.sum(axis=0) + np.einsum("ij,j->i", prior, np.array(stance.shares))
    shares, _ = nnls(root.T, np.linalg.solve(root, wanted))
    size = np.einsum("i,gij,j->g", shares, squares, shares)
    strength = _bounded(np.einsum("gi,i->g", products, shares), size, energy, stance.doubt)
    return Blend(tuple(shares.tolist()), strength * stance.strength)


def steady(
    predicted: Sequence[Float64[np.ndarray, "n 2"]], agreement: Float64[np.ndarray, " n"], strength: float
) -> Float64[np.ndarray, "n 2"]:
    """A mixture that asks no held-out reference: the mean of two predictions, paler where they differ in hue.

    Args:
        predicted: chroma of the two predictors.
        agreement: of the votes behind the first one, [0, 1].
        strength: factor on the mean where the hues are the same and all votes agree.
    """
    one, two = predicted
    length = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
    concord = np.clip((one * two).sum(axis=1) / (length + _FAINT), 0.0, 1.0)
    return np.asarray((one + two) * (0.5 * strength * np.sqrt(concord * agreement))[:, None])


def _evidence(
    held: Sequence[Float64[np.ndarray, "n 2"]], truth: Float64[np.ndarray, "n 2"], group: Int64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, "g k k"], Float64[np.ndarray, "g k"], Float64[np.ndarray, " g"]]:
    """Group by group: products of the predictions with each other, with the truth, and of the truth with itself."""
    weight = 1 / (1 + _NEUTRAL * np.sqrt((truth**2).sum(axis=1)))
    _, place = np.unique(group, return_inverse=True)
    count = np.bincount(place)

    def mean(a: Float64[np.ndarray, "n 2"], b: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, " g"]:
        return np.asarray(np.bincount(place, weight * (a * b).sum(axis=1)) / count)

    squares = np.stack([np.stack([mean(a, b) for b in held], axis=-1) for a in held], axis=-1)
    return squares, np.stack([mean(a, truth) for a in held], axis=-1), mean(truth, truth)


def _bounded(
    gain: Float64[np.ndarray, " g"], size: Float64[np.ndarray, " g"], energy: Float64[np.ndarray, " g"], doubt: float
) -> float:
    """The strength s with the greatest mean of 2 s gain - s^2 size over the groups, less `doubt` standard errors."""
    if doubt <= 0 or len(gain) < 2:
        return 1.0
    best, chosen = 0.0, 0.0
    for strength in np.arange(0, _TOP + _STEP / 2, _STEP).tolist():
        won = (2 * strength * gain - strength**2 * size) / (energy + energy.mean() + 1e-6)
        bound = float(won.mean() - doubt * won.std(ddof=1) / np.sqrt(len(won)))
        if bound > best:
            best, chosen = bound, strength
    return chosen
