"""Low-rank adapters in the published layout: read, checked against the network, then injected or merged.

A published file holds, for each adapted module, `NAME.lora_A.default.weight` and `NAME.lora_B.default.weight`. Which
modules are adapted follows from a list of name endings. Everything is checked on the CPU, before a weight is changed
or moved, and a file that does not fit is refused with every key named.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from serving.errors import FailedState

UNET_SUFFIXES = ("to_k", "to_q", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
TRANSFORMER_SUFFIXES = (
    *UNET_SUFFIXES,
    *("proj_in", "proj_out", "proj", "linear", "linear_1", "linear_2"),
)
"""Endings of the adapted modules' names: the last one matches `pos_embed.proj` too, which is a convolution."""

_PREFIXES = ("base_model.model.", "unet.", "transformer.")
_BARE = re.compile(r"\.lora_([AB])\.weight$")

Tensors = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of an adapter file by published name, on the CPU.

    Args:
        path: a `.safetensors` file, or a pickle, of which only plain tensors are accepted.

    Raises:
        FailedState: the file cannot be read, holds something else than tensors by name, or two of its keys mean the
            same adapter.
    """
    try:
        raw = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise FailedState(f"{path} must be a readable file of tensors: {error}") from error
    if not isinstance(raw, dict) or not all(isinstance(one, Tensor) for one in raw.values()):
        raise FailedState(f"{path} must hold tensors by name and nothing else, got {_kinds(raw)}")
    return normalised(raw)


def _kinds(raw: object) -> str:
    kinds = {type(one).__name__ for one in raw.values()} if isinstance(raw, dict) else {type(raw).__name__}
    return ", ".join(sorted(kinds))


def normalised(tensors: Tensors) -> dict[str, Tensor]:
    """The same tensors with their keys in the published form.

    Leading `base_model.model.`, `unet.` and `transformer.` are dropped, and a missing `.default` is put in. Any other
    key is kept as it is, for `check` to name.

    Raises:
        FailedState: two keys become one.
    """
    result: dict[str, Tensor] = {}
    origin: dict[str, list[str]] = {}
    for key, tensor in tensors.items():
        name = _normal(key)
        result[name] = tensor
        origin.setdefault(name, []).append(key)
    double = [" and ".join(keys) for keys in origin.values() if len(keys) > 1]
    if double:
        raise FailedState(f"each adapter must be given once, but these keys mean the same: {'; '.join(double)}")
    return result


def _normal(key: str) -> str:
    while prefix := next((one for one in _PREFIXES if key.startswith(one)), None):
        key = key.removeprefix(prefix)
    return _BARE.sub(r".lora_\1.default.weight", key)


def expected_keys(module: nn.Module, suffixes: Sequence[str], rank: int) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the adapter that fits a network; works on the meta device.

    Args:
        module: the network, with no adapter injected.
        suffixes: endings of adapted modules' names, whole dotted parts: `UNET_SUFFIXES` or `TRANSFORMER_SUFFIXES`.
        rank: of every adapter, at least 1.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and f".{name}".endswith(tuple(f".{one}" for one in suffixes)):
            shapes |= _shapes(name, part, rank)
    return shapes


def _shapes(name: str, part: nn.Linear | nn.Conv2d, rank: int) -> dict[str, tuple[int, ...]]:
    wide, deep, *kernel = part.weight.shape
    return {
        f"{name}.lora_A.default.weight": (rank, deep, *kernel),
        f"{name}.lora_B.default.weight": (wide, rank, *(1 for _ in kernel)),
    }


def check(tensors: Tensors, expected: Shapes) -> None:
    """Refuses tensors that are not exactly the expected ones; moves and changes nothing.

    Raises:
        FailedState: naming every missing, left-over and mis-shaped key.
    """
    problems = [f"missing {key}" for key in expected if key not in tensors]
    problems += [f"left over {key}" for key in tensors if key not in expected]
    for key in expected.keys() & tensors.keys():
        got = tensors[key]
        if tuple(got.shape) != tuple(expected[key]):
            problems.append(f"{key} must have shape {tuple(expected[key])}, got {tuple(got.shape)}")
        elif not got.is_floating_point():
            problems.append(f"{key} must hold floating-point numbers, got {got.dtype}")
    if problems:
        raise FailedState(
            f"the adapter must hold the {len(expected)} tensors of this network: {'; '.join(sorted(problems))}",
            reason="ADAPTER_MISMATCH",
        )


def inject(module: nn.Module, tensors: Tensors, rank: int, alpha: int) -> None:
    """Adds the adapter beside the network's weights by peft, in place: slower than `merge`, but it can be taken out.

    Args:
        module: the network, on any device; adapters follow the device and dtype of the layer they adapt.
        tensors: as `read` gives them.
        rank: of every adapter.
        alpha: its scale times `rank`; the published files have alpha equal to rank.

    Raises:
        FailedState: the tensors do not fit the network; it is left as it was.

    Cost: two small matrix products per adapted module and pass.
    """
    names = _adapted(module, tensors, rank)
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="|".join(re.escape(name) for name in names)
    )
    peft.inject_adapter_in_model(config, module, "default")
    state = {key: value.detach() for key, value in module.state_dict().items() if ".lora_" in key}
    check(tensors, {key: tuple(value.shape) for key, value in state.items()})
    with torch.no_grad():
        for key, value in state.items():
            value.copy_(tensors[key])
    module.requires_grad_(False).eval()


def merge(module: nn.Module, tensors: Tensors, alpha: int) -> None:
    """Adds the adapter's product to the network's weights, in place: `W += alpha / rank * B @ A`.

    The sum is formed in float32 and rounded once to the weight's dtype, so that a half-precision network gets the
    nearest weight to the exact one.

    Args:
        module: the network, with no adapter injected, on any device.
        tensors: as `read` gives them; each may have a rank of its own.
        alpha: the adapter's scale times its rank.

    Raises:
        FailedState: the tensors do not fit the network; it is left as it was.

    Cost: one matrix product per adapted module, once; the forward pass is then that of the bare network.
    """
    with torch.no_grad():
        for name in _adapted(module, tensors, None):
            weight = module.get_submodule(name).get_parameter("weight")
            down, up = (
                tensors[f"{name}.lora_{side}.default.weight"].to(weight.device, torch.float32).flatten(1)
                for side in "AB"
            )
            change = (up @ down).reshape(weight.shape) * (alpha / down.shape[0])
            weight.copy_((weight.float() + change).to(weight.dtype))


def _adapted(module: nn.Module, tensors: Tensors, rank: int | None) -> list[str]:
    """Names of the modules that the tensors adapt, checked; with `rank` None each pair's own rank holds."""
    layers = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    names = [name for name in dict.fromkeys(key.rpartition(".lora_")[0] for key in tensors) if name in layers]
    expected: dict[str, tuple[int, ...]] = {}
    for name in names:
        down = tensors.get(f"{name}.lora_A.default.weight")
        own = down.shape[0] if down is not None and down.ndim else 1
        expected |= _shapes(name, layers[name], rank if rank is not None else own)
    check(tensors, expected)
    if not names:
        raise FailedState("the adapter must adapt at least one module of this network, got no tensors")
    return names
