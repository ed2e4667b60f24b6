"""Guided super-resolution: the coloured page at refinement size, its lines taken from the full-resolution grey page.

The VAE encodes the enlarged coarse picture and the grey guide; a small network fuses their encoder features level by
level; the VAE decodes the coarse picture's latent and adds the fused features on the way. The VAE is diffusers' stock
`AutoencoderKL`, whose encoder and decoder are walked block by block here.

Source: ColorFlow, arXiv:2412.11815, guided super-resolution pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from serving.errors import ShapeMismatch

Statistics = Literal["published", "running"]
SD_CHANNELS = (128, 128, 256, 512, 512)  # of the encoder features of Stable Diffusion's VAE
_MULTIPLE = 8  # pixels per latent of that VAE

Features = list[Tensor]  # encoder features, "b c h w" each, from full resolution down to an eighth


class Encoded(NamedTuple):
    """What the encoder makes of pictures: the posterior of the latents (not scaled), and the features on the way."""

    mean: Float[Tensor, "b latent h w"]
    logvar: Float[Tensor, "b latent h w"]  # clamped to [-30, 20]
    hidden: Features

    def latent(self, noise: Float[Tensor, "b latent h w"] | None) -> Float[Tensor, "b latent h w"]:
        """A sample of the posterior for standard normal `noise`; its mean for None. Not scaled by 0.18215."""
        if noise is None:
            return self.mean
        return self.mean + torch.exp(0.5 * self.logvar) * noise.to(self.mean)


def hidden_channels(vae: Any) -> tuple[int, ...]:
    """Channels of the encoder features of this `AutoencoderKL`: the first convolution's, then every down block's."""
    widths = tuple(vae.config.block_out_channels)
    return (widths[0], *widths)


def encode_hidden(vae: Any, x: Float[Tensor, "b 3 high wide"]) -> Encoded:
    """The posterior of the latents of pictures, and the encoder's five feature maps.

    Args:
        vae: a stock `AutoencoderKL`; its slicing and tiling do not act here.
        x: RGB in [-1, 1], on the VAE's device and in its dtype; sides are multiples of 8 pixels.

    Raises:
        ShapeMismatch: a side is no multiple of 8.

    Cost: 4.2 TFLOP and 177 million feature elements for 960 x 960 pixels with Stable Diffusion's VAE.
    """
    hidden = encode_features(vae, x)
    encoder = vae.encoder
    top = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(encoder.mid_block(hidden[-1]))))
    moments = top if vae.quant_conv is None else vae.quant_conv(top)
    mean, logvar = moments.chunk(2, dim=1)
    return Encoded(mean, logvar.clamp(-30.0, 20.0), hidden)


def encode_features(vae: Any, x: Float[Tensor, "b 3 high wide"]) -> Features:
    """The five encoder features alone, which is all that the grey guide needs: after the first convolution and each
    down block, full resolution first.

    They depend on the picture and the VAE only, so they can be kept and given to `refine` for other seeds.

    Args:
        vae: a stock `AutoencoderKL`.
        x: RGB in [-1, 1], on the VAE's device and in its dtype; sides are multiples of 8 pixels.

    Raises:
        ShapeMismatch: a side is no multiple of 8.
    """
    high, wide = x.shape[-2:]
    if high % _MULTIPLE or wide % _MULTIPLE:
        raise ShapeMismatch(f"sides of a picture to refine must be multiples of {_MULTIPLE}, got {wide} x {high}")
    hidden = [vae.encoder.conv_in(x)]
    for block in vae.encoder.down_blocks:
        hidden.append(block(hidden[-1]))
    return hidden


class FusionNet(nn.Module):
    """Fuses colour and guide features, level by level, into what the decoder adds; keys as in `MultiResNetModel.bin`.

    The published program runs its batch norms in training mode, one picture at a time: the statistics are the current
    picture's (biased variance), the stored ones are ignored. That is instance norm with affine weights, and so it is
    done here for a batch of any size: no picture changes with its batch-mates. Stored statistics are never written.

    Args:
        channels: channels of the encoder features, full resolution first.
        statistics: "published" as above, or "running" for the statistics stored in the file.
    """

    def __init__(self, channels: Sequence[int] = SD_CHANNELS, statistics: Statistics = "published") -> None:
        super().__init__()
        self.channels = tuple(channels)
        last = len(self.channels) - 1
        self.two_layer_resnets = nn.ModuleList(
            _Level(2 * width, self.channels[min(last, i + 2)], statistics) for i, width in enumerate(self.channels)
        )

    def forward(self, colour: Sequence[Tensor], guide: Sequence[Tensor]) -> Features:
        """Fused features, full resolution first; the lists given are not changed.

        Raises:
            ShapeMismatch: the features are not of these levels, or colour and guide differ in shape.

        Cost: 20.3 TFLOP for 960 x 960 pixels at the published widths.
        """
        return self.consume(list(colour), list(guide))

    def consume(self, colour: Features, guide: Features) -> Features:
        """As `forward`, but empties both lists, so that a map nobody else holds is freed when it has been read."""
        self._check(colour, guide)
        colour.reverse()
        guide.reverse()
        fused = []
        for level in self.two_layer_resnets:
            x = torch.cat([colour.pop(), guide.pop()], dim=1)
            for block in level.children():  # one by one, so that no frame holds a level's input to its end
                x = block(x)
            fused.append(x)
        return fused

    def _check(self, colour: Sequence[Tensor], guide: Sequence[Tensor]) -> None:
        shapes = [tuple(x.shape) for x in colour], [tuple(x.shape) for x in guide]
        widths = tuple(s[1] for s in shapes[0])
        if widths != self.channels or shapes[0] != shapes[1]:
            raise ShapeMismatch(
                f"features to fuse must have channels {self.channels} and equal shapes, "
                f"got {shapes[0]} from the colour and {shapes[1]} from the guide"
            )


class _Level(nn.Module):
    def __init__(self, inputs: int, outputs: int, statistics: Statistics) -> None:
        super().__init__()
        self.block1 = _Block(inputs, outputs, statistics)
        self.block2 = _Block(outputs, outputs, statistics)
        self.block3 = _Block(outputs, outputs, statistics)
        self.block4 = _Block(outputs, outputs, statistics)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, statistics: Statistics) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = _Norm(outputs, statistics)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = _Norm(outputs, statistics)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, bias=False),
                _Norm(outputs, statistics),
            )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h w"]:
        y = F.relu_(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu_(y)


class _Norm(nn.BatchNorm2d):
    """Batch norm's weights and keys with statistics that never mix pictures, whatever mode the module is in."""

    def __init__(self, channels: int, statistics: Statistics) -> None:
        super().__init__(channels, eps=1e-5)
        self.statistics = statistics

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:  # noqa: A002 - torch's name
        if self.statistics == "running":
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if len(input) == 1:  # the same maths as below; keeps channels_last, which instance_norm would undo
            return F.batch_norm(input, None, None, self.weight, self.bias, training=True, eps=self.eps)
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)


def decode_guided(
    vae: Any, z: Float[Tensor, "b latent h w"], fused: Sequence[Tensor]
) -> Float[Tensor, "b 3 high wide"]:
    """Pictures of latents, the decoder's features raised by the fused ones; about [-1, 1], not clamped.

    Args:
        vae: a stock `AutoencoderKL`.
        z: latents as the encoder gives them: neither scaled nor divided by 0.18215.
        fused: one map more than the decoder has up blocks, full resolution first, as `FusionNet` gives them. Neither
            the sequence nor its maps are changed.

    Raises:
        ShapeMismatch: there are more or fewer maps than that.

    Cost: 9.1 TFLOP for 960 x 960 pixels with Stable Diffusion's VAE.
    """
    wanted = len(vae.decoder.up_blocks) + 1
    if len(fused) != wanted:
        raise ShapeMismatch(f"this decoder takes {wanted} fused maps, got {len(fused)}")
    return _decode(vae, z, reversed(fused))


def _decode(vae: Any, z: Tensor, coarse_first: Iterator[Tensor]) -> Tensor:
    """The decoder's walk; holds none of the maps once it has been added."""
    decoder = vae.decoder
    x = decoder.conv_in(z if vae.post_quant_conv is None else vae.post_quant_conv(z))
    x += next(coarse_first)
    x = decoder.mid_block(x)
    for block in decoder.up_blocks:
        x += next(coarse_first)
        x = block(x)
    found: Tensor = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))
    return found


def _popped(maps: Features) -> Iterator[Tensor]:
    while maps:
        yield maps.pop()


def to_bytes(
    pictures: Float[Tensor, "b 3 high wide"], dtype: torch.dtype | None = None
) -> UInt8[Tensor, "b 3 high wide"]:
    """RGB bytes of pictures in [-1, 1]: clamped, brought to [0, 255] and truncated, as published.

    Args:
        pictures: the decoder's output.
        dtype: what to calculate in; None for that of `pictures`, which is the published way. In bfloat16 the steps
            above 127 are whole bytes, so float32 loses up to one byte less.
    """
    x = pictures.to(dtype or pictures.dtype).clamp(-1.0, 1.0)
    return ((x * 0.5 + 0.5) * 255.0).to(torch.uint8)


def refine(
    vae: Any,
    fusion: FusionNet,
    colour: Float[Tensor, "b 3 high wide"],
    guide: Float[Tensor, "guides 3 high wide"] | None,
    noise: Float[Tensor, "b latent h w"] | None,
    *,
    guide_features: Sequence[Tensor] | None = None,
) -> UInt8[Tensor, "b 3 high wide"]:
    """The refined pages, RGB bytes, on the VAE's device.

    Pages do not act on each other: a batch gives each page's own result up to the rounding of batched kernels.

    Args:
        vae: a stock `AutoencoderKL`. Its tiling does not act here, as features of tiles are not those of the page; with
            its slicing on, pages are refined one after the other, bit for bit as if each were given alone.
        fusion: the fusion network, on the VAE's device and in its dtype.
        colour: coarse coloured pages enlarged to refinement size, in [-1, 1]; sides are multiples of 8 pixels.
        guide: grey pages of the same size, in [-1, 1]: one for each of `colour`, or one for all of them. Not looked at
            where `guide_features` are given.
        noise: standard normal, drawn by the caller on the CPU; None takes the posterior's mean.
        guide_features: what `encode_features` gave before for the same grey pages; neither emptied nor changed.

    Raises:
        ShapeMismatch: sides are no multiples of 8, or colour and guide do not go together.
        ValueError: neither `guide` nor `guide_features` is given.

    Cost: 38 TFLOP for a page of 960 x 960 pixels, 34 with `guide_features`. Of the features, those at full resolution
        weigh most; each map is freed when it has been fused or added.
    """
    pages = len(colour)
    if guide_features is None:
        if guide is None:
            raise ValueError("refine needs the grey pages or their features, got neither")
        if pages > 1 and len(guide) == 1:
            guide_features = encode_features(vae, guide.to(vae.device, vae.dtype))
    if guide_features is not None:
        guide_features = [_rows(x, pages) for x in guide_features]
    if not vae.use_slicing or pages == 1:
        return _refine(vae, fusion, colour, guide, noise, guide_features)
    done = []
    for i in range(pages):
        one = slice(i, i + 1)
        features = None if guide_features is None else [x[one] for x in guide_features]
        own_guide = None if guide is None or features is not None else guide[one]
        done.append(_refine(vae, fusion, colour[one], own_guide, None if noise is None else noise[one], features))
    return torch.cat(done)


def _rows(x: Tensor, rows: int) -> Tensor:
    if len(x) not in (1, rows):
        raise ShapeMismatch(f"guide features must have 1 row or {rows}, as there are pages, got {len(x)}")
    return x.expand(rows, -1, -1, -1)


def _refine(
    vae: Any,
    fusion: FusionNet,
    colour: Tensor,
    guide: Tensor | None,
    noise: Tensor | None,
    kept: Features | None,
) -> Tensor:
    encoded = encode_hidden(vae, colour.to(vae.device, vae.dtype))
    latent, hidden = encoded.latent(noise), encoded.hidden
    if kept is None:
        assert guide is not None
        kept = encode_features(vae, guide.to(vae.device, vae.dtype))
    fused = fusion.consume(hidden, kept)
    return to_bytes(_decode(vae, latent, _popped(fused)))
