"""What the networks see of a page, by style: half screen tone and half grey, lines, or lines with shading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8

from colorizer.backends.colorflow.lines import LineNet, extract_lines, shade
from colorizer.backends.colorflow.screen import ToneDecoder, ToneEncoder, screened_page
from colorizer.backends.colorflow.styles import Guide


@dataclass(frozen=True)
class Guides:
    """Two grey pictures of the refined size."""

    query: UInt8[np.ndarray, "h w"]  # becomes the page in the canvas
    detail: UInt8[np.ndarray, "h w"]  # guides the refinement


def guides_of(
    kind: Guide,
    grey: UInt8[np.ndarray, "h w"],
    nets: tuple[torch.nn.Module, ...],
    generator: torch.Generator | None = None,
) -> Guides:
    """A page's guides.

    Args:
        kind: the style's.
        grey: the page at the refined size, 0 is black.
        nets: tone: the encoder and the decoder of screen tone; else the line network.
        generator: tone only: noise and dropout are drawn from it, as the published program does; None: neither.

    Cost: one pass of the networks; 2.1 TFLOP for lines at 960 x 960 pixels, 0.3 for tone.
    Source: ColorFlow, arXiv:2412.11815, and its published preprocessing.
    """
    if kind == "tone":
        encoder, decoder = nets
        assert isinstance(encoder, ToneEncoder)
        assert isinstance(decoder, ToneDecoder)
        rgb = np.repeat(grey[..., None], 3, axis=2)
        toned = screened_page(encoder, decoder, rgb, generator=generator)
        return Guides(toned, toned)
    (net,) = nets
    assert isinstance(net, LineNet)
    lines = extract_lines(net, grey)
    return Guides(shade(grey, lines) if kind == "shading" else lines, lines)
