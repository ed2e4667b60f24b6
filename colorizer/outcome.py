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
    """The same colour at exactly the page's luma."""
    if np.array_equal(luma_of(pixels), grey):
        return pixels
    return with_luma(grey, chroma_of(pixels))


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
