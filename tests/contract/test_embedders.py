"""One suite for every embedder, weight-free or with weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from retrieval.embed import EMBEDDERS, Embedder, EmbedderSettings, create_embedder
from retrieval.embed.space import grey_twin
from retrieval.patches import CropRecipe, cut_page, cut_reference
from serving.errors import InvalidInput

WIDTH, LAYERS, HEADS, PATCH, IMAGE, DIM = 32, 2, 4, 16, 64, 24
LENGTH_TOLERANCE = 1e-5  # of a unit vector in float32
BATCH_TOLERANCE = 1e-5  # of a vector alone and in a batch
# of a patch in its page and the same patch cut out
ALONE_COSINE = {"structure": 0.95, "patchnet": 0.95, "open_clip": 0.9999}


def draw_page(seed: int, width: int = 180, height: int = 250) -> np.ndarray:
    """A page of four panels with coloured shapes and dark outlines."""
    rng = np.random.default_rng(seed)
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    middle = int(height * rng.uniform(0.3, 0.7)), int(width * rng.uniform(0.3, 0.7))
    for y0, y1 in ((4, middle[0]), (middle[0] + 4, height - 4)):
        for x0, x1 in ((4, middle[1]), (middle[1] + 4, width - 4)):
            pen.rectangle((x0, y0, x1, y1), tuple(int(v) for v in rng.integers(90, 255, 3)), "black", 2)
            for _ in range(4):
                x, y, r = rng.uniform(x0, x1), rng.uniform(y0, y1), rng.uniform(6, 30)
                shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
                box = (max(x - r, x0), max(y - r, y0), min(x + r, x1), min(y + r * rng.uniform(0.4, 1), y1))
                if box[2] > box[0] and box[3] > box[1]:
                    shape(box, tuple(int(v) for v in rng.integers(0, 255, 3)), "black", 2)
    return np.asarray(page)


def write_tiny_clip(folder: Path) -> Path:
    """A CLIP image tower of random weights, as transformers would save it."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    shapes = {
        "vision_model.embeddings.class_embedding": (WIDTH,),
        "vision_model.embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        "vision_model.embeddings.position_embedding.weight": ((IMAGE // PATCH) ** 2 + 1, WIDTH),
        "visual_projection.weight": (DIM, WIDTH),
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    for layer in range(LAYERS):
        at = f"encoder.layers.{layer}"
        norms += [f"{at}.layer_norm1", f"{at}.layer_norm2"]
        linear = {f"self_attn.{p}_proj": (WIDTH, WIDTH) for p in ("q", "k", "v", "out")}
        linear |= {"mlp.fc1": (2 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 2 * WIDTH)}
        for name, shape in linear.items():
            shapes |= {f"vision_model.{at}.{name}.weight": shape, f"vision_model.{at}.{name}.bias": shape[:1]}
    state = {n: rng.normal(0, s[-1] ** -0.5 if len(s) > 1 else 0.1, s).astype(np.float32) for n, s in shapes.items()}
    for name in norms:
        state[f"vision_model.{name}.weight"] = np.ones(WIDTH, np.float32)
        state[f"vision_model.{name}.bias"] = np.zeros(WIDTH, np.float32)
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    config = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * WIDTH,
        "patch_size": PATCH,
        "image_size": IMAGE,
        "projection_dim": DIM,
        "hidden_act": "quick_gelu",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


Make = Callable[..., Embedder]


@pytest.fixture(scope="module", params=sorted(EMBEDDERS))
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes the embedder under test, with the settings that are given."""
    settings = EmbedderSettings()
    if request.param == "open_clip":
        pytest.importorskip("open_clip", reason="the extra panelhue[clip] is not installed", exc_type=ImportError)
        settings = replace(
            settings, weights=write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny"), device="cpu", batch=3
        )
    return lambda **changed: create_embedder(request.param, replace(settings, **changed))


@pytest.fixture(scope="module")
def embedder(make: Make) -> Iterator[Embedder]:
    made = make()
    yield made
    made.close()


def name_of(embedder: Embedder) -> str:
    return next(name for name in EMBEDDERS if embedder.space.model.startswith(name))


def test_it_meets_the_protocol(embedder: Embedder):
    assert isinstance(embedder, Embedder)


def test_patches_of_any_size_become_unit_rows(embedder: Embedder):
    pictures = [draw_page(1)[:h, :w] for h, w in ((250, 180), (16, 16), (20, 180), (250, 17))]
    rows = embedder.embed(pictures)
    assert rows.shape == (len(pictures), embedder.space.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=LENGTH_TOLERANCE)


def test_pages_give_four_unit_rows_each(embedder: Embedder):
    rows = embedder.embed_pages([draw_page(1), draw_page(2, 90, 300)])
    assert rows.shape == (2, 4, embedder.space.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=2), 1, atol=LENGTH_TOLERANCE)


def test_references_give_five_unit_rows_each(embedder: Embedder):
    rows = embedder.embed_references([draw_page(1), draw_page(2, 90, 300)])
    assert rows.shape == (2, 5, embedder.space.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=2), 1, atol=LENGTH_TOLERANCE)


@pytest.mark.parametrize(("method", "shape"), [("embed", (0,)), ("embed_pages", (0, 4)), ("embed_references", (0, 5))])
def test_no_pictures_give_no_rows(embedder: Embedder, method: str, shape: tuple[int, ...]):
    assert getattr(embedder, method)([]).shape == (*shape, embedder.space.dim)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_empty_picture_gives_unit_rows(embedder: Embedder, value: int):
    rows = embedder.embed_references([np.full((60, 50, 3), value, np.uint8)])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=2), 1, atol=LENGTH_TOLERANCE)


def test_the_same_pictures_give_the_same_bits(embedder: Embedder):
    pages = [draw_page(n) for n in range(3)]
    np.testing.assert_array_equal(embedder.embed_references(pages), embedder.embed_references(pages))


def test_another_instance_gives_the_same_bits_in_the_same_space(embedder: Embedder, make: Make):
    other = make()
    assert other.space.id == embedder.space.id
    np.testing.assert_array_equal(other.embed_pages([draw_page(1)]), embedder.embed_pages([draw_page(1)]))
    other.close()


def test_a_batch_gives_what_its_pages_give_alone(embedder: Embedder):
    pages = [draw_page(n) for n in range(3)]
    alone = np.concatenate([embedder.embed_pages([page]) for page in pages])
    np.testing.assert_allclose(embedder.embed_pages(pages), alone, atol=BATCH_TOLERANCE)


def test_inputs_are_left_as_they_were(embedder: Embedder):
    page = draw_page(1).copy()
    kept = page.copy()
    embedder.embed([page])
    embedder.embed_pages([page])
    embedder.embed_references([page])
    np.testing.assert_array_equal(page, kept)


def test_the_colour_of_a_page_does_not_matter(embedder: Embedder):
    page = draw_page(1)
    np.testing.assert_array_equal(embedder.embed_pages([page]), embedder.embed_pages([grey_twin(page)]))


def test_with_the_grey_twin_the_colour_of_a_reference_does_not_matter(embedder: Embedder):
    page = draw_page(1)
    np.testing.assert_array_equal(embedder.embed_references([page]), embedder.embed_references([grey_twin(page)]))


def test_a_space_without_the_grey_twin_is_another_space(embedder: Embedder, make: Make):
    other = make(grey_twin=False)
    assert other.space.id != embedder.space.id
    assert not other.space.grey_twin
    other.close()


def test_a_page_finds_the_same_corner_of_its_own_reference_first(embedder: Embedder):
    pages = [draw_page(n) for n in range(8)]
    pool = embedder.embed_references(pages).reshape(-1, embedder.space.dim)
    best = (embedder.embed_pages(pages).reshape(-1, embedder.space.dim) @ pool.T).argmax(1).reshape(len(pages), 4)
    np.testing.assert_array_equal(best, 5 * np.arange(len(pages))[:, None] + [1, 2, 3, 4])


def test_a_patch_embedded_alone_is_close_to_the_same_patch_in_its_page(embedder: Embedder):
    page = draw_page(3, 240, 330)
    within = embedder.embed_pages([page])[0]
    alone = embedder.embed(cut_page(grey_twin(page), CropRecipe()).pixels)
    assert (within * alone).sum(1).min() > ALONE_COSINE[name_of(embedder)]


def test_the_fit_recipe_embeds_the_fitted_picture(make: Make):
    fitted = make(crop_recipe="fit:96x128")
    native = make()
    reference = draw_page(4, 260, 200)
    brought = cut_reference(reference, CropRecipe.parse("fit:96x128")).picture
    assert fitted.space.crop_recipe == "fit:96x128"
    assert fitted.space.id != native.space.id
    np.testing.assert_array_equal(fitted.embed_references([reference]), native.embed_references([brought]))


@pytest.mark.parametrize("method", ["embed", "embed_pages", "embed_references"])
def test_a_picture_below_sixteen_pixels_is_refused(embedder: Embedder, method: str):
    with pytest.raises(InvalidInput, match="got 40 x 15"):
        getattr(embedder, method)([draw_page(1), np.zeros((15, 40, 3), np.uint8)])


def test_closing_twice_is_allowed(make: Make):
    made = make()
    made.close()
    made.close()
