"""How a page is divided into panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from examples.made_up_series.story import Shot

MARGIN = 34.0  # round the page, page units (the page is 800 wide)
GUTTER = 13.0  # between panels, page units
WIDTH = 800.0

LAYOUTS: Mapping[int, tuple[tuple[int, ...], ...]] = MappingProxyType(  # panels in each row
    {
        1: ((1,),),
        2: ((1, 1),),
        3: ((1, 2), (1, 1, 1), (2, 1)),
        4: ((1, 2, 1), (2, 2), (1, 1, 2), (2, 1, 1), (1, 3)),
        5: ((1, 2, 2), (2, 1, 2), (2, 2, 1), (1, 3, 1)),
        6: ((2, 2, 2), (1, 2, 3), (3, 2, 1), (1, 3, 2)),
    }
)
SHARES: Mapping[str, float] = MappingProxyType({"wide": 1.7, "full": 1.05, "medium": 1.1, "close": 0.8})

Quad = Float[np.ndarray, "4 2"]  # corners in page units: top left, top right, bottom right, bottom left


def _misfit(rows: Sequence[int], shots: Sequence[Shot]) -> float:
    cost, start = 0.0, 0
    for count in rows:
        for shot in shots[start : start + count]:
            crowd = len(shot.figures)
            if shot.framing == "wide":
                cost += 3 * (count - 1)
            elif shot.framing == "close":
                cost += 1.4 * (count == 1)
            cost += max(0, crowd - 1) * (count - 1) * 0.7 + max(0, len(shot.lines) - 1) * (count - 1) * 0.4
        start += count
    return cost


def panels(shots: Sequence[Shot], height: float, rng: np.random.Generator, head: float = 0.0) -> list[Quad]:
    """A quadrilateral for each shot, page units; `head` is added to the weight of the first row, for a title."""
    options = LAYOUTS[len(shots)]
    costs = [_misfit(rows, shots) + rng.uniform(0, 1.6) for rows in options]
    rows = options[int(np.argmin(costs))]
    weights, start = [], 0
    for index, count in enumerate(rows):
        group = shots[start : start + count]
        tall = {"wide": 1.05, "full": 1.2, "medium": 1.0, "close": 0.95}
        weights.append(
            max(tall[shot.framing] for shot in group) * rng.uniform(0.94, 1.06) + (head if index == 0 else 0)
        )
        start += count
    free = height - 2 * MARGIN - 8 - GUTTER * (len(rows) - 1)
    talls = np.array(weights) / sum(weights) * free
    quads: list[Quad] = []
    top, start = MARGIN, 0
    for tall, count in zip(talls, rows, strict=True):
        quads += _row(shots[start : start + count], top, float(tall), rng)
        top, start = top + float(tall) + GUTTER, start + count
    return quads


def _row(shots: Sequence[Shot], top: float, tall: float, rng: np.random.Generator) -> list[Quad]:
    shares = np.array([SHARES[shot.framing] * (1 + 0.12 * len(shot.lines)) * rng.uniform(0.92, 1.08) for shot in shots])
    free = WIDTH - 2 * MARGIN - GUTTER * (len(shots) - 1)
    quads, left, slant_left = [], MARGIN, 0.0
    for index, wide in enumerate(shares / shares.sum() * free):
        last = index == len(shots) - 1
        slant = 0.0 if last else float(rng.choice([0.0, 0.0, 13.0, -13.0]))
        right = left + float(wide)
        corners = [
            (left + slant_left, top),
            (right + slant, top),
            (right - slant, top + tall),
            (left - slant_left, top + tall),
        ]
        quads.append(np.array(corners))
        left, slant_left = right + GUTTER, slant
    return quads
