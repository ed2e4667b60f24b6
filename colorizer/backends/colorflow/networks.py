"""Networks as their configuration files describe them, without weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel, UNet2DConditionModel
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from colorizer.backends.colorflow import lines, screen
from colorizer.backends.colorflow.files import Homes, Part, part_named
from colorizer.backends.colorflow.gsrp import FusionNet, hidden_channels
from colorizer.backends.colorflow.guider_pixart import PixArtGuider
from colorizer.backends.colorflow.guider_sd import ColorGuiderSD
from colorizer.backends.colorflow.styles import Backbone
from serving.errors import FailedState, ServiceError

BACKBONES: Mapping[Backbone, str] = {"sd": "sd/unet", "pixart": "pixart/transformer"}

Sizes = Mapping[str, int]  # of a reduced model's networks that have no configuration file
_Builder = Callable[[Part, Homes, Sizes], Any]

_SHARED = {  # entries that a guider's configuration and its backbone's must agree on
    "sd": ("block_out_channels", "layers_per_block", "in_channels"),
    "pixart": ("num_attention_heads", "attention_head_dim", "num_layers", "patch_size", "in_channels"),
}


def build(part: Part, homes: Homes, sizes: Sizes) -> nn.Module:
    """A part's network, frozen and in eval mode, on the device and with the initialisation that are in force.

    Args:
        part: one with a network of its own.
        homes: where its configuration lies; the published networks without one have fixed sizes.
        sizes: which a reduced model states instead: `line_width`, `tone_width`.

    Raises:
        FailedState, InvalidInput: the configuration is missing, or describes another kind of network.
    """
    network: nn.Module = _BUILDERS[part.kind](part, homes, sizes)
    return network.eval().requires_grad_(requires_grad=False)


def config_of(part: Part, homes: Homes) -> dict[str, Any]:
    """A part's config.json.

    Raises:
        FailedState: CONFIG_WRONG: it is missing, or no JSON object.
    """
    found = homes.find(part)
    path = next((path for path in found.beside if path.name == "config.json"), None)
    if path is None:
        raise FailedState("; ".join(found.missing) or f"{part.name} has no config.json", reason="CONFIG_WRONG")
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FailedState: CONFIG_WRONG.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FailedState(f"{path} must be JSON: {error}", reason="CONFIG_WRONG") from error
    if not isinstance(value, dict):
        raise FailedState(f"{path} must be a JSON object, got {type(value).__name__}", reason="CONFIG_WRONG")
    return value


def misfit(part: Part, homes: Homes) -> tuple[str, ...]:
    """Sentences on what a guider's configuration has otherwise than its backbone's; none for other parts."""
    if not part.kind.startswith("guider_") or part.style is None:
        return ()
    backbone = part.style.backbone
    base = part_named(BACKBONES[backbone])
    if homes.find(base).missing:
        return ()  # which is said of the base itself
    own, other = config_of(part, homes), config_of(base, homes)
    return tuple(
        f"its config.json has {name} {own[name]}, and {base.name} has {other[name]}"
        for name in _SHARED[backbone]
        if name in own and name in other and own[name] != other[name]
    )


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a network's state dict."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


class _Uninitialised(TorchFunctionMode):
    """Parameters keep the memory that they were given: no page of it is touched, so it costs nothing."""

    _SKIPPED = (Tensor.uniform_, Tensor.normal_, Tensor.fill_, Tensor.zero_)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self._SKIPPED and isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def uninitialised() -> Iterator[None]:
    """Networks built inside have no values in their parameters; torch's own random numbers are left as they were."""
    with torch.random.fork_rng(devices=[]), _Uninitialised():
        yield


def _from_config(kind: Any) -> _Builder:
    def built(part: Part, homes: Homes, sizes: Sizes) -> Any:  # noqa: ARG001 - one signature for all
        config = config_of(part, homes)
        try:
            return kind.from_config(config)
        except ServiceError:
            raise
        except Exception as error:  # of the library, for a configuration that it cannot follow
            raise FailedState(
                f"{homes.find(part).folder}/config.json does not describe a {kind.__name__}: "
                f"{type(error).__name__}: {error}",
                reason="CONFIG_WRONG",
            ) from error

    return built


def _fusion(part: Part, homes: Homes, sizes: Sizes) -> nn.Module:
    assert part.style is not None, "each style has a fusion network of its own"
    with torch.device("meta"):
        vae = _BUILDERS["vae"](part_named(f"{part.style.backbone}/vae"), homes, sizes)
    return FusionNet(hidden_channels(vae))


def _clip_text(part: Part, homes: Homes, sizes: Sizes) -> Any:  # noqa: ARG001
    from transformers import CLIPTextConfig, CLIPTextModel  # slow to import, and not needed where prompts are cached

    return CLIPTextModel(CLIPTextConfig(**config_of(part, homes)))


def _t5(part: Part, homes: Homes, sizes: Sizes) -> Any:  # noqa: ARG001
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(**config_of(part, homes)))


_BUILDERS: Mapping[str, _Builder] = {
    "unet": _from_config(UNet2DConditionModel),
    "transformer": _from_config(PixArtTransformer2DModel),
    "vae": _from_config(AutoencoderKL),
    "guider_sd": _from_config(ColorGuiderSD),
    "guider_pixart": _from_config(PixArtGuider),
    "fusion": _fusion,
    "lines": lambda _part, _homes, sizes: lines.LineNet(sizes.get("line_width", lines.WIDTH)),
    "tone_encoder": lambda _part, _homes, sizes: screen.ToneEncoder(sizes.get("tone_width", screen.WIDTH)),
    "tone_decoder": lambda _part, _homes, sizes: screen.ToneDecoder(sizes.get("tone_width", screen.WIDTH)),
    "clip_text": _clip_text,
    "t5": _t5,
}
