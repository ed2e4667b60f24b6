"""Windows over pages of any size, their blend, and the way of a result back to the page."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from colorizer.backends.colorflow.styles import PUBLISHED_SIZES
from colorizer.backends.colorflow.tiles import (
    TileOptions,
    Window,
    blend,
    blend_weights,
    chroma_to_page,
    nearest_published,
    picture_to_page,
    plan,
    window_corners,
    working_size,
)
from colorizer.luma import chroma_of, luma_of, with_luma
from serving.errors import InvalidInput, ShapeMismatch
from serving.geometry import Box, corner_boxes

EXACT = 1e-6  # of a blend, on values of about 1
DEFAULT = TileOptions()
untimed = settings(deadline=None)
heavy = settings(max_examples=60, deadline=None)


@st.composite
def page_sizes(draw: st.DrawFn, area: int = 20_000**2) -> tuple[int, int]:
    """Pages of 16 to 20,000 pixels a side, upright or not, up to 40 times as long as wide or as `area` allows."""
    long = round(16 * (20_000 / 16) ** draw(st.floats(0, 1)))
    short = max(16, min(area // long, round(long / 40 ** draw(st.floats(0, 1)))))
    return (long, short) if draw(st.booleans()) else (short, long)


all_options = st.builds(
    TileOptions,
    area=st.integers(128 * 128, 1024 * 1600),
    multiple=st.sampled_from([32, 64, 128]),
    overlap=st.floats(0.25, 0.5),
    tall=st.floats(1.25, 4),
    wide=st.floats(1, 4),
)


def lengthwise(windows: tuple[Window, ...], page: tuple[int, int]) -> list[tuple[int, int]]:
    upright = page[1] > page[0]
    return [(w.box.y0, w.box.y1) if upright else (w.box.x0, w.box.x1) for w in windows]


@untimed
@given(page_sizes(), all_options)
@example((16, 20_000), DEFAULT)
@example((20_000, 16), DEFAULT)
@example((16, 17), TileOptions(wide=1.0))
@example((17, 16), TileOptions(wide=1.0, overlap=0.5))
def test_windows_cover_the_page_from_end_to_end(page: tuple[int, int], options: TileOptions) -> None:
    windows = plan(*page, options)
    spans = lengthwise(windows, page)
    assert (spans[0][0], spans[-1][1]) == (0, max(page))
    assert all(a < b for a, b in pairwise(start for start, _ in spans))
    upright = page[1] > page[0]
    across = {(w.box.x0, w.box.x1) if upright else (w.box.y0, w.box.y1) for w in windows}
    assert across == {(0, min(page))}


@untimed
@given(page_sizes(), all_options)
@example((16, 20_000), DEFAULT)
def test_neighbours_share_the_asked_part_of_their_length(page: tuple[int, int], options: TileOptions) -> None:
    for (_, end), (start, other_end) in pairwise(lengthwise(plan(*page, options), page)):
        assert end - start >= options.overlap * (other_end - start) - 1e-6  # the share itself is rounded


@untimed
@given(page_sizes(), all_options)
@example((16, 20_000), DEFAULT)
@example((20, 16), TileOptions(wide=1.0))
def test_every_window_is_of_ordinary_shape(page: tuple[int, int], options: TileOptions) -> None:
    limit = options.tall if page[1] > page[0] else options.wide
    windows = plan(*page, options)
    for start, end in lengthwise(windows, page):
        assert 16 <= end - start <= max(limit * min(page), min(page))
        if len(windows) > 1 and min(page) >= 64:
            assert end - start >= min(page) * limit / (2 - options.overlap) - 1


@untimed
@given(page_sizes(), all_options)
def test_windows_of_one_page_have_one_size(page: tuple[int, int], options: TileOptions) -> None:
    windows = plan(*page, options)
    assert len({(w.box.width, w.box.height, w.working) for w in windows}) == 1


@untimed
@given(page_sizes(), all_options)
@example((16, 62), DEFAULT)  # where whole pixels ask for one more than the fractions
def test_one_window_fewer_would_not_do(page: tuple[int, int], options: TileOptions) -> None:
    windows, short, long = plan(*page, options), min(page), max(page)
    longest = max(short, int(short * (options.tall if page[1] > page[0] else options.wide)))
    step = math.floor(longest * (1 - options.overlap))
    if len(windows) > 1:
        assert longest + (len(windows) - 2) * step < long


@pytest.mark.parametrize(
    ("page", "count"),
    [((992, 1401), 1), ((1401, 992), 2), ((1000, 1000), 1), ((800, 1600), 2), ((800, 20_000), 21), ((1250, 1000), 1)],
)
def test_known_shapes_get_the_windows_one_expects(page: tuple[int, int], count: int) -> None:
    assert len(plan(*page, DEFAULT)) == count


def test_a_double_spread_is_cut_into_two_upright_windows() -> None:
    left, right = plan(2000, 1400, DEFAULT)
    assert (left.box, right.box) == (Box(0, 0, 1143, 1400), Box(857, 0, 2000, 1400))
    assert left.working[1] > left.working[0]


def test_a_landscape_picture_is_one_window_when_told_so() -> None:
    (window,) = plan(2000, 1400, TileOptions(wide=1.6))
    assert window.box == Box(0, 0, 2000, 1400)


@pytest.mark.parametrize("page", [(15, 400), (400, 15), (0, 0), (-20, 50)])
@pytest.mark.parametrize("sizes", ["page", "published"])
def test_a_page_under_sixteen_pixels_is_refused(page: tuple[int, int], sizes: str) -> None:
    with pytest.raises(InvalidInput, match="at least 16 x 16"):
        plan(*page, TileOptions(sizes=sizes))  # type: ignore[arg-type]  # parametrised


@untimed
@given(page_sizes(), all_options)
def test_working_sizes_fit_the_networks(page: tuple[int, int], options: TileOptions) -> None:
    window = plan(*page, options)[0]
    assert all(side % options.multiple == 0 and side > 0 for side in window.working)
    assert all(side // 8 % 8 == 0 for side in window.canvas)  # three halvings in the UNet
    assert all(side % 8 == 0 for side in window.refined)


@untimed
@given(st.floats(1 / 1.6, 1.25), st.integers(640 * 640, 1024 * 1600))
def test_working_sizes_stretch_ordinary_pages_less_than_the_published_fit(aspect: float, area: int) -> None:
    width, height = working_size((round(1000 * aspect), 1000), TileOptions(area=area))
    assert math.exp(abs(math.log(width / height / aspect))) < 1.08
    assert 0.85 < width * height / area < 1.15


@pytest.mark.parametrize(
    ("page", "size"), [((1000, 1000), (640, 640)), ((1024, 1600), (512, 832)), ((700, 1000), (512, 768))]
)
def test_working_sizes_are_near_the_published_ones(page: tuple[int, int], size: tuple[int, int]) -> None:
    assert working_size(page, DEFAULT) == size


def test_the_published_sizes_come_out_exactly_with_multiples_of_thirty_two() -> None:
    assert [working_size(size, TileOptions(multiple=32)) for size in PUBLISHED_SIZES] == list(PUBLISHED_SIZES)


def test_the_large_area_gives_a_thousand_by_sixteen_hundred() -> None:
    assert working_size((1024, 1600), TileOptions(area=1024 * 1600)) == (1024, 1600)


def test_sizes_of_a_window_follow_from_its_working_size() -> None:
    window = Window(Box(0, 0, 10, 16), (512, 800))
    assert (window.canvas, window.refined) == ((1024, 1600), (768, 1200))


@pytest.mark.parametrize(
    ("page", "size"), [((992, 1401), (512, 800)), ((90, 100), (640, 640)), ((3000, 1000), (800, 512))]
)
def test_the_published_mode_takes_the_nearest_size(page: tuple[int, int], size: tuple[int, int]) -> None:
    assert nearest_published(page) == size
    assert plan(*page, TileOptions(sizes="published"))[0].working == size


def test_the_published_mode_crops_the_centre_of_a_page_that_does_not_fit() -> None:
    (window,) = plan(1000, 3000, TileOptions(sizes="published"))
    assert window.box == Box(0, 719, 1000, 719 + 1562)


def test_the_published_mode_stretches_a_page_that_nearly_fits() -> None:
    (window,) = plan(992, 1401, TileOptions(sizes="published"))
    assert window.box == Box(0, 0, 992, 1401)


@untimed
@given(page_sizes())
@example((16, 20_000))
def test_the_published_mode_has_an_answer_for_every_page(page: tuple[int, int]) -> None:
    (window,) = plan(*page, TileOptions(sizes="published"))
    assert 0 <= window.box.x0 < window.box.x1 <= page[0]
    assert 0 <= window.box.y0 < window.box.y1 <= page[1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlap": 0.2},
        {"overlap": 0.6},
        {"multiple": 48},
        {"multiple": 0},
        {"area": 4095},
        {"tall": 1.0},
        {"wide": 0.9},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        TileOptions(**wrong)  # type: ignore[arg-type]  # parametrised


def summed(windows: tuple[Window, ...], page: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    total, count = np.zeros(max(page)), np.zeros(max(page), int)
    for (start, end), weight in zip(lengthwise(windows, page), blend_weights(windows), strict=True):
        total[start:end] += weight
        count[start:end] += 1
    return total, count


@untimed
@given(page_sizes(), all_options)
@example((16, 20_000), DEFAULT)
@example((16, 500), TileOptions(overlap=0.5))
def test_blend_weights_sum_to_one_everywhere(page: tuple[int, int], options: TileOptions) -> None:
    total, count = summed(plan(*page, options), page)
    assert count.min() >= 1
    assert np.abs(total - 1).max() <= EXACT


@untimed
@given(page_sizes(), all_options)
@example((16, 20_000), DEFAULT)
def test_blend_weights_are_positive_throughout(page: tuple[int, int], options: TileOptions) -> None:
    windows = plan(*page, options)
    _, count = summed(windows, page)
    for (start, end), weight in zip(lengthwise(windows, page), blend_weights(windows), strict=True):
        assert weight.min() > 0
        assert np.all(weight[count[start:end] == 1] == 1)


def test_blend_weights_are_raised_cosines() -> None:
    windows = plan(800, 2000, DEFAULT)
    (_, end), (start, _) = lengthwise(windows, (800, 2000))[:2]
    at = (np.arange(start, end) + 0.5 - start) / (end - start)
    assert np.allclose(blend_weights(windows)[1][: end - start], np.sin(at * np.pi / 2) ** 2, rtol=0, atol=EXACT)


def test_blend_weights_change_smoothly() -> None:
    windows = plan(800, 5000, DEFAULT)
    for weight, (end, start) in zip(
        blend_weights(windows)[1:], [(a.box.y1, b.box.y0) for a, b in pairwise(windows)], strict=True
    ):
        assert np.abs(np.diff(weight)).max() < 1.6 / (end - start)  # pi / 2 over the overlap is the steepest place


def of_window(page: np.ndarray, window: Window) -> np.ndarray:
    box = window.box
    return page[box.y0 : box.y1, box.x0 : box.x1]


def noise(page: tuple[int, int], channels: int = 1) -> np.ndarray:
    return np.random.default_rng(page[0] + page[1]).random((page[1], page[0], channels), np.float32)


@heavy
@given(page_sizes(area=1 << 21), all_options)
@example((16, 20_000), DEFAULT)
@example((20_000, 500), DEFAULT)
@example((500, 20_000), TileOptions(overlap=0.5))
def test_an_identity_network_gives_the_page_back(page: tuple[int, int], options: TileOptions) -> None:
    windows, picture = plan(*page, options), noise(page)
    found = blend(windows, (of_window(picture, w) for w in windows), page)
    assert np.abs(found - picture).max() <= EXACT


@heavy
@given(page_sizes(area=1 << 21), st.floats(-255, 255, width=32))
@example((16, 20_000), 255.0)
def test_a_constant_network_gives_the_constant(page: tuple[int, int], value: float) -> None:
    windows = plan(*page, DEFAULT)
    results = (np.full((w.box.height, w.box.width, 2), value, np.float32) for w in windows)
    assert np.all(blend(windows, results, page) == np.float32(value))


@heavy
@given(page_sizes(area=1 << 20), all_options)
@example((16, 2000), TileOptions(overlap=0.5))
def test_a_blend_is_the_weighted_sum_of_the_results(page: tuple[int, int], options: TileOptions) -> None:
    windows = plan(*page, options)
    values = np.random.default_rng(1).random(len(windows)).astype(np.float32)
    results = [np.full((w.box.height, w.box.width, 1), v, np.float32) for w, v in zip(windows, values, strict=True)]
    wanted = np.zeros(max(page))
    for (start, end), weight, value in zip(lengthwise(windows, page), blend_weights(windows), values, strict=True):
        wanted[start:end] += weight * value
    found = blend(windows, results, page)
    along = found[:, 0, 0] if page[1] > page[0] else found[0, :, 0]
    assert np.abs(along - wanted).max() <= EXACT
    assert found.shape == (page[1], page[0], 1)
    assert np.ptp(found, axis=1 if page[1] > page[0] else 0).max() == 0


def test_a_blend_changes_no_result() -> None:
    windows = plan(40, 200, DEFAULT)
    results = [np.full((w.box.height, w.box.width, 3), i, np.float32) for i, w in enumerate(windows)]
    blend(windows, results, (40, 200))
    assert [r.min() == r.max() == i for i, r in enumerate(results)] == [True] * len(windows)


def test_a_blend_holds_one_result_at_a_time() -> None:
    windows = plan(40, 400, DEFAULT)
    made: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def results() -> Iterator[np.ndarray]:
        for window in windows:
            alive.append(sum(ref() is not None for ref in made))
            fresh = np.ones((window.box.height, window.box.width, 1), np.float32)
            made.append(weakref.ref(fresh))
            passing = [fresh]
            del fresh
            yield passing.pop()

    blend(windows, results(), (40, 400))
    assert alive == [0] * len(windows)


def test_outside_of_a_published_crop_is_what_was_asked_for() -> None:
    windows = plan(100, 300, TileOptions(sizes="published"))
    box = windows[0].box
    found = blend(windows, [np.ones((box.height, box.width, 1), np.float32)], (100, 300), outside=math.nan)
    inside = np.zeros((300, 100, 1), bool)
    inside[box.y0 : box.y1, box.x0 : box.x1] = True
    assert np.all(found[inside] == 1)
    assert np.all(np.isnan(found[~inside]))


def test_results_of_a_wrong_size_are_refused() -> None:
    windows = plan(40, 40, DEFAULT)
    with pytest.raises(ShapeMismatch, match=r"shape \(40, 40, 'c'\), got \(40, 39, 3\)"):
        blend(windows, [np.zeros((40, 39, 3), np.float32)], (40, 40))


@pytest.mark.parametrize("change", [-1, 1])
def test_results_that_are_too_few_or_too_many_are_refused(change: int) -> None:
    windows = plan(40, 200, DEFAULT)
    box = windows[0].box
    results = [np.zeros((box.height, box.width, 1), np.float32)] * (len(windows) + change)
    with pytest.raises(ShapeMismatch):
        blend(windows, results, (40, 200))


@untimed
@given(page_sizes())
def test_the_whole_page_keeps_its_corners(page: tuple[int, int]) -> None:
    assert window_corners(Box(0, 0, *page), page) == (0, 1, 2, 3)


def test_windows_of_a_strip_take_the_corners_of_their_half() -> None:
    page = (800, 4000)
    found = [window_corners(w.box, page) for w in plan(*page, DEFAULT)]
    assert found == [(0, 1, 0, 1), (0, 1, 0, 1), (2, 3, 2, 3), (2, 3, 2, 3)]


def test_the_window_in_the_middle_keeps_its_corners() -> None:
    page = (800, 20_000)
    windows = plan(*page, DEFAULT)
    assert window_corners(windows[len(windows) // 2].box, page) == (0, 1, 2, 3)


def test_windows_of_a_spread_take_the_corners_of_their_side() -> None:
    page = (2000, 1400)
    found = [window_corners(w.box, page) for w in plan(*page, DEFAULT)]
    assert found == [(0, 0, 2, 2), (1, 1, 3, 3)]


def shared_area(a: Box, b: Box) -> int:
    wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0, wide) * max(0, high)


@untimed
@given(page_sizes(), st.data())
def test_no_other_corner_of_the_page_shares_more_with_a_windows_corner(
    page: tuple[int, int], data: st.DataObject
) -> None:
    page = (page[0] // 8 * 8 + 16, page[1] // 8 * 8 + 16)  # whole quarters, so that patches are not rounded
    box = data.draw(st.sampled_from(plan(*page, DEFAULT))).box
    box = Box(box.x0, box.y0, box.x0 + box.width // 8 * 8, box.y0 + box.height // 8 * 8)
    own = [Box(c.x0 + box.x0, c.y0 + box.y0, c.x1 + box.x0, c.y1 + box.y0) for c in corner_boxes(box.width, box.height)]
    of_page = corner_boxes(*page)
    for patch, chosen in zip(own, window_corners(box, page), strict=True):
        assert shared_area(patch, of_page[chosen]) == max(shared_area(patch, other) for other in of_page)


@untimed
@given(page_sizes(), st.data())
def test_no_window_swaps_top_with_bottom_or_left_with_right(page: tuple[int, int], data: st.DataObject) -> None:
    window = data.draw(st.sampled_from(plan(*page, DEFAULT)))
    tl, tr, bl, br = window_corners(window.box, page)
    assert tl % 2 <= tr % 2
    assert bl % 2 <= br % 2
    assert tl // 2 <= bl // 2
    assert tr // 2 <= br // 2


def drawn(high: int, wide: int) -> np.ndarray:
    """Flat colours under thin black lines: what a coloured page is."""
    picture = np.empty((high, wide, 3), np.uint8)
    picture[:] = (230, 120, 60)
    picture[:, wide // 2 :] = (70, 140, 220)
    picture[::24] = picture[1::24] = 0
    picture[:, ::30] = picture[:, 1::30] = 0
    return picture


def chroma_error(picture: np.ndarray, chroma: np.ndarray) -> float:
    return float(np.abs(with_luma(luma_of(picture), chroma).astype(int) - picture).mean())


@pytest.mark.parametrize("edges", [False, True])
def test_chroma_at_its_own_size_is_unchanged(edges: bool) -> None:
    picture = drawn(60, 90)
    found = chroma_to_page(picture, (90, 60), luma_of(picture) if edges else None)
    assert np.abs(found - chroma_of(picture)).max() < 1.5  # luma is in whole steps, and slopes go up to 3 / 2


@pytest.mark.parametrize("edges", [False, True])
def test_chroma_of_a_flat_picture_is_flat_at_any_size(edges: bool) -> None:
    picture = np.full((40, 30, 3), (200, 120, 40), np.uint8)
    luma = np.random.default_rng(0).integers(0, 256, (70, 50), np.uint8) if edges else None
    found = chroma_to_page(picture, (50, 70), luma)
    assert np.abs(found - chroma_of(picture)[:1, :1]).max() < 1e-3


def test_the_pages_edges_bring_lines_closer_to_the_truth() -> None:
    picture = drawn(240, 300)
    small = picture_to_page(picture, (150, 120)).astype(np.uint8)
    plain, edged = (chroma_to_page(small, (300, 240), luma) for luma in (None, luma_of(picture)))
    assert chroma_error(picture, edged) < 0.8 * chroma_error(picture, plain)


def test_a_luma_of_another_size_is_refused() -> None:
    with pytest.raises(ShapeMismatch, match=r"\(70, 50\), got \(50, 70\)"):
        chroma_to_page(drawn(40, 30), (50, 70), np.zeros((50, 70), np.uint8))


def test_a_picture_comes_back_at_the_pages_size() -> None:
    found = picture_to_page(np.full((40, 30, 3), (200, 120, 40), np.uint8), (33, 71))
    assert found.shape == (71, 33, 3)
    assert np.all(found == np.array([200, 120, 40]))
