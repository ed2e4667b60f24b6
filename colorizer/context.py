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
Places = tuple[tuple[int, int] | None, ...]  # corner and rank of each hit; None for one that was left out


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
    hits: Sequence[FoundHit],
    pictures: Mapping[str, bytes],
    cache: PictureCache,
    most_pixels: int = MOST_PIXELS,
    *,
    spare: bool = False,
) -> tuple[Corners, Places, tuple[str, ...]]:
    """The hits per corner, best first, as a back-end takes them; where in that each went; and what was left out.

    Args:
        hits: their pictures must be among `pictures`.
        pictures: encoded, by key.
        cache: decodes them.
        most_pixels: that the distinct pictures may hold together; each is kept whole while its patches are.
        spare: whether hits that cannot be used are left out, as long as one can be. Which references a pool holds is
            not the caller's doing; one bad one is not to stop every page that resembles it.

    Raises:
        InvalidInput: INVALID_CONTEXT, a picture cannot be read, a box lies outside its picture or reference, or the
            pictures have too many pixels.
    """
    if not spare:
        room = _Room(most_pixels)
        for data in {pictures[found.picture] for found in hits}:
            room.take(math.prod(picture_size(data)))  # before any is decoded, where the header tells
    cut = _Cutter(pictures, cache, most_pixels)
    corners: list[list[Hit]] = [[] for _ in CORNERS]
    places: list[tuple[int, int] | None] = [None] * len(hits)
    left_out: dict[str, InvalidInput] = {}  # by reference
    for index in sorted(range(len(hits)), key=lambda i: (hits[i].corner, hits[i].rank, i)):
        found = hits[index]
        try:
            hit = cut(found)
        except InvalidInput as error:
            if not spare:
                raise
            left_out.setdefault(found.reference_id, error)
            continue
        places[index] = (found.corner, len(corners[found.corner]))
        corners[found.corner].append(hit)
    if left_out and not any(corners):
        raise next(iter(left_out.values()))
    said = tuple(f"reference {name[:12]}… was left out: {error.message}" for name, error in left_out.items())
    return tuple(tuple(corner) for corner in corners), tuple(places), said


class _Cutter:
    """Cuts hits out of the pictures of one page's context."""

    def __init__(self, pictures: Mapping[str, bytes], cache: PictureCache, most_pixels: int) -> None:
        self._pictures, self._cache, self._room = pictures, cache, _Room(most_pixels)
        self._read: dict[bytes, Pixels | InvalidInput] = {}  # each is decoded once, also where the cache keeps none
        self._sizes: dict[str, tuple[int, int]] = {}

    def __call__(self, found: FoundHit) -> Hit:
        hit = _cut(found, self._pixels(found.picture))
        known = self._sizes.setdefault(hit.reference_id, hit.reference_size)
        if known != hit.reference_size:
            raise _invalid(
                f"reference {hit.reference_id[:12]}… must have one size, got {known} and {hit.reference_size}"
            )
        return hit

    def _pixels(self, name: str) -> Pixels:
        data = self._pictures[name]
        if data not in self._read:
            try:
                self._read[data] = self._decoded(name, data)
            except InvalidInput as error:
                self._read[data] = error
        found = self._read[data]
        if isinstance(found, InvalidInput):
            raise found
        return found

    def _decoded(self, name: str, data: bytes) -> Pixels:
        self._room.check(math.prod(picture_size(data)))
        try:
            pixels = self._cache.pixels(data)
        except InvalidInput as error:
            raise _invalid(f"context picture {name!r} cannot be used: {error.message}") from error
        self._room.take(pixels.shape[0] * pixels.shape[1])
        return pixels


class _Room:
    """Pixels that may still be taken."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def take(self, pixels: int) -> None:
        self.check(pixels)
        self._left -= pixels

    def check(self, pixels: int) -> None:
        if pixels > self._left:
            raise _invalid(f"a page's context pictures must have at most {self._most} pixels together, got more")


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(message, reason="INVALID_CONTEXT")


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
