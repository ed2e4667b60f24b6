"""The Fréchet distance between two sets of features, without torch.

Source: Heusel et al., "GANs trained by a two time-scale update rule", 2017; d² = |m₁-m₂|² + tr(C₁ + C₂ - 2(C₁C₂)^½).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike


def frechet_of_gaussians(
    mean1: Float64[np.ndarray, "d"],
    covariance1: Float64[np.ndarray, "d d"],
    mean2: Float64[np.ndarray, "d"],
    covariance2: Float64[np.ndarray, "d d"],
) -> float:
    """Squared Fréchet distance between two Gaussians; at least 0.

    tr((C₁C₂)^½) is taken as that of the symmetric (C₁^½ C₂ C₁^½)^½, which has the same eigenvalues and needs no root of
    an unsymmetric matrix.

    Args:
        mean1: of the first.
        covariance1: symmetric, no eigenvalue below 0 but for rounding.
        mean2: of the second.
        covariance2: as the first's.
    """
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ covariance2 @ root), 0, None)).sum()
    gap = float(np.sum((mean1 - mean2) ** 2))
    return max(0.0, gap + float(np.trace(covariance1) + np.trace(covariance2) - 2 * cross))


def frechet_distance(features1: ArrayLike, features2: ArrayLike) -> float:
    """Squared Fréchet distance between the Gaussians of two samples, with unbiased covariances.

    With centred samples X (n, d) and Y (m, d), tr((C₁C₂)^½) is the sum of the singular values of X Yᵀ over
    ((n-1)(m-1))^½: a matrix of n by m, not of d by d. Few pages against 2048 features are thus quick and exact.

    Args:
        features1: of shape (n, d), n at least 2.
        features2: of shape (m, d), m at least 2.

    Raises:
        ValueError: a sample has fewer than two rows, or the two have different d.

    Cost: n·m·d multiply-adds and one decomposition of n by m.
    """
    x, y = np.asarray(features1, np.float64), np.asarray(features2, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"two samples must have shapes (n, d) and (m, d), n and m at least 2, got {x.shape}, {y.shape}"
        )
    a, b = x - x.mean(0), y - y.mean(0)
    spread = np.sum(a**2) / (len(a) - 1) + np.sum(b**2) / (len(b) - 1)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt((len(a) - 1) * (len(b) - 1))
    return max(0.0, float(np.sum((x.mean(0) - y.mean(0)) ** 2) + spread - 2 * cross))
