"""Pages and references cut into patches, as they are and as the published method fits them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval.patches import CropRecipe, cut_page, cut_reference, fit, fit_box
from serving.errors import InvalidInput
from serving.geometry import Box, corner_boxes, reference_boxes

NATIVE = CropRecipe()
EMPTY_CROP = "pi_11_2"  # 1 x 9 pixels to 80 x 51: the published method makes black of nothing; here it is refused


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def manifest(shared_dir: Path, name: str) -> dict[str, Any]:
    return json.loads((shared_dir / "golden" / f"{name}.manifest.json").read_text())


def synth(shared_dir: Path, *arguments: int, noise: int = 0) -> Image.Image:
    spec = importlib.util.spec_from_file_location("golden_recipe", shared_dir / "golden" / "recipe.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return recipe.synth(*arguments, noise=noise)


def test_a_native_page_is_cut_into_its_corners():
    page = picture(101, 77)
    patches = cut_page(page, NATIVE)
    assert patches.boxes == patches.source_boxes == corner_boxes(101, 77)
    for box, pixels in zip(patches.boxes, patches.pixels, strict=True):
        np.testing.assert_array_equal(pixels, page[box.y0 : box.y1, box.x0 : box.x1])


def test_a_native_reference_is_whole_first_and_then_its_corners():
    reference = picture(64, 80)
    patches = cut_reference(reference, NATIVE)
    assert patches.boxes == reference_boxes(64, 80)
    np.testing.assert_array_equal(patches.pixels[0], reference)


def test_native_patches_are_views_of_the_picture():
    reference = picture(64, 80)
    assert all(np.shares_memory(pixels, reference) for pixels in cut_reference(reference, NATIVE).pixels)


def test_fit_reports_boxes_in_the_pixels_of_the_original():
    patches = cut_reference(picture(300, 100), CropRecipe.parse("fit:50x50"))
    assert patches.picture.shape == (50, 50, 3)
    assert patches.source_boxes[0] == Box(100, 0, 200, 100)
    assert patches.source_boxes[4] == Box(124, 24, 196, 96)


@given(width=st.integers(16, 700), height=st.integers(16, 700), tw=st.integers(16, 90), th=st.integers(16, 90))
def test_fitted_boxes_lie_inside_the_original(width: int, height: int, tw: int, th: int):
    patches = cut_reference(np.zeros((height, width, 3), np.uint8), CropRecipe((tw, th)))
    for box in patches.source_boxes:
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height


@pytest.mark.parametrize("text", ["native", "fit:512x800", "fit:16x16"])
def test_a_recipe_reads_back_as_it_is_written(text: str):
    assert str(CropRecipe.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "Native", "fit", "fit:512", "fit:0x5", "fit:15x64", "fit:-5x64", "fit:5x 64", "fit:1e3x64"]
)
def test_a_text_that_is_no_recipe_is_refused(text: str):
    with pytest.raises(InvalidInput):
        CropRecipe.parse(text)


@pytest.mark.parametrize("shape", [(15, 100), (100, 15), (1, 1)])
def test_a_picture_too_small_for_four_corners_is_refused(shape: tuple[int, int]):
    with pytest.raises(InvalidInput, match="at least 16 x 16 pixels, got"):
        cut_page(np.zeros((*shape, 3), np.uint8), NATIVE)


def test_a_picture_far_too_thin_to_fit_is_refused():
    with pytest.raises(InvalidInput, match="leaves nothing"):
        fit_box(1000, 1, (64, 128))


def test_a_crop_that_the_published_method_leaves_empty_is_refused():
    with pytest.raises(InvalidInput, match="leaves nothing"):
        fit(Image.new("RGB", (1, 9)), (80, 51))


def test_fit_equals_the_published_method(shared_dir: Path):
    arrays = np.load(shared_dir / "golden" / "01_preprocess_process_image.npz")
    cases = manifest(shared_dir, "01_preprocess")["process_image_cases"]
    for case in cases:
        given_array = arrays[case["input"]]
        if case["mode"] == "1":
            source = Image.fromarray(given_array)
        else:
            source = Image.frombytes(case["mode"], tuple(case["in_size"]), given_array.tobytes())
        if case["mode"] == "P":
            source.putpalette(arrays["mode_P_palette"].tobytes())
        if case["key"] == EMPTY_CROP:
            continue
        np.testing.assert_array_equal(
            np.asarray(fit(source, tuple(case["target"]))), arrays[case["key"]], err_msg=case["key"]
        )
    assert len(cases) == 77


def test_patches_equal_those_of_the_published_method(shared_dir: Path):
    arrays = np.load(shared_dir / "golden" / "01_preprocess_patches.npz")
    compared = 0
    for case in manifest(shared_dir, "01_preprocess")["patch_cases"]:
        if min(case["target"]) < 16:
            continue  # more than four corners there; such pictures are refused here
        recipe = CropRecipe(tuple(case["target"]))
        for kind, cut in (("q", cut_page), ("r", cut_reference)):
            for number, pixels in enumerate(cut(arrays[f"{kind}_{case['i']}_in"], recipe).pixels):
                np.testing.assert_array_equal(pixels, arrays[f"{kind}_{case['i']}_patch_{number}"])
                compared += 1
    assert compared == 63


def test_patches_at_the_published_resolutions_equal_those_of_the_published_method(shared_dir: Path):
    digests = {}
    source: Image.Image | None = None
    for case in manifest(shared_dir, "01_preprocess")["real_cases"]:
        target, kind = tuple(case["target"]), case["key"].rsplit("_", 1)[1]
        if isinstance(case["source"], dict):
            source = fit(synth(shared_dir, *case["source"]["synth"]), target)
            value = np.asarray(source)
        elif kind == "query":
            source = fit(source, target)
            value = np.asarray(source)
        else:
            cut = cut_page if kind.startswith("q") else cut_reference
            value = cut(np.asarray(source), CropRecipe(target)).pixels[int(kind[2:])]
        digests[case["key"]] = (hashlib.sha256(value.tobytes()).hexdigest(), case["sha256_raw_rgb"])
    assert len(digests) > 60
    assert not [key for key, (actual, expected) in digests.items() if actual != expected]
