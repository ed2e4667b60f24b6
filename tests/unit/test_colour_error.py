"""The colour difference against the published test data."""

from __future__ import annotations

import numpy as np
import pytest

from examples.colour_error import mean_ciede2000, psnr
from serving.colour import ciede2000, lab_of

# L a b, L a b, difference: Sharma, Wu and Dalal 2005, table 1 (the pairs that tell wrong implementations apart).
PAIRS = [
    (50.0, 2.6772, -79.7751, 50.0, 0.0, -82.7485, 2.0425),
    (50.0, -1.3802, -84.2814, 50.0, 0.0, -82.7485, 1.0000),
    (50.0, 0.0, 0.0, 50.0, -1.0, 2.0, 2.3669),
    (50.0, 2.4900, -0.0010, 50.0, -2.4900, 0.0009, 7.1792),
    (50.0, 2.4900, -0.0010, 50.0, -2.4900, 0.0011, 7.2195),
    (50.0, -0.0010, 2.4900, 50.0, 0.0009, -2.4900, 4.8045),
    (50.0, -0.0010, 2.4900, 50.0, 0.0011, -2.4900, 4.7461),
    (50.0, 2.5, 0.0, 73.0, 25.0, -18.0, 27.1492),
    (50.0, 2.5, 0.0, 58.0, 24.0, 15.0, 19.4535),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
]
DIGITS = 5e-5  # the table has four decimals


@pytest.mark.parametrize("pair", PAIRS)
def test_the_difference_is_the_published_one(pair: tuple[float, ...]) -> None:
    one, other = np.array(pair[:3]), np.array(pair[3:6])
    assert ciede2000(one, other) == pytest.approx(pair[6], abs=DIGITS)
    assert ciede2000(other, one) == pytest.approx(pair[6], abs=DIGITS)


def test_lab_is_that_of_scikit_image() -> None:
    color = pytest.importorskip("skimage.color")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_allclose(lab_of(pixels), color.rgb2lab(pixels), atol=0.02)


def test_equal_pictures_have_no_error() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    assert mean_ciede2000(pixels, pixels) == 0
    assert psnr(pixels, pixels) == float("inf")


def test_psnr_of_a_known_error() -> None:
    black = np.zeros((2, 2, 3), dtype=np.uint8)
    assert psnr(black + np.uint8(255), black) == pytest.approx(0)
