"""The patch encoder's recipe: what it draws, what it is told, and that it learns a tiny set by heart."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.contract.test_embedders import draw_page

torch = pytest.importorskip("torch", reason="the extra panelhue[train] is not installed")
pytest.importorskip("onnx", reason="the extra panelhue[train] is not installed")

from retrieval.embed import EmbedderSettings, create_embedder  # noqa: E402 - after the check for torch
from retrieval.embed.patchnet.network import SHIPPED, SIDE, Network  # noqa: E402 - as above
from training.options import Options  # noqa: E402 - as above
from training.patchnet.data import PATCH, Pictures, colour_distances, draw, patch_colours, read_pictures  # noqa: E402
from training.patchnet.export import SOURCE, write_model  # noqa: E402 - as above
from training.patchnet.losses import scene_loss  # noqa: E402 - as above
from training.patchnet.net import PatchNet  # noqa: E402 - as above
from training.patchnet.recipe import Learner, Settings, train  # noqa: E402 - as above
from training.stories import read_stories  # noqa: E402 - as above

TORCH_TOLERANCE = 1e-5  # of a unit row, float32: norms are folded, sums run in another order


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stories of four drawn pages."""
    folder = tmp_path_factory.mktemp("stories")
    entries = []
    for story in range(3):
        for page in range(4):
            name = f"{story}-{page}.png"
            Image.fromarray(draw_page(10 * story + page, 90, 120)).save(folder / name)
            entries.append(
                {"file": name, "series": "drawn", "episode": str(story), "page": page, "licence": "CC0-1.0"}
                | {"attribution": "drawn by the tests"}
            )
    (folder / "manifest.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def pictures(data: Path) -> Pictures:
    return read_pictures(read_stories(data))


def test_the_cache_gives_what_was_read(data: Path, pictures: Pictures, tmp_path: Path):
    for _ in range(2):
        kept = read_pictures(read_stories(data), tmp_path / "kept.npz")
        np.testing.assert_array_equal(kept.looks, pictures.looks)
        np.testing.assert_array_equal(kept.colour, pictures.colour)


def test_a_cache_of_other_pictures_is_made_anew(data: Path, pictures: Pictures, tmp_path: Path):
    stories = read_stories(data)
    read_pictures(stories[:1], tmp_path / "kept.npz")
    assert len(read_pictures(stories, tmp_path / "kept.npz").looks) == len(pictures.looks)


def test_one_seed_draws_one_batch(pictures: Pictures):
    one, two = (draw(pictures, np.random.default_rng(3), stories=3, pages=2) for _ in range(2))
    np.testing.assert_array_equal(one.queries, two.queries)
    np.testing.assert_array_equal(one.references, two.references)


def test_a_batch_has_the_pages_that_were_asked_for(pictures: Pictures):
    batch = draw(pictures, np.random.default_rng(0), stories=3, pages=2)
    assert batch.queries.shape == batch.references.shape == (6, PATCH, PATCH)
    assert sorted(batch.story) == [0, 0, 1, 1, 2, 2]


def test_a_patch_is_no_distance_from_itself(pictures: Pictures):
    colours = np.stack([patch_colours(colour) for colour in pictures.colour])
    assert np.abs(np.diag(colour_distances(colours))).max() < 1e-4


def test_the_same_tones_in_another_colour_are_apart_by_that_colour():
    blue, red = (np.full((4, 4, 3), value, np.uint8) for value in ((100, 160, 128), (100, 128, 168)))
    distances = colour_distances(np.stack([patch_colours(blue), patch_colours(red)]))
    assert distances[0, 1] == pytest.approx(np.hypot(32, 40), rel=1e-5)


def test_the_scene_loss_is_least_where_pages_of_like_colours_are_alike():
    story, near, far = torch.tensor([0, 0, 0]), 0.0, 50.0
    distances = torch.tensor([[0, near, far], [near, 0, far], [far, far, 0]])
    alike = torch.tensor([[1.0, 0], [1.0, 0], [0.0, 1]])
    unlike = torch.tensor([[1.0, 0], [0.0, 1], [1.0, 0]])
    assert scene_loss(alike, alike, story, distances) < scene_loss(unlike, unlike, story, distances)


def test_the_network_learns_a_tiny_set_by_heart(pictures: Pictures):
    torch.manual_seed(0)
    learner = Learner(3, Settings(rate=3e-3), torch.device("cpu"))
    batch = draw(pictures, np.random.default_rng(0), stories=3, pages=4)
    losses = [learner.step(batch, 0.1) for _ in range(20)]
    assert losses[-1]["place"] < 0.1 < 1 < losses[0]["place"]
    assert losses[-1]["story"] < losses[0]["story"]


def test_the_network_file_gives_what_the_network_gives(tmp_path: Path):
    torch.manual_seed(0)
    net = PatchNet().train()
    patches = np.random.default_rng(0).integers(0, 256, (3, 1, PATCH, PATCH), np.uint8)
    with torch.no_grad():
        for _ in range(3):  # running statistics that are not those of the start
            net(torch.from_numpy(patches).float())
        _, scene = net.eval()(torch.from_numpy(patches).float())
    write_model(net, tmp_path)
    np.testing.assert_allclose(Network(tmp_path)(patches[:, 0]), scene.numpy(), atol=TORCH_TOLERANCE)


def test_the_shipped_network_file_is_made_from_the_shipped_source(tmp_path: Path):
    from safetensors.torch import load_file

    net = PatchNet().eval()
    missing = net.load_state_dict(load_file(SHIPPED / SOURCE), strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
    assert missing.unexpected_keys == []
    patches = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE), np.uint8)
    with torch.inference_mode():
        _, scene = net(torch.from_numpy(patches)[:, None].float())
    np.testing.assert_allclose(Network(SHIPPED)(patches), scene.numpy(), atol=TORCH_TOLERANCE)


def test_the_recipe_writes_a_model_that_the_embedder_takes(data: Path, tmp_path: Path):
    train(Options(data, tmp_path, steps=2, device="cpu"), Settings(stories=2, pages=2))
    rows = create_embedder("patchnet", EmbedderSettings(weights=tmp_path)).embed_pages([draw_page(1)])
    assert rows.shape[:2] == (1, 4)


def test_a_learner_that_is_loaded_goes_on_as_the_saved_one_would(pictures: Pictures):
    batches = [draw(pictures, np.random.default_rng(n), stories=3, pages=2) for n in range(2)]
    first, second = (Learner(3, Settings(), torch.device("cpu")) for _ in range(2))
    first.step(batches[0], 0.1)
    second.load(copy.deepcopy(first.state()))
    assert second.step(batches[1], 0.2) == first.step(batches[1], 0.2)
