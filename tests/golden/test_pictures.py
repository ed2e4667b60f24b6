"""Fit, patches, mask and canvas against the published method, exactly (fixtures 01 and 02).

The other half of 02, vectors and ranking, is held in tests/unit/test_embed_clip.py, where the ranking happens.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)

from colorizer.backends.colorflow.canvas import compose, page_mask
from colorizer.backends.colorflow.fit import fit, page_patches, reference_patches, refined_size
from tests.unit.test_patches import manifest, synth

CUTTERS = {"q": page_patches, "r": reference_patches}


def digest(picture: Image.Image) -> str:
    return hashlib.sha256(np.asarray(picture).tobytes()).hexdigest()


def picture_of(case: dict[str, Any], arrays: Any) -> Image.Image:
    if case["mode"] == "1":
        return Image.fromarray(arrays[case["input"]])
    picture = Image.frombytes(case["mode"], tuple(case["in_size"]), arrays[case["input"]].tobytes())
    if case["mode"] == "P":
        picture.putpalette(arrays["mode_P_palette"].tobytes())
    return picture


def test_fit_is_the_published_one_in_every_mode(shared_dir: Path):
    arrays = np.load(shared_dir / "golden" / "01_preprocess_process_image.npz")
    cases = manifest(shared_dir, "01_preprocess")["process_image_cases"]
    for case in cases:
        picture, target = picture_of(case, arrays), tuple(case["target"])
        np.testing.assert_array_equal(np.asarray(fit(picture, target)), arrays[case["key"]], err_msg=case["key"])
    assert len(cases) == 77


def test_patches_are_the_published_ones(shared_dir: Path):
    arrays = np.load(shared_dir / "golden" / "01_preprocess_patches.npz")
    compared = 0
    for case in manifest(shared_dir, "01_preprocess")["patch_cases"]:
        for kind, cut in CUTTERS.items():
            fitted = fit(Image.fromarray(arrays[f"{kind}_{case['i']}_in"]), tuple(case["target"]))
            expected = [key for key in arrays.files if key.startswith(f"{kind}_{case['i']}_patch_")]
            assert len(cut(fitted)) == len(expected)
            for number, patch in enumerate(cut(fitted)):
                np.testing.assert_array_equal(np.asarray(patch), arrays[f"{kind}_{case['i']}_patch_{number}"])
                compared += 1
    assert compared == sum("_patch_" in key for key in arrays.files)


def test_pictures_of_real_sizes_have_the_published_hashes(shared_dir: Path):
    wrong, compared, fitted = [], 0, Image.new("RGB", (1, 1))
    for case in manifest(shared_dir, "01_preprocess")["real_cases"]:
        target, kind = tuple(case["target"]), case["key"].rsplit("_", 1)[1]
        if kind == "vae":
            value = fitted = fit(synth(shared_dir, *case["source"]["synth"]), target)
        elif kind == "query":
            assert fitted.size == refined_size(target)
            value = fitted = fit(fitted, target)
        else:
            value = CUTTERS[kind[0]](fitted)[int(kind[2:])]
        compared += 1
        if digest(value) != case["sha256_raw_rgb"]:
            wrong.append(case["key"])
    assert compared == 99
    assert not wrong


def test_the_mask_is_the_published_one_on_every_canvas_of_multiples_of_32(shared_dir: Path):
    arrays = np.load(shared_dir / "golden" / "01_preprocess_mask.npz")
    cases = manifest(shared_dir, "01_preprocess")["mask_cases"]
    regular = [case["i"] for case in cases if not (case["canvas"][0] % 32 or case["canvas"][1] % 32)]
    assert len(regular) == 5
    for number in regular:
        published = arrays[f"mask_latent_{number}"]
        np.testing.assert_array_equal(page_mask(*published.shape)[0, 0].numpy(), published)


@pytest.mark.parametrize("number", range(7))
def test_the_canvas_is_the_published_one(number: int, shared_dir: Path):
    arrays = np.load(shared_dir / "golden" / "02_retrieval.npz")
    case = manifest(shared_dir, "02_retrieval")["cases"][number]
    target = tuple(case["target"])
    if f"query_{number}" in arrays:
        page = Image.fromarray(arrays[f"query_{number}"])
        references = [Image.fromarray(arrays[f"ref_{number}_{i}"]) for i in range(case["n_refs"])]
    else:
        page = synth(shared_dir, *case["query_synth"]).convert("L").convert("RGB")
        references = [synth(shared_dir, *size_and_seed) for size_and_seed in case["ref_synth"]]
    patches = [patch for reference in references for patch in reference_patches(fit(reference, target))]
    ranked = [[patches[index] for index in top] for top in case["top3"]]
    canvas = compose(fit(page, target), ranked)
    assert canvas.size == tuple(case["canvas_size"])
    assert digest(canvas) == case["canvas_sha256_raw_rgb"]
