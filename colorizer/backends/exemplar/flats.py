"""Flat regions of a picture: what lies between outlines at nearly one luma, what it looks like, what it touches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from colorizer.panels import panel_boxes

SIDE = 640.0  # pixels; lengths below are those of a picture of this side (square root of its area)
_STEP = (2.0, 5.0)  # luma between neighbours of one region, least and most
_LEAST = 14  # pixels of a region
_CORE = 4  # of them inside
PAPER = 248.0  # luma from which on there is paper
_REACH = 7.0  # pixels; regions nearer than twice this touch, ink between them or not
_INK = 80.0  # a thin region darker than this is an outline
_MOST = 500  # regions described, the largest ones
_BINS = 12
_DARK, _EVEN = 60.0, 2.0  # luma up to which ink is meant, and range of luma that counts as none
_EXACT = 5.0  # luma, a step
_LEVELS = 256  # of luma
_RATIOS = np.linspace(-1.2, 1.2, 13)  # of the logarithm of a neighbour's luma over the region's own
WEIGHTS = {
    "luma": 0.5,
    "place": 0.7,
    "shape": 2.5,
    "ink": 0.35,
    "direct": 0.1,
    "ratio": 2.0,
    "near": 1.0,
}
_APART = 0.35  # weight of `apart`


@dataclass(frozen=True)
class Flats:
    """The flat regions of one picture."""

    label: Int64[np.ndarray, "h w"]  # 0 to n - 1, -1 where there is none
    luma: Float64[np.ndarray, " n"]  # median, in halves of a level
    area: Float64[np.ndarray, " n"]  # part of the picture
    features: Float32[np.ndarray, "n f"]  # compared by the sum of differences, and by `apart`
    pairs: Int64[np.ndarray, "m 2"]  # neighbours, each pair once
    border: Float64[np.ndarray, " m"]  # length, pixels
    inked: Bool[np.ndarray, " m"]  # an outline lies between


def describe(luma: Float32[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"]) -> Flats:
    """Find and describe the regions.

    Args:
        luma: whole levels, [0, 255].
        known: where `luma` shows the picture.
    """
    unit = float(np.sqrt(luma.size)) / SIDE
    label, level, area = _segment(luma, known)
    n = len(level)
    if n == 0:
        none = np.zeros(0)
        return Flats(label, none, none, np.zeros((0, 0), np.float32), np.zeros((0, 2), np.int64), none, none > 0)
    pairs, border, inked = _touching(label, luma, level, n, unit)
    parts = {
        "luma": np.log2((level + 16) / 256)[:, None],
        "place": _place(label, luma, n),
        "shape": _shape(label, luma, area, level, n),
        "ink": _profile(pairs, border * inked, level / 256 * _BINS, _BINS, n),
        "direct": _profile(pairs, border * ~inked, level / 256 * _BINS, _BINS, n),
        "ratio": _ratios(pairs, border, level, n),
        "near": _around(label, luma, 20 * unit, n),
    }
    features = np.concatenate([parts[k] * w for k, w in WEIGHTS.items()], axis=1).astype(np.float32)
    return Flats(label, level, area / luma.size, features, pairs, border, inked)


def evenness(luma: Float32[np.ndarray, "h w"]) -> float:
    """Part of the drawn pixels, neither paper nor ink, whose surroundings have their own luma; in [0, 1].

    About a half in flat art, under a quarter in painted art and in pictures that were compressed hard.
    """
    drawn = (luma < PAPER) & (luma > _DARK)
    even = ndimage.maximum_filter(luma, 3) - ndimage.minimum_filter(luma, 3) <= _EVEN
    return float((drawn & even).sum() / max(1, drawn.sum()))


def _segment(
    luma: Float32[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"]
) -> tuple[Int64[np.ndarray, "h w"], Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Labels, median luma and area; what is small, thin and dark, or not known has label -1."""
    h, w = luma.shape
    index = np.arange(h * w, dtype=np.int32).reshape(h, w)
    across, down = np.abs(np.diff(luma, axis=1)), np.abs(np.diff(luma, axis=0))
    low = across[across < 10]
    step = float(np.clip(2 + 2.5 * np.median(low), *_STEP)) if low.size else _STEP[0]
    right, below = (across <= step) & known[:, 1:] & known[:, :-1], (down <= step) & known[1:] & known[:-1]
    a = np.concatenate([index[:, :-1][right], index[:-1][below]])
    b = np.concatenate([index[:, 1:][right], index[1:][below]])
    graph = sparse.coo_array((np.ones(len(a), bool), (a, b)), shape=(h * w, h * w)).tocsr()
    raw = connected_components(graph, directed=False)[1].reshape(h, w)
    size = np.bincount(raw.ravel())
    inside = (ndimage.minimum_filter(raw, 3) == raw) & (ndimage.maximum_filter(raw, 3) == raw)
    core = np.bincount(raw.ravel(), inside.ravel(), len(size))
    mean = np.bincount(raw.ravel(), luma.ravel(), len(size)) / size
    good = (size >= _LEAST) & (core >= _CORE) & ~((mean < _INK) & (core < 0.3 * size))
    good &= np.bincount(raw.ravel(), known.ravel(), len(size)) > 0
    if good.sum() > _MOST:
        good &= size >= np.sort(size[good])[-_MOST]
    number = np.where(good, np.cumsum(good) - 1, -1)
    label = number[raw].astype(np.int64)
    n = int(good.sum())
    return label, _medians(luma, label, n), size[good].astype(float)


def _medians(luma: Float32[np.ndarray, "h w"], label: Int64[np.ndarray, "h w"], n: int) -> Float64[np.ndarray, " n"]:
    """The median luma of each label; the mean of the middle two where there are two."""
    at = label >= 0
    counts = np.bincount(label[at] * _LEVELS + luma[at].astype(np.int64), minlength=n * _LEVELS).reshape(n, _LEVELS)
    up_to = counts.cumsum(axis=1)
    middle = ((up_to[:, -1:] - turn) // 2 + 1 for turn in (1, 0))  # ranks from 1
    return np.asarray(sum((up_to < rank).sum(axis=1) for rank in middle) / 2, np.float64)


def _touching(
    label: Int64[np.ndarray, "h w"],
    luma: Float32[np.ndarray, "h w"],
    level: Float64[np.ndarray, " n"],
    n: int,
    unit: float,
) -> tuple[Int64[np.ndarray, "m 2"], Float64[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
    far, (ys, xs) = ndimage.distance_transform_edt(label < 0, return_indices=True)
    grown = np.where(far <= _REACH * unit, label[ys, xs], -1)
    low = ndimage.minimum_filter(luma, max(3, round(3 * unit) | 1))
    keys, dark = [], []
    for axis in (0, 1):
        one, two = (grown[:-1], grown[1:]) if axis == 0 else (grown[:, :-1], grown[:, 1:])
        at = (one != two) & (one >= 0) & (two >= 0)
        a, b = one[at], two[at]
        keys.append(np.minimum(a, b) * n + np.maximum(a, b))
        floor = (low[:-1] if axis == 0 else low[:, :-1])[at]
        dark.append(floor < np.minimum(level[a], level[b]) - 12)
    key, where = np.unique(np.concatenate(keys), return_inverse=True)
    count = np.bincount(where, minlength=len(key)).astype(float)
    ink = np.bincount(where, np.concatenate(dark), len(key)) > 0.5 * count
    return np.stack([key // n, key % n], axis=1), count, ink


def _both(
    pairs: Int64[np.ndarray, "m 2"], border: Float64[np.ndarray, " m"]
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    return (
        np.concatenate([pairs[:, 0], pairs[:, 1]]),
        np.concatenate([pairs[:, 1], pairs[:, 0]]),
        np.concatenate([border, border]),
    )


def _spread(
    row: Int64[np.ndarray, " k"], value: Float64[np.ndarray, " k"], weight: Float64[np.ndarray, " k"], bins: int, n: int
) -> Float64[np.ndarray, "n b"]:
    """Weights added up in cumulative bins, linear between two."""
    place = np.clip(value - 0.5, 0, bins - 1.001)
    low = place.astype(int)
    out = np.zeros((n, bins))
    np.add.at(out, (row, low), weight * (1 - (place - low)))
    np.add.at(out, (row, low + 1), weight * (place - low))
    return out


def _profile(
    pairs: Int64[np.ndarray, "m 2"],
    border: Float64[np.ndarray, " m"],
    value: Float64[np.ndarray, " n"],
    bins: int,
    n: int,
) -> Float64[np.ndarray, "n b"]:
    own, other, length = _both(pairs, border)
    out = _spread(own, value[other], length, bins, n)
    return np.asarray(out / np.maximum(out.sum(axis=1, keepdims=True), 1e-9))


def _ratios(
    pairs: Int64[np.ndarray, "m 2"], border: Float64[np.ndarray, " m"], level: Float64[np.ndarray, " n"], n: int
) -> Float64[np.ndarray, "n b"]:
    own, other, length = _both(pairs, border)
    ratio = np.log2((level[other] + 16) / (level[own] + 16))
    bins = len(_RATIOS)
    place = (ratio - _RATIOS[0]) / (_RATIOS[-1] - _RATIOS[0]) * (bins - 1) + 0.5
    out = _spread(own, place, length, bins, n)
    return np.asarray(out / np.maximum(out.sum(axis=1, keepdims=True), 1e-9))


def _hats(level: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "n b"]:
    """Luma such that differences count up to two steps and not beyond."""
    return np.asarray(np.maximum(0, 1 - np.abs(level[:, None] / _EXACT - np.arange(int(255 / _EXACT) + 1))))


def _table() -> Float64[np.ndarray, "a b"]:
    hats = _hats(np.arange(2 * _LEVELS - 1) / 2)
    return _APART * np.asarray([np.abs(hats - row).sum(axis=1) for row in hats])


def apart(one: Float64[np.ndarray, " n"], other: Float64[np.ndarray, " m"]) -> Float64[np.ndarray, "n m"]:
    """How far regions are apart by their exact luma, to be added to the differences of their features.

    Args:
        one: medians of some regions, in halves of a level.
        other: of others.
    """
    rows, columns = (np.rint(2 * level).astype(np.int64) for level in (one, other))
    return np.asarray(_TABLE[rows].take(columns, axis=1))


_TABLE = _table()


def _place(label: Int64[np.ndarray, "h w"], luma: Float32[np.ndarray, "h w"], n: int) -> Float64[np.ndarray, "n f"]:
    """Height in the panel and the luma over the panel's mean."""
    high, mean = np.zeros(luma.shape, np.float32), np.full(luma.shape, 128, np.float32)
    for box in panel_boxes(luma):
        part = (slice(box.y0, box.y1), slice(box.x0, box.x1))
        high[part] = np.linspace(0, 1, box.height, dtype=np.float32)[:, None]
        drawn = luma[part][luma[part] < 248]
        mean[part] = drawn.mean() if drawn.size else 128
    at = label >= 0
    area = np.bincount(label[at], minlength=n)
    ys = np.bincount(label[at], high[at], n) / area
    rel = np.bincount(label[at], (np.log2((luma + 16) / (mean + 16)))[at], n) / area
    return np.stack([ys, rel], axis=1)


def _shape(
    label: Int64[np.ndarray, "h w"],
    luma: Float32[np.ndarray, "h w"],
    area: Float64[np.ndarray, " n"],
    level: Float64[np.ndarray, " n"],
    n: int,
) -> Float64[np.ndarray, "n f"]:
    boxes = ndimage.find_objects(label + 1, max_label=n)
    tall = np.array([b[0].stop - b[0].start for b in boxes], float)
    wide = np.array([b[1].stop - b[1].start for b in boxes], float)
    inside = (ndimage.minimum_filter(label, 3) == label) & (ndimage.maximum_filter(label, 3) == label) & (label >= 0)
    core = np.bincount(label[inside], minlength=n)
    at = label >= 0
    noise = np.sqrt(np.bincount(label[at], (luma[at] - level[label[at]]) ** 2, n) / area)
    return np.stack(
        [
            np.log2(area / label.size) / 8,
            np.log2(tall / wide) / 2,
            area / (tall * wide),
            core / area,
            np.minimum(noise, 16) / 4,
        ],
        axis=1,
    )


def _around(
    label: Int64[np.ndarray, "h w"], luma: Float32[np.ndarray, "h w"], radius: float, n: int
) -> Float64[np.ndarray, "n b"]:
    """Shares of luma around the region's pixels, at a quarter of the size."""
    step = 4
    small, where = luma[::step, ::step], label[::step, ::step]
    lone = np.setdiff1d(np.arange(n), where)
    at = where >= 0
    rows, ys, xs = where[at], *np.nonzero(at)
    if len(lone):
        flat = label.ravel()
        order = np.argsort(flat, kind="stable")
        start = np.searchsorted(flat[order], lone)
        py, px = np.divmod(order[start], label.shape[1])
        rows, ys, xs = (
            np.concatenate([rows, lone]),
            np.concatenate([ys, np.minimum(py // step, small.shape[0] - 1)]),
            np.concatenate([xs, np.minimum(px // step, small.shape[1] - 1)]),
        )
    count = np.bincount(rows, minlength=n)
    out = np.empty((n, _BINS))
    size = max(1, round(2 * radius / step) | 1)
    place = np.clip(small / 256 * _BINS - 0.5, 0, _BINS - 1)
    for k in range(_BINS):
        share = ndimage.uniform_filter(np.maximum(0, 1 - np.abs(place - k)).astype(np.float32), size, mode="nearest")
        out[:, k] = np.bincount(rows, share[ys, xs], n) / count
    return out
