"""Guided super-resolution against the published method's numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from colorizer.backends.colorflow.gsrp import (
    SD_CHANNELS,
    FusionNet,
    Statistics,
    decode_guided,
    encode_features,
    encode_hidden,
    hidden_channels,
    refine,
    to_bytes,
)

TOLERANCE = 1e-4  # absolute, as the fixture's manifest states
CASES = (0, 1)
MODES: tuple[tuple[str, Statistics], ...] = (("train", "published"), ("eval", "running"))


@dataclass(frozen=True)
class Golden:
    vae: Any
    weights: dict[str, torch.Tensor]
    io: dict[str, torch.Tensor]
    manifest: dict[str, Any]

    def fusion(self, statistics: Statistics) -> FusionNet:
        net = FusionNet(hidden_channels(self.vae), statistics)
        net.load_state_dict(self.weights)
        return net.eval()

    def list_of(self, prefix: str) -> list[torch.Tensor]:
        return [self.io[f"{prefix}.{i}"] for i in range(5)]


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> Golden:
    part = shared_dir / "golden"
    manifest = json.loads((part / "07_gsrp.manifest.json").read_text())
    assert manifest["suggested_tolerance"].startswith(f"{TOLERANCE:.0e}".replace("e-04", "e-4"))
    stock: Any = AutoencoderKL
    vae = stock.from_config(json.loads((part / "07_gsrp_vae_config.json").read_text()))
    vae.load_state_dict(load_file(part / "07_gsrp_vae_weights.safetensors"))
    vae.eval().requires_grad_(False)
    weights = load_file(part / "07_gsrp_multihidden_weights.safetensors")
    return Golden(vae, weights, load_file(part / "07_gsrp_io.safetensors"), manifest)


@pytest.fixture(autouse=True)
def frozen() -> Iterator[None]:
    with torch.inference_mode():
        yield


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max())


@pytest.mark.parametrize("case", CASES)
def test_the_encoder_gives_the_published_moments(golden: Golden, case: int) -> None:
    found = encode_hidden(golden.vae, golden.io[f"{case}.color"])
    assert off(found.mean, golden.io[f"{case}.mean"]) <= TOLERANCE
    assert off(torch.exp(0.5 * found.logvar), golden.io[f"{case}.std"]) <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("picture", ["color", "bw"])
def test_the_encoder_gives_the_published_features(golden: Golden, case: int, picture: str) -> None:
    hidden = encode_hidden(golden.vae, golden.io[f"{case}.{picture}"]).hidden
    wanted = golden.list_of(f"{case}.hidden_{picture}")
    assert max(map(off, hidden, wanted)) <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_the_posterior_sample_is_the_published_one(golden: Golden, case: int) -> None:
    torch.manual_seed(golden.manifest["cases"][case]["sample_global_seed"])
    found = encode_hidden(golden.vae, golden.io[f"{case}.color"])
    assert off(found.latent(torch.randn(found.mean.shape)), golden.io[f"{case}.z"]) <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("stored", "statistics"), MODES)
def test_the_fusion_network_gives_the_published_maps(
    golden: Golden, case: int, stored: str, statistics: Statistics
) -> None:
    colour, grey = (golden.list_of(f"{case}.hidden_{name}") for name in ("color", "bw"))
    found = golden.fusion(statistics)(colour, grey)
    assert max(map(off, found, golden.list_of(f"{case}.{stored}.multi"))) <= TOLERANCE


def test_the_two_kinds_of_statistics_differ(golden: Golden) -> None:
    colour, grey = (golden.list_of(f"0.hidden_{name}") for name in ("color", "bw"))
    published, running = (golden.fusion(statistics)(colour, grey) for _, statistics in MODES)
    assert min(map(off, published, running)) > 100 * TOLERANCE


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("stored", "statistics"), MODES)
@pytest.mark.parametrize(("latent", "picture"), [("z", "decoded"), ("mean", "decoded_mode")])
def test_the_guided_decoder_gives_the_published_picture(
    golden: Golden, case: int, stored: str, statistics: Statistics, latent: str, picture: str
) -> None:
    fused = golden.list_of(f"{case}.{stored}.multi")
    found = decode_guided(golden.vae, golden.io[f"{case}.{latent}"], fused)
    assert off(found, golden.io[f"{case}.{stored}.{picture}"]) <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("stored", "statistics"), MODES)
def test_the_whole_refinement_gives_the_published_bytes(
    golden: Golden, case: int, stored: str, statistics: Statistics
) -> None:
    io = golden.io
    torch.manual_seed(golden.manifest["cases"][case]["sample_global_seed"])
    noise = torch.randn(io[f"{case}.mean"].shape)
    found = refine(golden.vae, golden.fusion(statistics), io[f"{case}.color"], io[f"{case}.bw"], noise)
    wanted = to_bytes(io[f"{case}.{stored}.decoded"])
    assert int((found.int() - wanted.int()).abs().max()) <= 1
    assert float((found != wanted).float().mean()) < 0.002  # only where the tolerance crosses a whole byte


def test_the_decoder_without_maps_is_the_stock_one(golden: Golden) -> None:
    z = golden.io["0.z"]
    nothing = [torch.zeros_like(x) for x in golden.list_of("0.train.multi")]
    assert off(decode_guided(golden.vae, z, nothing), golden.io["0.decoded_plain"]) <= TOLERANCE


def test_stored_statistics_are_not_overwritten(golden: Golden) -> None:
    net = golden.fusion("published").train()
    net(*(golden.list_of(f"0.hidden_{name}") for name in ("color", "bw")))
    assert all(torch.equal(value, golden.weights[key]) for key, value in net.state_dict().items())


def test_the_full_size_network_has_the_published_keys(shared_dir: Path) -> None:
    lines = (shared_dir / "KEYS" / "multihidden_resnet.txt").read_text().splitlines()
    wanted = dict(line.split("\t") for line in lines if not line.startswith("#"))
    with torch.device("meta"):
        state = FusionNet(SD_CHANNELS).state_dict()
    assert {key: "x".join(map(str, value.shape)) or "scalar" for key, value in state.items()} == wanted


def test_the_full_size_channels_are_those_of_the_published_vae(shared_dir: Path) -> None:
    with torch.device("meta"):
        build = cast(Callable[..., Any], AutoencoderKL)
        vae = build(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        hidden = encode_features(vae, torch.empty(1, 3, 64, 64))
    assert hidden_channels(vae) == SD_CHANNELS == tuple(x.shape[1] for x in hidden)
