"""Fixture 15: the networks at their real size, with weights made from their names. Minutes, and 8 GB of memory.

With PANELHUE_FULLSIZE_JSON=FILE the figures are written there.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("diffusers", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)

import torch
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.report import meta
from colorizer.backends.colorflow import gsrp, guider_pixart, lora, pixart, sd, trunk
from colorizer.backends.colorflow.guider_sd import ColorGuiderSD
from tests.golden.test_lines import named_array_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

EXACT, MERGED = 1e-4, 2e-4  # relative to the largest expected value; with a merged adapter
TIMESTEP = torch.tensor([500])
STATISTICS: tuple[tuple[gsrp.Statistics, str], ...] = (("published", "train"), ("running", "eval"))


@dataclass
class Fixture:
    """The expected values, the recipe, and what has been measured so far."""

    manifest: dict[str, Any]
    expected: dict[str, Tensor]
    named_array: Callable[[str, tuple[int, ...]], Any]
    figures: dict[str, dict[str, float]] = field(default_factory=dict)

    def filled(self, network: Any, prefix: str) -> Any:
        """The network, of the meta device, with the weights that its keys make."""
        state = {key: self.tensor(prefix + key, tuple(value.shape)) for key, value in network.state_dict().items()}
        network.load_state_dict(state, assign=True)
        return network.eval().requires_grad_(False)

    def tensor(self, key: str, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(self.named_array(key, shape))

    def adapter(self, network: Any, suffixes: tuple[str, ...], rank: int, prefix: str) -> dict[str, Tensor]:
        shapes = lora.expected_keys(network, suffixes, rank)
        return {key: self.tensor(prefix + key, shape) for key, shape in shapes.items()}

    def compare(self, model: str, found: dict[str, Tensor], tolerance: float, began: float) -> None:
        """Holds each output against the fixture's sample of it, and keeps the figures."""
        worst = 0.0
        for name, value in found.items():
            worst = max(worst, largest_difference(sampled(value), self.expected[name]))
            if f"{name}_full" in self.expected:
                worst = max(worst, largest_difference(value, self.expected[f"{name}_full"]))
            stats = self.manifest["stats"][name]
            assert list(value.shape) == stats["shape"], name
            assert float(value.double().mean()) == pytest.approx(stats["mean"], abs=1e-4 * stats["std"])
            assert float(value.double().std(correction=0)) == pytest.approx(stats["std"], rel=1e-3)
        self.figures[model] = {
            "outputs": len(found),
            "largest relative difference": worst,
            "tolerance": tolerance,
            "seconds": round(time.monotonic() - began, 1),
        }
        assert worst <= tolerance, model


def sampled(value: Tensor) -> Tensor:
    flat = value.flatten()
    return flat[:: max(flat.numel() // 2048, 1)][:2048]


def largest_difference(found: Tensor, wanted: Tensor) -> float:
    """Relative to the largest value that is wanted."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


@pytest.fixture(scope="module")
def full(shared_dir: Path) -> Iterator[Fixture]:
    golden = shared_dir / "golden"
    manifest = json.loads((golden / "15_fullsize.manifest.json").read_text())
    made = Fixture(manifest, load_file(golden / "15_fullsize.safetensors"), named_array_of(shared_dir))
    yield made
    if path := os.environ.get("PANELHUE_FULLSIZE_JSON"):
        facts = meta() | {"torch": torch.__version__, "dtype": "float32", "threads": str(torch.get_num_threads())}
        text = json.dumps({"meta": facts, "results": made.figures}, indent=1)
        Path(path).write_text(text + "\n", "utf-8")


def test_the_sd_guider_and_the_unet_with_its_adapter_give_the_published_values_at_full_size(full: Fixture) -> None:
    latents, condition, text = drawn(1, 1, 4, 16, 16), drawn(2, 1, 9, 16, 16), drawn(3, 1, 77, 768)
    began = time.monotonic()
    with torch.device("meta"):
        guider = ColorGuiderSD.from_config({"in_channels": 4})
    full.filled(guider, "guider.")
    with torch.inference_mode():
        residuals = guider(latents, condition, trunk.time_embeddings(guider, TIMESTEP)[0])
    names = [*(f"sd.down.{i}" for i in range(12)), "sd.mid", *(f"sd.up.{i}" for i in range(15))]
    full.compare("guider, SD", dict(zip(names, residuals, strict=True)), EXACT, began)
    del guider
    gc.collect()

    began = time.monotonic()
    with torch.device("meta"):
        unet: Any = cast(Any, UNet2DConditionModel)(**full.manifest["sd15_unet"])
    adapter = full.adapter(unet, lora.UNET_SUFFIXES, 64, "unet.")
    full.filled(unet, "unet.")
    lora.merge(unet, adapter, 64)
    scale = full.manifest["sd_unet_residual_scale"]
    with torch.inference_mode():
        words, embedding = trunk.keys_values(unet, text), trunk.time_embeddings(unet, TIMESTEP)[0]
        out = sd.predict(unet, latents, embedding, words, tuple(scale * one for one in residuals))
    full.compare("UNet with merged LoRA and residuals", {"sd.unet_out": out}, MERGED, began)


def test_the_fusion_network_gives_the_published_values_at_full_size_with_either_statistics(full: Fixture) -> None:
    widths, sides = gsrp.SD_CHANNELS, (64, 32, 16, 8, 8)
    joined = [
        drawn(10 + i, 1, 2 * width, side, side) for i, (width, side) in enumerate(zip(widths, sides, strict=True))
    ]
    colour, guide = zip(*(one.chunk(2, dim=1) for one in joined), strict=True)
    for statistics, name in STATISTICS:
        began = time.monotonic()
        with torch.device("meta"):
            net = gsrp.FusionNet(widths, statistics)
        full.filled(net, "mh.")
        with torch.inference_mode():
            fused = net(list(colour), list(guide))
        found = {f"mh.{name}.{i}": value for i, value in enumerate(fused)}
        full.compare(f"fusion network, {statistics} statistics", found, EXACT, began)


def test_the_pixart_guider_and_transformer_with_its_adapter_give_the_published_values_at_full_size(
    full: Fixture,
) -> None:
    latents, condition, text = drawn(20, 2, 4, 16, 24), drawn(21, 2, 9, 16, 24), drawn(22, 2, 120, 4096)
    began = time.monotonic()
    with torch.device("meta"):
        guider = guider_pixart.PixArtGuider.from_config({})
    full.filled(guider, "pixguider.")
    with torch.inference_mode():
        controls = guider(torch.cat([latents, condition], dim=1), TIMESTEP[0])
    full.compare("guider, PixArt", {f"pix.control.{i}": one for i, one in enumerate(controls)}, EXACT, began)
    del guider
    gc.collect()

    began = time.monotonic()
    with torch.device("meta"):
        net: Any = cast(Any, PixArtTransformer2DModel)(**full.manifest["pixart"])
    adapter = full.adapter(net, lora.TRANSFORMER_SUFFIXES, 128, "dit.")
    full.filled(net, "dit.")
    lora.merge(net, adapter, 128)
    counts = (3, 1)  # tokens that count: "row 0: first 3 tokens, row 1: first token"
    scale = full.manifest["pix_control_scale"]
    with torch.inference_mode():
        table, where = guider_pixart.tables(net, TIMESTEP, 16, 24), guider_pixart.positions(net, 16, 24)
        rows = []
        for row, count in enumerate(counts):
            mask = (torch.arange(text.shape[1]) < count)[None]
            prompt = pixart.words(net, text[row : row + 1], mask)
            own = [scale * one[row : row + 1] for one in controls]
            page = latents[row : row + 1]
            rows.append(pixart.predict(net, page, where, table.blocks[0], table.embedded[0], [prompt], own))
        out = torch.cat(rows)
    full.compare("PixArt with merged LoRA and controls", {"pix.dit_out": out}, MERGED, began)
