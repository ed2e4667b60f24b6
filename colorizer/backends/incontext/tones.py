"""A regression from tones to chroma, fitted anew on the references of each page; it stands beside the network.

What a cell of 8 x 8 pixels is told by: what the network sees of it (its luma, its rank in its panel, its place there,
the panel's tones), its contrast, and the mean and contrast of what lies around it at three sizes. Random waves of these
are regressed on chroma by ridge, in closed form; sums over references add up, so that a reference is looked at once.

Source: random Fourier features, Rahimi and Recht, NIPS 2007. The waves are the same in every process and release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from colorizer.backends.incontext.looks import CHANNELS, PAPER

CELL = 8  # pixels
SIDE = 400.0  # lengths below are pixels of a picture of this side (square root of its area)
_AROUND = (24, 64, 128)  # sides of the squares around a cell
_EDGES = 40
# How much each number counts: luma, rank, height, distance from the middle, drawn, in a panel; mean, deviation, low,
# middle and high of the panel; contrast of the cell. Then those around the cell, and the edges.
_SCALES = np.array([1.4, 1.4, 1.4, 0.7, 0.7, 0.7, 2.1, 2.1, 2.1, 2.1, 2.1, 0.7] + [1.0] * (2 * len(_AROUND) + 2))
_WAVES, _WIDTH = 256, 1.5
PENALTY = 0.45  # over the number of cells
_LEGACY = np.random.RandomState(0)  # its stream never changes, unlike that of Generator
_DIRECTIONS = _LEGACY.standard_normal((len(_SCALES), _WAVES)) * _WIDTH * _SCALES[:, None]
_PHASES = _LEGACY.random_sample(_WAVES) * 2 * np.pi


@dataclass(frozen=True)
class ToneSums:
    """What one reference adds to the regression."""

    gram: Float64[np.ndarray, "r r"]
    moment: Float64[np.ndarray, "r 2"]
    cells: float  # that colour can be learned from


def waves(look: Float32[np.ndarray, "c h w"], luma: Float32[np.ndarray, "h w"]) -> Float64[np.ndarray, "n r"]:
    """The regression's inputs at each cell, row by row; the last of them is 1.

    Args:
        look: of the picture.
        luma: [0, 255]; sides are multiples of CELL.

    Cost: fifteen box filters and a cosine for each cell and wave; 40 ms for 336 x 480 pixels.
    """
    assert len(look) == CHANNELS
    unit = float(np.sqrt(luma.size)) / SIDE
    value, drawn = luma / np.float32(127.5), (luma < PAPER).astype(np.float32)
    maps = [*look, _contrast(value), *_around(value, drawn, unit)]
    numbers = np.stack([_cells(m) for m in maps], axis=1).astype(np.float64)
    found = np.cos(numbers @ _DIRECTIONS + _PHASES)
    return np.concatenate([found, np.ones((len(found), 1))], axis=1)


def learn(
    inputs: Float64[np.ndarray, "n r"], chroma: Float32[np.ndarray, "2 h w"], weight: Float32[np.ndarray, "h w"]
) -> ToneSums:
    """What a reference teaches.

    Args:
        inputs: its `waves`.
        chroma: in any unit; predictions are in the same.
        weight: 1 where colour can be learned, else 0.
    """
    share = _cells(weight).astype(np.float64)[:, None]
    colours = np.stack([_cells(c) for c in chroma], axis=1).astype(np.float64)
    weighted = inputs * share
    return ToneSums(weighted.T @ inputs, weighted.T @ colours, float(share.sum()))


def predict(
    inputs: Float64[np.ndarray, "n r"], taught: Sequence[ToneSums], shape: tuple[int, int]
) -> Float32[np.ndarray, "h8 w8 2"]:
    """Chroma at each cell of a page; 0 without references.

    Args:
        inputs: the page's `waves`.
        taught: by its references.
        shape: rows and columns of cells.
    """
    count = sum(t.cells for t in taught)
    if count == 0:
        return np.zeros((*shape, 2), np.float32)
    gram = np.sum([t.gram for t in taught], axis=0) / count
    moment = np.sum([t.moment for t in taught], axis=0) / count
    weights = np.linalg.solve(gram + PENALTY * np.eye(len(gram)), moment)
    return np.asarray((inputs @ weights).reshape(*shape, 2), np.float32)


def known_weight(drawn: Float32[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """1 where colour can be learned: something is drawn, and the context shows it."""
    return drawn * known.astype(np.float32)


def _cells(plane: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, " n"]:
    height, width = plane.shape
    return np.asarray(plane.reshape(height // CELL, CELL, width // CELL, CELL).mean(axis=(1, 3)).ravel())


def _contrast(value: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The deviation within each cell, at every pixel of it."""
    mean, square = (_cells(v) for v in (value, value * value))
    deviation = np.sqrt(np.maximum(0, square - mean * mean)).reshape(value.shape[0] // CELL, -1)
    return np.asarray(deviation.repeat(CELL, 0).repeat(CELL, 1), np.float32)


def _around(
    value: Float32[np.ndarray, "h w"], drawn: Float32[np.ndarray, "h w"], unit: float
) -> list[Float32[np.ndarray, "h w"]]:
    """Mean and deviation of what is drawn around each pixel, at three sizes; edges there and around."""
    maps = []
    for side in _AROUND:
        size = max(1, round(side * unit))
        share = ndimage.uniform_filter(drawn, size) + np.float32(1e-3)
        mean = ndimage.uniform_filter(value * drawn, size) / share
        square = ndimage.uniform_filter(value * value * drawn, size) / share
        maps += [mean - 1, np.sqrt(np.maximum(0, square - mean * mean))]
    dy, dx = np.gradient(ndimage.gaussian_filter(value * np.float32(127.5), 1.5 * unit))
    edges = np.log1p(np.hypot(dx, dy)) / np.float32(3)
    return [*maps, edges, ndimage.uniform_filter(edges, max(1, round(_EDGES * unit)))]
