"""A complete small model folder in the published layout, with random weights: every part, built in a second or two.

The networks are the real classes at small sizes, so a page runs through the whole method; what it shows means nothing.
The weights of a name are always the same. Nothing here comes from a published file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from colorizer.backends.colorflow import lora
from colorizer.backends.colorflow.files import SETTINGS_FILE, Homes, Part, part_named, parts_of
from colorizer.backends.colorflow.networks import BACKBONES, build, shapes_of
from colorizer.backends.colorflow.sources import base_folder_name
from colorizer.backends.colorflow.styles import STYLES

LORA_RANK = 2
SIZES = {"line_width": 3, "tone_width": 4, "lora_rank": LORA_RANK}
_WIDTHS = [8, 16, 16, 16]

UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": _WIDTHS,
    "layers_per_block": 2,
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
GUIDER_SD = {
    "in_channels": 4,
    "conditioning_channels": 9,
    "down_block_types": ["SelfAttnDownBlock2D", "SelfAttnDownBlock2D", "SelfAttnDownBlock2D", "DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DSelfAttn",
    "up_block_types": ["UpBlock2D", "SelfAttnUpBlock2D", "SelfAttnUpBlock2D", "SelfAttnUpBlock2D"],
    "block_out_channels": _WIDTHS,
    "layers_per_block": 2,
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
TRANSFORMER = {
    "_class_name": "PixArtTransformer2DModel",
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 4,
    "cross_attention_dim": 24,
    "caption_channels": 10,
    "sample_size": 128,
    "patch_size": 2,
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
}
GUIDER_PIXART = {
    name: value for name, value in TRANSFORMER.items() if name not in ("_class_name", "caption_channels")
} | {"cond_channels": 9, "cross_attention_dim": None}
VAE = {
    "_class_name": "AutoencoderKL",
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [8, 8, 16, 16],
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": 32,
    "scaling_factor": 0.18215,
}
CLIP_TEXT = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 514,
    "hidden_size": 12,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 77,
    "bos_token_id": 512,
    "eos_token_id": 513,
    "pad_token_id": 513,
}
T5 = {
    "architectures": ["T5EncoderModel"],
    "model_type": "t5",
    "vocab_size": 32,
    "d_model": 10,
    "d_kv": 5,
    "d_ff": 20,
    "num_layers": 1,
    "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
    "eos_token_id": 1,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
SCHEDULES = {
    "sd": {
        "_class_name": "PNDMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "skip_prk_steps": True,
        "steps_offset": 1,
    },
    "pixart": {
        "_class_name": "DPMSolverMultistepScheduler",
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "num_train_timesteps": 1000,
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
    },
}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "unet": UNET,
    "guider_sd": GUIDER_SD,
    "transformer": TRANSFORMER,
    "guider_pixart": GUIDER_PIXART,
    "vae": VAE,
    "clip_text": CLIP_TEXT,
    "t5": T5,
}


@dataclass(frozen=True)
class Tiny:
    """Where it lies; the base models are folders inside `models`, which is where they are looked for first."""

    models: Path
    sd: Path
    pixart: Path


def make(folder: Path, styles: Iterable[str] = tuple(STYLES), *, text: bool = True) -> Tiny:
    """Writes the model folder.

    Args:
        folder: made if need be.
        styles: those that it can run.
        text: with text encoders and tokenizers. Without, prompt embeddings have to come from elsewhere.
    """
    tiny = Tiny(folder, folder / base_folder_name("sd"), folder / base_folder_name("pixart"))
    homes = Homes(folder, {"sd": tiny.sd, "pixart": tiny.pixart})
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / SETTINGS_FILE, SIZES)
    parts = parts_of(styles, text=text)
    for part in parts:
        if part.kind in CONFIGS:
            _write_json(_place(part, homes) / "config.json", CONFIGS[part.kind])
        elif part.name.endswith("/scheduler"):
            _write_json(_place(part, homes) / "scheduler_config.json", SCHEDULES[part.home])
        elif part.name == "sd/tokenizer":
            _clip_tokenizer(_place(part, homes))
        elif part.name == "pixart/tokenizer":
            _t5_tokenizer(_place(part, homes))
    for part in parts:
        if part.kind != "plain":
            _save(state_of(part, homes), _place(part, homes), part)
    return tiny


def state_of(part: Part, homes: Homes) -> dict[str, Tensor]:
    """The weights of a part under the names that published files have for them."""
    with torch.device("meta"):
        if part.kind == "lora":
            assert part.style is not None
            backbone = part.style.backbone
            network = build(part_named(BACKBONES[backbone]), homes, SIZES)
            suffixes = lora.UNET_SUFFIXES if backbone == "sd" else lora.TRANSFORMER_SUFFIXES
            shapes = lora.expected_keys(network, suffixes, LORA_RANK)
        else:
            shapes = shapes_of(build(part, homes, SIZES))
    state = {name: weights_of(f"{part.name}.{name}", shape) for name, shape in shapes.items()}
    if part.kind == "guider_pixart":
        last = int(TRANSFORMER["num_layers"]) // 2 - 1  # type: ignore[call-overload]
        state |= {f"after_proj.{leaf}": state[f"adapter_linear.{last}.{leaf}"] for leaf in ("weight", "bias")}
    if part.kind == "clip_text":
        state = {f"text_model.{name}": value for name, value in state.items()}
    if part.kind == "t5":
        del state["encoder.embed_tokens.weight"]
    return state


def weights_of(name: str, shape: tuple[int, ...]) -> Tensor:
    """Random weights that keep a signal's size, always the same for one name and shape."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    values = rng.standard_normal(shape)
    if leaf in ("weight_u", "weight_v"):
        values = values / np.linalg.norm(values)
    elif leaf == "running_var":
        values = 1 + 0.1 * np.tanh(values)
    elif leaf in ("bias", "running_mean"):
        values = 0.02 * values
    elif len(shape) <= 1:
        values = 1 + 0.1 * values
    else:
        values = values / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def _place(part: Part, homes: Homes) -> Path:
    home = homes.model if part.home == "model" else homes.bases[part.home]
    assert home is not None
    place = home / part.folder
    place.mkdir(parents=True, exist_ok=True)
    return place


def _save(state: dict[str, Tensor], folder: Path, part: Part) -> None:
    """Base models and the SD guider as safetensors, everything else as the pickles that are published."""
    if part.home != "model" or part.kind == "guider_sd":
        save_file(state, folder / part.names[0])
    else:
        torch.save(state, folder / next(name for name in part.names if name.endswith((".bin", ".pth"))))


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), "utf-8")


def _clip_tokenizer(folder: Path) -> None:
    """CLIP's byte-level tokenizer without merges: every character is a token."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    characters = [chr(code) for code in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    tokens = [*characters, *(f"{one}</w>" for one in characters), "<|startoftext|>", "<|endoftext|>"]
    _write_json(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "unk_token": "<|endoftext|>", **special},
    )


def _t5_tokenizer(folder: Path) -> None:
    """A tokenizer of letters that ends a prompt as T5's does, in the form that needs no sentencepiece."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokens = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    tokens += [(chr(code), -3.0) for code in range(ord("a"), ord("z") + 1)]
    made = Tokenizer(models.Unigram(tokens, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.save(str(folder / "tokenizer.json"))
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **special},
    )
