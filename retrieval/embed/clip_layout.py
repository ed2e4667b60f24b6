"""CLIP image towers on disk: which files, which key layout, and what an open_clip tower calls the same tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from serving.errors import FailedState, InvalidInput

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
NORM_EPS = 1e-5  # layer norms' epsilon where nothing says otherwise, in both libraries
NAMES_SHOWN = 8  # of each kind in an error; details on the wire are limited to a few KB

Arrays = dict[str, Float32[np.ndarray, "..."]]

HF_NAMES = {  # of CLIPVisionModelWithProjection, to an open_clip tower's
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm.weight": "ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "ln_pre.bias",
    "vision_model.post_layernorm.weight": "ln_post.weight",
    "vision_model.post_layernorm.bias": "ln_post.bias",
}
HF_LAYER = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
HF_LAYER_NAMES = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
HF_UNUSED = ("text_model.", "text_projection.", "logit_scale", "vision_model.embeddings.position_ids")


def resolve(weights: Path, config: Path | None) -> tuple[Path, Path | None]:
    """The weights file and the config file that a user's paths mean.

    Args:
        weights: a file, or a folder that holds one of `WEIGHT_FILES` and possibly a config.json.
        config: a config.json, or None for the one in the folder, if there is any.

    Raises:
        FailedState: a file isn't there.
    """
    if weights.is_dir():
        found = next((weights / name for name in WEIGHT_FILES if (weights / name).is_file()), None)
        if found is None:
            raise FailedState(f"{weights} must hold one of {', '.join(WEIGHT_FILES)}, and holds none")
        beside = weights / "config.json"
        weights, config = found, config or (beside if beside.is_file() else None)
    for path in (weights, config):
        if path is not None and not path.is_file():
            raise FailedState(f"{path} must be a file, and is not there")
    return weights, config


def hf_tower_config(path: Path) -> tuple[str, dict[str, Any]]:
    """A name and an open_clip model config for the config.json of a CLIP vision model.

    Args:
        path: the config of a CLIPVisionModelWithProjection, or of a whole CLIPModel (its `vision_config` counts).

    Raises:
        FailedState: the file is no JSON or lacks a field.
        InvalidInput: the model is none that an open_clip tower can be.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        outer = given
        given = {**given, **given.get("vision_config", {})}
        width, layers, patch = int(given["hidden_size"]), int(given["num_hidden_layers"]), int(given["patch_size"])
        heads, image = int(given["num_attention_heads"]), int(given["image_size"])
        mlp, embed_dim = (
            int(given["intermediate_size"]),
            int(outer.get("projection_dim", given.get("projection_dim", 0))),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise FailedState(f"{path} must be the config.json of a CLIP vision model: {failure!r}") from failure
    activation = given.get("hidden_act", "quick_gelu")
    if activation not in ("gelu", "quick_gelu") or width % heads or embed_dim < 1:
        raise InvalidInput(
            f"{path} must have hidden_act gelu or quick_gelu, heads that divide the width and a projection_dim; "
            f"got {activation!r}, {heads} heads for {width}, {embed_dim}"
        )
    vision: dict[str, Any] = {
        "layers": layers,
        "width": width,
        "head_width": width // heads,
        "mlp_ratio": mlp / width,
        "patch_size": patch,
        "image_size": image,
    }
    if (eps := float(given.get("layer_norm_eps", NORM_EPS))) != NORM_EPS:
        vision["norm_kwargs"] = {"eps": eps}
    name = f"clip-vision-{width}x{layers}-h{heads}-p{patch}-{activation}-eps{eps:g}"
    return name, {"embed_dim": embed_dim, "vision_cfg": vision, "quick_gelu": activation == "quick_gelu"}


def to_tower(state: Mapping[str, Float32[np.ndarray, "..."]]) -> tuple[Arrays, bool]:
    """The image tower's tensors under open_clip's names, and whether the file had the layout of transformers.

    Understands a CLIPVisionModelWithProjection or CLIPModel of transformers, a whole open_clip model ("visual." before
    the tower's names) and a bare tower. What belongs to the text tower is left out; any other name stays as it is, so
    that `check_keys` can report it.

    Source: ColorFlow's published image encoder is in the first layout; verified equal to 5e-7.
    """
    plain = {name.removeprefix("module."): value for name, value in state.items()}
    if any(name.startswith("vision_model.") for name in plain):
        return _from_hf({n: v for n, v in plain.items() if not n.startswith(HF_UNUSED)}), True
    if any(name.startswith("visual.") for name in plain):
        return {n.removeprefix("visual."): v for n, v in plain.items() if n.startswith("visual.")}, False
    return plain, False


def check_keys(source: Path, given: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuses weights that are not exactly those of the tower.

    Args:
        source: the file, for the message.
        given: shape by name, as found.
        wanted: shape by name, as the tower has them.

    Raises:
        FailedState: names are missing or left over, or shapes differ; one message says all of it.
    """
    missing = sorted(wanted.keys() - given.keys())
    extra = sorted(given.keys() - wanted.keys())
    other = [
        f"{n} {given[n]} instead of {wanted[n]}" for n in sorted(wanted.keys() & given.keys()) if given[n] != wanted[n]
    ]
    found = [
        f"{len(names)} {what}: {', '.join(names[:NAMES_SHOWN])}{' …' if len(names) > NAMES_SHOWN else ''}"
        for what, names in (("missing", missing), ("left over", extra), ("of another shape", other))
        if names
    ]
    if found:
        raise FailedState(f"{source} does not fit the model; {'; '.join(found)}", reason="WEIGHTS_MISMATCH")


def _from_hf(state: Mapping[str, Float32[np.ndarray, "..."]]) -> Arrays:
    tower: Arrays = {}
    parts: dict[str, dict[str, Float32[np.ndarray, "..."]]] = {}  # in_proj name → its q, k and v
    for name, value in state.items():
        layer = HF_LAYER.fullmatch(name)
        if name == "visual_projection.weight":
            tower["proj"] = np.ascontiguousarray(value.T)
        elif name in HF_NAMES:
            tower[HF_NAMES[name]] = value
        elif layer and layer[2] in HF_LAYER_NAMES:
            tower[f"transformer.resblocks.{layer[1]}.{HF_LAYER_NAMES[layer[2]]}.{layer[3]}"] = value
        elif layer and layer[2] in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            parts.setdefault(f"transformer.resblocks.{layer[1]}.attn.in_proj_{layer[3]}", {})[layer[2][10]] = value
        else:
            tower[name] = value
    for name, part in parts.items():
        tower[name] = np.concatenate([part[letter] for letter in "qkv" if letter in part])
    return tower
