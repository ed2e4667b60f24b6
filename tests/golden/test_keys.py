"""Every part at its real size, as the loader expects it from configuration files, has the keys and shapes of KEYS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)

from colorizer.backends.colorflow.files import Homes, part_named
from colorizer.backends.colorflow.weights import Folder

# What the public repositories' configuration files say of the base models' sizes.
UNET = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}  # the rest is the class's default
VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}

LISTS = {
    "gray/guider": "colorguider_sd_cond9.txt",
    "gray/lora": "unet_lora_r64.txt",
    "gray/fusion": "multihidden_resnet.txt",
    "sketch/guider": "colorguider_pixart_cond9.txt",
    "sketch/lora": "transformer_lora_r128.txt",
    "sketch/fusion": "multihidden_resnet.txt",
    "lines": "res_skip_erika.txt",
    "tone/encoder": "screen_G_RGB2INTSCR.txt",
    "tone/decoder": "screen_ScreenVAE_dec.txt",
    "sd/unet": "sd15_unet_base.txt",
    "sd/vae": "sd15_vae_base.txt",
    "pixart/transformer": "pixart_transformer_base.txt",
}


@pytest.fixture(scope="module")
def folder(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A model folder with the configuration files alone."""
    top = tmp_path_factory.mktemp("real")
    transformer = json.loads((shared_dir / "golden" / "15_fullsize.manifest.json").read_text())["pixart"]
    guiders = {
        name: json.loads((shared_dir / "KEYS" / f"colorguider_{name}_config_inferred.json").read_text())
        for name in ("sd", "pixart")
    }
    configs: dict[str, Any] = {
        "GraySD": guiders["sd"],
        "sketch": guiders["pixart"],
        "sd/unet": UNET,
        "sd/vae": VAE,
        "pixart/vae": VAE,
        "pixart/transformer": transformer,
    }
    for place, config in configs.items():
        (top / place).mkdir(parents=True)
        (top / place / "config.json").write_text(json.dumps(config))
    return Folder(Homes(top, {"sd": top / "sd", "pixart": top / "pixart"}))


def published(shared_dir: Path, name: str) -> dict[str, tuple[int, ...]]:
    lines = (shared_dir / "KEYS" / name).read_text().splitlines()
    pairs = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape in pairs}


@pytest.mark.parametrize(("name", "listed"), LISTS.items())
def test_a_part_at_its_real_size_has_exactly_the_published_keys_and_shapes(
    folder: Folder, shared_dir: Path, name: str, listed: str
) -> None:
    wanted = published(shared_dir, listed)
    if name == "sketch/guider":  # the last tap under a second name, which the loader resolves
        for leaf in ("weight", "bias"):
            assert wanted.pop(f"after_proj.{leaf}") == wanted[f"adapter_linear.13.{leaf}"]
    assert dict(folder.needed(part_named(name))) == wanted
