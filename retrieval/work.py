"""What the worker processes do: decode pictures from strangers and embed them, away from the server's own process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int32

from retrieval.digest import digest_of
from retrieval.embed import Embedder, EmbedderSettings, create_embedder
from retrieval.patches import CropRecipe, reference_sources
from retrieval.types import Prepared, Space
from serving.colour import has_colour
from serving.errors import FailedState, InvalidInput
from serving.images import ImageLimits, Picture, decode_picture
from serving.workers import WorkerContext, portable_error


@dataclass(frozen=True)
class Form:
    """What stands behind an embedder's name: a registered embedder, and how it is set."""

    embedder: str  # a key of EMBEDDERS
    settings: EmbedderSettings


@dataclass(frozen=True)
class WorkConfig:
    """What every worker knows."""

    forms: Mapping[str, Form]  # by the name that series call it
    limits: ImageLimits


@dataclass(frozen=True)
class Work:
    """One thing to do."""

    kind: Literal["space", "reference", "page", "text", "digest"]
    embedder: str  # a key of WorkConfig.forms; of a digest: ""
    data: bytes = b""  # the picture's file
    muted: bool = False  # of a reference: whether any colour will do, as it does for what a back-end made
    stored: bool = False  # of a reference: whether it is in a pool already, so that its colour is not judged again
    text: str = ""
    boxes: Int32[np.ndarray, "n 4"] | None = None  # of a digest: where the patches lie


@dataclass(frozen=True)
class WorkBatch:
    """One request to a worker: things of one kind for one embedder. The answer has one entry each, in their order."""

    works: tuple[Work, ...]


@dataclass(frozen=True)
class WorkDone:
    """A worker's answer; what its kind does not ask for is None."""

    space: Space | None
    prepared: Prepared | None = None  # of a reference
    vectors: Float32[np.ndarray, "n dim"] | None = None  # of a page, one per corner; of a text, one
    width: int = 0  # of the page, pixels
    height: int = 0
    decode_ns: int = 0
    embed_ns: int = 0  # of the whole batch
    digest: bytes = b""


def build(config: WorkConfig) -> Callable[[Any, WorkerContext], list[WorkDone | Exception]]:
    """The handler of one worker process; embedders are made when they are first asked for, and kept."""
    return partial(_handle, config, {})


def _handle(
    config: WorkConfig, embedders: dict[str, Embedder], batch: WorkBatch, context: WorkerContext
) -> list[WorkDone | Exception]:
    first = batch.works[0]
    if first.kind == "digest":
        return [_digest(work, config.limits, context) for work in batch.works]
    if first.embedder not in embedders:
        embedders[first.embedder] = _create(first.embedder, config.forms[first.embedder])
    embedder = embedders[first.embedder]
    space = _space(embedder)
    if first.kind == "space":
        return [WorkDone(space) for _ in batch.works]
    if first.kind == "text":
        start = time.perf_counter_ns()
        vectors = embedder.embed_texts([work.text for work in batch.works])
        spent = time.perf_counter_ns() - start
        return [WorkDone(space, vectors=row[None], embed_ns=spent) for row in vectors]
    decoded = [_decoded(work, config.limits, context) for work in batch.works]
    ready = [picture for picture in decoded if isinstance(picture, _Decoded)]
    answers = iter(_embedded(embedder, space, first.kind, ready, context))
    return [next(answers) if isinstance(picture, _Decoded) else picture for picture in decoded]


def _digest(work: Work, limits: ImageLimits, context: WorkerContext) -> WorkDone | Exception:
    decoded = _decoded(work, limits, context)
    if isinstance(decoded, Exception):
        return decoded
    assert work.boxes is not None  # its kind has them
    return WorkDone(None, decode_ns=decoded.ns, digest=digest_of(decoded.picture.pixels, work.boxes))


@dataclass(frozen=True)
class _Decoded:
    picture: Picture
    ns: int


def _decoded(work: Work, limits: ImageLimits, context: WorkerContext) -> _Decoded | Exception:
    context.check()
    start = time.perf_counter_ns()
    try:
        picture = decode_picture(work.data, limits)
        if work.kind == "reference" and not (work.stored or _coloured(picture, muted=work.muted)):
            raise InvalidInput(
                "a reference must be in colour, got a grey or single-ink picture", reason="IMAGE_NOT_COLOUR"
            )
    except Exception as error:  # one picture's failure is its own
        return portable_error(error)
    return _Decoded(picture, time.perf_counter_ns() - start)


def _coloured(picture: Picture, *, muted: bool) -> bool:
    return has_colour(picture.pixels) if muted else picture.in_colour


def _embedded(
    embedder: Embedder, space: Space, kind: str, ready: Sequence[_Decoded], context: WorkerContext
) -> list[WorkDone | Exception]:
    """The answers for decoded pictures, embedded in one call; each by itself where one of them cannot be."""
    context.check()
    embed = embedder.embed_pages if kind == "page" else embedder.embed_references
    start = time.perf_counter_ns()
    try:
        vectors = embed([one.picture.pixels for one in ready])
    except Exception as error:
        if len(ready) == 1:
            return [portable_error(error)]
        return [answer for one in ready for answer in _embedded(embedder, space, kind, [one], context)]
    spent = time.perf_counter_ns() - start
    return [_done(space, kind, one, rows, spent) for one, rows in zip(ready, vectors, strict=True)]


def _done(space: Space, kind: str, one: _Decoded, vectors: Float32[np.ndarray, "n dim"], spent: int) -> WorkDone:
    pixels = one.picture.pixels
    height, width = pixels.shape[:2]
    if kind == "page":
        return WorkDone(space, None, vectors, width, height, one.ns, spent)
    start = time.perf_counter_ns()
    boxes = np.array(reference_sources(width, height, CropRecipe.parse(space.crop_recipe)), np.int32)
    digest = digest_of(pixels, boxes)
    prepared = Prepared(width, height, one.picture.media_type, vectors, boxes, digest, space.id, one.picture.notes)
    return WorkDone(space, prepared, None, width, height, one.ns + time.perf_counter_ns() - start, spent)


def _create(name: str, form: Form) -> Embedder:
    try:
        return create_embedder(form.embedder, form.settings)
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
