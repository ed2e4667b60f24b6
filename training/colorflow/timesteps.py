"""Which noise levels are trained on: shifted towards the noisy end, where colours are decided."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, Int64

TIMESTEPS = 1000


def shifted(share: Float64[np.ndarray, " n"], mu: float) -> Int64[np.ndarray, " n"]:
    """Timesteps in [0, 999] for even draws in [0, 1).

    t' = T · e^mu / (e^mu + 1/share − 1): at mu 0 they stay even; at 1.5 four of five lie in the noisier half.

    Source: ColorFlow, arXiv:2412.11815, timestep shifted sampling.
    """
    share = np.clip(share, 1e-9, 1 - 1e-9)
    moved = math.exp(mu) / (math.exp(mu) + 1 / share - 1)
    return np.minimum((moved * TIMESTEPS).astype(np.int64), TIMESTEPS - 1)


def share_below(timestep: Float64[np.ndarray, " n"], mu: float) -> Float64[np.ndarray, " n"]:
    """The share of draws below each timestep in [0, 1000]: the inverse of the formula of `shifted`."""
    place = timestep / TIMESTEPS
    return np.asarray(place / (place + math.exp(mu) * (1 - place)))
