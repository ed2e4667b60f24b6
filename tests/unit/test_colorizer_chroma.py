"""The colour layer for artists."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from colorizer.chroma import NEUTRAL, chroma_layer, encode_layer


def one(*rgb: int) -> list[int]:
    return chroma_layer(np.array([[rgb]], np.uint8))[0, 0].tolist()


@pytest.mark.parametrize(
    ("pixel", "layer"),
    [
        ((100, 50, 0), [255, 128, 0, 255]),
        ((255, 128, 0), [255, 128, 0, 255]),
        ((0, 0, 8), [0, 0, 255, 255]),
        ((255, 255, 255), [255, 255, 255, 0]),
        ((0, 0, 0), [255, 255, 255, 0]),
        ((90, 90, 90 + NEUTRAL - 1), [255, 255, 255, 0]),
    ],
)
def test_colour_comes_at_full_value_and_neutral_is_clear(pixel, layer):
    assert one(*pixel) == layer


def test_multiplied_onto_the_value_it_gives_the_page_back():
    rng = np.random.default_rng(0)
    page = rng.integers(0, 256, (40, 50, 3), np.uint8)
    layer = chroma_layer(page).astype(float)
    value = page.max(axis=2, keepdims=True) / 255
    coloured = layer[..., 3] == 255
    assert np.abs(layer[..., :3] * value - page)[coloured].max() <= 0.5


def test_the_file_is_a_png_with_alpha():
    layer = chroma_layer(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    with Image.open(io.BytesIO(encode_layer(layer))) as image:
        assert (image.format, image.mode) == ("PNG", "RGBA")
        assert np.array_equal(np.array(image), layer)
