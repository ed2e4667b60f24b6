"""Printed looks for training: each does what its name says, at every size, and repeats."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from serving.colour import grey_of
from tests.unit.picture_books import page_of
from training import degrade
from training.degrade import LOOKS, SHARES

SIZES = [64, 96, 224, 336, 512]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ramp(side: int = 256) -> np.ndarray:
    """From black on the left to white on the right."""
    row = np.linspace(0, 255, side).astype(np.uint8)
    return np.repeat(np.broadcast_to(row, (side, side))[..., None], 3, axis=2)


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("side", SIZES)
def test_a_look_keeps_the_size(name, side):
    page = page_of(1, 1, side)[: side - 7]
    made = LOOKS[name](page, rng())
    assert made.dtype == np.uint8
    assert made.shape == page.shape[:2]


@pytest.mark.parametrize("name", LOOKS)
def test_the_same_draw_gives_the_same_look(name):
    page = page_of(1, 1, 96)
    np.testing.assert_array_equal(LOOKS[name](page, rng(5)), LOOKS[name](page, rng(5)))


@pytest.mark.parametrize("name", sorted(LOOKS.keys() - {"grey"}))
def test_other_draws_give_other_looks(name):
    page = page_of(1, 1, 96)
    assert len({LOOKS[name](page, rng(seed)).tobytes() for seed in range(6)}) == 6


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_leaves_the_picture_alone(name):
    page = page_of(1, 1, 96)
    LOOKS[name](page, rng())
    np.testing.assert_array_equal(page, page_of(1, 1, 96))


def test_grey_is_the_luma():
    page = page_of(2, 1, 96)
    np.testing.assert_array_equal(degrade.grey(page, rng()), grey_of(page))


def roughness(picture: np.ndarray) -> float:
    """Standard deviation within squares of 16 pixels, the mean over the middle tones."""
    value = picture.astype(float)
    mean = ndimage.uniform_filter(value, 16)
    return float(np.sqrt(np.maximum(ndimage.uniform_filter(value**2, 16) - mean**2, 0))[:, 100:156].mean())


@pytest.mark.parametrize("seed", range(8))
def test_screen_tone_is_finely_black_and_white(seed):
    assert roughness(degrade.screentone(ramp(), rng(seed))) > 40 > 10 > roughness(ramp()[..., 0])


def test_screen_tone_keeps_tones_on_average():
    made = np.mean([ndimage.uniform_filter(degrade.screentone(ramp(), rng(s)).astype(float), 32) for s in range(24)], 0)
    means = made[128, 32:-32:16]
    assert (np.diff(means) > 0).all()
    assert np.abs(means - np.arange(32, 224, 16)).max() < 40


def test_line_art_of_a_flat_picture_is_white():
    flat = np.full((96, 96, 3), (200, 120, 90), np.uint8)
    assert all(degrade.line_art(flat, rng(seed)).min() == 255 for seed in range(6))


def test_line_art_draws_the_outlines():
    page = page_of(1, 1, 128)
    outline = (page == 20).all(2)
    for seed in range(6):
        made = degrade.line_art(page, rng(seed))
        assert made[outline].mean() < made[~outline].mean() - 50


def test_a_scan_still_shows_the_page():
    page = page_of(1, 1, 128)
    for seed in range(6):
        assert np.corrcoef(degrade.scan(page, rng(seed)).ravel(), grey_of(page).ravel())[0, 1] > 0.8


def test_a_blend_lies_between_grey_and_screen_tone():
    page, grey = page_of(1, 1, 128), grey_of(page_of(1, 1, 128)).astype(float)
    away = [np.abs(degrade.blend(page, rng(seed)) - grey).mean() for seed in range(40)]
    assert min(away) < 10 < 30 < max(away)


def test_looks_are_drawn_by_their_shares(monkeypatch):
    drawn = []
    stand_ins = {name: lambda page, _rng, name=name: drawn.append(name) or page[..., 0] for name in LOOKS}
    monkeypatch.setattr(degrade, "LOOKS", stand_ins)
    generator = rng()
    for _ in range(2000):
        degrade.degrade(page_of(1, 1, 16), generator)
    for name, share in SHARES.items():
        assert abs(drawn.count(name) / 2000 - share) < 0.04


def test_shares_sum_to_one():
    assert SHARES.keys() == LOOKS.keys()
    assert sum(SHARES.values()) == pytest.approx(1)


def test_only_the_looks_asked_for_are_drawn():
    page = page_of(1, 1, 64)
    np.testing.assert_array_equal(degrade.degrade(page, rng(), {"grey": 1.0}), grey_of(page))
