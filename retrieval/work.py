"""What the worker processes do: decode pictures from strangers and embed them, away from the server's own process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float32

from retrieval.embed import Embedder, EmbedderSettings, create_embedder
from retrieval.patches import CropRecipe, cut_reference
from retrieval.types import Prepared, Space
from serving.colour import has_colour
from serving.errors import FailedState, InvalidInput
from serving.images import ImageLimits, decode_picture
from serving.workers import Handler, WorkerContext


@dataclass(frozen=True)
class WorkConfig:
    """What every worker knows."""

    settings: Mapping[str, EmbedderSettings]  # by the embedder's name
    limits: ImageLimits


@dataclass(frozen=True)
class Work:
    """One request to a worker."""

    kind: Literal["space", "reference", "again", "page"]  # "again": a reference that was taken before
    embedder: str
    data: bytes = b""  # the picture's file; empty for "space"
    muted: bool = False  # of a reference: whether any colour will do, as it does for what a back-end made


@dataclass(frozen=True)
class WorkDone:
    """A worker's answer; what its kind does not ask for is None."""

    space: Space
    prepared: Prepared | None = None  # of a reference
    vectors: Float32[np.ndarray, "4 dim"] | None = None  # of a page, one per corner
    width: int = 0  # of the page, pixels
    height: int = 0
    decode_ns: int = 0
    embed_ns: int = 0


def build(config: WorkConfig) -> Handler:
    """The handler of one worker process; embedders are made when they are first asked for, and kept."""
    return partial(_handle, config, {})


def _handle(config: WorkConfig, embedders: dict[str, Embedder], work: Work, context: WorkerContext) -> WorkDone:
    if work.embedder not in embedders:
        embedders[work.embedder] = _create(work.embedder, config.settings[work.embedder])
    embedder = embedders[work.embedder]
    space = _space(embedder)
    if work.kind == "space":
        return WorkDone(space)
    start = time.perf_counter_ns()
    picture = decode_picture(work.data, config.limits)
    decoded = time.perf_counter_ns()
    context.check()
    height, width = picture.pixels.shape[:2]
    if work.kind == "page":
        vectors = embedder.embed_pages([picture.pixels])[0]
        done = time.perf_counter_ns()
        return WorkDone(space, None, vectors, width, height, decoded - start, done - decoded)
    in_colour = has_colour(picture.pixels) if work.muted else picture.in_colour
    if work.kind == "reference" and not in_colour:
        raise InvalidInput("a reference must be in colour, got a grey or single-ink picture", reason="IMAGE_NOT_COLOUR")
    boxes = cut_reference(picture.pixels, CropRecipe.parse(space.crop_recipe)).source_boxes
    vectors = embedder.embed_references([picture.pixels])[0]
    prepared = Prepared(width, height, picture.media_type, vectors, np.array(boxes, np.int32))
    done = time.perf_counter_ns()
    return WorkDone(space, prepared, None, width, height, decoded - start, done - decoded)


def _create(name: str, settings: EmbedderSettings) -> Embedder:
    try:
        return create_embedder(name, settings)
    except InvalidInput as error:  # the server's settings are wrong, not the request
        raise FailedState(
            f"the embedder {name!r} cannot be loaded: {error.message}", reason="EMBEDDER_UNAVAILABLE"
        ) from error


def _space(embedder: Embedder) -> Space:
    space = embedder.space
    return Space(
        id=space.id,
        model=space.model,
        weights_sha256=space.weights_sha256,
        preprocessing=space.preprocessing,
        crop_recipe=space.crop_recipe,
        dim=space.dim,
        grey_twin=space.grey_twin,
    )
