"""The pixels that hits point to: patches cut from stored references, or the references themselves."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from retrieval.catalog import Catalog
from retrieval.types import Hit, Reference, Shown, Wanted
from serving.errors import Conflict, FailedState, NotFound
from serving.geometry import Box
from serving.images import ImageLimits, decode_picture, encode_picture

Pixels = Literal["none", "patches", "references"]


@dataclass(frozen=True)
class Plan:
    """Which picture shows which hit."""

    keys: tuple[str, ...]  # per hit; "" where none is shown
    boxes: tuple[Box | None, ...]  # per hit: where it lies in its picture; None: the picture is the patch
    wanted: tuple[Wanted, ...]  # each distinct picture once, in the order of the hits


def plan(hits: Sequence[Hit], pixels: Pixels) -> Plan:
    """The pictures that show `hits`, each distinct one once."""
    if pixels == "none":
        return Plan(("",) * len(hits), (None,) * len(hits), ())
    wanted: dict[tuple[str, Box | None], Wanted] = {}
    keys, boxes = [], []
    for hit in hits:
        box = hit.box if pixels == "patches" else None
        key = f"{hit.reference.id}:{box.x0},{box.y0},{box.x1},{box.y1}" if box else hit.reference.id
        wanted.setdefault((hit.reference.id, box), Wanted(key, hit.reference, box))
        keys.append(key)
        boxes.append(None if box else hit.box)
    return Plan(tuple(keys), tuple(boxes), tuple(wanted.values()))


class Gallery:
    """Cuts patches; keeps the references that were decoded last.

    Args:
        catalog: where the bytes are.
        limits: of what is decoded.
        cache_bytes: decoded pixels that are kept, the least recently used going first.
    """

    def __init__(self, catalog: Catalog, limits: ImageLimits, cache_bytes: int) -> None:
        self._catalog, self._limits, self._cache_bytes = catalog, limits, cache_bytes
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, UInt8[np.ndarray, "h w 3"]] = OrderedDict()
        self._bytes = 0
        self._coming: dict[str, Future[UInt8[np.ndarray, "h w 3"]]] = {}

    def show(self, series_id: str, wanted: Wanted, max_side: int) -> Shown:
        """The picture; a patch as PNG, shrunk to `max_side` pixels on its longer side if that is not 0.

        Raises:
            Conflict: REFERENCE_GONE, it was removed since it was found.
            FailedState: REFERENCE_SIZE_WRONG, the box is not inside the picture: it was imported with another size.
            CorruptData: what is stored is damaged.

        Cost: the first patch of a reference decodes it, 10 to 40 ms a megapixel; the others cut and encode.
        """
        reference = wanted.reference
        try:
            if wanted.box is None:
                data = self._catalog.data(series_id, reference.id)
                return Shown(data, reference.media_type, reference.width, reference.height)
            pixels = self._pixels(series_id, reference.id)
        except NotFound as error:
            raise Conflict(
                f"reference {reference.id} was removed after it was found; ask again",
                reason="REFERENCE_GONE",
                retry_after=0.0,
            ) from error
        box = wanted.box
        _check_inside(box, pixels, reference)
        patch = _shrunk(pixels[box.y0 : box.y1, box.x0 : box.x1], max_side)
        return Shown(encode_picture(patch, "image/png"), "image/png", patch.shape[1], patch.shape[0])

    def _pixels(self, series_id: str, reference_id: str) -> UInt8[np.ndarray, "h w 3"]:
        """The whole reference, decoded once however many ask. Ids are hashes, so that series may share an entry."""
        with self._lock:
            if reference_id in self._cache:
                self._cache.move_to_end(reference_id)
                return self._cache[reference_id]
            coming = self._coming.get(reference_id)
            mine = coming is None
            if coming is None:
                coming = self._coming[reference_id] = Future()
        if mine:
            try:
                pixels = decode_picture(self._catalog.data(series_id, reference_id), self._limits).pixels
            except BaseException as error:
                coming.set_exception(error)
                raise
            else:
                self._keep(reference_id, pixels)
                coming.set_result(pixels)
            finally:
                with self._lock:
                    del self._coming[reference_id]
        return coming.result()

    def _keep(self, reference_id: str, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        if pixels.nbytes > self._cache_bytes:
            return
        with self._lock:
            self._cache[reference_id] = pixels
            self._bytes += pixels.nbytes
            while self._bytes > self._cache_bytes:
                self._bytes -= self._cache.popitem(last=False)[1].nbytes


def _check_inside(box: Box, pixels: UInt8[np.ndarray, "h w 3"], reference: Reference) -> None:
    """Returns if the box lies in the picture; a reference's size is what its importer said, and nobody else looked."""
    height, width = pixels.shape[:2]
    if box.x1 > width or box.y1 > height:
        raise FailedState(
            f"reference {reference.id} was imported as {reference.width} x {reference.height} pixels, and its picture "
            f"has {width} x {height}, where the box {tuple(box)} does not fit; import it anew",
            reason="REFERENCE_SIZE_WRONG",
            metadata={"expected": f"{reference.width}x{reference.height}", "actual": f"{width}x{height}"},
        )


def _shrunk(pixels: UInt8[np.ndarray, "h w 3"], max_side: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if not max_side or longer <= max_side:
        return np.ascontiguousarray(pixels)
    size = max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
