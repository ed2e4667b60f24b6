"""What the networks see of a page in training: the back-end's guides, by formulas or by its own networks."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8

from colorizer.backends.colorflow.files import part_named
from colorizer.backends.colorflow.guides import Guides, guides_of
from colorizer.backends.colorflow.lines import shade
from colorizer.backends.colorflow.styles import Style
from colorizer.backends.colorflow.weights import Folder
from serving.colour import grey_of
from training.degrade import blend, line_art


class DrawnLooks:
    """By formulas of `training.degrade`, which need no weights.

    Args:
        style: decides which: grey blended with screen tone at a random strength, lines, or lines with shading.
    """

    def __init__(self, style: Style) -> None:
        self._style = style

    def __call__(self, rgb: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> Guides:
        """The guides of a colour page of the refined size."""
        if self._style.guide == "tone":
            toned = blend(rgb, rng)
            return Guides(toned, toned)
        lines = line_art(rgb, rng)
        return Guides(shade(grey_of(rgb), lines) if self._style.guide == "shading" else lines, lines)


class NetworkLooks:
    """By the back-end's own line or tone networks: the very guides of run time, tone at a random strength.

    Args:
        style: as for `DrawnLooks`.
        folder: holds the networks.
        device: where they go; on a CPU a page of 960 x 960 takes many seconds.

    Raises:
        FailedState: the folder lacks them.
    """

    def __init__(self, style: Style, folder: Folder, device: torch.device) -> None:
        names = ("tone/encoder", "tone/decoder") if style.guide == "tone" else ("lines",)
        self._style = style
        self._nets = tuple(folder.network(part_named(name), device=device, dtype=torch.float32) for name in names)

    def __call__(self, rgb: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> Guides:
        """As `DrawnLooks`."""
        grey = grey_of(rgb)
        found = guides_of(self._style.guide, grey, self._nets)
        if self._style.guide != "tone":
            return found
        tone = grey + 2 * rng.uniform() * (found.query.astype(np.float32) - grey)  # at run time the share is a half
        mixed = np.rint(tone).clip(0, 255).astype(np.uint8)
        return Guides(mixed, mixed)
