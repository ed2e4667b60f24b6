"""Hits for a back-end, cut from the pictures of a context."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from colorizer.peek import picture_size
from colorizer.tasks import FoundHit
from colorizer.types import Hit
from serving.errors import InvalidInput
from serving.geometry import CORNERS, Box

Pixels = UInt8[np.ndarray, "h w 3"]
MOST_PIXELS = 500_000_000  # of a context's pictures together; 1.5 GB, or twelve references of 40 megapixels
Corners = tuple[tuple[Hit, ...], ...]  # per corner, best first


class PictureCache:
    """Decoded pictures by the hash of their bytes, the least recently used out first.

    A chapter's pages mostly refer to the same few references; each is decoded once.

    Args:
        decode: encoded bytes to pixels; may raise InvalidInput.
        max_bytes: of decoded pixels. One picture above it is decoded each time.
    """

    def __init__(self, decode: Callable[[bytes], Pixels], max_bytes: int) -> None:
        self._decode = decode
        self._max_bytes = max_bytes
        self._bytes = 0
        self._held: OrderedDict[bytes, Pixels] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def pixels(self, data: bytes) -> Pixels:
        """The picture, read only; keyed by its bytes, since a caller's id could name any picture.

        Raises:
            InvalidInput: it cannot be decoded.
        """
        key = hashlib.sha256(data).digest()
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        pixels = self._decode(data)
        pixels.setflags(write=False)
        if pixels.nbytes <= self._max_bytes:
            self._held[key] = pixels
            self._bytes += pixels.nbytes
            while self._bytes > self._max_bytes:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        return pixels


def corner_hits(
    hits: Sequence[FoundHit], pictures: Mapping[str, bytes], cache: PictureCache, most_pixels: int = MOST_PIXELS
) -> tuple[Corners, tuple[tuple[int, int], ...]]:
    """The hits per corner, best first, as a back-end takes them; and where in that each of `hits` went.

    Args:
        hits: their pictures must be among `pictures`.
        pictures: encoded, by key.
        cache: decodes them.
        most_pixels: that the distinct pictures may hold together; each is kept whole while its patches are.

    Raises:
        InvalidInput: INVALID_CONTEXT, a picture cannot be read, a box lies outside its picture or reference, or the
            pictures have too many pixels.
    """
    room = _Room(most_pixels)
    for data in {pictures[found.picture] for found in hits}:
        room.take(math.prod(picture_size(data)))  # before any is decoded, where the header tells
    room = _Room(most_pixels)
    held: dict[int, Pixels] = {}
    corners: list[list[Hit]] = [[] for _ in CORNERS]
    places: list[tuple[int, int]] = [(0, 0)] * len(hits)
    sizes: dict[str, tuple[int, int]] = {}
    for index in sorted(range(len(hits)), key=lambda i: (hits[i].corner, hits[i].rank, i)):
        found = hits[index]
        pixels = _read(found, pictures, cache)
        if id(pixels) not in held:
            held[id(pixels)] = pixels
            room.take(pixels.shape[0] * pixels.shape[1])
        hit = _cut(found, pixels)
        known = sizes.setdefault(hit.reference_id, hit.reference_size)
        if known != hit.reference_size:
            raise _invalid(
                f"reference {hit.reference_id[:12]}… must have one size, got {known} and {hit.reference_size}"
            )
        places[index] = (found.corner, len(corners[found.corner]))
        corners[found.corner].append(hit)
    return tuple(tuple(corner) for corner in corners), tuple(places)


class _Room:
    """Pixels that may still be taken."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def take(self, pixels: int) -> None:
        self._left -= pixels
        if self._left < 0:
            raise _invalid(f"a page's context pictures must have at most {self._most} pixels together, got more")


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(message, reason="INVALID_CONTEXT")


def _read(found: FoundHit, pictures: Mapping[str, bytes], cache: PictureCache) -> Pixels:
    try:
        return cache.pixels(pictures[found.picture])
    except InvalidInput as error:
        raise _invalid(f"context picture {found.picture!r} cannot be used: {error.message}") from error


def _cut(found: FoundHit, picture: Pixels) -> Hit:
    height, width = picture.shape[:2]
    whole = Box(0, 0, width, height)
    crop = found.picture_box or whole
    if crop.x1 > width or crop.y1 > height:
        raise _invalid(
            f"picture_box {tuple(crop)} must lie inside context picture {found.picture!r}, which is {width} x {height}"
        )
    size = found.reference_size or (width, height)
    box = found.box or crop
    if box.x1 > size[0] or box.y1 > size[1]:
        raise _invalid(f"box {tuple(box)} must lie inside its reference, which is {size[0]} x {size[1]}")
    return Hit(
        pixels=picture[crop.y0 : crop.y1, crop.x0 : crop.x1],
        score=found.score,
        reference_id=found.reference_id,
        box=box,
        reference_size=size,
        depth=found.depth,
        chapter=found.chapter,
    )
