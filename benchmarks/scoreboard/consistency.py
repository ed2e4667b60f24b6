"""Whether the same thing has the same colour on every page of a chapter.

The definition of the project's test comics: for pairs of patches on different pages whose true mean colours differ by
less than CIEDE2000 3, the difference of the results' mean colours. Grey is near the best possible at it, so the figure
means something only beside colourfulness.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, UInt8
from skimage.color import deltaE_ciede2000, rgb2lab

ACROSS = 8  # square patches side by side on a page's width
SAME = 3.0  # CIEDE2000 below which two true mean colours are the same

Patches = Float64[np.ndarray, "n 3"]


def patch_means(picture: UInt8[np.ndarray, "h w 3"]) -> Patches:
    """CIELAB (D65) of the mean sRGB colour of every patch of a grid that starts at the top left, row by row.

    Args:
        picture: at least as high as an eighth of its width. What the last row does not fill is left out.
    """
    side = max(1, picture.shape[1] // ACROSS)
    rows, columns = picture.shape[0] // side, picture.shape[1] // side
    whole = picture[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
    means = whole.mean(axis=(1, 3)).reshape(-1, 3)
    return np.asarray(rgb2lab(means / 255.0), np.float64)


@dataclass(frozen=True)
class Pairs:
    """Patches of two pages that show the same colour."""

    pages: tuple[int, int]
    first: Int[np.ndarray, "k"]
    second: Int[np.ndarray, "k"]


def same_colour(truths: Sequence[Patches]) -> list[Pairs]:
    """All pairs of patches on different pages whose true mean colours are the same.

    Args:
        truths: of each page of a chapter.

    Cost: some 1 µs a pair of patches; 50 pages have some 10 million.
    """
    found = []
    for i, j in itertools.combinations(range(len(truths)), 2):
        near = deltaE_ciede2000(truths[i][:, None], truths[j][None]) < SAME
        first, second = np.nonzero(near)
        found.append(Pairs((i, j), first, second))
    return found


def differences(results: Sequence[Patches], pairs: Sequence[Pairs]) -> tuple[float, int]:
    """Sum of CIEDE2000 between the results' mean colours over all pairs, and their number.

    Args:
        results: of each page, in the order that the pairs were made from.
        pairs: see `same_colour`.
    """
    total, count = 0.0, 0
    for pair in pairs:
        i, j = pair.pages
        if pair.first.size:
            total += float(np.sum(deltaE_ciede2000(results[i][pair.first], results[j][pair.second])))
            count += int(pair.first.size)
    return total, count
