"""The Colorization Guider of the SD 1.5 style: the UNet's trunk without text, tapped after every layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_2d_blocks import (
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    UNetMidBlock2DCrossAttn,
    UpBlock2D,
)
from jaxtyping import Float
from torch import Tensor, nn

from colorizer.backends.colorflow.trunk import walk
from serving.errors import InvalidInput

Residuals = tuple[Float[Tensor, "_rows _c _h _w"], ...]
"""In the order of the walk: 12 of the down path, 1 of the mid block, 15 of the up path."""

# Published block names, and whether they attend. Stock cross-attention blocks without a text width attend to themselves
# alone, which is what the published self-attention blocks do.
_DOWN = {"SelfAttnDownBlock2D": True, "DownBlock2D": False}
_UP = {"SelfAttnUpBlock2D": True, "UpBlock2D": False}
_MID = "UNetMidBlock2DSelfAttn"

# Entries of the config which this network knows in one form only.
_FIXED: Mapping[str, Any] = {
    "mid_block_type": _MID,
    "only_cross_attention": False,
    "num_attention_heads": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "class_embed_type": None,
    "addition_embed_type": None,
    "resnet_time_scale_shift": "default",
    "use_linear_projection": False,
    "global_pool_conditions": False,
    "transformer_layers_per_block": 1,
}


# SD 1.5's, for entries that a config lacks.
_DEFAULTS: Mapping[str, Any] = {
    "conditioning_channels": 9,
    "brushnet_conditioning_channel_order": "rgb",
    "in_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("SelfAttnDownBlock2D", "SelfAttnDownBlock2D", "SelfAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "SelfAttnUpBlock2D", "SelfAttnUpBlock2D", "SelfAttnUpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": 8,  # the number of heads, by an old misnomer of the format
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "act_fn": "silu",
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "upcast_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
}


class ColorGuiderSD(nn.Module):
    """Residuals for every layer of the UNet, from the noisy latents and the condition; it reads no text.

    Args:
        config: the contents of a published `config.json`; entries it lacks are SD 1.5's. Its `conditioning_channels`
            are 9 for `[A latent 4 | mask 1 | B latent 4]`, or 5 for `[canvas latent 4 | mask 1]`.

    Raises:
        InvalidInput: the config states something that this network cannot be; all such entries are named.

    Source: ColorFlow, arXiv:2412.11815, the Colorization Guider; keys as published.
    """

    def __init__(self, config: Mapping[str, Any] = _DEFAULTS) -> None:
        super().__init__()
        c = {**_DEFAULTS, **config}
        _check(c)
        self.conditioning_channels: int = c["conditioning_channels"]
        self._flip = c["brushnet_conditioning_channel_order"] == "bgr"
        widths, layers = tuple(c["block_out_channels"]), c["layers_per_block"]
        self.conv_in_condition = nn.Conv2d(c["in_channels"] + self.conditioning_channels, widths[0], 3, padding=1)
        self.time_proj = Timesteps(widths[0], c["flip_sin_to_cos"], c["freq_shift"])
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0], act_fn=c["act_fn"])
        self.down_blocks = nn.ModuleList(_down_blocks(c, widths))
        mid = {**_common(c), **_attend(c), "output_scale_factor": float(c["mid_block_scale_factor"])}
        self.mid_block = UNetMidBlock2DCrossAttn(widths[-1], **mid)
        self.up_blocks = nn.ModuleList(_up_blocks(c, widths[::-1]))
        self.brushnet_down_blocks = nn.ModuleList(map(_tap, _down_widths(widths, layers)))
        self.brushnet_mid_block = _tap(widths[-1])
        self.brushnet_up_blocks = nn.ModuleList(map(_tap, _up_widths(widths, layers)))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ColorGuiderSD:
        """The same as the constructor; stock networks are made by this name."""
        return cls(config)

    def forward(
        self,
        latents: Float[Tensor, "rows c h w"],
        condition: Float[Tensor, "rows k h w"],
        embedding: Float[Tensor, "_some e"],
        scale: float = 1.0,
    ) -> Residuals:
        """The residuals for the UNet, each multiplied by `scale`.

        Args:
            latents: noisy latents, any size.
            condition: as `sampling.encode_condition` gives it.
            embedding: one step of `trunk.time_embeddings(self, …)`.
            scale: 1 in the published method.
        """
        taps = iter([*self.brushnet_down_blocks, self.brushnet_mid_block, *self.brushnet_up_blocks])
        residuals: list[Tensor] = []

        def tap(hidden: Tensor) -> Tensor:
            residual = next(taps)(hidden)
            residuals.append(residual if scale == 1.0 else residual * scale)
            return hidden

        condition = condition.flip(1) if self._flip else condition
        walk(self, self.conv_in_condition(torch.cat([latents, condition], dim=1)), embedding, (), tap)
        return tuple(residuals)


def _check(config: Mapping[str, Any]) -> None:
    wrong = [f"{k} must be {v!r}, got {config[k]!r}" for k, v in _FIXED.items() if config.get(k, v) != v]
    for entry, table in (("down_block_types", _DOWN), ("up_block_types", _UP)):
        wrong += [f"{entry} must be of {sorted(table)}, got {name!r}" for name in config[entry] if name not in table]
        if len(config[entry]) != len(config["block_out_channels"]):
            wrong.append(f"{entry} must be {len(config['block_out_channels'])}, got {len(config[entry])}")
    choices = {"brushnet_conditioning_channel_order": ("rgb", "bgr"), "conditioning_channels": (5, 9)}
    wrong += [f"{k} must be of {v}, got {config[k]!r}" for k, v in choices.items() if config[k] not in v]
    if wrong:
        raise InvalidInput("the guider's config is of another network: " + "; ".join(wrong))


def _tap(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 1)


def _common(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "temb_channels": 4 * config["block_out_channels"][0],
        "resnet_eps": config["norm_eps"],
        "resnet_act_fn": config["act_fn"],
        "resnet_groups": config["norm_num_groups"],
    }


def _attend(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_attention_heads": config["attention_head_dim"],
        "cross_attention_dim": None,
        "upcast_attention": config["upcast_attention"],
    }


def _down_blocks(config: Mapping[str, Any], widths: tuple[int, ...]) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for level, (width, name) in enumerate(zip(widths, config["down_block_types"], strict=True)):
        arguments = _common(config) | {
            "in_channels": widths[max(level - 1, 0)],
            "out_channels": width,
            "num_layers": config["layers_per_block"],
            "downsample_padding": config["downsample_padding"],
            "add_downsample": level + 1 < len(widths),
        }
        attends = _DOWN[name]
        blocks.append(CrossAttnDownBlock2D(**arguments, **_attend(config)) if attends else DownBlock2D(**arguments))
    return blocks


def _up_blocks(config: Mapping[str, Any], widths: tuple[int, ...]) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for level, (width, name) in enumerate(zip(widths, config["up_block_types"], strict=True)):
        arguments = _common(config) | {
            "in_channels": widths[min(level + 1, len(widths) - 1)],
            "prev_output_channel": widths[max(level - 1, 0)],
            "out_channels": width,
            "num_layers": config["layers_per_block"] + 1,
            "add_upsample": level + 1 < len(widths),
        }
        attends = _UP[name]
        blocks.append(CrossAttnUpBlock2D(**arguments, **_attend(config)) if attends else UpBlock2D(**arguments))
    return blocks


def _down_widths(widths: tuple[int, ...], layers: int) -> list[int]:
    inner = [width for width in widths for _ in range(layers + 1)]
    return [widths[0], *inner[:-1]]  # the last level has no downsampler


def _up_widths(widths: tuple[int, ...], layers: int) -> list[int]:
    inner = [width for width in widths[::-1] for _ in range(layers + 2)]
    return inner[:-1]  # the last level has no upsampler
