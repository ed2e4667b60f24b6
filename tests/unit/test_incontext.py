"""The back-end `incontext`: its windows, what it sees of a page, its network on onnxruntime, and what it promises."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colorizer.assembly import working_size
from colorizer.backends.incontext import tones
from colorizer.backends.incontext.backend import FOLDER, MOST, InContext
from colorizer.backends.incontext.looks import CHANNELS, look
from colorizer.backends.incontext.network import Network
from colorizer.backends.incontext.windows import windows
from colorizer.luma import chroma_of, luma_of
from colorizer.types import Hint, Hit, Job, Swatch
from serving.errors import FailedState
from serving.geometry import Box
from training.incontext.export import export
from training.incontext.net import InContextNet, Memory, Size, weigh

WAVES = (-0.238646658, 0.383885382, 0.031109396)  # of an even grey; a change would make another model of it
TINY = Size(
    half=8, quarter=8, eighth=16, sixteenth=32, blocks=(1, 1, 1), scene=1, cross=1, heads=2, copies=2, key=8, note=5,
    ridge=8,
)  # fmt: skip


def tiny_net() -> InContextNet:
    """A network of chance whose every part has a say."""
    torch.manual_seed(0)
    net = InContextNet(TINY).eval()
    with torch.no_grad():
        for part in net.parameters():
            if not part.abs().max() > 0:
                part.normal_(0, 0.05)
            part.copy_(part.half().float())
    return net


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny_net(), tmp_path_factory.mktemp("tiny"))


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """Coloured blocks under soft light."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(30, 230, (6, 5, 3)).repeat(-(-height // 6), 0).repeat(-(-width // 5), 1)[:height, :width]
    return (blocks * np.linspace(0.7, 1.0, width)[None, :, None]).astype(np.uint8)


def hit(pixels: np.ndarray, name: str = "a", box: Box | None = None, size: tuple[int, int] | None = None) -> Hit:
    height, width = pixels.shape[:2]
    return Hit(pixels, 0.9, name, box or Box(0, 0, width, height), size or (width, height))


@given(st.integers(16, 3000), st.integers(16, 3000))
def test_windows_cover_the_page_and_overlap(width, height):
    parts = windows(width, height)
    assert parts[0].x0 == parts[0].y0 == 0
    assert (parts[-1].x1, parts[-1].y1) == (width, height)
    assert len({(p.x1 - p.x0, p.y1 - p.y0) for p in parts}) == 1
    for before, after in pairwise(parts):
        overlap = (before.y1 - after.y0) if height >= width else (before.x1 - after.x0)
        assert overlap >= 0.25 * min(width, height)
    if max(width, height) <= 2 * min(width, height):
        assert len(parts) == 1


def test_windows_fade_where_they_meet_and_nowhere_else():
    first, *_, last = windows(100, 1000)
    assert first.fading(20, 30)[0, 0] == 1
    assert first.fading(20, 30)[-1, 0] < 0.2
    assert last.fading(20, 30)[0, 0] < 0.2
    assert last.fading(20, 30)[-1, 0] == 1
    assert (first.fading(20, 30) > 0).all()


def test_a_page_is_seen_with_its_panels_tones():
    page = np.full((64, 64), 255.0, np.float32)
    page[4:28, 4:60], page[36:60, 4:60] = 50.0, 200.0
    seen = look(page)
    assert seen.shape == (CHANNELS, 64, 64)
    assert seen[6, 10, 10] == pytest.approx(50 / 255)
    assert seen[6, 50, 10] == pytest.approx(200 / 255)
    assert seen[4, 0, 0] == 0
    assert seen[4, 10, 10] == 1
    assert seen[2, 4, 10] == 0
    assert seen[2, 27, 10] == pytest.approx(1, abs=0.1)


def test_an_empty_page_is_seen_without_panels():
    assert not look(np.full((32, 48), 255.0, np.float32))[1:].any()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_exported_network_is_the_trained_one(model, count):
    net, run = tiny_net(), Network(model)
    rng = np.random.default_rng(count)

    def drawn(shape: tuple[int, ...]) -> np.ndarray:
        return rng.random(shape, np.float32)

    page = drawn((CHANNELS, 48, 64))
    refs = [
        (drawn((CHANNELS, 32 + 16 * i, 48)), drawn((2, 32 + 16 * i, 48)) - 0.5, drawn((32 + 16 * i, 48)).round())
        for i in range(count)
    ]
    chroma, sure = run.paint(page, [run.tell(*ref, np.ones(ref[2].shape, bool)) for ref in refs])
    with torch.inference_mode():
        told = [
            net.tell(net.encoder(torch.from_numpy(a)[None]), torch.from_numpy(b)[None], torch.from_numpy(c)[None, None])
            for a, b, c in refs
        ]
        s = net.size
        widths = (s.sixteenth, s.copies * s.key, s.copies * (3 + s.note))
        rows = [torch.cat([torch.zeros(1, 1, w), *(t[i] for t in told)], 1) for i, w in enumerate(widths)]
        keeps = [torch.zeros(1, r.shape[1]).index_fill(1, torch.tensor([0]), -1e4) for r in rows]
        gram = sum((t[3] for t in told), torch.zeros(1, s.ridge + 1, s.ridge + 1))
        moment = sum((t[4] for t in told), torch.zeros(1, s.ridge + 1, 2))
        sums = [torch.cat([t[i] for t in told]) if told else torch.zeros(0) for i in (3, 4, 5)]
        evidence = weigh(net, *sums)[None]
        memory = Memory(rows[0], keeps[0], rows[1], rows[2], keeps[1], net.fit(gram, moment), evidence)
        wanted, wanted_sure, *_ = net.paint(net.encoder(torch.from_numpy(page)[None]), memory)
    np.testing.assert_allclose(chroma, wanted[0].numpy().transpose(1, 2, 0) * 128, atol=2e-2)
    np.testing.assert_allclose(sure, wanted_sure[0, 0].numpy(), atol=1e-4)


def test_cells_that_no_hit_shows_say_nothing(model):
    network = Network(model)
    rng = np.random.default_rng(0)
    seen, chroma, drawn = (
        rng.random((CHANNELS, 32, 32), np.float32),
        np.zeros((2, 32, 32), np.float32),
        np.ones((32, 32), np.float32),
    )
    known = np.zeros((32, 32), bool)
    known[:16] = True
    told = network.tell(seen, chroma, drawn, known)
    assert len(told.tokens) == 2
    assert len(told.keys) == len(told.values) == 8
    assert told.gram[-1, -1] == 8


@pytest.mark.parametrize("name", ["model.safetensors", "page.onnx", "reference.onnx", "sums.json"])
def test_a_damaged_model_is_refused_by_name(model, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:-7] + b"damaged")
    with pytest.raises(FailedState, match=name) as caught:
        Network(folder)
    assert caught.value.reason == "WEIGHTS_DAMAGED"
    (folder / name).unlink()
    with pytest.raises(FailedState, match=name) as caught:
        Network(folder)
    assert caught.value.reason == "WEIGHTS_MISSING"


@pytest.mark.parametrize("penalty", ["much", None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_penalty_that_is_no_positive_number_is_refused(model, tmp_path, penalty):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    told = json.loads((folder / "sums.json").read_text())
    (folder / "sums.json").write_text(json.dumps({**told, "penalty": penalty}))
    with pytest.raises(FailedState, match="penalty must be a number above 0") as caught:
        Network(folder)
    assert caught.value.reason == "WEIGHTS_DAMAGED"


def test_weights_are_the_safetensors_file_alone(model):
    sums = json.loads((model / "sums.json").read_text())
    assert set(sums) == {"model.safetensors", "page.onnx", "reference.onnx", "penalty"}
    small = (model / "page.onnx").stat().st_size + (model / "reference.onnx").stat().st_size
    assert small < 600_000


def test_tones_that_have_one_colour_each_are_learned_from_another_picture():
    colours = np.array([[120, 20, 20], [40, 120, 60], [110, 140, 220], [240, 210, 120]], np.uint8)
    pictures = [
        colours[np.random.default_rng(seed).integers(0, 4, (8, 6)).repeat(16, 0).repeat(16, 1)] for seed in (0, 1)
    ]
    lumas = [luma_of(p).astype(np.float32) for p in pictures]
    inputs = [tones.waves(look(luma), luma) for luma in lumas]
    chroma = [np.ascontiguousarray(chroma_of(p).transpose(2, 0, 1)) for p in pictures]
    sums = tones.learn(inputs[0], chroma[0], np.ones_like(lumas[0]))
    found = tones.predict(inputs[1], [sums], (16, 12))
    true = chroma[1].reshape(2, 16, 8, 12, 8).mean((2, 4)).transpose(1, 2, 0)
    assert ((found - true) ** 2).mean() < 0.2 * (true**2).mean()
    assert not tones.predict(inputs[1], [], (16, 12)).any()
    hidden = tones.learn(inputs[0], chroma[0], np.zeros_like(lumas[0]))
    assert not tones.predict(inputs[1], [hidden], (16, 12)).any()


def test_tones_are_the_same_waves_for_ever():
    flat = np.full((16, 16), 100.0, np.float32)
    assert tones.waves(look(flat), flat)[0, :3] == pytest.approx(WAVES, abs=1e-5)


def colour(backend: InContext, page: np.ndarray, *hits: Hit, **more: object) -> np.ndarray:
    [result] = backend.colorize([Job(page, (tuple(hits), (), (), ()), **more)])  # type: ignore[arg-type]
    return result.pixels


@pytest.mark.parametrize("size", [(16, 16), (333, 250), (40, 400), (900, 120)])
def test_pages_of_any_shape_keep_their_luma(model, size):
    page = luma_of(picture(1, *size))
    out = colour(InContext(model), page, hit(picture(2, 90, 70)))
    assert out.shape == (*size, 3)
    np.testing.assert_array_equal(luma_of(out), page)


def test_the_same_page_gives_the_same_bits_whatever_came_before(model):
    page, first = luma_of(picture(1, 200, 150)), hit(picture(2, 200, 150))
    fresh, used = InContext(model), InContext(model)
    colour(used, luma_of(picture(5, 120, 160)), hit(picture(6, 100, 100), "b"))
    np.testing.assert_array_equal(colour(fresh, page, first), colour(used, page, first))
    np.testing.assert_array_equal(colour(fresh, page, first), colour(fresh, page, first))


def test_references_beyond_the_best_are_not_used(model):
    page = luma_of(picture(1, 100, 100))
    hits = tuple(hit(picture(i, 64, 64), f"r{i}") for i in range(14))
    [result] = InContext(model).colorize([Job(page, (hits, (), (), ()))])
    assert result.used is not None
    assert result.used[0].sum() == MOST
    assert result.used[0, :MOST].all()


def test_what_is_shown_of_a_reference_is_what_counts(model):
    page, whole = luma_of(picture(1, 160, 120)), picture(2, 160, 120)
    backend = InContext(model)
    part = hit(np.ascontiguousarray(whole[:120, :90]), box=Box(0, 0, 90, 120), size=(120, 160))
    assert not np.array_equal(colour(backend, page, part), colour(backend, page, hit(whole)))


def test_a_hint_shows_at_its_place(model):
    page = np.full((160, 160), 140, np.uint8)
    out = colour(InContext(model), page, hints=(Hint(80.0, 80.0, 10.0, (200, 120, 110)),))
    r, g, b = out[80, 80].astype(int)
    assert r > g + 20
    assert r > b + 20


def test_the_packages_own_model_is_sound_and_colours_what_it_has_seen():
    backend = InContext(FOLDER)
    true = picture(3, 320, 224)
    [result] = backend.colorize([Job(luma_of(true), ((hit(true),), (), (), ()))])
    grey = np.repeat(luma_of(true)[..., None], 3, 2).astype(float)
    before, after = ((x.astype(float) - true) ** 2 for x in (grey, result.pixels))
    assert after.mean() < 0.7 * before.mean()
    [palette] = backend.colorize(
        [Job(luma_of(true), ((hit(true),), (), (), ()), palette=(Swatch("x", (200, 30, 30)),))]
    )
    np.testing.assert_array_equal(luma_of(palette.pixels), luma_of(true))


def test_colouring_needs_no_torch():
    code = (
        "import sys; import colorizer.backends.incontext.backend as b; b.InContext(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_working_sizes_are_multiples_of_a_cell():
    assert working_size(992, 1401, 320 * 448, 16) == (320, 448)
    assert working_size(17, 3000, 320 * 448, 16) == (16, 3008)
