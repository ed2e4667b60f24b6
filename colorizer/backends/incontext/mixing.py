"""How the fitted guess, the network and the regression on tones become one chroma.

What is fitted on the references alone (`exemplar`) and what was learned from other books err in different places, so a
mixture errs less than either. Where the references come from here and there, nothing tells how far to trust them; there
the mixture is paler where the two differ in hue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

_FAINT = 4.0  # product of two lengths of chroma up to which hues say little


@dataclass(frozen=True)
class Shares:
    """Of each part in the chroma, tuned on ep01 to ep05; see docs/decisions/0011-incontext.md."""

    fitted: float
    network: float
    tones: float
    strength: float = 1.0  # factor on the mixture
    concord: float = 0.0  # exponent on the likeness of hue of fitted and learned; 0: it is not asked


TOGETHER = Shares(0.6, 0.1, 0.3)
SCATTERED = Shares(0.6, 0.3, 0.1, strength=1.1, concord=0.5)


def mixed(
    fitted: Float32[np.ndarray, "h w 2"],
    network: Float32[np.ndarray, "h w 2"],
    tones: Float32[np.ndarray, "h w 2"],
    flat: Float32[np.ndarray, "h w"],
    shares: Shares,
) -> Float32[np.ndarray, "h w 2"]:
    """The mixture; where flat regions were matched, their colour is left as it is.

    Args:
        fitted: chroma as `Exemplar.guess` has it.
        network: the network's.
        tones: the regression's.
        flat: share of matched flat regions in `fitted`, [0, 1].
        shares: of each.
    """
    learned = shares.network * network + shares.tones * tones
    factor = np.full(flat.shape, shares.strength, np.float32)
    if shares.concord:
        length = np.sqrt((fitted**2).sum(-1) * (learned**2).sum(-1)) / max(shares.network + shares.tones, 1e-6)
        inner = (fitted * learned).sum(-1) / max(shares.network + shares.tones, 1e-6)
        factor *= np.clip(inner / (length + _FAINT), 0, 1) ** np.float32(shares.concord)
    both = (shares.fitted * fitted + learned) * factor[..., None]
    return np.asarray(both + flat[..., None] * (fitted - both), np.float32)
