"""The recipe of `incontext`: pages made up for it, and that it learns, resumes and exports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from colorizer.backends.incontext.network import FILES, Network
from serving.errors import Cancelled
from tests.unit.test_incontext import TINY, picture
from training.incontext import recipe
from training.incontext.data import BIG, SMALL, Maker, Odds, crop, divide, fitted, turned
from training.incontext.recipe import Settings, kin_of, train
from training.options import Options
from training.runs import read_curve
from training.stories import read_stories

SETTINGS = Settings(size=TINY, pages=3, held=0.0, rate=4e-3, warmup=5, average=0.9)


def paint_by_tone(seed: int) -> np.ndarray:
    """Blocks of four colours, each of a luma of its own: what colours a page can be learned from any other."""
    colours = np.array([[120, 20, 20], [40, 120, 60], [110, 140, 220], [240, 210, 120]], np.uint8)
    return colours[np.random.default_rng(seed).integers(0, 4, (6, 5)).repeat(20, 0).repeat(20, 1)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stories")
    entries = []
    for story in range(2):
        for page in range(4):
            file = f"s{story}p{page}.png"
            Image.fromarray(paint_by_tone(10 * story + page)).save(folder / file)
            by = f'"T{story}", illustrated by One Hand, Somewhere, CC BY'
            entries.append(
                {
                    "file": file,
                    "series": "s",
                    "episode": str(story),
                    "page": page,
                    "licence": "CC-BY",
                    "attribution": by,
                }
            )
    (folder / "manifest.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def maker() -> Maker:
    stories = [[picture(10 * s + p, 120, 100) for p in range(8)] for s in range(3)]
    return Maker(stories, [[0, 1], [0, 1], [2]])


def test_a_group_is_the_same_whoever_makes_it_and_differs_by_number(maker):
    one, same, other = maker.group(1, 5), maker.group(1, 5), maker.group(1, 6)
    np.testing.assert_array_equal(one.looks, same.looks)
    np.testing.assert_array_equal(one.seen, same.seen)
    assert one.looks.shape != other.looks.shape or not np.array_equal(one.looks, other.looks)


def test_no_page_is_its_own_reference(maker):
    for number in range(30):
        group = maker.group(0, number)
        assert not np.diagonal(group.seen).any()
        assert group.looks.shape[-2:] in SMALL
        assert np.abs(group.chroma).max() <= 255 / 128 + 1e-3
    assert maker.group(0, 0, BIG).looks.shape[-2:] in BIG


def test_some_groups_are_printed_and_some_have_strangers(maker):
    groups = [maker.group(0, number) for number in range(40)]
    assert 0 < sum(g.targets is not None for g in groups) < 20
    printed = next(g for g in groups if g.targets is not None)
    assert not np.array_equal(printed.targets, printed.looks[: len(printed.targets)])
    assert any(len(g.looks) > len(g.seen) for g in groups if g.targets is None)
    assert any(not row.any() for g in groups for row in g.seen)


def test_pages_without_chance_in_their_colours_show_the_stories_own():
    plain = Odds(turned=0.0, lit=0.0, degraded=0.0, foreign=0.0, lettered=0.0)
    red = np.zeros((100, 100, 3), np.uint8) + np.array([180, 60, 60], np.uint8)
    group = Maker([[red] * 6], [[0]], plain).group(0, 1)
    drawn = group.drawn[:, 0] > 0
    assert (group.chroma[:, 1][drawn] > 0.2).mean() > 0.95


def test_crops_have_the_size_asked_for():
    rng = np.random.default_rng(0)
    for size in ((40, 200), (200, 40), (64, 64)):
        assert crop(picture(1, 90, 300), size, rng).shape == (*size, 3)


def test_panels_do_not_overlap():
    rng = np.random.default_rng(0)
    for parts in range(1, 7):
        taken = np.zeros((240, 176), int)
        for y0, x0, y1, x1 in divide((4, 4, 236, 172), parts, 5, rng):
            assert y1 > y0
            assert x1 > x0
            taken[y0:y1, x0:x1] += 1
        assert taken.max() == 1


def test_turned_hues_keep_their_size_and_fitted_ones_their_hue():
    chroma = np.random.default_rng(0).normal(0, 0.5, (2, 8, 8)).astype(np.float32)
    out = turned(chroma, 1.0, mirrored=True, gain=1.0)
    np.testing.assert_allclose(np.hypot(*out), np.hypot(*chroma), rtol=1e-5)
    luma = np.full((8, 8), 100, np.float32)
    small = fitted(luma, 10 * chroma)
    np.testing.assert_allclose(np.arctan2(*small), np.arctan2(*chroma), atol=1e-4)
    green = -(0.299 * small[1] + 0.114 * small[0]) / 0.587
    for channel in (small[0], small[1], green):
        assert (luma + 128 * channel > -0.5).all()
        assert (luma + 128 * channel < 255.5).all()


def test_stories_by_one_hand_are_kin(data):
    assert kin_of(read_stories(data)) == [[0, 1], [0, 1]]


def test_the_recipe_learns_a_tiny_set_and_its_export_runs(data, tmp_path):
    plain = Odds(turned=0.0, lit=0.0, degraded=0.0, foreign=0.0, none=0.0, strangers=0.0, dropped=0.0, lettered=0.0)
    folder = train(Options(data, tmp_path, steps=80, seed=3), replace(SETTINGS, odds=plain, rate=8e-3))
    first, *_, last = [line["squared"] for line in read_curve(tmp_path / "curve.jsonl")]
    assert last < 0.6 * first
    assert {*FILES, "sums.json"} <= {path.name for path in folder.iterdir()}
    chroma, sure = Network(folder).paint(np.zeros((11, 48, 32), np.float32), [])
    assert chroma.shape == (24, 16, 2)
    assert sure.shape == (6, 4)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(data, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "_LOGGED", 2)
    straight = train(Options(data, tmp_path / "a", steps=6), SETTINGS)

    def stop(report):
        if report.step == 4:
            raise Cancelled("enough", reason="TRAINING_STOPPED")

    with pytest.raises(Cancelled):
        train(Options(data, tmp_path / "b", steps=6, report=stop), SETTINGS)
    resumed = train(Options(data, tmp_path / "b", steps=6), SETTINGS)
    assert (resumed / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


def test_training_leaves_the_average_of_the_weights(data, tmp_path):
    teacher = recipe._Teacher(SETTINGS, torch.device("cpu"), 0)
    before = {k: v.clone() for k, v in teacher.averaged().state_dict().items()}
    group = Maker([[picture(p, 120, 100) for p in range(6)]], [[0]], pages=3).group(0, 0)
    teacher.step(group, 0, 0.0, torch.Generator().manual_seed(0))
    moved = teacher.averaged().state_dict()
    assert any(not torch.equal(before[k], moved[k]) for k in before)
    assert not torch.equal(teacher.net.state_dict()["encoder.stem.weight"], moved["encoder.stem.weight"])
