"""How far to trust a prediction, learned from references that the predicting trees had not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

FIXED = 0.9  # trust without evidence; the best single factor on the tuning episodes
_BANDS = 8  # of agreement
_PRIOR_ALL = 0.1  # weight of FIXED beside all the evidence
_PRIOR_BAND = 0.5  # weight of the common trust beside an average band's evidence
_TOP = 1.2  # trust above 1 makes up for the paleness of a mean


@dataclass(frozen=True)
class Trust:
    """Factor on a predicted chroma as a function of agreement; linear between knots, never falling."""

    knots: tuple[float, ...]
    factors: tuple[float, ...]

    def __call__(self, agreement: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """The factor for each agreement in [0, 1]."""
        return np.asarray(np.interp(agreement, self.knots, self.factors))


def without_evidence() -> Trust:
    """The same trust in every prediction."""
    return Trust((0.0, 1.0), (FIXED, FIXED))


def learn(
    predicted: Float64[np.ndarray, "n 2"], agreement: Float64[np.ndarray, " n"], truth: Float64[np.ndarray, "n 2"]
) -> Trust:
    """The factors that would have made the predictions' squared error smallest, band by band of agreement."""
    gain, size = (predicted * truth).sum(axis=1), (predicted**2).sum(axis=1)
    if len(size) < _BANDS or size.sum() <= 1e-6:
        return without_evidence()
    edges = np.quantile(agreement, np.linspace(0, 1, _BANDS + 1))
    band = np.clip(np.searchsorted(edges, agreement) - 1, 0, _BANDS - 1)
    gains, sizes = np.bincount(band, gain, _BANDS), np.bincount(band, size, _BANDS)
    common = (gains.sum() + _PRIOR_ALL * FIXED * sizes.sum()) / (sizes.sum() * (1 + _PRIOR_ALL))
    prior = _PRIOR_BAND * sizes.mean()
    factors = np.clip((gains + common * prior) / (sizes + prior), 0.0, _TOP)
    knots = (edges[1:] + edges[:-1]) / 2
    return Trust(tuple(knots.tolist()), tuple(np.maximum.accumulate(factors).tolist()))
