"""Fixture 09: the PixArt guider, and the transformer with its controls; the guider's published keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import load_file

from colorizer.backends.colorflow.guider_pixart import PixArtGuider, positions, resolve_alias, tables
from colorizer.backends.colorflow.pixart import predict, words

TOLERANCE = 1e-4  # absolute, as the fixture's manifest states
CASES = (0, 1, 2)
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Golden:
    transformer: Any
    guider: PixArtGuider
    io: Tensors
    manifest: dict[str, Any]

    def timestep(self, case: int) -> int:
        return int(self.manifest["cases"][case]["timestep"])

    def controls(self, case: int) -> list[torch.Tensor]:
        return [self.io[f"{case}.control.{i}"] for i in range(3)]

    def predicted(self, case: int, controls: Sequence[torch.Tensor]) -> torch.Tensor:
        """Row by row, as each row has a latent and a prompt of its own, and a run has one prompt per guidance half."""
        latents, mask = self.io[f"{case}.sample"], self.io[f"{case}.encoder_attention_mask"].bool()
        h, w = latents.shape[-2:]
        where = positions(self.transformer, h, w)
        with torch.inference_mode():
            table = tables(self.transformer, torch.tensor([self.timestep(case)]), h, w)
            rows = [
                predict(
                    self.transformer,
                    latents[row : row + 1],
                    where,
                    table.blocks[0],
                    table.embedded[0],
                    [
                        words(
                            self.transformer,
                            self.io[f"{case}.encoder_hidden_states"][row : row + 1],
                            mask[row : row + 1],
                        )
                    ],
                    [control[row : row + 1] for control in controls],
                )
                for row in range(latents.shape[0])
            ]
        return torch.cat(rows)


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> Golden:
    folder = shared_dir / "golden"
    config = json.loads((folder / "09_pixart_models_transformer_config.json").read_text())
    transformer: Any = PixArtTransformer2DModel.from_config(config)
    transformer.load_state_dict(load_file(folder / "09_pixart_models_transformer_weights.safetensors"))
    guider = PixArtGuider.from_config(json.loads((folder / "09_pixart_models_guider_config.json").read_text()))
    guider.load_state_dict(resolve_alias(load_file(folder / "09_pixart_models_guider_weights.safetensors")))
    manifest = json.loads((folder / "09_pixart_models.manifest.json").read_text())
    io = load_file(folder / "09_pixart_models_io.safetensors")
    return Golden(transformer.eval().requires_grad_(False), guider, io, manifest)


@pytest.mark.parametrize("case", CASES)
def test_the_guiders_controls_are_the_published_ones(golden: Golden, case: int) -> None:
    latents = torch.cat([golden.io[f"{case}.sample"], golden.io[f"{case}.cond"]], dim=1)
    with torch.inference_mode():
        found = golden.guider(latents, torch.tensor(golden.timestep(case)))
    expected = golden.controls(case)
    assert len(found) == len(expected)
    for control, other in zip(found, expected, strict=True):
        assert (control - other).abs().max() <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_the_transformer_with_controls_gives_the_published_output(golden: Golden, case: int) -> None:
    found = golden.predicted(case, golden.controls(case))
    assert (found - golden.io[f"{case}.out"]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_without_controls_it_is_the_stock_transformer(golden: Golden, case: int) -> None:
    found = golden.predicted(case, ())
    assert (found - golden.io[f"{case}.out_plain"]).abs().max() <= TOLERANCE


def _published(shared_dir: Path, name: str) -> dict[str, tuple[int, ...]]:
    lines = (shared_dir / "KEYS" / name).read_text().splitlines()
    pairs = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {key: tuple(int(side) for side in shape.split("x")) for key, shape in pairs}


def test_the_real_size_guider_has_the_published_keys_less_the_alias(shared_dir: Path) -> None:
    config = json.loads((shared_dir / "KEYS" / "colorguider_pixart_config_inferred.json").read_text())
    with torch.device("meta"):
        guider = PixArtGuider.from_config(config)
    expected = _published(shared_dir, "colorguider_pixart_cond9.txt")
    assert {expected.pop(f"after_proj.{part}") for part in ("weight", "bias")} == {(1152, 1152), (1152,)}
    assert {key: tuple(value.shape) for key, value in guider.state_dict().items()} == expected
    assert sum(value.numel() for value in guider.parameters()) == 251_938_944


def test_a_file_whose_last_tap_has_only_its_second_name_loads_alike(golden: Golden, shared_dir: Path) -> None:
    stored = load_file(shared_dir / "golden" / "09_pixart_models_guider_weights.safetensors")
    without = {key: value for key, value in stored.items() if not key.startswith("adapter_linear.2.")}
    found, expected = resolve_alias(without), golden.guider.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
