"""Line extraction: the residual U-Net that draws a page's lines, and the shading rule of one style.

The network is MangaLineExtraction's; its weights are an input. The layer names are those of the published state dict.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn
from torch.nn import functional

STRIDE = 16  # the network halves its picture four times
PADDING = 1.0  # grey of what is added at the right and bottom, of 255: nearly black, as published
SLOPE = 0.2  # of LeakyReLU
BLACK_BELOW, FLAT_GREY_BELOW, FLAT_GREY = 76.5, 145, 125  # of [0, 255]

WIDTH = 24  # channels of the published network's outer level
DOWN = (  # out channels, units; all but the first block end with a stride of 2
    (24, 2),
    (48, 3),
    (96, 5),
    (192, 7),
    (384, 12),
)
UP = ((192, 7), (96, 5), (48, 3), (24, 2))  # out channels, units; the first unit doubles the picture
LAST = (16, 2)


class _Unit(nn.Module):
    """A residual unit; with `doubling` it first makes the picture twice as large, by nearest neighbour."""

    def __init__(self, channels: int, out: int, stride: int = 1, *, doubling: bool = False) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, out, stride=stride)
        self.residual = _convolution(out, out)
        plain = channels == out and stride == 1
        self.shortcut = None if plain else _named(nn.Conv2d(channels, out, 1, stride))
        self.doubling = doubling

    def forward(self, x: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b d i j"]:
        short = x if self.shortcut is None else self.shortcut(x)
        long = self.conv1(x)
        if self.doubling:
            short, long = functional.interpolate(short, scale_factor=2), functional.interpolate(long, scale_factor=2)
        total: torch.Tensor = self.residual(long) + short
        return total


def _named(*layers: nn.Module) -> nn.Sequential:
    """The layers under the published name, `model.0` and so on."""
    return nn.Sequential(OrderedDict(model=nn.Sequential(*layers)))


def _convolution(channels: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    norm, activation = nn.BatchNorm2d(channels, eps=1e-3), nn.LeakyReLU(SLOPE)
    return _named(norm, activation, nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2))


def _block(channels: int, out: int, units: int, stride: int = 1, *, doubling: bool = False) -> nn.Sequential:
    """Residual units in a row: the channels change in the first one, the stride is in the last one."""
    middle = [_Unit(out, out) for _ in range(units - 2)]
    return _named(_Unit(channels, out, doubling=doubling), *middle, _Unit(out, out, stride))


class LineNet(nn.Module):
    """Grey pages in, line drawings out; both in [0, 255]. 43.1 million parameters, frozen, in eval mode.

    Args:
        width: channels of the outer level, a multiple of 3; 24 as published.

    Source: MangaLineExtraction's published network (`erika.pth`), in the way ColorFlow uses it.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        channels = 1
        for number, (published, units) in enumerate(DOWN):
            out = published * width // WIDTH
            setattr(self, f"block{number}", _block(channels, out, units, stride=2 if number else 1))
            channels = out
        for number, (published, units) in enumerate(UP, len(DOWN)):
            out = published * width // WIDTH
            setattr(self, f"block{number}", _block(channels, out, units, doubling=True))
            channels = out
        last, units = LAST[0] * width // WIDTH, LAST[1]
        self.block9 = _block(channels, last, units)
        self.conv15 = _convolution(last, 1, kernel=1)
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, grey: Float[torch.Tensor, "b 1 h w"]) -> Float[torch.Tensor, "b 1 h w"]:
        """The unclipped drawing.

        Args:
            grey: 0 (black) to 255, not scaled; sides are multiples of 16.
        """
        x, kept = grey, []
        for number in range(len(DOWN)):
            x = self.get_submodule(f"block{number}")(x)
            kept.append(x)
        kept.pop()  # the deepest joins nothing
        for number in range(len(DOWN), len(DOWN) + len(UP)):
            x = self.get_submodule(f"block{number}")(x) + kept.pop()
        drawing: torch.Tensor = self.conv15(self.block9(x))
        return drawing


@torch.inference_mode()
def extract_lines(net: LineNet, grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """A page's lines, dark on white in [0, 255].

    Args:
        net: on any device. float32 is the published precision; inner values can leave float16's range.
        grey: the page in grey, 0 is black. A side that is no multiple of 16 is extended at the right or bottom by
            nearly black (1 of 255), as published; that shows within the last pixels of the page.

    Cost: about 1.2 million multiply-adds a pixel.
    """
    height, width = grey.shape
    some = next(net.parameters())
    pixels = torch.tensor(np.ascontiguousarray(grey), device=some.device, dtype=some.dtype)
    padded = functional.pad(pixels, (0, -width % STRIDE, 0, -height % STRIDE), value=PADDING)
    drawn = net(padded[None, None])[0, 0, :height, :width]
    lines: UInt8[np.ndarray, "h w"] = drawn.clamp(0, 255).to(torch.uint8).cpu().numpy()
    return lines


def shade(grey: UInt8[np.ndarray, "h w"], lines: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Lines with the page's black areas in black and its dark grey areas in one flat grey.

    Args:
        grey: the page, 0 to 255.
        lines: its lines, 0 to 255; not changed.
    """
    shaded = np.where(grey < BLACK_BELOW, np.uint8(0), lines)
    flat = (shaded > FLAT_GREY) & (grey > BLACK_BELOW) & (grey < FLAT_GREY_BELOW)
    return np.where(flat, np.uint8(FLAT_GREY), shaded)
