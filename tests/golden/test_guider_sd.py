"""Fixture 04: the guider's residuals, at nine and at five condition channels, and its published keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from colorizer.backends.colorflow.guider_sd import ColorGuiderSD, Residuals
from colorizer.backends.colorflow.trunk import time_embeddings
from serving.errors import InvalidInput

TOLERANCE = 1e-4


def _config(golden: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((golden / "04_colorguider_sd_config.json").read_text())
    return config


def _guider(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> ColorGuiderSD:
    guider = ColorGuiderSD.from_config(config)
    guider.load_state_dict(weights)
    return guider.eval().requires_grad_(False)


def _run(guider: ColorGuiderSD, io: dict[str, torch.Tensor], case: str, timestep: int, scale: float) -> Residuals:
    (embedding,) = time_embeddings(guider, torch.tensor([timestep]), len(io[f"{case}sample"]))
    found: Residuals = guider(io[f"{case}sample"], io[f"{case}cond"], embedding, scale)
    return found


def _expected(io: dict[str, torch.Tensor], case: str) -> list[torch.Tensor]:
    down = [io[f"{case}down.{i}"] for i in range(12)]
    return [*down, io[f"{case}mid"], *(io[f"{case}up.{i}"] for i in range(15))]


def _largest_difference(found: Residuals, expected: list[torch.Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("case", range(4))
def test_the_guiders_residuals_are_the_published_ones_at_odd_sizes_too(shared_dir: Path, case: int) -> None:
    golden = shared_dir / "golden"
    facts = json.loads((golden / "04_colorguider_sd.manifest.json").read_text())["cases"][case]
    io = load_file(golden / "04_colorguider_sd_io.safetensors")
    guider = _guider(_config(golden), load_file(golden / "04_colorguider_sd_weights.safetensors"))
    with torch.inference_mode():
        found = _run(guider, io, f"{case}.", facts["timestep"], float(facts["conditioning_scale"]))
    assert _largest_difference(found, _expected(io, f"{case}.")) <= TOLERANCE


def test_a_guider_with_five_condition_channels_gives_the_published_residuals(shared_dir: Path) -> None:
    golden = shared_dir / "golden"
    facts = json.loads((golden / "04_colorguider_sd.manifest.json").read_text())["cond5"]
    io = load_file(golden / "04_colorguider_sd_cond5.safetensors")
    weights = {key.removeprefix("weights."): value for key, value in io.items() if key.startswith("weights.")}
    config = _config(golden) | {"conditioning_channels": facts["conditioning_channels"]}
    with torch.inference_mode():
        found = _run(_guider(config, weights), io, "", facts["timestep"], 1.0)
    assert _largest_difference(found, _expected(io, "")) <= TOLERANCE


def test_the_order_bgr_flips_the_condition_and_nothing_else(shared_dir: Path) -> None:
    golden = shared_dir / "golden"
    io = load_file(golden / "04_colorguider_sd_io.safetensors")
    weights = load_file(golden / "04_colorguider_sd_weights.safetensors")
    flipped = _guider(_config(golden) | {"brushnet_conditioning_channel_order": "bgr"}, weights)
    timestep = json.loads((golden / "04_colorguider_sd.manifest.json").read_text())["cases"][0]["timestep"]
    with torch.inference_mode():
        found = _run(flipped, io | {"0.cond": io["0.cond"].flip(1)}, "0.", timestep, 1.0)
    assert _largest_difference(found, _expected(io, "0.")) <= TOLERANCE


@pytest.mark.parametrize("channels", [9, 5])
def test_a_real_guider_has_exactly_the_published_keys_and_shapes(shared_dir: Path, channels: int) -> None:
    keys = shared_dir / "KEYS"
    config = json.loads((keys / "colorguider_sd_config_inferred.json").read_text())
    with torch.device("meta"):
        guider = ColorGuiderSD.from_config(config | {"conditioning_channels": channels})
    lines = (keys / f"colorguider_sd_cond{channels}.txt").read_text().splitlines()
    expected = dict(line.split("\t") for line in lines if line and not line.startswith("#"))
    found = {key: "x".join(map(str, value.shape)) or "scalar" for key, value in guider.state_dict().items()}
    assert found == expected


def test_the_defaults_are_the_published_shape(shared_dir: Path) -> None:
    config = json.loads((shared_dir / "KEYS" / "colorguider_sd_config_inferred.json").read_text())
    with torch.device("meta"):
        shapes = [{k: v.shape for k, v in ColorGuiderSD(c).state_dict().items()} for c in ({"in_channels": 4}, config)]
    assert shapes[0] == shapes[1]


def test_a_config_of_another_network_is_refused_with_every_wrong_entry() -> None:
    config = {"class_embed_type": "timestep", "conditioning_channels": 3, "up_block_types": ["CrossAttnUpBlock2D"] * 4}
    with pytest.raises(InvalidInput) as caught:
        ColorGuiderSD.from_config(config)
    assert all(entry in caught.value.message for entry in config)
