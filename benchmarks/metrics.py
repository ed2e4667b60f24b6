"""How far a coloured page is from the true one; the definitions of the fixed protocols.

All take full-size sRGB pictures, uint8, HWC, [0, 255].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

Picture = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Scores:
    """One page's figures."""

    psnr: float  # dB over all channels; inf for equal pictures
    ssim: float  # on RGB, Gaussian window, sigma 1.5
    ciede: float  # mean CIEDE2000 over pixels, D65
    colourfulness: float  # Hasler and Süsstrunk's M3


def psnr(truth: Picture, result: Picture) -> float:
    """Peak signal-to-noise ratio over all channels, dB; inf for equal pictures."""
    error = float(np.mean((truth.astype(np.float64) - result.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(truth: Picture, result: Picture) -> float:
    """Structural similarity on RGB: Gaussian window, sigma 1.5, data range 255."""
    return float(
        structural_similarity(
            truth, result, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
    )


def ciede2000(truth: Picture, result: Picture) -> float:
    """Mean CIEDE2000 over pixels, D65. Cost: some 0.5 s per megapixel."""
    lab: tuple[Float64[np.ndarray, "h w 3"], ...] = (rgb2lab(truth), rgb2lab(result))
    return float(np.mean(deltaE_ciede2000(*lab)))


def colourfulness(picture: Picture) -> float:
    """Hasler and Süsstrunk's M3: spread plus 0.3 times the mean of the opponent colours; 0 for grey.

    Source: Hasler and Süsstrunk, "Measuring colourfulness in natural images", 2003.
    """
    red, green, blue = np.moveaxis(picture.astype(np.float64), 2, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def score(truth: Picture, result: Picture) -> Scores:
    """All figures of one page.

    Raises:
        ValueError: the pictures have different sizes.
    """
    if truth.shape != result.shape:
        raise ValueError(f"the result must have shape {truth.shape}, got {result.shape}")
    return Scores(psnr(truth, result), ssim(truth, result), ciede2000(truth, result), colourfulness(result))
