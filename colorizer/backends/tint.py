"""The smallest back-end: one tint for the whole page. An example for authors and a stand-in for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from colorizer.backend import Backend, BackendSpec, Card
from colorizer.types import Job, Result

_NEUTRAL = np.full(3, 255.0)


class Tint:
    """Tints each page with the mean colour of its context; needs no weights."""

    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """The page times the mean colour of its hits, brightened to full value; grey without hits."""
        for job in jobs:
            job.progress(0, 1)  # may raise, which is how a call is cancelled
            means = [hit.pixels.reshape(-1, 3).mean(axis=0) for corner in job.context for hit in corner]
            tint = _full_value(np.mean(means, axis=0)) if means else _NEUTRAL
            levels = np.rint(np.arange(256)[:, None] * (tint / 255)).astype(np.uint8)  # for 256 greys
            pixels = levels[job.page]
            job.progress(1, 1)
            if job.preview:
                job.preview(pixels)
            yield Result(pixels)

    def close(self) -> None:
        """Nothing to free."""


def _full_value(colour: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3"]:
    """The colour with its largest channel at 255; white for black."""
    return colour * (255 / colour.max()) if colour.max() > 0 else _NEUTRAL


def _load(settings: Mapping[str, str]) -> Backend:  # noqa: ARG001 - it has no settings
    return Tint()


SPEC = BackendSpec(
    card=Card(
        name="tint",
        version="1",
        description="Tints the whole page with the mean colour of its references. An example for authors of back-ends.",
        inputs=("references", "preview"),
        min_side=1,
        hits_per_corner=1,
        memory_bytes=1 << 30,
        determinism="exact",
        code_licence="Apache-2.0",
    ),
    load=_load,
)
