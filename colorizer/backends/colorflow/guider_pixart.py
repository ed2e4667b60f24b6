"""The colour guider of the PixArt styles, on stock diffusers blocks, and how one such block is walked.

The guider is the first half of a PixArt transformer without text: 14 blocks of self-attention and feed-forward, each
followed by a linear "tap" whose output is added to the colour transformer after its block of the same number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import PatchEmbed, get_2d_sincos_pos_embed
from diffusers.models.normalization import AdaLayerNormSingle
from jaxtyping import Float, Int64
from torch import Tensor, nn

from serving.errors import FailedState

_FIXED = {"norm_type": "ada_norm_single", "attention_type": "default", "upcast_attention": False}
_ALIAS = "after_proj"


@dataclass(frozen=True)
class GuiderConfig:
    """What of a guider's `config.json` shapes it; the defaults are the published sizes."""

    num_attention_heads: int = 16
    attention_head_dim: int = 72
    in_channels: int = 4  # of the noisy latent
    cond_channels: int = 9  # [A latent 4 | mask 1 | B latent 4]
    num_layers: int = 28  # of the whole transformer; the guider has the first half of them
    attention_bias: bool = True
    sample_size: int = 128  # latent side that the positions are scaled for
    patch_size: int = 2
    activation_fn: str = "gelu-approximate"
    norm_eps: float = 1e-6
    interpolation_scale: int | None = None  # of the positions; None: sample_size / 64, at least 1
    use_additional_conditions: bool | None = None  # whether it sees size and aspect; None: where sample_size is 128

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> GuiderConfig:
        """From the contents of `config.json`; entries that the guider has no use for are passed over.

        Raises:
            FailedState: an entry asks for a network that the published one is not.
        """
        wrong = [
            f"{key} must be {value!r}, got {config[key]!r}"
            for key, value in _FIXED.items()
            if config.get(key, value) not in (value, None)
        ]
        if wrong:
            raise FailedState(f"the guider's config.json does not fit: {'; '.join(wrong)}")
        return cls(**{field.name: config[field.name] for field in fields(cls) if field.name in config})

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.num_attention_heads * self.attention_head_dim


class PixArtGuider(nn.Module):
    """The guider, in eval mode and frozen; keys are those of the published file less its alias (see `resolve_alias`).

    Args:
        config: its sizes.
    """

    def __init__(self, config: GuiderConfig) -> None:
        super().__init__()
        self.config = config
        scale, sized = config.interpolation_scale, config.use_additional_conditions
        self.pos_embed = PatchEmbed(  # type: ignore[no-untyped-call]
            height=config.sample_size,
            width=config.sample_size,
            patch_size=config.patch_size,
            in_channels=config.in_channels + config.cond_channels,
            embed_dim=config.width,
            interpolation_scale=max(config.sample_size // 64, 1) if scale is None else scale,
        )
        self.transformer_blocks = nn.ModuleList(_block(config) for _ in range(config.num_layers // 2))
        self.adaln_single = AdaLayerNormSingle(
            config.width, use_additional_conditions=config.sample_size == 128 if sized is None else sized
        )
        self.adapter_linear = nn.ModuleList(nn.Linear(config.width, config.width) for _ in self.transformer_blocks)
        self.pos_embed.pos_embed = None  # `positions` computes them for the canvas at hand
        self.eval().requires_grad_(False)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PixArtGuider:
        """From the contents of `config.json`; see `GuiderConfig.read`."""
        return cls(GuiderConfig.read(config))

    def forward(
        self, latents: Float[Tensor, "rows channels h w"], timestep: Int64[Tensor, ""]
    ) -> list[Float[Tensor, "rows tokens width"]]:
        """The controls of one step; a run computes `tables` and `positions` once and calls `controls` instead.

        Args:
            latents: `[noisy latent 4 | condition 9]` by channel; sides are multiples of the patch size.
            timestep: one for all rows, in [0, 999].
        """
        h, w = latents.shape[-2:]
        table = tables(self, timestep.reshape(1), h, w)
        return self.controls(latents, positions(self, h, w), table.blocks[0])

    def controls(
        self,
        latents: Float[Tensor, "rows channels h w"],
        where: Float[Tensor, "1 tokens width"],
        table: Float[Tensor, "blocks 6 width"],
    ) -> list[Float[Tensor, "rows tokens width"]]:
        """What is added to the colour transformer after each of its first blocks.

        Args:
            latents: as in `forward`.
            where: from `positions`.
            table: one step of `tables`.
        """
        hidden = embed(self.pos_embed, latents, where)
        result = []
        for block, tap, row in zip(self.transformer_blocks, self.adapter_linear, table, strict=True):
            hidden = feed(block, attend(block, hidden, row), row)
            result.append(tap(hidden))
        return result


def _block(config: GuiderConfig) -> BasicTransformerBlock:
    return BasicTransformerBlock(
        config.width,
        config.num_attention_heads,
        config.attention_head_dim,
        activation_fn=config.activation_fn,
        attention_bias=config.attention_bias,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=config.norm_eps,
    )


def resolve_alias(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A guider's state dict without `after_proj.*`, which in the published file is the last tap under a second name.

    Where the last tap has only that name, as a file saved without shared tensors may, it takes its proper one.

    Raises:
        FailedState: both names are there with different values.
    """
    rest = {key: value for key, value in state.items() if not key.startswith(f"{_ALIAS}.")}
    if len(rest) == len(state):
        return rest
    blocks = [int(key.split(".")[1]) for key in rest if key.startswith("transformer_blocks.")]
    for part in ("weight", "bias"):
        alias, name = state.get(f"{_ALIAS}.{part}"), f"adapter_linear.{max(blocks, default=0)}.{part}"
        if alias is None:
            continue
        if not torch.equal(alias, rest.setdefault(name, alias)):
            raise FailedState(f"{_ALIAS}.{part} must equal {name}, of which it is a second name, but they differ")
    return rest


@dataclass(frozen=True)
class Tables:
    """Adaptive norm of every step and block, which depends on the timestep and the canvas size alone."""

    blocks: Float[Tensor, "steps blocks 6 width"]  # shift, 1 + scale, gate of attention, then of feed-forward
    embedded: Float[Tensor, "steps width"]  # for an output head


def tables(network: Any, timesteps: Int64[Tensor, " steps"], h: int, w: int, factor: int = 8) -> Tables:
    """The modulation tables of a run, on the network's device and in its dtype.

    Args:
        network: the guider, or a stock `PixArtTransformer2DModel`.
        timesteps: of the run, in [0, 999].
        h: height of the canvas latent.
        w: its width.
        factor: canvas pixels per latent pixel and side.

    Cost: a few small matrix products per step, once a run.
    """
    first = network.transformer_blocks[0].scale_shift_table
    size = torch.tensor([[h * factor, w * factor, h / w]], device=first.device).expand(len(timesteps), 3)
    sizes = {"resolution": size[:, :2], "aspect_ratio": size[:, 2:]}
    shift, embedded = network.adaln_single(
        timesteps.to(first.device), sizes, batch_size=len(timesteps), hidden_dtype=first.dtype
    )
    own = torch.stack([block.scale_shift_table for block in network.transformer_blocks])
    table = own[None] + shift.reshape(len(timesteps), 1, 6, -1)
    table[:, :, 1::3] += 1  # scales multiply as 1 + scale
    return Tables(table, embedded)


def positions(network: Any, h: int, w: int) -> Float[Tensor, "1 tokens width"]:
    """Sine-cosine positions of a latent's patches, float32, on the network's device.

    Args:
        network: the guider, or a stock `PixArtTransformer2DModel`, whose own table of positions is not read, as it has
            no values where the network was built on the meta device.
        h: height of the latent, a multiple of the patch size.
        w: its width.
    """
    patches, like = network.pos_embed, network.transformer_blocks[0].scale_shift_table
    found: Tensor = get_2d_sincos_pos_embed(
        embed_dim=like.shape[-1],
        grid_size=(h // patches.patch_size, w // patches.patch_size),
        base_size=patches.base_size,
        interpolation_scale=patches.interpolation_scale,
        device=like.device,
    )
    return found.float().unsqueeze(0)


def embed(patches: Any, latents: Tensor, where: Tensor) -> Tensor:
    """Tokens of a latent's patches, row by row, with their positions."""
    tokens: Tensor = patches.proj(latents).flatten(2).transpose(1, 2)
    return (tokens + where).to(tokens.dtype)


def attend(block: Any, hidden: Tensor, row: Tensor) -> Tensor:
    """`hidden` after a stock block's self-attention; `row` is the block's six modulation vectors."""
    shift, scale, gate = row[:3]
    result: Tensor = hidden + gate * block.attn1(block.norm1(hidden) * scale + shift)
    return result


def feed(block: Any, hidden: Tensor, row: Tensor) -> Tensor:
    """`hidden` after a stock block's feed-forward."""
    shift, scale, gate = row[3:]
    result: Tensor = hidden + gate * block.ff(block.norm2(hidden) * scale + shift)
    return result
