"""The references of a context: overlapping hits put together, sampled and described once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from colorizer.assembly import assemble, by_reference
from colorizer.backends.exemplar import match
from colorizer.backends.exemplar.features import describe, unit_of
from colorizer.hands import Hands
from colorizer.luma import chroma_of, luma_of
from colorizer.types import Hit

FLAT_AREA = 640 * 640  # pixels; the same for flat regions
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


def sample(picture: UInt8[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"]) -> Samples:
    """Drawn pixels of one reference, the same ones every time.

    Cost: that of `describe`.
    """
    height, width = known.shape
    luma = luma_of(picture)
    drawn = np.flatnonzero(known & (luma < WHITE) & (luma > BLACK))
    chosen = np.random.default_rng(0).permutation(drawn)[:_SAMPLES]
    features = describe(luma.astype(np.float32), unit_of(width, height), chosen)
    quarter = (chosen // width * 2 // height) * 2 + chosen % width * 2 // width
    return Samples(features, chroma_of(picture).reshape(-1, 2)[chosen], quarter.astype(np.uint8))


class Shelf:
    """Samples of the references seen last, because the pages of a chapter share them.

    Args:
        hands: look at references side by side.
        places: references kept; one takes up to 2 MB.
    """

    def __init__(self, hands: Hands, places: int = 32) -> None:
        self._hands, self._places = hands, places
        self._samples: OrderedDict[bytes, Samples] = OrderedDict()
        self._regions: OrderedDict[bytes, match.Known] = OrderedDict()

    def fetch(self, context: Sequence[Sequence[Hit]]) -> Iterator[Reference]:
        """Each reference of the context; its samples may be none, and do not depend on what was asked before."""

        def looked_at(item: tuple[str, list[Hit]]) -> Reference:
            name, hits = item
            picture, known = assemble(hits)
            key = hashlib.blake2b(picture.tobytes() + known.tobytes() + bytes(str(known.shape), "ascii")).digest()
            samples = self._samples.get(key) or sample(picture, known)
            return Reference(name, hits[0].chapter, samples, key, tuple(hits))

        with closing(self._hands.each(looked_at, by_reference(context).items())) as found:
            for reference in found:
                self._keep(self._samples, reference.key, reference.samples)
                yield reference

    def regions(self, references: Sequence[Reference]) -> list[match.Known]:
        """The flat regions of each reference."""

        def looked_at(reference: Reference) -> match.Known:
            return self._regions.get(reference.key) or match.learn(*assemble(reference.hits, FLAT_AREA))

        found = list(self._hands.each(looked_at, references))
        for reference, known in zip(references, found, strict=True):
            self._keep(self._regions, reference.key, known)
        return found

    def _keep(self, shelf: OrderedDict[bytes, T], key: bytes, value: T) -> None:
        shelf[key] = value
        shelf.move_to_end(key)
        if len(shelf) > self._places:
            shelf.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._samples.clear()
        self._regions.clear()
