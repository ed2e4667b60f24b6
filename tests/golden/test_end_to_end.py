"""Fixture 14: whole pages of the published demo, from references to the refined picture, by the code that serves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from colorizer.backends.colorflow.fit import fit, reference_patches
from colorizer.backends.colorflow.gsrp import FusionNet, hidden_channels
from colorizer.backends.colorflow.guider_pixart import GuiderConfig, PixArtGuider
from colorizer.backends.colorflow.guider_sd import ColorGuiderSD
from colorizer.backends.colorflow.guides import Guides
from colorizer.backends.colorflow.runner import Placing, Recipe, Runner, Unit
from colorizer.backends.colorflow.sampling import Text
from colorizer.backends.colorflow.styles import STYLES, Style
from colorizer.backends.colorflow.text import encode_sd
from retrieval.embed import create_embedder
from retrieval.embed.space import EmbedderSettings

STYLE_OF = {"GrayImage(ScreenStyle)": "gray", "Sketch": "sketch", "Sketch_Shading": "shading"}


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def frozen(net: Any, weights: Path) -> nn.Module:
    net.load_state_dict(load_file(weights))
    return cast(nn.Module, net.eval().requires_grad_(False))


@dataclass(frozen=True)
class Fixtures:
    """The library of the published program's small networks."""

    golden: Path
    base: Path  # with the text encoder in diffusers' layout

    def load(self, part: str) -> nn.Module:
        golden = self.golden
        vae: Any = AutoencoderKL.from_config(read(golden / "07_gsrp_vae_config.json"))
        match part.split("/"):
            case [_, "vae"]:
                return frozen(vae, golden / "07_gsrp_vae_weights.safetensors")
            case [_, "fusion"]:
                return frozen(FusionNet(hidden_channels(vae)), golden / "07_gsrp_multihidden_weights.safetensors")
            case ["gray", "denoiser"]:
                unet = UNet2DConditionModel.from_config(read(golden / "05_unet_injection_config.json"))
                guider = ColorGuiderSD.from_config(read(golden / "04_colorguider_sd_config.json"))
                backbone = frozen(unet, golden / "05_unet_injection_weights.safetensors")
                own = frozen(guider, golden / "04_colorguider_sd_weights.safetensors")
                return nn.ModuleDict({"backbone": backbone, "guider": own})
            case [_, "denoiser"]:
                unset = read(golden / "09_pixart_models_transformer_config.json")
                transformer = PixArtTransformer2DModel.from_config(unset)
                backbone = frozen(transformer, golden / "09_pixart_models_transformer_weights.safetensors")
                return nn.ModuleDict({"backbone": backbone, "guider": pixart_guider(golden)})
        raise AssertionError(part)

    def text(self, style: Style) -> Text:
        if style.backbone == "sd":
            return encode_sd(self.base)
        io = load_file(self.golden / "11_pixart_pipeline_io.safetensors")
        return Text(
            io["0.prompt_embeds"],
            io["0.negative_prompt_embeds"],
            io["0.prompt_mask"].bool(),
            io["0.negative_mask"].bool(),
        )

    def schedule(self, style: Style) -> dict[str, Any]:
        number = "06_sd" if style.backbone == "sd" else "11_pixart"
        stored = read(self.golden / f"{number}_pipeline_scheduler_config.json")
        return stored.get("source_sd15_pndm", stored)


def pixart_guider(golden: Path) -> nn.Module:
    weights = load_file(golden / "09_pixart_models_guider_weights.safetensors")
    guider = PixArtGuider(GuiderConfig.read(read(golden / "09_pixart_models_guider_config.json")))
    guider.load_state_dict({key: tensor for key, tensor in weights.items() if not key.startswith("after_proj")})
    return guider


@pytest.fixture(scope="module")
def fixtures(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Fixtures:
    golden, base = shared_dir / "golden", tmp_path_factory.mktemp("sd15")
    encoder, tokenizer = base / "text_encoder", base / "tokenizer"
    encoder.mkdir()
    tokenizer.mkdir()
    (encoder / "model.safetensors").write_bytes((golden / "06_sd_pipeline_text_weights.safetensors").read_bytes())
    (encoder / "config.json").write_bytes((golden / "06_sd_pipeline_text_config.json").read_bytes())
    stored = read(golden / "06_sd_pipeline_tokenizer.json")
    (tokenizer / "vocab.json").write_text(json.dumps(stored["vocab"]))
    (tokenizer / "merges.txt").write_text(stored["merges"])
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({"model_max_length": stored["model_max_length"]}))
    return Fixtures(golden, base)


def ranked(
    golden: Path, query: np.ndarray, references: Sequence[np.ndarray], size: tuple[int, int]
) -> list[list[Image.Image]]:
    """For each corner of the page the three best reference patches, as the retrieval server ranks them."""
    settings = EmbedderSettings(
        weights=golden / "02_retrieval_clip_weights.safetensors",
        config=golden / "02_retrieval_clip_config.json",
        crop_recipe=f"fit:{size[0]}x{size[1]}",
        grey_twin=False,
        device="cpu",
    )
    embedder = create_embedder("open_clip", settings)
    scores = (
        embedder.embed_pages([query])[0]
        @ embedder.embed_references(list(references)).reshape(5 * len(references), -1).T
    )
    patches = [patch for one in references for patch in reference_patches(fit(Image.fromarray(one), size))]
    return [[patches[i] for i in np.argsort(-row, kind="stable")[:3]] for row in scores]


@pytest.mark.parametrize("number", range(4))
def test_a_whole_page_is_that_of_the_published_demo(fixtures: Fixtures, number: int) -> None:
    golden = fixtures.golden
    case = read(golden / "14_app_end_to_end.manifest.json")["cases"][number]
    arrays = dict(np.load(golden / "14_app_end_to_end.npz").items())
    style, size = STYLES[STYLE_OF[case["style"]]], (case["target"][0], case["target"][1])
    context, detail = (arrays[f"{number}.{name}"][..., 0] for name in ("input_context", "vae_input"))
    query = Image.fromarray(context).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    np.testing.assert_array_equal(np.asarray(query), arrays[f"{number}.query_bw"])
    references = [arrays[f"{number}.ref_{i}"] for i in range(case["n_refs"])]
    unit = Unit(Guides(context, detail), size, ranked(golden, np.asarray(query), references, size), case["seed"])
    recipe = Recipe(style, case["steps"], style.guidance, parity=True)
    runner = Runner(fixtures, Placing(torch.device("cpu")))
    steps: list[tuple[int, int]] = []
    (page,) = runner.run(recipe, [unit], lambda done, of: steps.append((done, of)))
    wrong = np.abs(page.astype(int) - arrays[f"{number}.high_res"].astype(int))
    assert wrong.max() <= 1
    assert (wrong > 0).mean() <= 0.05
    assert steps == [(done, case["steps"] + 1) for done in range(case["steps"] + 2)]
    coarse = runner.run(replace(recipe, refine=False), [unit], lambda *_: None)
    canvas = arrays[f"{number}.canvas_out"]
    high, wide = canvas.shape[:2]
    off = np.abs(coarse[0].astype(int) - canvas[high // 4 : high - high // 4, wide // 4 : wide - wide // 4].astype(int))
    assert off.max() <= 1
    assert (off > 0).mean() <= 0.001
