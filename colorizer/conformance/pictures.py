"""The pictures that back-ends are checked with: made up, small and seeded."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from colorizer.types import Hit
from serving.geometry import CORNERS, corner_boxes


def drawing(width: int, height: int, seed: int) -> UInt8[np.ndarray, "h w"]:
    """A drawing: paper, grey discs, ink lines, screentone."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    page = np.full((height, width), 255, np.uint8)
    for _ in range(4):
        cx, cy, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.1, 0.35) * min(width, height)
        away = np.hypot(x - cx, y - cy)
        page[away < radius] = rng.integers(60, 220)
        page[np.abs(away - radius) < 1] = 0
    toned = (x < width // 3) & ((x + y) % 4 == 0)
    page[toned] //= 2
    return page


def drawn_context(width: int, height: int, hits: int) -> tuple[tuple[Hit, ...], ...]:
    """For each corner `hits` patches of coloured drawings, best first."""
    context = []
    for corner, box in enumerate(corner_boxes(width, height)) if min(width, height) >= 16 else ():
        row = []
        for rank in range(hits):
            seed = 10 + (corner + rank) % 3
            colour = coloured(width, height, seed)
            patch = np.ascontiguousarray(colour[box.y0 : box.y1, box.x0 : box.x1])
            row.append(Hit(patch, 0.9 - rank / 100, f"{seed:064x}", box, (width, height)))
        context.append(tuple(row))
    return tuple(context) or ((),) * len(CORNERS)


def coloured(width: int, height: int, seed: int) -> UInt8[np.ndarray, "h w 3"]:
    """A coloured drawing: each grey level has its own colour."""
    page = drawing(width, height, seed)
    ramp: UInt8[np.ndarray, "256 3"] = np.random.default_rng(7).integers(0, 256, (256, 3), np.uint8)
    ramp[0], ramp[255] = 0, 255
    colour: UInt8[np.ndarray, "h w 3"] = ramp[page]
    return colour
