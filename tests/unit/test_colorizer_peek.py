"""Sizes from headers agree with what decoding gives."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from colorizer.peek import picture_size
from serving.images import decode_picture


def file_of(form: str, width: int = 60, height: int = 40, **how: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(out, form, **how)
    return out.getvalue()


def turned(form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return file_of(form, exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        *(file_of(form) for form in ("PNG", "JPEG", "GIF", "BMP")),
        file_of("WEBP", lossless=True),
        file_of("WEBP", quality=50),
        turned("JPEG"),
    ],
    ids=["png", "jpeg", "gif", "bmp", "webp-lossless", "webp-lossy", "jpeg-turned"],
)
def test_the_header_says_what_decoding_gives(data):
    height, width = decode_picture(data).pixels.shape[:2]
    assert picture_size(data) == (width, height)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"RIFF\0\0\0\0WEBP", file_of("PNG")[:20], file_of("JPEG")[:12]])
def test_what_cannot_be_read_has_no_size(data):
    assert picture_size(data) == (0, 0)


def test_a_bomb_costs_nothing():
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, "PNG")
    assert picture_size(out.getvalue()) == (30_000, 30_000)


@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP"]), st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_damage_never_raises(form, at, noise):
    data = bytearray(file_of(form))
    data[at : at + len(noise)] = noise
    width, height = picture_size(bytes(data))
    assert min(width, height) >= 0
