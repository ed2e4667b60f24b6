"""What the network sees of a grey picture: its luma, and where each pixel is among its panel's tones and places."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from colorizer.panels import panel_boxes

CHANNELS = 11
PAPER, INK = 248.0, 4.0  # luma beyond which there is no colour to learn or to give
CELL = 16  # sides are multiples of this many pixels
_RANKS = 512  # tones of a panel that its ranks are taken from


def look(luma: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "11 h w"]:
    """Luma in [-1, 1]; rank of the luma among its panel's, height in the panel and distance from its middle, each in
    [0, 1]; 1 where something is drawn; 1 inside a panel;
    of the panel's tones the mean, the deviation and the 5th, 50th and 95th hundredth, each over 255.

    Args:
        luma: [0, 255], at working size.

    Cost: a sort of the pixels.
    """
    height, width = luma.shape
    drawn = luma < PAPER
    out = np.zeros((CHANNELS, height, width), np.float32)
    out[0] = luma / 127.5 - 1
    out[4] = drawn
    for box in panel_boxes(luma):
        at = np.s_[box.y0 : box.y1, box.x0 : box.x1]
        panel = out[:, box.y0 : box.y1, box.x0 : box.x1]
        tones = np.sort(luma[at][drawn[at]])
        if len(tones):
            tones = tones[:: max(1, len(tones) // _RANKS)]
            panel[6:] = _tones(tones)[:, None, None]
            panel[1] = np.searchsorted(tones, luma[at]) / len(tones)
        panel[2] = np.linspace(0, 1, box.height, dtype=np.float32)[:, None]
        panel[3] = np.abs(np.linspace(-1, 1, box.width, dtype=np.float32))[None, :]
        panel[5] = 1
    return out


def _tones(tones: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " 5"]:
    low, middle, high = tones[[len(tones) // 20, len(tones) // 2, len(tones) - 1 - len(tones) // 20]]
    return np.array([tones.mean(), tones.std(), low, middle, high], np.float32) / 255


def drawn_of(luma: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """1 where colour may be, 0 on paper and in pure ink."""
    return np.asarray((luma < PAPER) & (luma > INK), np.float32)
