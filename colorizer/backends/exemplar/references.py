"""The references of a context: overlapping hits put together, sampled and described once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from colorizer.backends.exemplar import match
from colorizer.backends.exemplar.features import describe, unit_of
from colorizer.luma import chroma_of, luma_of
from colorizer.types import Hit

AREA = 400 * 400  # pixels; pictures are matched at this size, or their own when that is smaller
FLAT_AREA = 640 * 640  # pixels; the same for flat regions
LEAST_SIDE = 4  # pixels, of a working picture
WHITE, BLACK = 250, 3  # luma at and beyond which there is no colour to learn or to give
_SAMPLES = 8000  # pixels kept of a reference

T = TypeVar("T")


@dataclass(frozen=True)
class Samples:
    """Some pixels of one reference."""

    features: Float32[np.ndarray, "n f"]
    chroma: Float32[np.ndarray, "n 2"]
    quarter: UInt8[np.ndarray, " n"]  # of the picture, 0 to 3


@dataclass(frozen=True)
class Reference:
    """One reference of a context."""

    name: str  # its content hash
    chapter: int  # thousandths
    samples: Samples
    key: bytes  # of its pixels, on a shelf
    hits: tuple[Hit, ...]


def working_size(width: int, height: int, area: int = AREA) -> tuple[int, int]:
    """Width and height at which a picture is matched."""
    scale = min(1.0, (area / (width * height)) ** 0.5)
    return max(LEAST_SIDE, round(width * scale)), max(LEAST_SIDE, round(height * scale))


def by_reference(context: Sequence[Sequence[Hit]]) -> dict[str, list[Hit]]:
    """Hits of each reference, one a box, in the order of rank and corner."""
    found: dict[str, dict[tuple[int, ...], Hit]] = {}
    for rank in range(max((len(corner) for corner in context), default=0)):
        for corner in context:
            if rank < len(corner):
                hit = corner[rank]
                found.setdefault(hit.reference_id, {}).setdefault(tuple(hit.box), hit)
    return {reference: list(boxes.values()) for reference, boxes in found.items()}


def assemble(hits: Sequence[Hit], area: int = AREA) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """One reference at working size, white where no hit shows it, and where hits show it."""
    wide, high = hits[0].reference_size
    width, height = working_size(wide, high, area)
    picture, known = np.full((height, width, 3), 255, np.uint8), np.zeros((height, width), bool)
    for hit in hits:
        x0, x1 = (min(width, max(0, round(x * width / wide))) for x in (hit.box.x0, hit.box.x1))
        y0, y1 = (min(height, max(0, round(y * height / high))) for y in (hit.box.y0, hit.box.y1))
        if x1 > x0 and y1 > y0 and not known[y0:y1, x0:x1].all():
            patch = Image.fromarray(np.ascontiguousarray(hit.pixels)).resize((x1 - x0, y1 - y0), Image.Resampling.BOX)
            picture[y0:y1, x0:x1] = np.asarray(patch)
            known[y0:y1, x0:x1] = True
    return picture, known


def sample(picture: UInt8[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"]) -> Samples:
    """Drawn pixels of one reference, the same ones every time.

    Cost: that of `describe`.
    """
    height, width = known.shape
    luma = luma_of(picture)
    drawn = np.flatnonzero(known & (luma < WHITE) & (luma > BLACK))
    chosen = np.random.default_rng(0).permutation(drawn)[:_SAMPLES]
    features = describe(luma.astype(np.float32), unit_of(width, height)).reshape(height * width, -1)
    quarter = (chosen // width * 2 // height) * 2 + chosen % width * 2 // width
    return Samples(features[chosen], chroma_of(picture).reshape(-1, 2)[chosen], quarter.astype(np.uint8))


class Shelf:
    """Samples of the references seen last, because the pages of a chapter share them.

    Args:
        places: references kept; one takes up to 2 MB.
    """

    def __init__(self, places: int = 32) -> None:
        self._places = places
        self._samples: OrderedDict[bytes, Samples] = OrderedDict()
        self._regions: OrderedDict[bytes, match.Known] = OrderedDict()

    def fetch(self, context: Sequence[Sequence[Hit]]) -> Iterator[Reference]:
        """Each reference of the context; its samples may be none, and do not depend on what was asked before."""
        for name, hits in by_reference(context).items():
            picture, known = assemble(hits)
            key = hashlib.blake2b(picture.tobytes() + known.tobytes() + bytes(str(known.shape), "ascii")).digest()
            samples = self._kept(self._samples, key, partial(sample, picture, known))
            yield Reference(name, hits[0].chapter, samples, key, tuple(hits))

    def regions(self, reference: Reference) -> match.Known:
        """The flat regions of a reference."""
        return self._kept(self._regions, reference.key, lambda: match.learn(*assemble(reference.hits, FLAT_AREA)))

    def _kept(self, shelf: OrderedDict[bytes, T], key: bytes, make: Callable[[], T]) -> T:
        found = shelf.pop(key, None)
        shelf[key] = value = make() if found is None else found
        if len(shelf) > self._places:
            shelf.popitem(last=False)
        return value

    def clear(self) -> None:
        """Forget all."""
        self._samples.clear()
        self._regions.clear()
