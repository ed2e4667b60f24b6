"""How far a picture's colours are from the truth: CIEDE2000 and PSNR, in numpy alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from serving.colour import ciede2000, lab_of


def mean_ciede2000(result: UInt8[np.ndarray, "h w 3"], truth: UInt8[np.ndarray, "h w 3"]) -> float:
    """Mean CIEDE2000 over all pixels."""
    return float(ciede2000(lab_of(result), lab_of(truth)).mean())


def psnr(result: UInt8[np.ndarray, "h w 3"], truth: UInt8[np.ndarray, "h w 3"]) -> float:
    """Peak signal-to-noise ratio over all channels, dB; infinite where both are equal."""
    error = float(np.mean((result.astype(np.float64) - truth) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
