"""The colour layer for artists."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from colorizer.chroma import NEUTRAL, chroma_layer, encode_layer
from colorizer.luma import with_luma


def one(*rgb: int) -> list[int]:
    return chroma_layer(np.array([[rgb]], np.uint8))[0, 0].tolist()


@pytest.mark.parametrize(
    ("pixel", "layer"),
    [
        ((100, 50, 0), [255, 205, 155, 255]),
        ((255, 128, 0), [255, 128, 0, 255]),
        ((0, 0, 8), [247, 247, 255, 255]),
        ((255, 255, 255), [255, 255, 255, 0]),
        ((0, 0, 0), [255, 255, 255, 0]),
        ((90, 90, 90 + NEUTRAL - 1), [255, 255, 255, 0]),
    ],
)
def test_colour_is_raised_to_full_value_and_neutral_is_clear(pixel, layer):
    assert one(*pixel) == layer


def blended_as_color(backdrop, source):
    """The W3C's blend mode "color" (Compositing and Blending 1, 10.4), in floats: what Photoshop and Krita do."""

    def lum(colour):
        return colour @ np.array([0.3, 0.59, 0.11])

    made = source + (lum(backdrop) - lum(source))[..., None]
    light, low, high = lum(made)[..., None], made.min(axis=-1, keepdims=True), made.max(axis=-1, keepdims=True)
    made = np.where(low < 0, light + (made - light) * light / np.maximum(light - low, 1e-9), made)
    return np.where(high > 255, light + (made - light) * (255 - light) / np.maximum(high - light, 1e-9), made)


def over(backdrop, layer, blend):
    """A layer over a picture, after W3C's compositing: what `blend` gives, where the layer is opaque."""
    backdrop, alpha = backdrop.astype(float), layer[..., 3:] / 255
    return (1 - alpha) * backdrop + alpha * blend(backdrop, layer[..., :3].astype(float))


def grey_and_finished():
    """Pages of every grey and every hue at that grey, as the server finishes them."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (64, 64), np.uint8)
    finished = with_luma(grey, rng.normal(0, 60, (64, 64, 2)).astype(np.float32))
    return grey[..., None].repeat(3, axis=-1), finished


def test_over_the_grey_page_in_the_mode_color_it_gives_the_finished_page_back():
    grey, finished = grey_and_finished()
    made = over(grey, chroma_layer(finished), blended_as_color)
    assert np.abs(made - finished).max() <= NEUTRAL
    assert np.abs(made - finished).mean() <= 0.5


def test_multiplied_with_the_grey_page_it_keeps_the_order_of_the_channels_and_only_darkens():
    grey, finished = grey_and_finished()
    layer = chroma_layer(finished)
    made = over(grey, layer, lambda below, above: below * above / 255)
    coloured = layer[..., 3] == 255
    assert (made <= grey).all()
    differences = [np.sign(np.diff(one.astype(float), axis=-1)) for one in (np.rint(made), finished)]
    assert (differences[0] * differences[1] >= 0)[coloured].all()
    assert (made == grey)[~coloured].all()


def test_the_file_is_a_png_with_alpha():
    layer = chroma_layer(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    with Image.open(io.BytesIO(encode_layer(layer))) as image:
        assert (image.format, image.mode) == ("PNG", "RGBA")
        assert np.array_equal(np.array(image), layer)
