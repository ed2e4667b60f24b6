"""Parts of a long page that are coloured one by one, so that a strip of any length keeps its detail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

LONGEST = 2.0  # long side over short side up to which a page is one window
_LENGTH = 1.5  # of a window, in short sides
_OVERLAP = 0.3  # of neighbouring windows, in short sides, at least


@dataclass(frozen=True)
class Window:
    """A part of a page, in its pixels, and which of its ends fade into a neighbour."""

    x0: int
    y0: int
    x1: int
    y1: int
    fades: tuple[bool, bool] = (False, False)  # at its beginning, at its end

    def fading(self, width: int, height: int) -> Float32[np.ndarray, "h w"]:
        """Weights of the window's pixels at that size: 1, falling towards ends that fade; never 0."""
        tall = self.y1 - self.y0 >= self.x1 - self.x0
        length = height if tall else width
        short = min(self.x1 - self.x0, self.y1 - self.y0)
        reach = max(1.0, _OVERLAP * short * length / max(self.x1 - self.x0, self.y1 - self.y0))
        at = np.arange(length, dtype=np.float32) + np.float32(0.5)
        line = np.ones(length, np.float32)
        if self.fades[0]:
            line = np.minimum(line, at / np.float32(reach))
        if self.fades[1]:
            line = np.minimum(line, (length - at) / np.float32(reach))
        line = np.maximum(line, np.float32(1e-3))
        return np.ascontiguousarray(np.broadcast_to(line[:, None] if tall else line[None, :], (height, width)))


def windows(width: int, height: int) -> tuple[Window, ...]:
    """The windows of a page of that size, in order along its longer side; one where it is not long."""
    short, long = sorted((width, height))
    if long <= LONGEST * short:
        return (Window(0, 0, width, height),)
    size = round(_LENGTH * short)
    count = 1 + -(-(long - size) // max(1, round((_LENGTH - _OVERLAP) * short)))
    starts = [round(i * (long - size) / (count - 1)) for i in range(count)]
    spans = [(a, a + size, (i > 0, i < count - 1)) for i, a in enumerate(starts)]
    if height >= width:
        return tuple(Window(0, a, width, b, fades) for a, b, fades in spans)
    return tuple(Window(a, 0, b, height, fades) for a, b, fades in spans)
