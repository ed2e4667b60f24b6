"""A global colour transfer: the simplest peer that uses a reference. One colour per luma level, no idea of place."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from scipy.ndimage import gaussian_filter1d

from colorizer.luma import chroma_of, luma_of, with_luma

LEVEL_SIGMA = 6.0  # smoothing over luma levels, so that rare levels take their neighbours' colour


def colour_transfer(page: UInt8[np.ndarray, "h w"], patch: UInt8[np.ndarray, "ph pw 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """`page` with the mean chroma that `patch` has at the same luma, after matching mean and deviation of the lumas.

    Source: Welsh et al., "Transferring color to greyscale images", 2002, in its global form; the page keeps its luma.
    """
    luma, chroma = luma_of(patch), chroma_of(patch).reshape(-1, 2)
    count = gaussian_filter1d(np.bincount(luma.ravel(), minlength=256).astype(float), LEVEL_SIGMA, mode="nearest")
    table = np.stack(
        [
            gaussian_filter1d(np.bincount(luma.ravel(), chroma[:, i], 256), LEVEL_SIGMA, mode="nearest")
            / np.maximum(count, 1e-9)
            for i in (0, 1)
        ],
        axis=-1,
    )
    spread = float(luma.std()) / max(float(page.std()), 1.0)
    levels = np.clip((np.arange(256) - page.mean()) * spread + luma.mean(), 0, 255).astype(np.uint8)
    return with_luma(page, table[levels][page].astype(np.float32))
