"""The registry, the space's identity and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image

from retrieval.embed import EmbeddingSpace, create_embedder
from retrieval.embed.space import grey_twin
from serving.errors import NotFound

SPACE = EmbeddingSpace("structure-v1", "", "luma", "native", 512, True)
CHANGED = {
    "model": "structure-v2",
    "weights_sha256": "0" * 64,
    "preprocessing": "luma; other",
    "crop_recipe": "fit:512x800",
    "dim": 511,
    "grey_twin": False,
}


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)


def test_an_id_is_the_same_in_every_version_of_this_program():
    assert SPACE.id == "structure-v1/27aebb760ebd4197"


@pytest.mark.parametrize("field", [f.name for f in fields(EmbeddingSpace)])
def test_a_change_of_any_field_makes_another_id(field: str):
    assert replace(SPACE, **{field: CHANGED[field]}).id != SPACE.id


def test_an_unknown_embedder_is_not_found():
    with pytest.raises(NotFound, match="one of open_clip, patchnet, structure, got 'clip'"):
        create_embedder("clip")


def test_the_default_is_weight_free():
    assert create_embedder().space.weights_sha256 == ""


def test_the_learned_one_that_comes_along_names_its_weights():
    space = create_embedder("patchnet").space
    assert space.model.startswith("patchnet")
    assert len(space.weights_sha256) == 64


def test_importing_the_embedders_loads_no_model_library():
    code = (
        "import sys, retrieval.embed as e; e.create_embedder('structure');"
        "print(sorted({'torch', 'open_clip', 'safetensors'} & set(sys.modules)))"
    )
    assert run(code).stdout.strip() == "[]"


@pytest.mark.parametrize("library", ["torch", "open_clip"])
def test_a_missing_library_names_the_extra_that_brings_it(library: str):
    code = (
        f"import sys; sys.modules['{library}'] = None\n"
        "from retrieval.embed import create_embedder\n"
        "from serving.errors import FailedState\n"
        "try: create_embedder('open_clip')\n"
        "except FailedState as failure: print(failure.reason, failure)"
    )
    answer = run(code)
    assert answer.stdout.startswith("EXTRA_MISSING"), answer.stderr
    assert "panelhue[clip]" in answer.stdout


def test_the_grey_twin_is_pillows_luma_in_three_channels():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    expected = np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))
    np.testing.assert_array_equal(grey_twin(picture), expected)


def test_the_grey_twin_of_a_grey_picture_is_itself():
    picture = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    np.testing.assert_array_equal(grey_twin(picture), picture)
