"""Fixture 11: the whole PixArt path, from the canvas to the decoded picture, by the code that the back-end runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from safetensors.torch import load_file

from colorizer.backends.colorflow import sampling
from colorizer.backends.colorflow.guider_pixart import PixArtGuider, resolve_alias
from colorizer.backends.colorflow.pixart import PixArtDenoiser

GUIDANCE = 4.5
CASES = (0, 1, 2)


@dataclass(frozen=True)
class Published:
    vae: Any
    denoiser: PixArtDenoiser
    schedule: dict[str, Any]
    manifest: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    pictures: dict[str, np.ndarray]


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


@pytest.fixture(scope="module")
def published(shared_dir: Path) -> Published:
    golden = shared_dir / "golden"
    transformer: Any = PixArtTransformer2DModel.from_config(_read(golden / "09_pixart_models_transformer_config.json"))
    transformer.load_state_dict(load_file(golden / "09_pixart_models_transformer_weights.safetensors"))
    guider = PixArtGuider.from_config(_read(golden / "09_pixart_models_guider_config.json"))
    guider.load_state_dict(resolve_alias(load_file(golden / "09_pixart_models_guider_weights.safetensors")))
    vae: Any = AutoencoderKL.from_config(_read(golden / "07_gsrp_vae_config.json"))
    vae.load_state_dict(load_file(golden / "07_gsrp_vae_weights.safetensors"))
    return Published(
        vae.eval().requires_grad_(False),
        PixArtDenoiser(transformer.eval().requires_grad_(False), guider),
        _read(golden / "11_pixart_pipeline_scheduler_config.json"),
        _read(golden / "11_pixart_pipeline.manifest.json"),
        load_file(golden / "11_pixart_pipeline_io.safetensors"),
        dict(np.load(golden / "11_pixart_pipeline.npz")),
    )


def _draws(published: Published, case: int) -> sampling.Draws:
    facts = published.manifest["cases"][case]
    wide, high = facts["canvas"]
    seeds = facts["generator_seed"], facts["global_rng_seed"]
    return sampling.published_draws(seeds[0], (high // 8, wide // 8), None, stream_seed=seeds[1])


def _condition(published: Published, case: int) -> torch.Tensor:
    canvas = torch.from_numpy(published.pictures[f"canvas_{case}"]).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        return sampling.encode_condition(published.vae, canvas, _draws(published, case).posterior)


def _text(published: Published, case: int) -> sampling.Text:
    stored = published.tensors
    return sampling.Text(
        stored[f"{case}.prompt_embeds"],
        stored[f"{case}.negative_prompt_embeds"],
        stored[f"{case}.prompt_mask"].bool(),
        stored[f"{case}.negative_mask"].bool(),
    )


@dataclass
class _Seen:
    """A run which keeps the latents that it is asked about."""

    run: sampling.Run
    latents: list[torch.Tensor] = field(default_factory=list)

    def noise(self, latents: torch.Tensor, index: int) -> torch.Tensor:
        self.latents.append(latents)
        return self.run.noise(latents, index)


def _sampled(published: Published, case: int) -> list[torch.Tensor]:
    """The latents after each step."""
    scheduler = sampling.dpm_solver(published.schedule)
    steps = sampling.timesteps_for(scheduler, published.manifest["cases"][case]["steps"])
    assert steps.tolist() == published.manifest["cases"][case]["timesteps"]
    with torch.inference_mode():
        run = published.denoiser.begin(_condition(published, case), 1, GUIDANCE, steps, _text(published, case))
        seen = _Seen(run)
        last = sampling.sample(seen, scheduler, _draws(published, case).noise, steps, lambda done, of: None)
    return [*seen.latents[1:], last]


@pytest.mark.parametrize("case", CASES)
def test_the_guiders_first_input_is_the_published_one(published: Published, case: int) -> None:
    noise = _draws(published, case).noise
    assert torch.equal(noise, published.tensors[f"{case}.noise"])
    found = torch.cat([noise.repeat(2, 1, 1, 1), _condition(published, case)], dim=1)
    assert (found - published.tensors[f"{case}.guider_input_step0"]).abs().max() <= 1e-5


@pytest.mark.parametrize("case", CASES)
def test_every_steps_latents_and_the_picture_are_the_published_ones(published: Published, case: int) -> None:
    after = _sampled(published, case)
    for step, latents in enumerate(after):
        expected = published.tensors[f"{case}.latents_after_{step}"]
        assert (latents - expected).abs().max() <= 1e-5 * expected.abs().max(), step
    with torch.inference_mode():
        picture = sampling.decode(published.vae, after[-1])
    expected_picture = published.pictures[f"image_{case}"]
    if expected_picture.dtype == np.uint8:
        assert np.abs(sampling.to_uint8(picture)[0].astype(int) - expected_picture).max() <= 1
    else:
        assert np.abs(picture[0].permute(1, 2, 0).numpy() - expected_picture).max() <= 1e-4


@pytest.mark.parametrize("case", CASES)
def test_the_first_steps_noise_is_that_of_the_published_halves(published: Published, case: int) -> None:
    steps = torch.tensor(published.manifest["cases"][case]["timesteps"])
    with torch.inference_mode():
        run = published.denoiser.begin(_condition(published, case), 1, GUIDANCE, steps, _text(published, case))
        found = run.noise(_draws(published, case).noise, 0)
    negative, positive = published.tensors[f"{case}.transformer_out_0"][:, :4].chunk(2)
    expected = negative + GUIDANCE * (positive - negative)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
