"""Chroma at a fixed luma."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from colorizer import outcome
from colorizer.luma import chroma_of, luma_of, with_luma

pages = arrays(np.uint8, (5, 7))
extreme = st.sampled_from([0.0, 1e-30, 0.5, -0.5, 255.0, -255.0, 1e6, -1e6, float("inf"), float("-inf"), float("nan")])
chromas = arrays(np.float32, (5, 7, 2), elements=st.floats(-400, 400, width=32) | extreme.map(np.float32).map(float))


def pil_luma(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).convert("L"))


@given(arrays(np.uint8, (5, 7, 3)))
def test_luma_of_is_what_pillow_makes(rgb: np.ndarray) -> None:
    assert np.array_equal(luma_of(rgb), pil_luma(rgb))


@given(pages, chromas)
def test_every_chroma_leaves_the_luma_as_it_was(page: np.ndarray, chroma: np.ndarray) -> None:
    assert np.array_equal(pil_luma(with_luma(page, chroma)), page)


@pytest.mark.parametrize("strength", [1.0, 40.0, 400.0])
def test_every_luma_is_kept_under_every_hue(strength: float) -> None:
    page = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 720, axis=1)
    angle = np.linspace(0, 2 * np.pi, 720)
    chroma = np.broadcast_to(strength * np.stack([np.cos(angle), np.sin(angle)], axis=-1), (256, 720, 2))
    assert np.array_equal(pil_luma(with_luma(page, chroma)), page)


@pytest.mark.parametrize("level", [0, 255])
def test_black_or_white_has_no_colour(level: int) -> None:
    rgb = with_luma(np.full((4, 4), level, np.uint8), np.full((4, 4, 2), 120.0))
    assert np.array_equal(rgb, np.full((4, 4, 3), level))


@given(arrays(np.uint8, (5, 7, 3)))
def test_a_colour_taken_apart_comes_together_again(rgb: np.ndarray) -> None:
    back = with_luma(luma_of(rgb), chroma_of(rgb))
    assert np.abs(back.astype(int) - rgb).max() <= 5  # half a step of luma is 4.4 steps of blue


def test_chroma_out_of_gamut_keeps_its_hue() -> None:
    wanted = np.full((1, 1, 2), (200.0, 100.0))
    got = chroma_of(with_luma(np.full((1, 1), 128, np.uint8), wanted))[0, 0]
    assert got[0] / got[1] == pytest.approx(2.0, abs=0.05)


def test_the_inputs_are_not_changed() -> None:
    page, chroma = np.full((3, 3), 90, np.uint8), np.full((3, 3, 2), 50.0)
    before = page.copy(), chroma.copy()
    with_luma(page, chroma)
    assert np.array_equal(page, before[0])
    assert np.array_equal(chroma, before[1])


@pytest.mark.parametrize("strip", [1, 7, 35, 1000])
def test_a_page_is_repaired_in_strips_as_in_one(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (5, 7, 3), np.uint8)
    grey = rng.integers(0, 256, (5, 7), np.uint8)
    monkeypatch.setattr(outcome, "_STRIP", strip)
    assert np.array_equal(outcome.repaired(rgb, grey), with_luma(grey, chroma_of(rgb)))
    assert outcome.repaired(rgb, luma_of(rgb)) is rgb
