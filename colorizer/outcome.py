"""How a worker's page ends: its luma set right, encoded, with the time that each part took."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from colorizer.chroma import chroma_layer, encode_layer
from colorizer.context import Pixels
from colorizer.luma import chroma_of, luma_of, with_luma
from colorizer.tasks import Options, PageOutcome, PageTask
from serving.errors import InvalidInput
from serving.images import Picture, encode_picture

_STRIP = 1 << 18  # pixels that are handled at once


class Clock:
    """Nanoseconds by name of the part that just ended."""

    def __init__(self) -> None:
        self.ns: dict[str, int] = {}
        self._last = time.perf_counter_ns()

    def lap(self, name: str) -> None:
        """The part of that name ends now."""
        now = time.perf_counter_ns()
        self.ns[name], self._last = now - self._last, now


def repaired(pixels: Pixels, grey: UInt8[np.ndarray, "h w"]) -> Pixels:
    """The same colour at exactly the page's luma.

    Cost: in strips, so that the largest page that is taken needs no more than its result.
    """
    colours, lumas = pixels.reshape(-1, 3), grey.reshape(-1)
    strips = [slice(start, start + _STRIP) for start in range(0, len(lumas), _STRIP)]
    if all(np.array_equal(luma_of(colours[None, strip])[0], lumas[strip]) for strip in strips):
        return pixels
    out = np.empty_like(colours)
    for strip in strips:
        out[strip] = with_luma(lumas[None, strip], chroma_of(colours[None, strip]))[0]
    return out.reshape(pixels.shape)


def kept(task: PageTask, page: Picture, clock: Clock) -> PageOutcome:
    """A page that is in colour already, as it came; the very same bytes where the type allows."""
    clock.lap("decode")
    options = task.options
    if options.chroma_only or page.media_type != options.media_type:
        outcome = encoded(page.pixels, options, clock)
    else:
        outcome = _outcome(task.data, options, page.pixels, clock)
    return replace(outcome, already_colour=True, used=(False,) * len(task.hits), notes=page.notes)


def encoded(pixels: Pixels, options: Options, clock: Clock) -> PageOutcome:
    """The finished page in the form that the options ask for.

    Raises:
        InvalidInput: IMAGE_TOO_LARGE, the form cannot hold it.
    """
    if options.chroma_only:
        data = encode_layer(chroma_layer(pixels))
    else:
        try:
            data = encode_picture(pixels, options.media_type, options.jpeg_quality)
        except InvalidInput as error:
            raise InvalidInput(error.message, reason="IMAGE_TOO_LARGE") from error
    return _outcome(data, options, pixels, clock)


def _outcome(data: bytes, options: Options, pixels: Pixels, clock: Clock) -> PageOutcome:
    digest = hashlib.sha256(data).hexdigest()
    clock.lap("encode")
    return PageOutcome(
        data=data,
        media_type=options.media_type,
        width=pixels.shape[1],
        height=pixels.shape[0],
        sha256=digest,
        already_colour=False,
        used=(),
        confidence=None,
        decode_ns=clock.ns["decode"],
        compute_ns=clock.ns.get("compute", 0),
        encode_ns=clock.ns["encode"],
    )
