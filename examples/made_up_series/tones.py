"""A page as manga prints it: black ink, white paper, and dots in a few sizes between."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

from examples.made_up_series.page import Page

INK_BELOW = 110  # grey values under this, in thin marks, are ink
WHITE_ABOVE = 236  # grey values over this are paper
LEVELS = 8  # shades of tone between paper and ink
LIFT = 0.6  # exponent on greys in [0, 1]; tones are printed lighter than greys, which keeps ink lines readable
FINE = 3  # dots are drawn this much finer than the page, then averaged


def screentone(page: Page, *, period: float = 4.5, angle: float = 45.0) -> UInt8[np.ndarray, "h w"]:
    """The page with its greys replaced by halftone dots; ink and paper stay solid.

    Args:
        page: a finished page.
        period: distance between the rows of dots, pixels, at least 2.
        angle: of the rows of dots, degrees.

    Returns:
        Grey values in [0, 255], most of them close to either end; darker areas have more black in them.

    Raises:
        ValueError: `period` is under 2 pixels.
    """
    if period < 2:
        raise ValueError(f"period must be at least 2 pixels, got {period}")
    dark = ndimage.grey_closing(page.grey, size=(5, 5))  # what is left once thin marks are taken away
    ink = (page.grey < INK_BELOW) & (dark.astype(int) - page.grey > 36)
    flat = ndimage.median_filter(np.where(ink, dark, page.grey), size=3).astype(np.float32)
    steps = np.round((flat / 255) ** LIFT * LEVELS) / LEVELS
    steps[flat > WHITE_ABOVE] = 1.0
    dots = _dots(steps, period, np.deg2rad(angle))
    keep = np.where(ink | (page.grey < 24), page.grey // 3, 255)
    printed: UInt8[np.ndarray, "h w"] = np.minimum(dots, keep).astype(np.uint8)
    return printed


def _dots(tone: Float32[np.ndarray, "h w"], period: float, angle: float) -> UInt8[np.ndarray, "h w"]:
    rows, columns = (np.arange(count * FINE, dtype=np.float32) / FINE for count in tone.shape)
    turn = np.float32(2 * np.pi / period)
    along = np.cos(turn * (columns[None] * np.float32(np.cos(angle)) + rows[:, None] * np.float32(np.sin(angle))))
    across = np.cos(turn * (rows[:, None] * np.float32(np.cos(angle)) - columns[None] * np.float32(np.sin(angle))))
    cell = (along + across) / 2  # 1 in the middle of a dot, -1 between dots
    # The share of a cell where (cos a + cos b) / 2 exceeds t is about (1 - t) / 2, so t = 2 * tone - 1 keeps the mean.
    above = cell > np.repeat(np.repeat(2 * tone - 1, FINE, axis=0), FINE, axis=1)
    printed = np.where(above, np.float32(0), np.float32(255))
    height, width = tone.shape
    dots: UInt8[np.ndarray, "h w"] = np.round(printed.reshape(height, FINE, width, FINE).mean(axis=(1, 3))).astype(
        np.uint8
    )
    return dots
