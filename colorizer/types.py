"""What a back-end is given and what it gives back; frozen dataclasses, no behaviour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, UInt8

from serving.geometry import Box

GreyPage = UInt8[np.ndarray, "h w"]  # BT.601 luma, as PIL's convert('L'), [0, 255]
ColourPage = UInt8[np.ndarray, "h w 3"]  # sRGB, HWC, RGB order, [0, 255]


@dataclass(frozen=True)
class Hit:
    """One colour patch of the pool that was found for one corner of the page."""

    pixels: UInt8[np.ndarray, "ph pw 3"]  # sRGB, HWC; the crop `box` of its reference
    score: float  # cosine similarity, [-1, 1]; within a corner hits come best first
    reference_id: str  # content hash of the reference the patch was cut from
    box: Box  # in pixels of the reference
    reference_size: tuple[int, int]  # width, height of the reference, pixels
    depth: int = 0  # provenance depth: 0 given colour, n + 1 made from references of depth n
    chapter: int = 0  # chapter of the reference, thousandths


@dataclass(frozen=True)
class Hint:
    """A colour that a person wants at a place of the page."""

    x: float  # pixels from the left edge
    y: float  # pixels from the top edge
    radius: float  # pixels; the disc that surely has this colour
    rgb: tuple[int, int, int]  # sRGB, [0, 255]


@dataclass(frozen=True)
class Swatch:
    """A named colour of the series."""

    name: str
    rgb: tuple[int, int, int]  # sRGB, [0, 255]


def _never(step: int, steps: int) -> None:
    """Progress that nobody listens to."""


@dataclass(frozen=True)
class Job:
    """One page to colourise, with all that a back-end may use."""

    page: GreyPage
    context: tuple[tuple[Hit, ...], ...] = ((), (), (), ())  # per corner (serving.geometry.CORNERS), best first
    seed: int = 0
    steps: int | None = None  # None: the back-end's own default
    hints: tuple[Hint, ...] = ()
    palette: tuple[Swatch, ...] = ()
    parameters: dict[str, str] = field(default_factory=dict)  # back-end's own settings, as its card lists them
    progress: Callable[[int, int], None] = _never  # (steps done, steps in all); may raise, which cancels
    preview: Callable[[UInt8[np.ndarray, "ph pw 3"]], None] | None = None  # given when the caller wants to look on
    preview_every: int = 0  # steps between previews: due after `progress(n, …)` where this divides n; 0: none wanted


@dataclass(frozen=True)
class Result:
    """One coloured page."""

    pixels: ColourPage  # the page's own size
    confidence: UInt8[np.ndarray, "h w"] | None = None  # 0 nothing matched, 255 sure; None: not known
    used: Bool[np.ndarray, "corners ranks"] | None = None  # which hits gave colour; None: all
