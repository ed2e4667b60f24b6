"""Screen tone: a page in colour or grey drawn again with synthetic tone, and the page that the grey style works on.

Two U-Nets of ScreenStyle and ScreenVAE; their weights are an input. The layer names are those of the published state
dicts, in which a level's layers are numbered with its inner level among them. Both normalise over a whole picture, so
the tone of a pixel depends on all others and on the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import nn
from torch.nn import functional

WIDTH = 48  # channels of the published networks' outer level
MULTIPLES = (1, 2, 4, 8, 8, 8, 8, 8)  # of the width, level by level; the decoder has one level less
SLOPE = 0.2  # of LeakyReLU
EPSILON = 1e-5  # of the normalisation
ENCODER_SIDE, DECODER_SIDE = 256, 128  # sides are padded to multiples of these, in pixels
RED = (255, 0, 0)  # what the page is padded with; its grey twin is padded with white
DROPOUT = 0.5

Random = Literal["noise", "dropout"]
DECODER_RANDOM: tuple[Random | None, ...] = (None, "noise", "noise", "noise", "dropout", "dropout", None)
Images = Float[torch.Tensor, "b _c _h _w"]


class ToneEncoder(nn.Module):
    """Grey and RGB in, four channels of screen code out; all in [-1, 1]. Frozen, in eval mode.

    Args:
        width: channels of the outer level; 48 as published (12.6 million parameters).

    Source: ScreenStyle's `RGB2INTSCR`, in the way ColorFlow uses it.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        widths = [4, *(width * multiple for multiple in MULTIPLES)]
        self.model = _levels(widths, out=4, spectral=True, random=[None] * len(MULTIPLES))
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, picture: Float[torch.Tensor, "b 4 h w"]) -> Float[torch.Tensor, "b 4 h w"]:
        """The screen code. Sides are multiples of 256; channels are grey, red, green, blue."""
        code: torch.Tensor = self.model(picture, None)
        return code.tanh()


class ToneDecoder(nn.Module):
    """Screen code in, grey screen tone out, nominally in [-1, 1] but not bounded. Frozen, in eval mode.

    Args:
        width: channels of the outer level; 48 as published (13.2 million parameters).

    Source: the decoder of ScreenVAE, in the way ColorFlow uses it: noise and, because the published program leaves it
    in training mode, dropout.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        widths = [4, *(width * multiple for multiple in MULTIPLES[:-1])]
        self.model = _levels(widths, out=1, spectral=False, random=DECODER_RANDOM)
        self.eval().requires_grad_(requires_grad=False)

    def forward(
        self,
        screen: Float[torch.Tensor, "b 4 h w"],
        generator: torch.Generator | None = None,
        *,
        dropout: bool = True,
    ) -> Float[torch.Tensor, "b 1 h w"]:
        """The tone.

        Args:
            screen: sides are multiples of 128.
            generator: of the CPU; dropout and noise are drawn from it in the published order. None draws nothing.
            dropout: whether dropout is active where there is a generator.
        """
        draws = None if generator is None else _Draws(generator, dropout=dropout)
        tone: torch.Tensor = self.model(screen, draws)
        return tone


def screen_tone(
    encoder: ToneEncoder,
    decoder: ToneDecoder,
    rgb: UInt8[np.ndarray, "h w 3"],
    *,
    generator: torch.Generator | None = None,
) -> UInt8[np.ndarray, "h w"]:
    """A page drawn with screen tone, in [0, 255].

    Args:
        encoder: on any device, of any float type.
        decoder: on the encoder's device and of its type.
        rgb: the page. Sides are padded to multiples of 256, the page with red and its grey twin with white.
        generator: of the CPU; gives the published behaviour (noise and dropout). None is the deterministic form.

    Cost: about 0.14 million multiply-adds for each pixel of the padded page.
    Source: ColorFlow's use of ScreenStyle. The grey is multiplied in twice, as published.
    """
    height, width = rgb.shape[:2]
    tone = tone_of(encoder, decoder, *padded_inputs(rgb, encoder), generator=generator)[0, 0, :height, :width]
    drawn: UInt8[np.ndarray, "h w"] = ((tone.float() + 1) / 2 * 255).clamp(0, 255).to(torch.uint8).cpu().numpy()
    return drawn


def screened_page(
    encoder: ToneEncoder,
    decoder: ToneDecoder,
    rgb: UInt8[np.ndarray, "h w 3"],
    *,
    generator: torch.Generator | None = None,
) -> UInt8[np.ndarray, "h w"]:
    """The mean of a page's screen tone and its grey, in [0, 255]: what the grey style works on.

    Args:
        encoder: as for `screen_tone`.
        decoder: as for `screen_tone`.
        rgb: the page.
        generator: as for `screen_tone`.
    """
    tone = Image.fromarray(screen_tone(encoder, decoder, rgb, generator=generator))
    return np.asarray(Image.blend(tone, Image.fromarray(rgb).convert("L"), 0.5))


def padded_inputs(
    rgb: UInt8[np.ndarray, "h w 3"], encoder: ToneEncoder
) -> tuple[Float[torch.Tensor, "1 1 H W"], Float[torch.Tensor, "1 3 H W"]]:
    """A page's grey twin and the page in [-1, 1], padded for the encoder, on its device and in its type."""
    page = Image.fromarray(rgb)
    size = page.width + -page.width % ENCODER_SIDE, page.height + -page.height % ENCODER_SIDE
    grey, colour = Image.new("L", size, 255), Image.new("RGB", size, RED)
    grey.paste(page.convert("L"))
    colour.paste(page)
    some = next(encoder.parameters())
    planes = np.concatenate([np.asarray(grey)[..., None], np.asarray(colour)], axis=-1)
    scaled = torch.from_numpy(planes).to(some.device).permute(2, 0, 1)[None].float() / 255
    scaled = ((scaled - 0.5) / 0.5).to(some.dtype)
    return scaled[:, :1], scaled[:, 1:]


@torch.inference_mode()
def tone_of(
    encoder: ToneEncoder,
    decoder: ToneDecoder,
    grey: Float[torch.Tensor, "b 1 h w"],
    rgb: Float[torch.Tensor, "b 3 h w"],
    *,
    generator: torch.Generator | None = None,
    dropout: bool = True,
) -> Float[torch.Tensor, "b 1 h w"]:
    """The tone of padded pages; everything in [-1, 1].

    Args:
        encoder: on any device, of any float type.
        decoder: on the encoder's device and of its type.
        grey: the pages' grey twins; sides are multiples of 256.
        rgb: the pages.
        generator: as for `ToneDecoder.forward`.
        dropout: as for `ToneDecoder.forward`.
    """
    height, width = grey.shape[2:]
    code = encoder(torch.cat([grey, rgb], dim=1))
    # always more, also where a side is a multiple already
    code = functional.pad(
        code, (0, DECODER_SIDE - width % DECODER_SIDE, 0, DECODER_SIDE - height % DECODER_SIDE), mode="replicate"
    )
    tone: torch.Tensor = decoder(code, generator, dropout=dropout)[:, :, :height, :width]
    light = (grey + 1) / 2
    toned = ((tone + 1) * light - 1).clamp(-1, 1)
    return (toned + 1) * light - 1


class _Draws:
    """What the decoder draws, on the CPU in float32, so that a seed means the same everywhere."""

    def __init__(self, generator: torch.Generator, *, dropout: bool) -> None:
        self.generator = generator
        self.dropout = dropout

    def noise(self, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self.generator).to(like.device, like.dtype)

    def thinned(self, x: torch.Tensor) -> torch.Tensor:
        if not self.dropout:
            return x
        kept = torch.empty(x.shape).bernoulli_(1 - DROPOUT, generator=self.generator) / (1 - DROPOUT)
        return x * kept.to(x.device, x.dtype)


class _Noise(nn.Module):
    """A weight and a bias a channel for noise; the second half of the channels has neither."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Images, draws: _Draws | None) -> Images:
        half = (torch.arange(len(self.weight), device=x.device) < len(self.weight) // 2).to(x.dtype)
        x = x + (self.bias * half)[:, None, None]
        return x if draws is None else x + (self.weight * half)[:, None, None] * draws.noise(x)


class _SpectralConvolution(nn.Module):
    """A 3 x 3 convolution stored as spectral norm stores it; the weight in use is computed once, when it is loaded."""

    weight_u: torch.Tensor
    weight_v: torch.Tensor
    weight: torch.Tensor  # the weight in use: no parameter, and no part of the state dict

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        plain = nn.Conv2d(channels, out, 3, stride)
        self.stride = stride
        self.bias = plain.bias
        self.weight_orig = plain.weight
        matrix = plain.weight.detach().flatten(1)
        v = functional.normalize(matrix.T.sum(1), dim=0)
        self.register_buffer("weight_u", functional.normalize(matrix.mv(v), dim=0))
        self.register_buffer("weight_v", v)
        self.register_buffer("weight", torch.empty(0), persistent=False)
        self.fold()
        self.register_load_state_dict_post_hook(_fold)  # type: ignore[no-untyped-call]  # torch gives it no types

    def fold(self) -> None:
        stored = self.weight_orig.detach()
        self.weight = stored / torch.dot(self.weight_u, stored.flatten(1).mv(self.weight_v))

    def forward(self, x: Images) -> Images:
        return functional.conv2d(x, self.weight, self.bias, self.stride)


def _fold(module: Any, _keys: Any) -> None:
    module.fold()


class _Level(nn.Module):
    """One level of a U-Net: half the size, the level inside, the size again.

    Args:
        channels: of the input.
        width: channels of the level inside.
        inner: the level inside; None for the innermost one.
        out: channels of the output; the input's where None. Given for the outer level, which alone has no skip.
        spectral: the generator's kind: spectral norm, bilinear doubling, skips that are added. Otherwise skips are
            concatenated.
        random: what the decoder does at the end of the level.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        inner: _Level | None,
        *,
        out: int | None = None,
        spectral: bool = False,
        random: Random | None = None,
    ) -> None:
        super().__init__()
        self.outer = out is not None
        self.spectral = spectral
        self.random = random
        self.transposed = not spectral and (self.outer or random == "noise")
        out = out or channels
        self.noiseblock = _Noise(out)
        self._number(nested=inner is not None)
        raised = width if self.outer and not spectral else out
        inside = width if inner is None or spectral else 2 * width
        self.model = nn.ModuleDict()
        self.model[self.down] = (
            _SpectralConvolution(channels, width, 2) if spectral else nn.Conv2d(channels, width, 3, 2)
        )
        if inner is not None:
            self.model[self.inner] = inner
        rise = nn.ConvTranspose2d(inside, raised, 4, 2, 1) if self.transposed else nn.Conv2d(inside, raised, 1)
        self.model[self.rise] = rise
        kernel = 7 if self.outer and not spectral else 3
        self.border = kernel // 2
        self.model[self.last] = _SpectralConvolution(raised, out) if spectral else nn.Conv2d(raised, out, kernel)

    def _number(self, *, nested: bool) -> None:
        """The published names, which count layers without weights too: activations, norms, paddings, upsampling."""
        down = 1 if self.outer else 2
        inner = down + (not self.outer) + 1 if nested else down
        rise = inner + (2 if self.transposed else 3)
        self.down, self.rise, self.last = str(down), str(rise), str(rise + 4)
        self.inner = str(inner) if nested else ""

    def forward(self, x: Images, draws: _Draws | None) -> Images:
        skip = x if self.outer else functional.leaky_relu(x, SLOPE)  # the skip carries the activated input, too
        y = self.model[self.down](_bordered(skip, 1))
        if self.inner:
            y = self.model[self.inner](y if self.outer else _norm(y), draws)
        y = self.model[self.rise](functional.leaky_relu(y, SLOPE))
        if not self.transposed:  # published before the 1 x 1 convolution; they commute, and so it costs a quarter
            y = functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
        y = self.model[self.last](_bordered(functional.leaky_relu(_norm(y), SLOPE), self.border))
        if self.outer:
            return cast(torch.Tensor, y)
        y = self._randomised(_norm(y), draws)
        return y + skip if self.spectral else torch.cat([y, skip], dim=1)

    def _randomised(self, y: Images, draws: _Draws | None) -> Images:
        if self.random == "noise":
            noisy: torch.Tensor = self.noiseblock(y, draws)
            return noisy
        return draws.thinned(y) if self.random == "dropout" and draws is not None else y


def _levels(widths: Sequence[int], *, out: int, spectral: bool, random: Sequence[Random | None]) -> _Level:
    """A whole U-Net; `widths` has the input's channels first, `random` has one entry a level, the outer one first."""
    level: _Level | None = None
    for number in range(len(random) - 1, 0, -1):
        level = _Level(widths[number], widths[number + 1], level, spectral=spectral, random=random[number])
    return _Level(widths[0], widths[1], level, out=out, spectral=spectral)


def _norm(x: Images) -> Images:
    """Each sample normalised over all of its values at once."""
    return _spread_norm(x) if x.is_cuda else functional.group_norm(x, 1, eps=EPSILON)


def _spread_norm(x: Images) -> Images:
    """As `group_norm` of one group, which leaves a whole picture to one block of a GPU's threads."""
    variance, mean = torch.var_mean(x.float(), dim=(1, 2, 3), correction=0, keepdim=True)
    scale = torch.rsqrt(variance + EPSILON)
    return torch.addcmul((-mean * scale).to(x.dtype), x, scale.to(x.dtype))


def _bordered(x: Images, width: int) -> Images:
    return functional.pad(x, (width,) * 4, mode="replicate")
