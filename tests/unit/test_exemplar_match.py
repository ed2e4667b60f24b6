"""Flat regions are found, matched with references, and trusted only as far as references predict each other."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from colorizer.backends.exemplar import flats, match
from colorizer.hands import Hands
from colorizer.luma import chroma_of, luma_of

ALONE = Hands(1)
INK = (20, 18, 24)
SKY, HAIR, COAT, SKIN = (110, 180, 230), (206, 66, 38), (250, 204, 44), (250, 212, 182)


def scene(shift: int, hue: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """A figure of three outlined blocks before the sky, `shift` pixels to the right; `hue` turns the channels round."""
    picture = np.full((160, 200, 3), SKY, np.uint8)
    for top, bottom, colour in ((20, 60, HAIR), (62, 90, SKIN), (92, 150, COAT)):
        picture[top - 2 : bottom + 2, 38 + shift : 82 + shift] = INK
        picture[top:bottom, 40 + shift : 80 + shift] = np.roll(colour, hue)
    return picture


def learnt(picture: UInt8[np.ndarray, "h w 3"]) -> match.Known:
    return match.learn(picture, np.ones(picture.shape[:2], bool))


def test_each_flat_region_is_found_once_and_outlines_are_none() -> None:
    found = flats.describe(luma_of(scene(0)).astype(np.float32), np.ones((160, 200), bool))
    assert len(found.luma) == 4
    assert found.label[40, 60] != found.label[75, 60] != found.label[120, 60]
    assert found.label[61, 60] == -1


def test_neighbours_across_an_outline_are_told_from_those_that_touch() -> None:
    picture = scene(0)
    picture[20:60, 60:80] = (156, 49, 32)  # the hair's side in shadow, no outline between
    found = flats.describe(luma_of(picture).astype(np.float32), np.ones((160, 200), bool))
    inked = {frozenset(pair): ink for pair, ink in zip(found.pairs.tolist(), found.inked.tolist(), strict=True)}
    lit, shadow, skin = (int(found.label[y, x]) for y, x in ((40, 50), (40, 70), (75, 50)))
    assert not inked[frozenset((lit, shadow))]
    assert inked[frozenset((lit, skin))]


def test_regions_that_come_back_elsewhere_take_their_colours() -> None:
    truth = scene(60)
    chroma, sure = match.match(
        luma_of(truth).astype(np.float32), [learnt(scene(s)) for s in (0, 20, 90)], [0, 1, 2], ALONE
    )
    for y, x in ((40, 120), (75, 120), (120, 120), (40, 20)):
        true = chroma_of(truth)[y, x]
        size, length = np.linalg.norm(chroma[y, x]), np.linalg.norm(true)
        assert float(chroma[y, x] @ true) > 0.95 * size * length
        assert 0.4 * length < size < 1.5 * length
        assert sure[y, x] > 0.15


def test_references_that_contradict_each_other_are_not_trusted() -> None:
    page = scene(60)
    same_luma = page.copy()
    grey = luma_of(page)
    same_luma[...] = grey[..., None]
    agreeing = match.match(grey.astype(np.float32), [learnt(scene(s)) for s in (0, 20, 90)], [0, 1, 2], ALONE)[1]
    torn = match.match(grey.astype(np.float32), [learnt(scene(0)), learnt(same_luma)], [0, 1], ALONE)[1]
    assert torn[40, 120] < 0.5 * agreeing[40, 120]


def test_without_a_second_group_to_judge_by_nothing_is_said() -> None:
    page = luma_of(scene(60)).astype(np.float32)
    for references, groups in (([], []), ([learnt(scene(0))], [0]), ([learnt(scene(0)), learnt(scene(9))], [5, 5])):
        chroma, sure = match.match(page, references, groups, ALONE)
        assert not chroma.any()
        assert not sure.any()


def test_what_a_reference_does_not_show_is_no_region() -> None:
    known = np.zeros((160, 200), bool)
    known[:, 100:] = True
    assert len(match.learn(scene(0), known).chroma) == 1  # the sky on the right


def test_pictures_without_any_region_are_answered_with_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3)).astype(np.uint8)
    chroma, sure = match.match(luma_of(noise).astype(np.float32), [learnt(noise), learnt(noise[::-1])], [0, 1], ALONE)
    assert not chroma.any()
    assert not sure.any()


def test_the_same_question_gets_the_same_bits() -> None:
    page, references = luma_of(scene(60)).astype(np.float32), [learnt(scene(s)) for s in (0, 20, 90)]
    one, two = (match.match(page, references, [0, 1, 2], Hands(threads)) for threads in (1, 2))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


def test_the_better_of_two_predictions_gets_the_larger_share() -> None:
    mine, other = np.array([[0.0, 0.2, 0.5, 0.9]], np.float32), np.array([[0.0, 0.6, 0.5, 0.3]], np.float32)
    share = match.share(mine, other)[0]
    assert share[0] == 0
    assert share[1] < 0.1
    assert share[2] == 0.5
    assert share[3] > 0.95


def test_flat_art_is_more_even_than_painted_art() -> None:
    flat = luma_of(scene(0)).astype(np.float32)
    painted = flat + np.random.default_rng(0).normal(0, 4, flat.shape).astype(np.float32)
    assert flats.evenness(flat) > 0.8
    assert flats.evenness(painted) < 0.1
    assert flats.evenness(np.full((20, 20), 255, np.float32)) == 0


def test_regions_are_apart_as_their_exact_levels_differ_up_to_two_steps() -> None:
    one, other = np.array([0.0, 127.5, 255.0]), np.array([0.0, 2.5, 127.5, 131.0, 255.0])
    centres = 5 * np.arange(52)

    def hats(level: float) -> NDArray[np.float64]:
        return np.maximum(0, 1 - np.abs(level - centres) / 5)

    wanted = [[0.35 * np.abs(hats(a) - hats(b)).sum() for b in other] for a in one]
    assert np.allclose(flats.apart(one, other), wanted)


def test_a_regions_level_is_its_median() -> None:
    rng = np.random.default_rng(0)
    luma = rng.integers(0, 256, (30, 40)).astype(np.float32)
    label = rng.integers(-1, 3, (30, 40))
    wanted = [np.median(luma[label == n]) for n in range(3)]
    assert np.array_equal(flats._medians(luma, label, 3), wanted)
