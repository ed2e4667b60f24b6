"""Fixture 05: where the guider's residuals enter the UNet."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from colorizer.backends.colorflow.guider_sd import Residuals
from colorizer.backends.colorflow.sd import consume, predict
from colorizer.backends.colorflow.trunk import keys_values, time_embeddings

TOLERANCE = 1e-4
NAMES = (*(f"down.{i}" for i in range(12)), "mid", *(f"up.{i}" for i in range(15)))


@pytest.fixture(scope="module")
def unet(shared_dir: Path) -> Any:
    config = json.loads((shared_dir / "golden" / "05_unet_injection_config.json").read_text())
    net: Any = UNet2DConditionModel.from_config(config)  # type: ignore[no-untyped-call]
    net.load_state_dict(load_file(shared_dir / "golden" / "05_unet_injection_weights.safetensors"))
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def io(shared_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(shared_dir / "golden" / "05_unet_injection_io.safetensors")


def _timestep(shared_dir: Path, case: int) -> int:
    manifest = json.loads((shared_dir / "golden" / "05_unet_injection.manifest.json").read_text())
    return int(manifest["cases"][case]["timestep"])


def _predict(unet: Any, io: dict[str, torch.Tensor], case: int, timestep: int, residuals: Residuals) -> torch.Tensor:
    with torch.inference_mode():
        text = keys_values(unet, io[f"{case}.encoder_hidden_states"])
        (embedding,) = time_embeddings(unet, torch.tensor([timestep]), len(io[f"{case}.sample"]))
        return predict(unet, io[f"{case}.sample"], embedding, text, residuals)


@pytest.mark.parametrize("case", range(3))
def test_the_unet_with_all_residuals_gives_the_published_noise(
    unet: Any, io: dict[str, torch.Tensor], shared_dir: Path, case: int
) -> None:
    residuals = tuple(io[f"{case}.{name}"] for name in NAMES)
    found = _predict(unet, io, case, _timestep(shared_dir, case), residuals)
    assert (found - io[f"{case}.out"]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("case", range(3))
def test_without_residuals_it_is_the_stock_unet(
    unet: Any, io: dict[str, torch.Tensor], shared_dir: Path, case: int
) -> None:
    found = _predict(unet, io, case, _timestep(shared_dir, case), ())
    assert (found - io[f"{case}.out_plain"]).abs().max() <= TOLERANCE


def test_each_residual_alone_enters_at_its_own_place(unet: Any, io: dict[str, torch.Tensor], shared_dir: Path) -> None:
    timestep = _timestep(shared_dir, 0)
    zeros = tuple(torch.zeros_like(io[f"0.{name}"]) for name in NAMES)
    for place, name in enumerate(NAMES):
        if name == "mid":
            continue  # the fixture has no such case
        alone = (*zeros[:place], io[f"0.{name}"], *zeros[place + 1 :])
        found = _predict(unet, io, 0, timestep, alone)
        assert (found - io[f"0.only_{name.replace('.', '_')}"]).abs().max() <= TOLERANCE, name


def test_residuals_of_one_half_serve_both_halves(unet: Any, io: dict[str, torch.Tensor], shared_dir: Path) -> None:
    residuals = tuple(io[f"0.{name}"] for name in NAMES)
    sizes = {"0.sample": (2, 1, 1, 1), "0.encoder_hidden_states": (2, 1, 1)}
    doubled = io | {name: io[name].repeat(size) for name, size in sizes.items()}
    found = _predict(unet, doubled, 0, _timestep(shared_dir, 0), residuals)
    assert (found - io["0.out"]).abs().max() <= TOLERANCE


def test_residuals_that_are_consumed_give_the_same_noise_and_are_freed(unet: Any, io: dict[str, torch.Tensor]) -> None:
    kept = tuple(io[f"0.{name}"] for name in NAMES)
    given = [residual.clone() for residual in kept]
    gone = [weakref.ref(residual) for residual in given]
    with torch.inference_mode():
        text = keys_values(unet, io["0.encoder_hidden_states"])
        (embedding,) = time_embeddings(unet, torch.tensor([500]), len(io["0.sample"]))
        found = consume(unet, io["0.sample"], embedding, text, given)
        expected = predict(unet, io["0.sample"], embedding, text, kept)
    assert torch.equal(found, expected)
    assert given == []
    assert [residual() for residual in gone] == [None] * len(NAMES)
