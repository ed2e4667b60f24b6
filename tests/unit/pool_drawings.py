"""References for the tests of the pool's hygiene: made-up pages, as this server would embed them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

from examples.made_up_series import draw_page
from retrieval.digest import digest_of
from retrieval.embed import create_embedder
from retrieval.patches import CropRecipe, cut_reference
from retrieval.types import Provenance, Reference, StoredPatches

WIDTH, HEIGHT = 400, 565


@cache
def page(chapter: int, number: int) -> np.ndarray:
    return draw_page(chapter, number, width=WIDTH, height=HEIGHT).colour


def as_jpeg(pixels: np.ndarray, quality: int = 85) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def scaled(pixels: np.ndarray, by: float) -> np.ndarray:
    size = round(pixels.shape[1] * by), round(pixels.shape[0] * by)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def turned(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """The same drawing with every hue turned."""
    hsv = np.array(Image.fromarray(pixels).convert("HSV"))
    hsv[..., 0] += np.uint8(round(degrees / 360 * 256))
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def reference(sequence: int, **fields: object) -> Reference:
    """A reference with an id made from its sequence number."""
    given: dict = {
        "chapter": None,
        "page": None,
        "tags": (),
        "provenance": Provenance(),
        "width": WIDTH,
        "height": HEIGHT,
        "media_type": "image/png",
        "byte_size": 1,
        "create_ns": 0,
        **fields,
    }
    return Reference(id=f"{sequence:064x}", generation=sequence, **given)


def embedded(pixels: np.ndarray, sequence: int, **fields: object) -> tuple[Reference, StoredPatches]:
    """A picture as it lies in a pool."""
    boxes = np.array(cut_reference(pixels, CropRecipe()).source_boxes, np.int32)
    vectors = create_embedder("structure").embed_references([pixels])[0]
    one = reference(sequence, **{"digest": digest_of(pixels, boxes), **fields})
    return one, StoredPatches(one.id, sequence, vectors, boxes)


def pool(pictures: Sequence[np.ndarray]) -> list[tuple[Reference, StoredPatches]]:
    """Pictures in order of insertion, with the sequence numbers 1, 2, 3 …"""
    return [embedded(pixels, sequence) for sequence, pixels in enumerate(pictures, 1)]
