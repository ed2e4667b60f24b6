"""The three published styles as data; cheap to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Backbone = Literal["sd", "pixart"]
Guide = Literal["tone", "lines", "shading"]

PUBLISHED_SIZES = ((640, 640), (512, 800), (800, 512))  # width, height of a page before refinement, pixels
REFINED = 1.5  # the refined page's side over the page's
DEFAULT_STEPS = 10


@dataclass(frozen=True)
class Style:
    """One published checkpoint: which backbone it adapts and what it sees of the page."""

    name: str
    folder: str  # within the model folder
    backbone: Backbone
    rank: int  # of its LoRA; alpha is the same
    guide: Guide  # what becomes of the page: half screen tone half grey, extracted lines, or lines with shading
    guidance: float  # classifier-free guidance of the published demo
    page: str  # which pages it is for


STYLES = {
    style.name: style
    for style in (
        Style("gray", "GraySD", "sd", 64, "tone", 7.5, "finished pages with grey or screen tone"),
        Style("sketch", "sketch", "pixart", 128, "lines", 4.5, "line drawings without tone"),
        Style("shading", "shading", "pixart", 128, "shading", 4.5, "line drawings with flat grey and black areas"),
    )
}
