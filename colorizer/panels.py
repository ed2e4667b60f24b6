"""Panels of a page: cuts along empty gutters, straight lines only."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

from serving.geometry import Box

WHITE, BLACK = 243, 12  # a gutter is at least this light, or at most this dark; luma in [0, 255]
_EMPTY = 0.985  # part of a row or column that must be gutter; lettering and dust may touch it
_LEAST = 0.06  # a panel is at least this part of the page's side
_DEPTH = 6  # cuts within cuts


def panel_boxes(luma: Float32[np.ndarray, "h w"]) -> list[Box]:
    """Boxes around the panels of a page, in pixels of `luma`; one box where no gutter divides it.

    White and black gutters are tried, and the finer division counts. A page that is gutter all over has no box.

    Args:
        luma: [0, 255], at working size.
    """
    whole = Box(0, 0, luma.shape[1], luma.shape[0])
    if (luma >= WHITE).all() or (luma <= BLACK).all():
        return []
    on_white, on_black = (_cut(gutter, whole, luma.shape, 0) for gutter in (luma >= WHITE, luma <= BLACK))
    return on_black if len(on_black) > len(on_white) else on_white


def _cut(gutter: Bool[np.ndarray, "h w"], box: Box, page: tuple[int, ...], depth: int) -> list[Box]:
    box = _trim(gutter, box)
    if box.width == 0 or box.height == 0:
        return []
    part = gutter[box.y0 : box.y1, box.x0 : box.x1]
    for axis in (0, 1):  # rows of panels first, as comics are read
        spans = _spans(part.mean(axis=1 - axis) >= _EMPTY, _LEAST * page[axis])
        if len(spans) > 1 and depth < _DEPTH:
            parts = [_slice(box, axis, a, b) for a, b in spans]
            return [inner for p in parts for inner in _cut(gutter, p, page, depth + 1)]
    return [box]


def _slice(box: Box, axis: int, a: int, b: int) -> Box:
    if axis == 0:
        return Box(box.x0, box.y0 + a, box.x1, box.y0 + b)
    return Box(box.x0 + a, box.y0, box.x0 + b, box.y1)


def _trim(gutter: Bool[np.ndarray, "h w"], box: Box) -> Box:
    part = gutter[box.y0 : box.y1, box.x0 : box.x1]
    rows, columns = (np.flatnonzero(part.mean(axis=axis) < _EMPTY) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return Box(box.x0, box.y0, box.x0, box.y0)
    return Box(
        box.x0 + int(columns[0]), box.y0 + int(rows[0]), box.x0 + int(columns[-1]) + 1, box.y0 + int(rows[-1]) + 1
    )


def _spans(empty: Bool[np.ndarray, " n"], least: float) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[True], empty, [True]]).astype(np.int8)))
    spans = zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True)
    return [(a, b) for a, b in spans if b - a >= least]
