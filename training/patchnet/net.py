"""The patch encoder's network: a small convolutional trunk with two heads, in torch."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (40, 72, 128)  # channels at 1/4, 1/8 and 1/16 of the patch
BLOCKS = (1, 1, 1)  # residual blocks at each
GRID = 6  # cells a side that the layout head sees
LAYOUT_CHANNELS = 24
LAYOUT_DIM = 192
SCENE_DIM = 128
WINDOW = 15  # pixels; the neighbourhood that contrast is measured in
FLOOR = 0.03  # luma; contrast much weaker than this counts as none


class PatchNet(nn.Module):
    """Grey patches to two unit vectors each: what is where, and what kind of scene it is."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, blocks: tuple[int, ...] = BLOCKS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 2
        for index, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            layers.append(_conv(before, width, 8, 4, 2) if index == 0 else _conv(before, width, 3, 2, 1))
            layers += [Residual(width) for _ in range(count)]
            before = width
        self.trunk = nn.Sequential(*layers)
        self.reduce = _conv(before, LAYOUT_CHANNELS, 1)
        self.layout = nn.Linear(LAYOUT_CHANNELS * GRID * GRID, LAYOUT_DIM)
        self.scene = nn.Sequential(nn.Linear(2 * before, 256), nn.ReLU(), nn.Linear(256, SCENE_DIM))

    def forward(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Unit rows of the layout head and of the scene head.

        Args:
            grey: (n, 1, side, side), float, luma in [0, 255].
        """
        maps = self.trunk(channels(grey))
        cells = self.reduce(maps).flatten(1)
        means = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        return unit(self.layout(cells)), unit(self.scene(means))


def channels(grey: Tensor) -> Tensor:
    """Luma around 0, and luma over the contrast of its surroundings: thin lines and deep tones look alike there."""
    with torch.autocast(grey.device.type, enabled=False), torch.no_grad():
        means = torch.from_numpy(window_means(grey.shape[2])).to(grey.device)
        luma = grey.float() / 255
        mean = means @ luma @ means.T
        variance = means @ (luma * luma) @ means.T - mean * mean
        local = (luma - mean) / (variance.clamp(min=0).sqrt() + FLOOR)
        return torch.cat([2 * luma - 1, local], 1)


def window_means(side: int) -> Float32[np.ndarray, "side side"]:
    """A matrix that gives each pixel of a line the mean of its window, which the picture's rim cuts off.

    Two products with it are a box filter, and far faster than pooling is on a CPU.
    """
    at = np.arange(side)
    inside = (np.abs(at[:, None] - at[None]) <= WINDOW // 2).astype(np.float32)
    return np.asarray(inside / inside.sum(axis=1, keepdims=True), np.float32)


class Residual(nn.Module):
    """Two convolutions beside which the maps go on as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width, 3, 1, 1)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of the same shape, (n, width, h, w)."""
        return functional.relu(maps + self.second(self.first(maps)))


def _conv(before: int, after: int, side: int, stride: int = 1, rim: int = 0) -> nn.Sequential:
    conv = nn.Conv2d(before, after, side, stride, rim, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


def unit(rows: Tensor) -> Tensor:
    """The rows brought to length 1, in float32; (n, dim)."""
    return rows.float() / (rows.float().square().sum(1, keepdim=True) + 1e-12).sqrt()
