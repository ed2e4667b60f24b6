"""Line extraction and the two sketch styles against the published method (fixture 03)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)

import torch

from colorizer.backends.colorflow.fit import fit, refined_size
from colorizer.backends.colorflow.lines import LineNet, extract_lines, shade
from tests.unit.test_patches import manifest

FLOAT_TOLERANCE = 1e-3  # of values up to 300
PIXEL_TOLERANCE = 1  # of 255

NamedArray = Callable[[str, tuple[int, ...]], np.ndarray]


def named_array_of(shared_dir: Path) -> NamedArray:
    """The fixtures' recipe that makes weights from their names."""
    spec = importlib.util.spec_from_file_location("golden_recipe", shared_dir / "golden" / "recipe.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return recipe.named_array


def listed_keys(shared_dir: Path, name: str) -> dict[str, str]:
    """Keys and shapes of a published state dict, in the order of the list."""
    lines = (shared_dir / "KEYS" / f"{name}.txt").read_text().splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))


def keys_of(net: torch.nn.Module) -> dict[str, str]:
    return {key: "x".join(map(str, value.shape)) or "scalar" for key, value in net.state_dict().items()}


@pytest.fixture(scope="module")
def net(shared_dir: Path) -> LineNet:
    named_array, last = named_array_of(shared_dir), manifest(shared_dir, "03_line_extraction")["final_conv"]
    with torch.device("meta"):
        net = LineNet()
    state = {key: torch.from_numpy(named_array(key, tuple(v.shape))) for key, v in net.state_dict().items()}
    state["conv15.model.2.weight"] *= last["weight_scale"]
    state["conv15.model.2.bias"][:] = last["bias"]
    net.load_state_dict(state, assign=True)
    return net.requires_grad_(False)


@pytest.fixture(scope="module")
def arrays(shared_dir: Path) -> Any:
    return np.load(shared_dir / "golden" / "03_line_extraction.npz")


def assert_pixels(actual: np.ndarray, published: np.ndarray) -> None:
    assert actual.shape == published.shape
    assert np.abs(actual.astype(int) - published).max() <= PIXEL_TOLERANCE


def test_the_line_network_has_the_published_keys(shared_dir: Path):
    with torch.device("meta"):
        net = LineNet()
    assert keys_of(net) == listed_keys(shared_dir, "res_skip_erika")
    assert sum(p.numel() for p in net.parameters()) == manifest(shared_dir, "03_line_extraction")["n_params"]


@pytest.mark.parametrize("number", range(3))
def test_the_network_draws_as_published(number: int, net: LineNet, arrays: Any):
    with torch.inference_mode():
        drawn = net(torch.from_numpy(arrays[f"x_{number}"]))
    np.testing.assert_allclose(drawn.numpy(), arrays[f"y_{number}"], rtol=0, atol=FLOAT_TOLERANCE)


@pytest.mark.parametrize("number", range(3))
def test_lines_of_a_picture_of_any_size_are_the_published_ones(number: int, net: LineNet, arrays: Any):
    grey = np.asarray(Image.fromarray(arrays[f"pic_{number}"]).convert("L"))
    assert_pixels(extract_lines(net, grey), arrays[f"lines_{number}"])


@pytest.mark.parametrize("number", range(4))
def test_both_sketch_styles_prepare_a_page_as_published(number: int, net: LineNet, arrays: Any, shared_dir: Path):
    case = manifest(shared_dir, "03_line_extraction")["extract_line_image_cases"][number]
    page = fit(Image.fromarray(arrays[f"eli_{number}_in"]), refined_size(tuple(case["target"])))
    grey = np.asarray(page.convert("L"))
    lines = extract_lines(net, grey)
    context = shade(grey, lines) if case["style"] == "Sketch_Shading" else lines
    for name, actual in (("context", context), ("vae", lines)):
        assert_pixels(np.repeat(actual[..., None], 3, axis=2), arrays[f"eli_{number}_{name}"])
