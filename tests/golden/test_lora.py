"""Fixtures 08 and 10: the adapters of both backbones in the published layout, and their keys at real size."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from safetensors.torch import load_file

from colorizer.backends.colorflow import lora
from colorizer.backends.colorflow.guider_pixart import positions, tables
from colorizer.backends.colorflow.pixart import predict, words

UNET_TOLERANCE, PIXART_TOLERANCE = 1e-4, 2e-4  # absolute, as the manifests state
Apply = Callable[[Any, dict[str, torch.Tensor]], None]
Tensors = dict[str, torch.Tensor]

WAYS: dict[str, Apply] = {
    "injected": lambda net, tensors: lora.inject(net, tensors, 4, 4),
    "merged": lambda net, tensors: lora.merge(net, tensors, 4),
}


def _net(kind: Any, config: Path, weights: Path) -> Any:
    net = kind.from_config(json.loads(config.read_text()))
    net.load_state_dict(load_file(weights))
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(shared_dir: Path) -> Path:
    return shared_dir / "golden"


@pytest.fixture(scope="module")
def unet(folder: Path) -> Any:
    stem = "05_unet_injection"
    return _net(UNet2DConditionModel, folder / f"{stem}_config.json", folder / f"{stem}_weights.safetensors")


@pytest.fixture(scope="module")
def transformer(folder: Path) -> Any:
    stem = "09_pixart_models_transformer"
    return _net(PixArtTransformer2DModel, folder / f"{stem}_config.json", folder / f"{stem}_weights.safetensors")


def _unet_out(unet: Any, io: Tensors) -> torch.Tensor:
    with torch.inference_mode():
        out: torch.Tensor = unet(io["sample"], 77, encoder_hidden_states=io["encoder_hidden_states"]).sample
    return out


def _stock_out(transformer: Any, io: Tensors) -> torch.Tensor:
    with torch.inference_mode():
        out: torch.Tensor = transformer(
            io["sample"],
            encoder_hidden_states=io["encoder_hidden_states"],
            encoder_attention_mask=io["encoder_attention_mask"],
            timestep=torch.tensor([123, 123]),
            added_cond_kwargs={"resolution": io["resolution"], "aspect_ratio": io["aspect_ratio"]},
        ).sample
    return out


def _walked_out(transformer: Any, io: Tensors) -> torch.Tensor:
    """By the forward that a run takes, row by row, as each row has a prompt of its own."""
    h, w = io["sample"].shape[-2:]
    mask = io["encoder_attention_mask"].bool()
    with torch.inference_mode():
        table, where = tables(transformer, torch.tensor([123]), h, w), positions(transformer, h, w)
        rows = []
        for row in (slice(0, 1), slice(1, 2)):
            text = words(transformer, io["encoder_hidden_states"][row], mask[row])
            step = table.blocks[0], table.embedded[0]
            rows.append(predict(transformer, io["sample"][row], where, *step, [text], ()))
    return torch.cat(rows)


def test_the_published_unet_file_reads_as_it_is(folder: Path, unet: Any) -> None:
    stored = load_file(folder / "08_lora_unet_bin.safetensors")
    found = lora.read(folder / "08_lora_unet_bin.safetensors")
    assert found.keys() == stored.keys()
    lora.check(found, lora.expected_keys(unet, lora.UNET_SUFFIXES, 4))


def test_the_published_transformer_file_reads_as_it_is(folder: Path, transformer: Any) -> None:
    stored = load_file(folder / "10_lora_pixart_bin.safetensors")
    found = lora.read(folder / "10_lora_pixart_bin.safetensors")
    assert found.keys() == stored.keys()
    lora.check(found, lora.expected_keys(transformer, lora.TRANSFORMER_SUFFIXES, 4))


@pytest.mark.parametrize("way", WAYS)
def test_the_adapted_unet_gives_the_published_output(folder: Path, unet: Any, way: str) -> None:
    io = load_file(folder / "08_lora_unet_io.safetensors")
    net = copy.deepcopy(unet)
    WAYS[way](net, lora.read(folder / "08_lora_unet_bin.safetensors"))
    assert (_unet_out(unet, io) - io["out_base"]).abs().max() <= UNET_TOLERANCE
    assert (_unet_out(net, io) - io["out"]).abs().max() <= UNET_TOLERANCE


@pytest.mark.parametrize("forward", [_stock_out, _walked_out])
@pytest.mark.parametrize("way", WAYS)
def test_the_adapted_transformer_gives_the_published_output(
    folder: Path, transformer: Any, way: str, forward: Callable[[Any, Tensors], torch.Tensor]
) -> None:
    io = load_file(folder / "10_lora_pixart_io.safetensors")
    net = copy.deepcopy(transformer)
    WAYS[way](net, lora.read(folder / "10_lora_pixart_bin.safetensors"))
    assert (forward(transformer, io) - io["out_base"]).abs().max() <= PIXART_TOLERANCE
    assert (forward(net, io) - io["out"]).abs().max() <= PIXART_TOLERANCE


def _published(shared_dir: Path, name: str) -> dict[str, tuple[int, ...]]:
    lines = (shared_dir / "KEYS" / name).read_text().splitlines()
    pairs = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {key: tuple(int(side) for side in shape.split("x")) for key, shape in pairs}


def test_the_real_size_unet_expects_the_published_keys(shared_dir: Path) -> None:
    with torch.device("meta"):
        net: Any = UNet2DConditionModel(
            cross_attention_dim=768, attention_head_dim=8, sample_size=64
        )  # SD 1.5; the rest are the class's defaults
    expected = _published(shared_dir, "unet_lora_r64.txt")
    assert len(expected) == 320
    assert lora.expected_keys(net, lora.UNET_SUFFIXES, 64) == expected


def test_the_real_size_transformer_expects_the_published_keys(shared_dir: Path) -> None:
    with torch.device("meta"):
        net: Any = PixArtTransformer2DModel(caption_channels=4096)  # PixArt-XL-2-1024-MS
    expected = _published(shared_dir, "transformer_lora_r128.txt")
    assert len(expected) == 582
    assert lora.expected_keys(net, lora.TRANSFORMER_SUFFIXES, 128) == expected
