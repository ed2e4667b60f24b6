"""The parts of `exemplar`: panels, references, forest, palette, trust, propagation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from colorizer.assembly import AREA, assemble, by_reference, working_size
from colorizer.backends.exemplar import calibrate, forest, palette, ridge, stack
from colorizer.backends.exemplar.features import describe
from colorizer.enlarging import enlarge
from colorizer.guidance.smoothing import smooth
from colorizer.panels import panel_boxes
from colorizer.types import Hit
from serving.geometry import Box, reference_boxes


def test_panels_are_found_between_white_gutters() -> None:
    page = np.full((200, 150), 255, np.float32)
    boxes = [Box(10, 10, 140, 90), Box(10, 100, 70, 190), Box(80, 100, 140, 190)]
    for b in boxes:
        page[b.y0 : b.y1, b.x0 : b.x1] = 120
    assert panel_boxes(page) == boxes


def test_panels_are_found_between_black_gutters() -> None:
    page = np.zeros((200, 100), np.float32)
    page[5:95, 5:95], page[105:195, 5:95] = 120, 180
    assert panel_boxes(page) == [Box(5, 5, 95, 95), Box(5, 105, 95, 195)]


def test_a_page_without_gutters_is_one_panel() -> None:
    assert panel_boxes(np.full((50, 40), 128, np.float32)) == [Box(0, 0, 40, 50)]


def test_an_empty_page_has_no_panel() -> None:
    assert panel_boxes(np.full((50, 40), 255, np.float32)) == []


def test_features_are_finite_on_a_hard_page() -> None:
    page = np.zeros((40, 30), np.float32)
    page[:, ::2] = 255
    assert np.isfinite(describe(page, 0.1, np.arange(page.size))).all()


def test_a_large_picture_is_matched_at_the_working_area() -> None:
    width, height = working_size(6000, 9000)
    assert width * height == pytest.approx(AREA, rel=0.01)


def test_hits_of_one_reference_come_together_again() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (80, 60, 3)).astype(np.uint8)
    boxes = reference_boxes(60, 80)
    hits = [Hit(rgb[b.y0 : b.y1, b.x0 : b.x1], 0.5, "a", b, (60, 80)) for b in boxes[1:]]
    picture, known = assemble(hits)
    assert known.all()
    assert np.array_equal(picture, rgb)


def test_the_same_box_twice_counts_once() -> None:
    hit = Hit(np.zeros((12, 12, 3), np.uint8), 0.5, "a", Box(0, 0, 12, 12), (16, 16))
    assert by_reference(((hit, hit), (hit,), (), ())) == {"a": [hit]}


def test_a_tree_learns_a_step() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((2000, 3)).astype(np.float32)
    labels = (x[:, 1] > 0.4).astype(np.int64)
    chroma = np.where(labels[:, None] > 0, (50.0, -20.0), (-30.0, 10.0))
    bins = forest.to_bins(x, forest.bin_edges(x))
    tree = forest.grow(bins, chroma, labels, 2, rng, forest.Growth(depth=3, tries=3))
    assert (forest.vote(tree, bins).argmax(axis=1) == labels).mean() > 0.97


def test_votes_of_a_leaf_add_up_to_one() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((500, 4)).astype(np.float32)
    chroma = rng.normal(0, 30, (500, 2))
    bins = forest.to_bins(x, forest.bin_edges(x))
    tree = forest.grow(bins, chroma, rng.integers(0, 5, 500), 5, rng, forest.Growth())
    assert np.allclose(tree.votes.sum(axis=1), 1, atol=1e-5)


def test_the_palette_holds_the_colours_of_the_samples() -> None:
    colours = np.array([(-40.0, 30.0), (60.0, 0.0), (0.0, -50.0)])
    centres, labels = palette.palette_of(colours.repeat(100, axis=0), 8, np.random.default_rng(0))
    assert np.allclose(centres[labels], colours.repeat(100, axis=0))


def test_agreement_is_full_for_one_colour_alone() -> None:
    votes, centres = np.eye(2, dtype=np.float32), np.array([(40.0, 30.0), (-20.0, 5.0)])
    mean, agreement = palette.decide(votes, centres, 1.2)
    assert np.allclose(mean, centres)
    assert np.allclose(agreement, 1, atol=1e-4)


def test_opposite_colours_cancel_out() -> None:
    mean, agreement = palette.decide(np.full((1, 2), 0.5, np.float32), np.array([(40.0, 30.0), (-40.0, -30.0)]), 1.2)
    assert np.allclose(mean, 0)
    assert agreement[0] < 1e-6


def test_trust_falls_where_predictions_were_wrong() -> None:
    rng = np.random.default_rng(0)
    predicted, agreement = rng.normal(0, 20, (4000, 2)), np.linspace(0, 1, 4000)
    truth = np.where(agreement[:, None] > 0.5, predicted, -predicted)
    trust = calibrate.learn(predicted, agreement, truth)
    low, high = trust(np.array([0.1, 0.9]))
    assert low < 0.4
    assert high > 0.6


def test_trust_without_evidence_is_the_fixed_one() -> None:
    nothing = np.zeros((100, 2))
    assert calibrate.learn(nothing, np.zeros(100), nothing) == calibrate.without_evidence()


BELIEF = stack.Stance((0.5, 0.5), weight=0.1, doubt=0.0, strength=1.0)


def test_the_blend_prefers_the_predictor_that_was_right() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 20, (900, 2))
    blend = stack.learn([truth, rng.normal(0, 20, (900, 2))], truth, np.arange(900) // 100, BELIEF)
    assert blend.shares[0] > 0.9
    assert blend.shares[1] < 0.1


def test_a_blend_is_never_negative() -> None:
    rng = np.random.default_rng(0)
    truth, noise = rng.normal(0, 20, (900, 2)), rng.normal(0, 20, (900, 2))
    blend = stack.learn([truth + noise, noise], truth, np.arange(900) // 100, BELIEF)  # the difference would be best
    assert min(blend.shares) == 0


def test_few_groups_leave_the_belief_nearly_as_it_was() -> None:
    truth, firm = np.random.default_rng(0).normal(0, 20, (3000, 2)), replace(BELIEF, weight=20.0)
    few, many = (stack.learn([truth, -truth], truth, np.arange(3000) % n, firm).shares[0] for n in (2, 300))
    assert few < many - 0.1


def test_a_group_counts_once_however_many_samples_it_has() -> None:
    truth = np.array([(30.0, 0.0)] * 40)
    held = [truth.copy(), truth.copy()]
    held[0][:10] = held[1][10:] = 0
    group = np.arange(40) // 10
    repeated = np.concatenate([np.arange(40), np.arange(10).repeat(50)])
    once = stack.learn(held, truth, group, BELIEF)
    often = stack.learn([h[repeated] for h in held], truth[repeated], group[repeated], BELIEF)
    assert often.shares == pytest.approx(once.shares)


def test_doubt_leaves_grey_what_groups_disagree_about() -> None:
    rng = np.random.default_rng(0)
    truth, group = rng.normal(0, 20, (800, 2)), np.arange(800) // 100
    torn = np.where(group[:, None] % 2 == 0, truth, -0.9 * truth)
    firm = replace(BELIEF, weight=10.0, doubt=1.0)
    assert stack.learn([torn, torn], truth, group, firm).strength == 0
    assert stack.learn([truth, truth], truth, group, firm).strength > 0.9


def test_a_blend_without_evidence_is_the_belief() -> None:
    nothing = np.zeros((0, 2))
    blend = stack.learn([nothing, nothing], nothing, np.zeros(0, np.int64), replace(BELIEF, strength=0.5))
    assert np.allclose(blend([np.full((1, 2), 10.0), np.full((1, 2), 30.0)]), 10)


def test_a_steady_mixture_is_grey_where_two_predictions_have_opposite_hues() -> None:
    one = np.array([[40.0, 0.0], [40.0, 0.0], [40.0, 0.0]])
    two = np.array([[40.0, 0.0], [0.0, 40.0], [-40.0, 0.0]])
    same, across, opposite = stack.steady([one, two], np.ones(3), 0.8)
    assert same == pytest.approx([32.0, 0.0], rel=0.01)
    assert across == pytest.approx([0.0, 0.0])
    assert opposite == pytest.approx([0.0, 0.0])


def test_a_steady_mixture_is_paler_where_votes_disagree() -> None:
    chroma = np.array([[30.0, -30.0], [30.0, -30.0]])
    sure, unsure = stack.steady([chroma, chroma], np.array([1.0, 0.25]), 0.8)
    assert unsure == pytest.approx(sure / 2)


def test_the_ridge_tells_dark_from_light_in_a_group_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    features = np.full((1200, 46), 100, np.float32)
    features[:, 0] = rng.integers(0, 256, 1200)
    chroma = np.where(features[:, :1] > 128, (40.0, -10.0), (-20.0, 30.0))
    told, held = ridge.predict(features, chroma, np.arange(1200) // 200, features[:50], 0)
    assert np.abs(held - chroma).mean() < 8
    assert np.abs(told - chroma[:50]).mean() < 8


def test_the_ridge_says_nothing_of_a_group_that_stands_alone() -> None:
    features = np.full((100, 46), 100, np.float32)
    _, held = ridge.predict(features, np.full((100, 2), 30.0), np.zeros(100, np.int64), features, 0)
    assert not held.any()


def test_smoothing_stops_at_an_edge() -> None:
    guide = np.full((20, 20), 100, np.float32)
    guide[:, 10:] = 200
    value = np.zeros((20, 20, 1), np.float32)
    value[:, :10] = 10
    value[5, 5] = 40
    out = smooth(guide, value, np.ones((20, 20), np.float32), 10.0, 6.0)
    assert abs(out[5, 5, 0] - 10) < 5
    assert np.abs(out[:, 10:]).max() < 0.5


def test_enlarging_keeps_colour_on_its_side_of_an_edge() -> None:
    small_guide = np.array([[50, 200], [50, 200]], np.float32)
    small = np.stack([small_guide], axis=-1)
    guide = np.full((10, 10), 50, np.uint8)
    guide[:, 7:] = 200
    out = enlarge(small, small_guide, guide, 0, 10)[..., 0]
    assert np.abs(out[2:8] - guide[2:8]).max() < 5


def test_strips_enlarge_to_the_same_picture_as_the_whole() -> None:
    rng = np.random.default_rng(0)
    small_guide = rng.random((7, 9)).astype(np.float32) * 255
    small, guide = rng.random((7, 9, 2)).astype(np.float32), rng.integers(0, 256, (23, 31)).astype(np.uint8)
    whole = enlarge(small, small_guide, guide, 0, 23)
    parts = [enlarge(small, small_guide, guide[y : y + 5], y, 23) for y in range(0, 23, 5)]
    assert np.array_equal(np.concatenate(parts), whole)
