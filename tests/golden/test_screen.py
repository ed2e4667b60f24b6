"""Screen tone against the published method: small networks with stored weights (12), real widths by name (13)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)

import torch
from safetensors.torch import load_file

from colorizer.backends.colorflow.fit import fit, refined_size
from colorizer.backends.colorflow.screen import (
    ToneDecoder,
    ToneEncoder,
    padded_inputs,
    screen_tone,
    screened_page,
    tone_of,
)
from tests.golden.test_lines import assert_pixels, keys_of, listed_keys, named_array_of
from tests.unit.test_patches import manifest

TOLERANCE = 1e-4  # of values in [-1, 1]
SMALL = 4  # width of fixture 12's networks
SEEDS = (5000, 5001)  # of its two pictures

Nets = tuple[ToneEncoder, ToneDecoder]


def part(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def small(shared_dir: Path) -> Nets:
    state = load_file(shared_dir / "golden" / "12_screenvae_weights.safetensors")
    encoder, decoder = ToneEncoder(SMALL), ToneDecoder(SMALL)
    encoder.load_state_dict(part(state, "rgb2intscr."))
    decoder.load_state_dict(part(state, "dec."))
    return encoder, decoder


@pytest.fixture(scope="module")
def quiet(small: Nets) -> Nets:
    """As `small`, without the noise blocks' weights and biases, as the fixture's third mode has them."""
    decoder = ToneDecoder(SMALL)
    state = small[1].state_dict()
    decoder.load_state_dict({k: torch.zeros_like(v) if "noiseblock" in k else v for k, v in state.items()})
    return small[0], decoder


@pytest.fixture(scope="module")
def full(shared_dir: Path) -> Nets:
    named_array = named_array_of(shared_dir)
    stored = load_file(shared_dir / "golden" / "13_screenvae_full_spectral.safetensors")
    with torch.device("meta"):
        nets = ToneEncoder(), ToneDecoder()
    for net, prefix in zip(nets, ("rgb2intscr.", "dec."), strict=True):
        state = {k: torch.from_numpy(named_array(prefix + k, tuple(v.shape))) for k, v in net.state_dict().items()}
        net.load_state_dict({k: stored.get(prefix + k, v) for k, v in state.items()}, assign=True)
        net.requires_grad_(False)
    return nets


@pytest.fixture(scope="module")
def tensors(shared_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(shared_dir / "golden" / "12_screenvae_io.safetensors")


@pytest.fixture(scope="module")
def arrays(shared_dir: Path) -> Any:
    return np.load(shared_dir / "golden" / "12_screenvae.npz")


def tone(nets: Nets, rgb: np.ndarray, seed: int | None, *, dropout: bool = True) -> np.ndarray:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    drawn = tone_of(*nets, *padded_inputs(rgb, nets[0]), generator=generator, dropout=dropout)
    return drawn[..., : rgb.shape[0], : rgb.shape[1]].numpy()


def code(encoder: ToneEncoder, rgb: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        drawn = encoder(torch.cat(padded_inputs(rgb, encoder), dim=1))
    return drawn[..., : rgb.shape[0], : rgb.shape[1]].numpy()


def test_both_networks_have_the_published_keys(shared_dir: Path):
    with torch.device("meta"):
        encoder, decoder = ToneEncoder(), ToneDecoder()
    assert keys_of(encoder) == listed_keys(shared_dir, "screen_G_RGB2INTSCR")
    assert keys_of(decoder) == listed_keys(shared_dir, "screen_ScreenVAE_dec")


def test_a_page_is_padded_with_red_beside_a_white_grey_twin(small: Nets, arrays: Any):
    grey, colour = padded_inputs(arrays["pic_1"], small[0])
    np.testing.assert_array_equal(colour.numpy(), arrays["A_1"])
    np.testing.assert_array_equal(grey.numpy(), arrays["L_1"])


@pytest.mark.parametrize("number", range(2))
def test_the_screen_code_is_the_published_one(number: int, small: Nets, arrays: Any, tensors: dict):
    drawn = code(small[0], arrays[f"pic_{number}"])
    np.testing.assert_allclose(drawn, tensors[f"{number}.scr"].numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_seed_gives_the_published_tone(number: int, mode: str, small: Nets, arrays: Any, tensors: dict):
    drawn = tone(small, arrays[f"pic_{number}"], SEEDS[number], dropout=mode == "train")
    np.testing.assert_allclose(drawn, tensors[f"{number}.{mode}.fake_M2"].numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("number", range(2))
def test_without_noise_blocks_the_tone_is_the_published_one(number: int, quiet: Nets, arrays: Any, tensors: dict):
    drawn = tone(quiet, arrays[f"pic_{number}"], None)
    np.testing.assert_allclose(drawn, tensors[f"{number}.nonoise.fake_M2"].numpy(), rtol=0, atol=TOLERANCE)


def test_the_tone_in_pixels_is_the_published_one_truncated(quiet: Nets, arrays: Any, tensors: dict):
    published = (tensors["1.nonoise.fake_M2"][0, 0].numpy() + 1) / 2 * 255
    assert_pixels(screen_tone(*quiet, arrays["pic_1"]), published.astype(np.uint8))


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("mode", ["train", "nonoise"])
def test_the_grey_style_prepares_a_page_as_published(
    number: int, mode: str, small: Nets, quiet: Nets, arrays: Any, shared_dir: Path
):
    case = next(case for case in manifest(shared_dir, "12_screenvae")["cases"] if case.get("app") == number)
    page = fit(Image.fromarray(arrays[f"app_{number}_in"]), refined_size(tuple(case["target"])))
    nets, generator = (small, torch.Generator().manual_seed(case["seed"])) if mode == "train" else (quiet, None)
    blended = screened_page(*nets, np.asarray(page), generator=generator)
    assert_pixels(np.repeat(blended[..., None], 3, axis=2), arrays[f"app_{number}_{mode}"])


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_networks_of_real_width_give_the_published_tone(mode: str, full: Nets, shared_dir: Path):
    arrays = np.load(shared_dir / "golden" / "13_screenvae_full.npz")
    drawn = tone(full, arrays["pic"], manifest(shared_dir, "13_screenvae_full")["seed"], dropout=mode == "train")
    np.testing.assert_allclose(drawn, arrays[f"{mode}_fake_M2"], rtol=0, atol=TOLERANCE)


def test_the_encoder_of_real_width_gives_the_published_code(full: Nets, shared_dir: Path):
    arrays = np.load(shared_dir / "golden" / "13_screenvae_full.npz")
    np.testing.assert_allclose(code(full[0], arrays["pic"])[..., ::2, ::2], arrays["scr_s2"], rtol=0, atol=TOLERANCE)
