"""The coarse colours of patches: right means, kept bytes, damage told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.digest import GRID, VERSION, digest_of, mean_colours, mean_differences, read_digest
from serving.colour import ciede2000, lab_of
from serving.errors import CorruptData
from serving.geometry import reference_boxes
from tests.unit.pool_drawings import as_jpeg, page, scaled, turned

LEVEL = 1  # of 255; rounding of a mean
SOFT = 6  # levels; reducing a picture with hard edges averages encoded values


def boxes_of(pixels: np.ndarray) -> np.ndarray:
    return np.array(reference_boxes(pixels.shape[1], pixels.shape[0]), np.int32)


def colours_of(pixels: np.ndarray) -> np.ndarray:
    found = read_digest(digest_of(pixels, boxes_of(pixels)))
    assert found is not None
    return found


def slow_means(pixels: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Means in linear light where the cells' edges fall on pixels."""
    part = pixels[box[1] : box[3], box[0] : box[2]] / 255
    light = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    cells = light.reshape(GRID, part.shape[0] // GRID, GRID, part.shape[1] // GRID, 3).mean(axis=(1, 3))
    return 255 * np.where(cells <= 0.0031308, cells * 12.92, 1.055 * cells ** (1 / 2.4) - 0.055)


def test_five_patches_take_241_bytes() -> None:
    pixels = page(1, 1)
    digest = digest_of(pixels, boxes_of(pixels))
    assert len(digest) == 241
    assert digest[0] == VERSION


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(0, 9), st.integers(0, 9))
def test_a_cell_is_the_mean_in_linear_light(seed: int, rows: int, columns: int, left: int, top: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    box = (left, top, left + GRID * columns, top + GRID * rows)
    found = read_digest(digest_of(pixels, np.array([box], np.int32)))
    assert found is not None
    np.testing.assert_allclose(found[0], slow_means(pixels, box), atol=LEVEL)


def test_a_large_picture_gives_nearly_the_means_of_all_its_pixels() -> None:
    pixels = scaled(page(1, 1), 2.56)[:1440, :1024]
    found = read_digest(digest_of(pixels, np.array([[0, 0, 1024, 1440]], np.int32)))
    assert found is not None
    np.testing.assert_allclose(found[0], slow_means(pixels, (0, 0, 1024, 1440)), atol=SOFT)


def test_a_flat_picture_keeps_its_colour_exactly() -> None:
    pixels = np.broadcast_to(np.array([200, 30, 90], np.uint8), (1000, 701, 3)).copy()
    assert (colours_of(pixels) == [200, 30, 90]).all()


@pytest.mark.parametrize("box", [(-9, -9, 5, 5), (60, 60, 99, 99), (200, 0, 300, 9), (7, 7, 7, 7), (9, 9, 2, 2)])
def test_a_box_that_is_empty_or_outside_gives_colours_of_the_picture(box: tuple[int, ...]) -> None:
    pixels = np.full((64, 64, 3), 77, np.uint8)
    found = read_digest(digest_of(pixels, np.array([box], np.int32)))
    assert found is not None
    assert (found == 77).all()


def test_no_boxes_give_no_colours() -> None:
    found = read_digest(digest_of(page(1, 1), np.zeros((0, 4), np.int32)))
    assert found is not None
    assert found.shape == (0, GRID, GRID, 3)


@pytest.mark.parametrize("copy", [as_jpeg, lambda pixels: scaled(pixels, 0.8)])
def test_a_copy_of_a_page_has_nearly_its_colours(copy) -> None:
    one, other = colours_of(page(1, 1)), colours_of(copy(page(1, 1)))
    assert mean_differences(one[None], other[None])[0] < 1


def test_a_page_in_other_colours_is_far_away() -> None:
    one, other = colours_of(page(1, 1)), colours_of(turned(page(1, 1), 120))
    assert mean_differences(one[None], other[None])[0] > 6


def test_differences_are_the_means_over_all_cells() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 3, 5, GRID, GRID, 3), dtype=np.uint8)
    slow = [ciede2000(lab_of(a), lab_of(b)).mean() for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(mean_differences(one, other), slow)


def test_the_mean_colour_of_black_and_white_is_that_of_half_the_light() -> None:
    colours = np.zeros((1, GRID, GRID, 3), np.uint8)
    colours[:, :2] = 255
    assert mean_colours(colours).tolist() == [[188, 188, 188]]


def test_what_is_not_known_reads_as_none() -> None:
    assert read_digest(b"") is None


def test_a_later_version_reads_as_none() -> None:
    assert read_digest(bytes([VERSION + 1, 7])) is None


@pytest.mark.parametrize("data", [bytes([VERSION, 7]), bytes(241)])
def test_damage_is_told(data: bytes) -> None:
    with pytest.raises(CorruptData, match="a digest must begin with byte 1"):
        read_digest(data)
