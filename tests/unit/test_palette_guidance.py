"""The palette of a series in the colours of a page: what is drawn to it, and what stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from colorizer.guidance import apply_palette
from colorizer.guidance.smoothing import even_out
from colorizer.guidance.swatches import NEUTRAL
from colorizer.luma import chroma_of, luma_of, with_luma
from colorizer.types import Swatch

HAIR, SCARF, COAT, RAINCOAT = (206, 66, 38), (58, 158, 92), (52, 78, 140), (250, 204, 44)
PALETTE = tuple(Swatch(str(rgb), rgb) for rgb in (HAIR, SCARF, COAT, RAINCOAT))
QUICK = settings(deadline=None, max_examples=30)
STAYS = 2.0  # levels that the table's steps may move a colour that is a swatch's already
SIDE = 24
rgbs = st.tuples(*[st.integers(0, 255)] * 3)
palettes = st.lists(rgbs, max_size=8).map(lambda found: tuple(Swatch(str(i), rgb) for i, rgb in enumerate(found)))


def maps(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chroma, luma and confidence of no picture in particular."""
    rng = np.random.default_rng(seed)
    luma = rng.uniform(0, 255, (SIDE, SIDE + 5)).astype(np.float32)
    chroma = rng.normal(0, 40, (*luma.shape, 2)).astype(np.float32)
    return chroma, luma, rng.uniform(0, 1, luma.shape).astype(np.float32)


def flat(rgb: tuple[int, ...], sure: float = 0.8, side: int = SIDE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of an even ground."""
    picture = np.full((side, side, 3), rgb, np.uint8)
    return chroma_of(picture), luma_of(picture).astype(np.float32), np.full((side, side), sure, np.float32)


def moved(rgb: tuple[int, ...], sure: float = 0.8, palette: tuple[Swatch, ...] = PALETTE) -> np.ndarray:
    return apply_palette(*flat(rgb, sure), palette)[SIDE // 2, SIDE // 2]


def hue(chroma: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(chroma[1], chroma[0])))


def apart(one: float, other: float) -> float:
    return abs((one - other + 180) % 360 - 180)


@QUICK
@given(palettes, st.integers(0, 1000))
def test_there_is_no_colour_where_there_was_none(palette: tuple[Swatch, ...], seed: int) -> None:
    chroma, luma, sure = maps(seed)
    chroma[::2] = 0
    assert not apply_palette(chroma, luma, sure, palette)[::2].any()


@QUICK
@given(palettes, st.integers(0, 1000))
def test_chroma_grows_by_a_bounded_factor(palette: tuple[Swatch, ...], seed: int) -> None:
    chroma, luma, sure = maps(seed)
    out = apply_palette(chroma, luma, sure, palette)
    assert np.isfinite(out).all()
    assert (np.linalg.norm(out, axis=2) <= 1.6 * np.linalg.norm(chroma, axis=2) + 1e-3).all()


@pytest.mark.parametrize("rgb", [HAIR, SCARF, COAT, RAINCOAT])
def test_a_colour_equal_to_a_swatch_stays(rgb: tuple[int, ...]) -> None:
    assert np.abs(moved(rgb, 1.0) - flat(rgb)[0][0, 0]).max() < STAYS


@QUICK
@given(rgbs)
def test_a_colour_that_is_the_only_swatch_stays(rgb: tuple[int, int, int]) -> None:
    palette = (Swatch("it", rgb),)
    out = with_luma(luma_of(np.array([[rgb]], np.uint8)), moved(rgb, 1.0, palette)[None, None])
    assert np.abs(out.astype(int) - rgb).max() <= 2 * STAYS


@QUICK
@given(st.integers(0, 1000), palettes)
def test_luma_never_changes(seed: int, palette: tuple[Swatch, ...]) -> None:
    chroma, luma, sure = maps(seed)
    grey = luma.astype(np.uint8)
    assert np.array_equal(luma_of(with_luma(grey, apply_palette(chroma, luma, sure, palette))), grey)


@pytest.mark.parametrize("rgb", [(196, 84, 30), (210, 58, 66)])
def test_a_sure_colour_near_a_swatch_comes_nearer(rgb: tuple[int, ...]) -> None:
    wanted = hue(chroma_of(np.array([[HAIR]], np.uint8))[0, 0])
    before, after = hue(flat(rgb)[0][0, 0]), hue(moved(rgb))
    assert apart(after, wanted) < 0.8 * apart(before, wanted)


def test_two_shades_of_one_paint_keep_their_hues_alike() -> None:
    light, dark = (196, 84, 30), (120, 50, 18)
    assert apart(hue(moved(light)), hue(moved(dark))) < 3


def test_the_surer_colour_moves_further() -> None:
    rgb = (196, 84, 30)
    steps = [float(np.linalg.norm(moved(rgb, sure) - flat(rgb)[0][0, 0])) for sure in (0.0, 0.1, 0.4, 0.9)]
    assert steps[0] == 0
    assert steps == sorted(steps)
    assert steps[1] < 0.5 * steps[3]


@pytest.mark.parametrize("rgb", [(246, 244, 240), (34, 30, 36), (128, 126, 128), (200, 60, 190)])
def test_what_is_neutral_or_like_no_swatch_stays(rgb: tuple[int, ...]) -> None:
    assert np.abs(moved(rgb, 1.0) - flat(rgb)[0][0, 0]).max() < 1.5


def test_skin_stays_when_no_swatch_is_near() -> None:
    skin = (250, 212, 182)
    palette = (Swatch("coat", COAT), Swatch("scarf", SCARF))
    assert np.abs(moved(skin, 1.0, palette) - flat(skin)[0][0, 0]).max() < 1.0


@pytest.mark.parametrize("palette", [(), (Swatch("paper", (255, 255, 255)), Swatch("ink", (20, 20, 22)))])
def test_a_palette_without_colour_changes_nothing(palette: tuple[Swatch, ...]) -> None:
    chroma, luma, sure = maps(1)
    assert apply_palette(chroma, luma, sure, palette) is chroma
    assert all(np.ptp(swatch.rgb) < NEUTRAL for swatch in palette)


def test_the_order_of_the_palette_does_not_matter() -> None:
    chroma, luma, sure = maps(2)
    one, other = (apply_palette(chroma, luma, sure, palette) for palette in (PALETTE, PALETTE[::-1]))
    assert one.tobytes() == other.tobytes()


def test_the_same_input_gives_the_same_bits() -> None:
    chroma, luma, sure = maps(3)
    one, other = (apply_palette(chroma.copy(), luma.copy(), sure.copy(), PALETTE) for _ in range(2))
    assert one.tobytes() == other.tobytes()


def test_inputs_are_not_written_to() -> None:
    given_maps = maps(4)
    for array in given_maps:
        array.setflags(write=False)
    apply_palette(*given_maps, PALETTE)


@QUICK
@given(st.integers(0, 100), hnp.arrays(np.float32, (SIDE, SIDE, 2), elements=st.floats(-0.125, 0.125, width=32)))
def test_a_little_other_chroma_gives_a_little_other_result(seed: int, change: np.ndarray) -> None:
    rng = np.random.default_rng(seed)
    start = rng.integers(20, 236, 3)
    chroma, luma, sure = flat(tuple(start), 0.7)
    one, other = (apply_palette(c, luma, sure, PALETTE) for c in (chroma, chroma + change))
    assert np.abs(one - other).max() <= 12 * max(float(np.abs(change).max()), 1e-3)


def test_a_whole_ramp_of_hues_has_no_bands() -> None:
    angles = np.linspace(0, 2 * np.pi, 720)
    luma, sure = np.full((8, 8), 120, np.float32), np.full((8, 8), 0.8, np.float32)
    colours = [np.tile(np.float32([60 * np.cos(a), 60 * np.sin(a)]), (8, 8, 1)) for a in angles]
    out = np.array([apply_palette(chroma, luma, sure, PALETTE)[4, 4] for chroma in colours])
    before = np.linalg.norm(np.diff([chroma[4, 4] for chroma in colours], axis=0), axis=1)
    after = np.linalg.norm(np.diff(out, axis=0), axis=1)
    assert (after < 6 * before).all()


def test_a_region_is_decided_as_one() -> None:
    rng = np.random.default_rng(5)
    chroma, luma, sure = flat((196, 84, 30), side=64)
    noisy = chroma + rng.normal(0, 8, chroma.shape).astype(np.float32)
    out = apply_palette(noisy, luma, sure, PALETTE)
    turned = np.arctan2(out[..., 1], out[..., 0]) - np.arctan2(noisy[..., 1], noisy[..., 0])
    assert np.degrees(turned[16:48, 16:48].std()) < 1.0


def test_a_neighbour_beyond_an_outline_does_not_decide() -> None:
    picture = np.full((64, 64, 3), (196, 84, 30), np.uint8)
    picture[:, 30:34] = 10
    picture[:, 34:] = (190, 120, 160)
    sure = np.full((64, 64), 0.8, np.float32)
    both = apply_palette(chroma_of(picture), luma_of(picture).astype(np.float32), sure, PALETTE)[32, 10]
    assert np.abs(both - apply_palette(*flat((196, 84, 30), side=64), PALETTE)[32, 10]).max() < 3


def test_an_even_ground_evens_out_to_itself() -> None:
    value = np.full((2, 9, 7), 3.5, np.float32)
    guide = np.random.default_rng(0).uniform(0, 255, (9, 7)).astype(np.float32)
    assert np.allclose(even_out(value, guide, 10.0, 20.0), value)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_tiny_pictures_are_taken(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    chroma = rng.normal(0, 40, (*shape, 2)).astype(np.float32)
    out = apply_palette(chroma, np.full(shape, 120, np.float32), np.ones(shape, np.float32), PALETTE)
    assert out.shape == chroma.shape
    assert np.isfinite(out).all()
