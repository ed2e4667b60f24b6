"""Fixture 06: the whole SD 1.5 path, from the prompt to the decoded picture, by the code that the back-end runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file

from colorizer.backends.colorflow import sampling, text
from colorizer.backends.colorflow.guider_sd import ColorGuiderSD
from colorizer.backends.colorflow.sd import SDDenoiser

GUIDANCE = 7.5
CASES = range(3)


@dataclass(frozen=True)
class Published:
    golden: Path
    vae: Any
    denoiser: SDDenoiser
    manifest: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    pictures: dict[str, np.ndarray]


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def _made(kind: Any, config: Path) -> Any:
    return kind.from_config(_read(config))


def _frozen(net: Any, weights: Path) -> Any:
    net.load_state_dict(load_file(weights))
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def published(shared_dir: Path) -> Published:
    golden = shared_dir / "golden"
    unet = _made(UNet2DConditionModel, golden / "05_unet_injection_config.json")
    guider = _made(ColorGuiderSD, golden / "04_colorguider_sd_config.json")
    vae = _made(AutoencoderKL, golden / "07_gsrp_vae_config.json")
    unet = _frozen(unet, golden / "05_unet_injection_weights.safetensors")
    guider = _frozen(guider, golden / "04_colorguider_sd_weights.safetensors")
    return Published(
        golden,
        _frozen(vae, golden / "07_gsrp_vae_weights.safetensors"),
        SDDenoiser(unet, guider),
        _read(golden / "06_sd_pipeline.manifest.json"),
        load_file(golden / "06_sd_pipeline_io.safetensors"),
        dict(np.load(golden / "06_sd_pipeline.npz")),
    )


@pytest.fixture(scope="module")
def base_model(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a base model's, with the fixture's text encoder and tokenizer."""
    folder = tmp_path_factory.mktemp("sd15")
    encoder, tokenizer = folder / "text_encoder", folder / "tokenizer"
    encoder.mkdir()
    tokenizer.mkdir()
    weights = (published.golden / "06_sd_pipeline_text_weights.safetensors").read_bytes()
    (encoder / "model.safetensors").write_bytes(weights)
    (encoder / "config.json").write_text((published.golden / "06_sd_pipeline_text_config.json").read_text())
    stored = _read(published.golden / "06_sd_pipeline_tokenizer.json")
    (tokenizer / "vocab.json").write_text(json.dumps(stored["vocab"]))
    (tokenizer / "merges.txt").write_text(stored["merges"])
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({"model_max_length": stored["model_max_length"]}))
    return folder


@pytest.fixture(scope="module")
def words(published: Published, base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> sampling.Text:
    return text.text_for("sd", tmp_path_factory.mktemp("cache"), encoder=base_model)


def _draws(published: Published, case: int) -> sampling.Draws:
    facts = published.manifest["cases"][case]
    wide, high = facts["canvas"]
    latent = (high // 8, wide // 8)
    seeds = facts["generator_seed"], facts["global_rng_seed"]
    return sampling.published_draws(seeds[0], latent, None, stream_seed=seeds[1])


def _condition(published: Published, case: int) -> torch.Tensor:
    canvas = torch.from_numpy(published.pictures[f"canvas_{case}"]).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        return sampling.encode_condition(published.vae, canvas, _draws(published, case).posterior)


def _latents(
    published: Published, words: sampling.Text, case: int, see: Callable[[torch.Tensor], None]
) -> torch.Tensor:
    scheduler = sampling.unipc(_read(published.golden / "06_sd_pipeline_scheduler_config.json")["source_sd15_pndm"])
    steps = sampling.timesteps_for(scheduler, published.manifest["cases"][case]["steps"])
    with torch.inference_mode():
        run = published.denoiser.begin(_condition(published, case), 1, GUIDANCE, steps, words)
        seen = _Seen(run, see)
        return sampling.sample(seen, scheduler, _draws(published, case).noise, steps, lambda done, of: None)


@dataclass
class _Seen:
    """A run which shows the latents it is asked about."""

    run: sampling.Run
    see: Callable[[torch.Tensor], None]

    def noise(self, latents: torch.Tensor, index: int) -> torch.Tensor:
        self.see(latents)
        return self.run.noise(latents, index)


def test_the_prompts_embeddings_are_the_published_ones(published: Published, words: sampling.Text) -> None:
    for case in CASES:
        both = torch.cat([words.negative, words.positive])
        assert (both - published.tensors[f"{case}.prompt_embeds"]).abs().max() <= 1e-5


@pytest.mark.parametrize("case", CASES)
def test_the_noise_is_drawn_as_published(published: Published, case: int) -> None:
    assert torch.equal(_draws(published, case).noise, published.tensors[f"{case}.noise"])


@pytest.mark.parametrize("case", CASES)
def test_the_condition_is_the_published_one(published: Published, case: int) -> None:
    assert (_condition(published, case) - published.tensors[f"{case}.conditioning"]).abs().max() <= 1e-5


@pytest.mark.parametrize("case", CASES)
def test_every_steps_latents_and_the_picture_are_the_published_ones(
    published: Published, words: sampling.Text, case: int
) -> None:
    seen: list[torch.Tensor] = []
    last = _latents(published, words, case, seen.append)
    for step, latents in enumerate([*seen[1:], last]):
        expected = published.tensors[f"{case}.latents_after_{step}"]
        assert (latents - expected).abs().max() <= 1e-5 * expected.abs().max(), step
    with torch.inference_mode():
        picture = sampling.decode(published.vae, last)
    expected_picture = published.pictures[f"image_{case}"]
    if expected_picture.dtype == np.uint8:
        assert np.abs(sampling.to_uint8(picture)[0].astype(int) - expected_picture).max() <= 1
    else:
        assert np.abs(picture[0].permute(1, 2, 0).numpy() - expected_picture).max() <= 1e-4


@pytest.mark.parametrize("steps", [4, 10, 20])
def test_the_schedule_is_the_published_one(published: Published, steps: int) -> None:
    stored = _read(published.golden / "06_sd_pipeline_scheduler_config.json")
    scheduler = sampling.unipc(stored["source_sd15_pndm"])
    assert sampling.timesteps_for(scheduler, steps).tolist() == published.manifest[f"timesteps_{steps}"]
    assert sampling.started(scheduler, steps).sigmas.tolist() == pytest.approx(
        published.manifest[f"sigmas_{steps}"], rel=1e-6
    )
    for made in (scheduler, sampling.unipc()):
        for name, value in stored["UniPC"].items():
            if name in made.config and not name.startswith("_"):
                assert made.config[name] == value, name


def test_the_pixart_schedule_is_the_published_one(shared_dir: Path) -> None:
    stored = _read(shared_dir / "golden" / "11_pixart_pipeline_scheduler_config.json")
    for made in (sampling.dpm_solver(stored), sampling.dpm_solver()):
        for name, value in stored.items():
            if not name.startswith("_") and name != "lambda_min_clipped":
                assert made.config[name] == value, name
    expected = [999, 899, 799, 699, 599, 500, 400, 300, 200, 100]
    assert sampling.timesteps_for(sampling.dpm_solver(), 10).tolist() == expected


def test_cached_embeddings_serve_without_any_text_encoder(
    published: Published, base_model: Path, tmp_path: Path
) -> None:
    first = text.text_for("sd", tmp_path, encoder=base_model)
    alone = text.text_for("sd", tmp_path)
    (file,) = tmp_path.iterdir()
    by_file = text.text_for("sd", file)
    for found in (alone, by_file):
        assert torch.equal(found.positive, first.positive)
        assert torch.equal(found.negative, first.negative)
        assert found.positive_mask is None
