"""CLIP image towers from local files: parity with the published method, and clear refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

pytest.importorskip("open_clip", reason="the extra panelhue[clip] is not installed", exc_type=ImportError)

import torch

from retrieval.embed import EmbedderSettings, create_embedder
from retrieval.embed.clip import tensors_sha256
from retrieval.work import Form, Work, WorkBatch, WorkConfig, build
from serving.errors import FailedState, InvalidInput
from serving.images import ImageLimits
from tests.contract.test_embedders import DIM, draw_page, write_tiny_clip
from tests.unit.test_patches import manifest, synth
from tests.unit.test_retrieval_embedding import Free

PIXEL_TOLERANCE = 2e-6  # of values up to 2.7
VECTOR_TOLERANCE = {"fp32": 5e-7, "bf16": 2e-2}  # of unit vectors
RANK_GAP = 2e-6  # scores closer than this may change places


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


def load(folder: Path, **changed: object):
    return create_embedder("open_clip", EmbedderSettings(**{"weights": folder, "device": "cpu", **changed}))


def copy(tiny: Path, tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    return folder, load_file(folder / "model.safetensors")


def golden_settings(shared_dir: Path, target: list[int]) -> dict[str, object]:
    golden = shared_dir / "golden"
    return {
        "weights": golden / "02_retrieval_clip_weights.safetensors",
        "config": golden / "02_retrieval_clip_config.json",
        "crop_recipe": f"fit:{target[0]}x{target[1]}",
        "grey_twin": False,
        "device": "cpu",
    }


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def golden_pictures(shared_dir: Path, arrays: dict, case: dict) -> tuple[np.ndarray, list[np.ndarray]]:
    number = case["case"]
    if f"query_{number}" in arrays:
        return arrays[f"query_{number}"], [arrays[f"ref_{number}_{i}"] for i in range(case["n_refs"])]
    query = synth(shared_dir, *case["query_synth"]).convert("L").convert("RGB")
    return np.asarray(query), [np.asarray(synth(shared_dir, *size_and_seed)) for size_and_seed in case["ref_synth"]]


@pytest.mark.parametrize("number", range(7))
def test_vectors_equal_those_of_the_published_method(number: int, shared_dir: Path):
    arrays = np.load(shared_dir / "golden" / "02_retrieval.npz")
    case = manifest(shared_dir, "02_retrieval")["cases"][number]
    page, references = golden_pictures(shared_dir, arrays, case)
    embedder = create_embedder("open_clip", EmbedderSettings(**golden_settings(shared_dir, case["target"])))
    queries, pool = embedder.embed_pages([page])[0], embedder.embed_references(references).reshape(-1, 16)
    np.testing.assert_allclose(queries, unit(arrays[f"emb_q_{number}"]), atol=VECTOR_TOLERANCE["fp32"])
    np.testing.assert_allclose(pool, unit(arrays[f"emb_r_{number}"]), atol=VECTOR_TOLERANCE["fp32"])
    assert case["min_gap_between_ranks_1_to_4"] > RANK_GAP
    order = np.argsort(-(queries @ pool.T), axis=1, kind="stable")
    np.testing.assert_array_equal(order[:, :3], case["top3"])


def test_pixels_equal_those_of_the_published_method(shared_dir: Path):
    from retrieval.patches import CropRecipe, cut_page, cut_reference

    arrays = np.load(shared_dir / "golden" / "02_retrieval.npz")
    case = manifest(shared_dir, "02_retrieval")["cases"][1]
    embedder = create_embedder("open_clip", EmbedderSettings(**golden_settings(shared_dir, case["target"])))
    recipe = CropRecipe(tuple(case["target"]))
    query = embedder.pixels(cut_page(arrays["query_1"], recipe).pixels[0])
    reference = embedder.pixels(cut_reference(arrays["ref_1_0"], recipe).pixels[0])
    np.testing.assert_allclose(query, arrays["pixel_values_q_1_0"], atol=PIXEL_TOLERANCE)
    np.testing.assert_allclose(reference, arrays["pixel_values_r_1_0"], atol=PIXEL_TOLERANCE)


def test_without_the_grey_twin_a_reference_is_embedded_in_colour(tiny: Path):
    page = draw_page(1)
    twin, colour = load(tiny), load(tiny, grey_twin=False)
    assert np.abs(twin.embed_references([page]) - colour.embed_references([page])).max() > 0.01
    np.testing.assert_array_equal(twin.embed_pages([page]), colour.embed_pages([page]))


def test_the_same_weights_have_one_fingerprint_in_every_file_format(tiny: Path, tmp_path: Path):
    folder, state = copy(tiny, tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({n: torch.from_numpy(v) for n, v in state.items()}, folder / "pytorch_model.bin")
    assert load(folder).space == load(tiny).space


def test_changed_weights_have_another_fingerprint(tiny: Path, tmp_path: Path):
    folder, state = copy(tiny, tmp_path)
    state["visual_projection.weight"] = state["visual_projection.weight"] * np.float32(1.001)
    save_file(state, folder / "model.safetensors")
    assert load(folder).space.weights_sha256 != load(tiny).space.weights_sha256


def test_the_fingerprint_does_not_depend_on_the_stored_precision_where_the_values_agree():
    value = torch.tensor([0.5, -2.0, 1.25])
    assert tensors_sha256({"a": value}) == tensors_sha256({"a": value.half()})
    assert tensors_sha256({"a": value}) != tensors_sha256({"b": value})


def test_an_open_clip_state_dict_of_a_whole_model_gives_the_same_vectors(tiny: Path, tmp_path: Path):
    folder, _ = copy(tiny, tmp_path)
    tower = load(tiny)._tower
    state = {f"visual.{n}": v.clone() for n, v in tower.state_dict().items()} | {"transformer.text": torch.zeros(3)}
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": state}, folder / "pytorch_model.bin")
    again = load(folder)
    assert again.space.weights_sha256 == load(tiny).space.weights_sha256
    np.testing.assert_array_equal(again._tower.state_dict()["proj"], tower.state_dict()["proj"])


def test_half_precision_stays_close_to_full(tiny: Path):
    page = draw_page(1)
    low, full = load(tiny, precision="bf16"), load(tiny, precision="fp32")
    assert low.space == full.space
    np.testing.assert_allclose(low.embed([page]), full.embed([page]), atol=VECTOR_TOLERANCE["bf16"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_the_gpu_stays_close_to_the_cpu(tiny: Path):
    page = draw_page(1)
    np.testing.assert_allclose(load(tiny, device="cuda").embed([page]), load(tiny).embed([page]), atol=5e-3)


def test_a_known_architecture_takes_local_weights(tmp_path: Path):
    import open_clip

    small = {
        "embed_dim": DIM,
        "vision_cfg": {"layers": 1, "width": 32, "head_width": 16, "patch_size": 32, "image_size": 64},
    }
    (tmp_path / "panelhue-test.json").write_text(
        json.dumps({**small, "text_cfg": {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}})
    )
    open_clip.add_model_config(tmp_path / "panelhue-test.json")
    model = open_clip.create_model("panelhue-test", pretrained=None, load_weights=False)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    embedder = load(tmp_path / "w.pt", model="panelhue-test")
    with torch.inference_mode():
        pixels = torch.from_numpy(embedder.pixels(draw_page(1)))[None]
        expected = torch.nn.functional.normalize(model.encode_image(pixels), dim=-1).numpy()
    assert embedder.space.model == "open_clip:panelhue-test"
    np.testing.assert_allclose(embedder.embed([draw_page(1)]), expected, atol=VECTOR_TOLERANCE["fp32"])


def test_weights_that_do_not_fit_are_named_in_one_error(tiny: Path, tmp_path: Path):
    folder, state = copy(tiny, tmp_path)
    state["stranger"] = state.pop("vision_model.post_layernorm.bias")
    state["visual_projection.weight"] = np.zeros((DIM, 5), np.float32)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(FailedState) as caught:
        load(folder)
    text = str(caught.value)
    assert "1 missing: ln_post.bias" in text
    assert "1 left over: stranger" in text
    assert f"1 of another shape: proj (5, {DIM}) instead of (32, {DIM})" in text


def test_a_pickle_with_code_is_refused(tiny: Path, tmp_path: Path):
    folder, _ = copy(tiny, tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"a": Path("anything")}, folder / "pytorch_model.bin")
    with pytest.raises(FailedState, match="state dict"):
        load(folder)


def test_a_damaged_file_is_refused(tiny: Path, tmp_path: Path):
    folder, _ = copy(tiny, tmp_path)
    (folder / "model.safetensors").write_bytes(b"\x00" * 50)
    with pytest.raises(FailedState, match="must be a state dict"):
        load(folder)


def test_a_folder_without_weights_is_refused(tmp_path: Path):
    with pytest.raises(FailedState, match="holds none"):
        load(tmp_path)


def test_a_config_of_another_kind_of_model_is_refused(tiny: Path, tmp_path: Path):
    folder, _ = copy(tiny, tmp_path)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(FailedState, match="CLIP vision model"):
        load(folder)


@pytest.mark.parametrize(
    "changed",
    [
        {"weights": None},
        {"weights": None, "model": "ViT-B-32"},
        {"pretrained": "openai", "model": "ViT-B-32"},
        {"model": "ViT-B-32"},
        {"device": "abacus"},
        {"precision": "fp8"},
        {"batch": 0},
    ],
)
def test_settings_that_contradict_each_other_are_refused(tiny: Path, changed: dict):
    with pytest.raises(InvalidInput):
        load(tiny, **changed)


def test_a_model_that_open_clip_does_not_know_is_refused(tiny: Path):
    with pytest.raises(InvalidInput, match="knows no model 'ViT-Z'"):
        load(tiny / "model.safetensors", model="ViT-Z")


def test_hub_weights_that_cannot_be_had_are_a_failed_state():
    with pytest.raises(FailedState, match="no-such-tag"):
        create_embedder("open_clip", EmbedderSettings(model="ViT-B-32", pretrained="no-such-tag", device="cpu"))


def test_a_closed_embedder_refuses_to_embed(tiny: Path):
    embedder = load(tiny)
    embedder.close()
    with pytest.raises(FailedState, match="closed"):
        embedder.embed([draw_page(1)])


def whole_model(folder: Path, name: str):
    """A small model of random weights with both towers and open_clip's own tokenizer, and its file."""
    import open_clip

    text = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    vision = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 32, "image_size": 64}
    (folder / f"{name}.json").write_text(json.dumps({"embed_dim": DIM, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder / f"{name}.json")
    model = open_clip.create_model(name, pretrained=None, load_weights=False).eval()
    torch.save(model.state_dict(), folder / "whole.pt")
    return model, folder / "whole.pt"


def test_texts_are_embedded_by_the_text_tower_of_the_same_weights(tmp_path: Path):
    import open_clip

    model, weights = whole_model(tmp_path, "panelhue-text")
    embedder = load(weights, model="panelhue-text")
    texts = ["a girl with red hair", "a castle at night " * 20]
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer("panelhue-text")(texts)
        expected = torch.nn.functional.normalize(model.encode_text(tokens), dim=-1).numpy()
    assert embedder.has_text
    np.testing.assert_allclose(embedder.embed_texts(texts), expected, atol=VECTOR_TOLERANCE["fp32"])
    assert embedder.embed_texts([]).shape == (0, DIM)


def test_a_text_tower_leaves_the_space_as_it_is(tmp_path: Path):
    model, weights = whole_model(tmp_path, "panelhue-text-2")
    state = {name: value for name, value in model.state_dict().items() if name.startswith("visual.")}
    torch.save(state, tmp_path / "image.pt")
    alone = load(tmp_path / "image.pt", model="panelhue-text-2")
    assert not alone.has_text
    assert alone.space == load(weights, model="panelhue-text-2").space


def test_weights_without_a_text_tower_refuse_texts(tiny: Path):
    with pytest.raises(FailedState) as caught:
        load(tiny).embed_texts(["a castle"])
    assert caught.value.reason == "EMBEDDER_HAS_NO_TEXT"


def test_a_text_tower_that_lacks_tensors_is_refused(tmp_path: Path):
    model, weights = whole_model(tmp_path, "panelhue-text-3")
    state = model.state_dict()
    del state["ln_final.weight"]
    torch.save(state, weights)
    with pytest.raises(FailedState, match=r"1 missing: ln_final\.weight"):
        load(weights, model="panelhue-text-3").embed_texts(["a castle"])


def test_a_closed_embedder_refuses_texts(tmp_path: Path):
    _, weights = whole_model(tmp_path, "panelhue-text-4")
    embedder = load(weights, model="panelhue-text-4")
    embedder.close()
    with pytest.raises(FailedState, match="closed"):
        embedder.embed_texts(["a castle"])


def test_a_worker_embeds_texts(tmp_path: Path):
    _, weights = whole_model(tmp_path, "panelhue-text-5")
    form = Form("open_clip", EmbedderSettings(model="panelhue-text-5", weights=weights, device="cpu"))
    handle = build(WorkConfig({"e": form}, ImageLimits()))
    texts = ("a castle", "a boat")
    done = handle(WorkBatch(tuple(Work("text", "e", text=text) for text in texts)), Free())
    expected = load(weights, model="panelhue-text-5").embed_texts(texts)
    np.testing.assert_array_equal(np.concatenate([one.vectors for one in done]), expected)
