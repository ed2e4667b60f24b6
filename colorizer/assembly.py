"""The references of a context: overlapping hits of one put together at working size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from colorizer.types import Hit

AREA = 400 * 400  # pixels; pictures are matched at this size, or their own when that is smaller
LEAST_SIDE = 4  # pixels, of a working picture


def working_size(width: int, height: int, area: int = AREA, multiple: int = 1) -> tuple[int, int]:
    """Width and height at which a picture is matched: multiples of `multiple`, else no larger than the picture."""
    scale = min(1.0, (area / (width * height)) ** 0.5)
    least = max(LEAST_SIDE, multiple)
    wide, high = (round(side * scale / multiple) * multiple for side in (width, height))
    return max(least, wide), max(least, high)


def by_reference(context: Sequence[Sequence[Hit]]) -> dict[str, list[Hit]]:
    """Hits of each reference, one a box, in the order of rank and corner."""
    found: dict[str, dict[tuple[int, ...], Hit]] = {}
    for rank in range(max((len(corner) for corner in context), default=0)):
        for corner in context:
            if rank < len(corner):
                hit = corner[rank]
                found.setdefault(hit.reference_id, {}).setdefault(tuple(hit.box), hit)
    return {reference: list(boxes.values()) for reference, boxes in found.items()}


def assemble(
    hits: Sequence[Hit], area: int = AREA, multiple: int = 1
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """One reference at working size, white where no hit shows it, and where hits show it."""
    wide, high = hits[0].reference_size
    width, height = working_size(wide, high, area, multiple)
    picture, known = np.full((height, width, 3), 255, np.uint8), np.zeros((height, width), bool)
    for hit in hits:
        x0, x1 = (min(width, max(0, round(x * width / wide))) for x in (hit.box.x0, hit.box.x1))
        y0, y1 = (min(height, max(0, round(y * height / high))) for y in (hit.box.y0, hit.box.y1))
        if x1 > x0 and y1 > y0 and not known[y0:y1, x0:x1].all():
            patch = Image.fromarray(np.ascontiguousarray(hit.pixels)).resize((x1 - x0, y1 - y0), Image.Resampling.BOX)
            picture[y0:y1, x0:x1] = np.asarray(patch)
            known[y0:y1, x0:x1] = True
    return picture, known
