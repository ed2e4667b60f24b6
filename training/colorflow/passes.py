"""One training pass: a canvas, or a quarter of it, becomes latents, noise, and the loss of what was predicted.

The networks are walked by the back-end's own functions, one canvas at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from colorizer.backends.colorflow import pixart, sd
from colorizer.backends.colorflow.canvas import page_mask, split_pixels
from colorizer.backends.colorflow.guider_pixart import positions, tables
from colorizer.backends.colorflow.styles import Backbone
from colorizer.backends.colorflow.trunk import keys_values, time_embeddings

SHRINK = 8  # pixels per latent

Words = tuple[Tensor, Tensor | None]  # a prompt's embedding "1 tokens width", and PixArt's mask "1 tokens"


@dataclass(frozen=True)
class Part:
    """What of a canvas is seen: all of it, or the quarter at one corner, which has that corner's patches beside it."""

    corner: int | None = None  # of serving.geometry.CORNERS; None: all

    def cut(self, picture: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c _h _w"]:
        """The part of a picture, or of latents."""
        if self.corner is None:
            return picture
        high, wide = picture.shape[-2] // 2, picture.shape[-1] // 2
        top, left = high * (self.corner // 2), wide * (self.corner % 2)
        return picture[..., top : top + high, left : left + wide]


@dataclass(frozen=True)
class Lesson:
    """What one pass is about; latents are those of the part."""

    clean: Float[Tensor, "1 4 h w"]  # of the canvas with the page in colour, scaled
    condition: Float[Tensor, "1 9 h w"]  # references, mask, page as it is seen
    page: Float[Tensor, "1 1 h w"]  # 1 where the page is
    part: Part
    whole: tuple[int, int]  # height and width of the whole canvas's latent


@torch.no_grad()
def lesson(
    vae: Any,
    truth: Float[Tensor, "1 3 H W"],
    seen: Float[Tensor, "1 3 H W"],
    part: Part,
    generator: torch.Generator,
) -> Lesson:
    """A canvas as latents.

    Args:
        vae: a stock `AutoencoderKL`.
        truth: the canvas with the page in colour, in [-1, 1].
        seen: the canvas with what the networks see of the page.
        part: is cut before anything is encoded: a quarter costs a quarter.
        generator: of the posteriors' noise, on the CPU.
    """
    whole = seen.shape[-2] // SHRINK, seen.shape[-1] // SHRINK
    references, page = split_pixels(seen)
    clean, around, own = (_encoded(vae, part.cut(picture), generator) for picture in (truth, references, page))
    mask = part.cut(page_mask(*whole)).to(own)
    return Lesson(clean, torch.cat([around, mask, own], dim=1), 1 - mask, part, whole)


def noised(clean: Float[Tensor, "1 4 h w"], noise: Float[Tensor, "1 4 h w"], kept: float) -> Float[Tensor, "1 4 h w"]:
    """Latents at a noise level: `kept` is the schedule's cumulative alpha there."""
    return math.sqrt(kept) * clean + math.sqrt(1 - kept) * noise


def predicted(
    kind: Backbone, nets: nn.ModuleDict, latents: Float[Tensor, "1 4 h w"], timestep: int, about: Lesson, words: Words
) -> Float[Tensor, "1 4 h w"]:
    """The noise that the networks see in the latents.

    Args:
        kind: of the backbone.
        nets: `backbone`, with its LoRA beside it, and `guider`.
        latents: noisy ones.
        timestep: in [0, 999].
        about: the condition and the place in the canvas.
        words: the prompt.
    """
    run = _sd if kind == "sd" else _pixart
    return run(nets["backbone"], nets["guider"], latents, torch.tensor([timestep]), about, words)


def masked_loss(
    found: Float[Tensor, "1 4 h w"], noise: Float[Tensor, "1 4 h w"], page: Float[Tensor, "1 1 h w"], around: float
) -> Float[Tensor, ""]:
    """The mean squared error on the page, and `around` times as strongly on what lies around it.

    Args:
        found: the predicted noise.
        noise: the true one.
        page: 1 where the page is.
        around: in [0, 1].
    """
    weight = (page + around * (1 - page)).expand_as(noise)
    total: Tensor = (weight * (found.float() - noise) ** 2).sum()
    return total / weight.sum()


def _encoded(vae: Any, picture: Tensor, generator: torch.Generator) -> Tensor:
    found = vae.encode(picture.to(device=vae.device, dtype=vae.dtype)).latent_dist
    noise = torch.randn(found.mean.shape, generator=generator)
    latents: Tensor = (found.mean + found.std * noise.to(found.mean)) * vae.config.scaling_factor
    return latents.float()


def _sd(
    unet: Any, guider: Any, latents: Tensor, timestep: Tensor, about: Lesson, words: Words
) -> Float[Tensor, "1 4 h w"]:
    residuals = guider(latents, about.condition, time_embeddings(guider, timestep)[0])
    text = keys_values(unet, words[0].to(latents))
    return sd.predict(unet, latents, time_embeddings(unet, timestep)[0], text, residuals)


def _pixart(
    transformer: Any, guider: Any, latents: Tensor, timestep: Tensor, about: Lesson, words: Words
) -> Float[Tensor, "1 4 h w"]:
    own, other = tables(guider, timestep, *about.whole), tables(transformer, timestep, *about.whole)
    controls = guider.controls(torch.cat([latents, about.condition], dim=1), _places(guider, about), own.blocks[0])
    text = [pixart.words(transformer, *words)]
    found = pixart.predict(
        transformer, latents, _places(transformer, about), other.blocks[0], other.embedded[0], text, controls
    )
    return found[:, :4]  # the rest are variances, which no sampler here reads


def _places(network: Any, about: Lesson) -> Float[Tensor, "1 _tokens width"]:
    """The positions that the part's tokens have in the whole canvas."""
    side = network.pos_embed.patch_size
    h, w = (length // side for length in about.whole)
    grid = positions(network, *about.whole).transpose(1, 2).reshape(1, -1, h, w)  # "1 width h w"
    return about.part.cut(grid).flatten(2).transpose(1, 2)
