"""The worker processes as the engine sees them: spaces, references and pages, with the queues kept apart."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from retrieval.batching import Batching
from retrieval.config import VECTORS_ONLY, EmbedderVariant, RetrievalSettings
from retrieval.embed import EMBEDDERS, EmbedderSettings
from retrieval.types import Prepared, Series, Space, Timing
from retrieval.work import Form, Work, WorkConfig, WorkDone, build
from serving.errors import FailedState, NotFound, Overloaded, ServiceError
from serving.images import ImageLimits
from serving.workers import WorkerPool


class Embedding:
    """Decodes and embeds in worker processes.

    Args:
        settings: which embedders, how many workers, what limits.
    """

    def __init__(self, settings: RetrievalSettings) -> None:
        self.limits = ImageLimits(max_bytes=settings.max_picture_bytes, max_pixels=settings.max_picture_pixels)
        self._forms = forms_of(settings)
        self._together = settings.embed_together
        pool = WorkerPool(
            build,
            (WorkConfig(self._forms, self.limits),),
            workers=settings.workers,
            queue=settings.max_searches + 2 * settings.workers,
            name="retrieval-worker",
        )
        self._pool = Batching(pool, self._most, settings.picture_seconds)
        # by embedder: pictures to add never fill the queue before a search
        self._ingest = {name: asyncio.Semaphore(settings.workers * self._most(name)) for name in self._forms}
        self._digests = asyncio.Semaphore(settings.workers)
        self._searches = 0
        self._max_searches = settings.max_searches
        self._spaces: dict[str, Space] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the embedders that a series may have, variants included."""
        return tuple(sorted(self._forms))

    @property
    def idle(self) -> bool:
        """Whether a worker is free and nothing waits for one, so that work without haste may begin."""
        return self._pool.idle

    def _most(self, name: str) -> int:
        """How many pictures one call should embed: a weight-free embedder gains nothing by more than one."""
        return self._together if name and self._forms[name].embedder == "open_clip" else 1

    async def start(self) -> None:
        """Returns when the workers are ready.

        Raises:
            FailedState: they cannot be started.
        """
        await self._pool.start()

    async def close(self) -> None:
        """Stops the workers."""
        await self._pool.close()

    async def space(self, name: str) -> Space:
        """The space of an embedder's vectors, as this server is set.

        Raises:
            NotFound: NO_SUCH_EMBEDDER.
            FailedState: its package or its weights are missing.
        """
        if name not in self._forms:
            raise NotFound(f"an embedder is one of {', '.join(self.names)}, got {name!r}", reason="NO_SUCH_EMBEDDER")
        if name not in self._spaces:
            done, _ = await self._run(Work("space", name))
            assert done.space is not None  # what was asked for
            self._spaces[name] = done.space
        return self._spaces[name]

    async def check(self, series: Series) -> None:
        """Returns if this server's embedder gives vectors of the series' space.

        Raises:
            FailedState: EMBEDDING_SPACE_CHANGED, it does not; VECTORS_ONLY, the series has no embedder; or it cannot be
                loaded.
        """
        if series.embedder == VECTORS_ONLY:
            raise FailedState(
                f"series {series.id!r} takes ready-made vectors only, got a picture", reason="VECTORS_ONLY"
            )
        try:
            space = await self.space(series.embedder)
        except NotFound as error:
            raise FailedState(
                f"series {series.id!r} needs the embedder {series.embedder!r}: {error.message}",
                reason="EMBEDDER_UNAVAILABLE",
            ) from error
        if space != series.space:
            raise FailedState(
                f"series {series.id!r} was embedded in space {series.space.id}, this server embeds in {space.id}",
                reason="EMBEDDING_SPACE_CHANGED",
                metadata={"expected": series.space.id, "actual": space.id},
            )

    async def reference(
        self, series: Series, data: bytes, *, muted: bool = False, stored: bool = False, embedder: str = ""
    ) -> tuple[Prepared, Timing]:
        """A picture made ready for the pool.

        Args:
            series: whose.
            data: the picture's file.
            muted: whether any colour at all is enough.
            stored: whether it is in the pool already, so that its colour is not judged again.
            embedder: another one than the series', as for a migration.

        Raises:
            InvalidInput: IMAGE_UNREADABLE, IMAGE_TOO_LARGE, IMAGE_TOO_SMALL or IMAGE_NOT_COLOUR.
            NotFound: NO_SUCH_EMBEDDER.
            Unavailable, Timeout: the worker died, or took too long.
        """
        name = embedder or series.embedder
        await self.space(name)
        async with self._ingest[name]:
            done, timing = await self._run(Work("reference", name, data, muted, stored))
        assert done.prepared is not None  # what was asked for
        return done.prepared, timing

    async def digest(self, data: bytes, boxes: Int32[np.ndarray, "n 4"]) -> bytes:
        """The digest of a picture's patches.

        Raises:
            InvalidInput: IMAGE_UNREADABLE, IMAGE_TOO_LARGE or IMAGE_TOO_SMALL.
            Unavailable, Timeout: the worker died, or took too long.
        """
        async with self._digests:
            done, _ = await self._run(Work("digest", "", data, boxes=boxes))
        return done.digest

    async def page(self, series: Series, data: bytes) -> tuple[Float32[np.ndarray, "4 dim"], int, int, Timing]:
        """The vectors of a page's corners, and its width and height in pixels.

        Raises:
            InvalidInput: IMAGE_UNREADABLE, IMAGE_TOO_LARGE or IMAGE_TOO_SMALL.
            Overloaded: TOO_MANY_SEARCHES.
            Unavailable, Timeout: the worker died, or took too long.
        """
        done, timing = await self._search(Work("page", series.embedder, data))
        assert done.vectors is not None  # what was asked for
        return done.vectors, done.width, done.height, timing

    async def text(self, series: Series, text: str) -> tuple[Float32[np.ndarray, "1 dim"], Timing]:
        """The vector of a text, in the series' space.

        Raises:
            FailedState: EMBEDDER_HAS_NO_TEXT, or what it needs for texts cannot be loaded.
            Overloaded: TOO_MANY_SEARCHES.
            Unavailable, Timeout: the worker died, or took too long.
        """
        done, timing = await self._search(Work("text", series.embedder, text=text))
        assert done.vectors is not None  # what was asked for
        return done.vectors, timing

    async def _search(self, work: Work) -> tuple[WorkDone, Timing]:
        if self._searches >= self._max_searches:
            raise too_many_searches(self._max_searches)
        self._searches += 1
        try:
            return await self._run(work)
        finally:
            self._searches -= 1

    async def _run(self, work: Work) -> tuple[WorkDone, Timing]:
        start = time.perf_counter_ns()
        try:
            done = await self._pool.run(work)
        except ServiceError as error:
            error.metadata.setdefault("stage", work.kind)
            raise
        spent = time.perf_counter_ns() - start
        waited = max(0, spent - done.decode_ns - done.embed_ns)
        return done, Timing(queue_ns=waited, decode_ns=done.decode_ns, embed_ns=done.embed_ns)


def too_many_searches(limit: int) -> Overloaded:
    """The error for a search beyond the server's limit."""
    return Overloaded(
        f"at most {limit} searches run and wait at once, got one more", reason="TOO_MANY_SEARCHES", retry_after=1.0
    )


def forms_of(settings: RetrievalSettings) -> dict[str, Form]:
    """The embedders that the settings describe, by name: the registered ones as the server is set, and the variants."""
    forms = {
        name: Form(name, _settings(EmbedderVariant.model_construct(embedder=name, **_own(name, settings)), settings))
        for name in EMBEDDERS
    }
    return forms | {
        name: Form(variant.embedder, _settings(variant, settings))
        for name, variant in settings.embedder_variants.items()
    }


def _own(name: str, settings: RetrievalSettings) -> dict[str, Any]:
    """The server's own settings of an embedder, which must not be given what it has no use for."""
    clip = ("clip_model", "clip_pretrained", "clip_weights", "clip_config") if name == "open_clip" else ()
    return {field: getattr(settings, field) for field in ("crop_recipe", "grey_twin", *clip)}


def _settings(variant: EmbedderVariant, settings: RetrievalSettings) -> EmbedderSettings:
    if variant.embedder != "open_clip":
        return EmbedderSettings(crop_recipe=variant.crop_recipe, grey_twin=variant.grey_twin)
    return EmbedderSettings(
        crop_recipe=variant.crop_recipe,
        grey_twin=variant.grey_twin,
        model=variant.clip_model,
        pretrained=variant.clip_pretrained,
        weights=variant.clip_weights,
        config=variant.clip_config,
        device=settings.clip_device,
        precision=settings.clip_precision,
        batch=settings.clip_batch,
    )
