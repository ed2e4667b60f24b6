"""Where training starts: a guider made of the base's own weights, and a LoRA that changes nothing yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from colorizer.backends.colorflow import lora
from colorizer.backends.colorflow.files import part_named
from colorizer.backends.colorflow.guider_pixart import PixArtGuider
from colorizer.backends.colorflow.guider_sd import ColorGuiderSD
from colorizer.backends.colorflow.networks import BACKBONES, uninitialised
from colorizer.backends.colorflow.styles import Backbone
from colorizer.backends.colorflow.weights import Folder
from serving.errors import FailedState
from training.colorflow.settings import GuiderSettings

SUFFIXES: Mapping[Backbone, tuple[str, ...]] = {"sd": lora.UNET_SUFFIXES, "pixart": lora.TRANSFORMER_SUFFIXES}
CONDITION = 9  # channels beside the noisy latent: A latent 4, mask 1, B latent 4
_NAMES = {
    "CrossAttnDownBlock2D": "SelfAttnDownBlock2D",
    "CrossAttnUpBlock2D": "SelfAttnUpBlock2D",
    "UNetMidBlock2DCrossAttn": "UNetMidBlock2DSelfAttn",
}


def backbone(settings: GuiderSettings, folder: Folder, generator: torch.Generator) -> nn.Module:
    """The base's UNet or transformer, frozen, with a LoRA beside its weights that can be trained, all float32.

    Args:
        settings: rank, and whether the LoRA is a published one.
        folder: the base.
        generator: the LoRA's first factors are drawn from it; the second ones are zero.

    Raises:
        FailedState: the base does not fit, or a published LoRA has another rank than is asked for.
    """
    style, rank = settings.look, settings.own_rank
    network = folder.network(part_named(BACKBONES[style.backbone]), dtype=torch.float32)
    if settings.begin == "published":
        own = folder.homes.find(part_named(f"{style.name}/lora"))
        if own.missing:
            raise FailedState("; ".join(own.missing), reason="WEIGHTS_INVALID")
        tensors = lora.read(own.weights[0])
    else:
        shapes = lora.expected_keys(network, SUFFIXES[style.backbone], rank)
        tensors = {name: _first(name, shape, generator) for name, shape in shapes.items()}
    lora.inject(network, tensors, rank, rank)
    for parameter in adapter(network).values():
        parameter.requires_grad = True
    return network


def adapter(network: nn.Module) -> dict[str, nn.Parameter]:
    """The LoRA's parameters by published name."""
    return {name: parameter for name, parameter in network.named_parameters() if ".lora_" in name}


def guider(settings: GuiderSettings, folder: Folder, base: nn.Module) -> ColorGuiderSD | PixArtGuider:
    """The guider, float32, every weight to be trained.

    Of the base's weights where the two networks agree; the input convolution has them twice, for the noisy latent and
    for the references' latent, and zeros for the mask and the page; the taps are zero, so that it adds nothing at
    first.

    Args:
        settings: whether it begins with the published one.
        folder: the base.
        base: its UNet or transformer, with or without LoRA.
    """
    if settings.begin == "published":
        found: Any = folder.network(part_named(f"{settings.style}/guider"), dtype=torch.float32)
    else:
        config = guider_config(settings.look.backbone, base)
        with uninitialised():
            made = ColorGuiderSD if settings.look.backbone == "sd" else PixArtGuider
            found = made.from_config(config)
        found.load_state_dict(_from_base(found, _bare(base.state_dict())), strict=True)
    assert isinstance(found, ColorGuiderSD | PixArtGuider)
    return found.eval().requires_grad_(requires_grad=True)


def guider_config(kind: Backbone, base: Any) -> dict[str, Any]:
    """The contents of the guider's config.json, for a guider that goes with this UNet or transformer."""
    config = {name: value for name, value in dict(base.config).items() if not name.startswith("_")}
    if kind == "pixart":
        del config["caption_channels"]
        return config | {
            "_class_name": "ColorGuiderPixArtModel",
            "cond_channels": CONDITION,
            "cross_attention_dim": None,
        }
    for entry in ("down_block_types", "up_block_types"):
        config[entry] = [_NAMES.get(name, name) for name in config[entry]]
    return config | {
        "_class_name": "ColorGuiderSDModel",
        "mid_block_type": _NAMES.get(config["mid_block_type"], config["mid_block_type"]),
        "conditioning_channels": CONDITION,
        "brushnet_conditioning_channel_order": "rgb",
    }


def _first(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """As peft begins: even noise by the width of what comes in for the first factor, zero for the second."""
    if ".lora_B." in name:
        return torch.zeros(shape)
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound


def _bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the LoRA, and by the names that weights have without one."""
    return {name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name}


def _from_base(network: nn.Module, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    wanted, result, lost = network.state_dict(), {}, []
    for name, like in wanted.items():
        source = "conv_in" + name.removeprefix("conv_in_condition") if name.startswith("conv_in_condition") else name
        if name.startswith(("brushnet_", "adapter_linear.")):
            result[name] = torch.zeros(like.shape)
        elif source in base and base[source].shape == like.shape:
            result[name] = base[source].clone()
        elif source in base and name in ("conv_in_condition.weight", "pos_embed.proj.weight"):
            result[name] = _widened(base[source], like.shape[1])
        else:
            lost.append(name)
    if lost:
        raise FailedState(f"the base has no weights for {len(lost)} of the guider's: {', '.join(lost[:6])}")
    return result


def _widened(weight: Tensor, channels: int) -> Tensor:
    """An input convolution of more channels: the old ones, once more the old ones, then zeros."""
    wide = torch.zeros(weight.shape[0], channels, *weight.shape[2:])
    own = weight.shape[1]
    wide[:, :own] = weight
    wide[:, own : 2 * own] = weight
    return wide
