"""The worker processes as the engine sees them: spaces, references and pages, with the queues kept apart."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from jaxtyping import Float32

from retrieval.config import RetrievalSettings
from retrieval.embed import EMBEDDERS, EmbedderSettings
from retrieval.types import Prepared, Series, Space, Timing
from retrieval.work import Work, WorkConfig, WorkDone, build
from serving.errors import FailedState, NotFound, Overloaded, ServiceError
from serving.images import ImageLimits
from serving.workers import WorkerPool

VECTORS = "vectors"  # the embedder of a series that takes ready-made vectors only


class Embedding:
    """Decodes and embeds in worker processes.

    Args:
        settings: which embedders, how many workers, what limits.
    """

    def __init__(self, settings: RetrievalSettings) -> None:
        self._seconds = settings.picture_seconds
        self.limits = ImageLimits(max_bytes=settings.max_picture_bytes, max_pixels=settings.max_picture_pixels)
        config = WorkConfig({name: _settings(name, settings) for name in EMBEDDERS}, self.limits)
        self._pool = WorkerPool(
            build,
            (config,),
            workers=settings.workers,
            queue=settings.max_searches + 2 * settings.workers,
            name="retrieval-worker",
        )
        self._ingest = asyncio.Semaphore(settings.workers)  # pictures to add never fill the queue before a search
        self._searches = 0
        self._max_searches = settings.max_searches
        self._spaces: dict[str, Space] = {}

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
        if name not in EMBEDDERS:
            raise NotFound(
                f"an embedder is one of {', '.join(sorted(EMBEDDERS))}, got {name!r}", reason="NO_SUCH_EMBEDDER"
            )
        if name not in self._spaces:
            done, _ = await self._run(Work("space", name))
            self._spaces[name] = done.space
        return self._spaces[name]

    async def check(self, series: Series) -> None:
        """Returns if this server's embedder gives vectors of the series' space.

        Raises:
            FailedState: EMBEDDING_SPACE_CHANGED, it does not; VECTORS_ONLY, the series has no embedder; or it cannot be
                loaded.
        """
        if series.embedder == VECTORS:
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

    async def reference(self, series: Series, data: bytes, *, muted: bool = False) -> tuple[Prepared, Timing]:
        """A picture made ready for the pool; `muted` if any colour at all is enough.

        Raises:
            InvalidInput: IMAGE_UNREADABLE, IMAGE_TOO_LARGE, IMAGE_TOO_SMALL or IMAGE_NOT_COLOUR.
            Unavailable, Timeout: the worker died, or took too long.
        """
        async with self._ingest:
            done, timing = await self._run(Work("reference", series.embedder, data, muted))
        assert done.prepared is not None  # what was asked for
        return done.prepared, timing

    async def again(self, series: Series, data: bytes) -> Prepared:
        """A picture of the pool made ready in another space: it was found to be in colour before.

        Raises:
            InvalidInput: IMAGE_UNREADABLE, IMAGE_TOO_LARGE or IMAGE_TOO_SMALL.
            Unavailable, Timeout: the worker died, or took too long.
        """
        async with self._ingest:
            done, _ = await self._run(Work("again", series.embedder, data))
        assert done.prepared is not None  # what was asked for
        return done.prepared

    async def page(self, series: Series, data: bytes) -> tuple[Float32[np.ndarray, "4 dim"], int, int, Timing]:
        """The vectors of a page's corners, and its width and height in pixels.

        Raises:
            InvalidInput: IMAGE_UNREADABLE, IMAGE_TOO_LARGE or IMAGE_TOO_SMALL.
            Overloaded: TOO_MANY_SEARCHES.
            Unavailable, Timeout: the worker died, or took too long.
        """
        if self._searches >= self._max_searches:
            raise too_many_searches(self._max_searches)
        self._searches += 1
        try:
            done, timing = await self._run(Work("page", series.embedder, data))
        finally:
            self._searches -= 1
        assert done.vectors is not None  # what was asked for
        return done.vectors, done.width, done.height, timing

    @property
    def idle(self) -> bool:
        """Whether a worker is free and nothing waits for one, so that work without haste may begin."""
        return self._pool.free > 0

    async def _run(self, work: Work) -> tuple[WorkDone, Timing]:
        start = time.perf_counter_ns()
        try:
            done: WorkDone = await self._pool.run(work, timeout=self._seconds)
        except ServiceError as error:
            error.metadata.setdefault("stage", work.kind)
            raise
        spent = time.perf_counter_ns() - start
        waited = max(0, spent - done.decode_ns - done.embed_ns)
        return done, Timing(queue_ns=waited, decode_ns=done.decode_ns, embed_ns=done.embed_ns)


def too_many_searches(limit: int) -> Overloaded:
    """The error for a search beyond the server's limit."""
    return Overloaded(
        f"at most {limit} searches run and wait at once, got one more", reason="TOO_MANY_SEARCHES", retry_after=1
    )


def _settings(name: str, settings: RetrievalSettings) -> EmbedderSettings:
    if name != "open_clip":  # an embedder must not be given what it has no use for
        return EmbedderSettings(crop_recipe=settings.crop_recipe, grey_twin=settings.grey_twin)
    return EmbedderSettings(
        crop_recipe=settings.crop_recipe,
        grey_twin=settings.grey_twin,
        model=settings.clip_model,
        pretrained=settings.clip_pretrained,
        weights=settings.clip_weights,
        config=settings.clip_config,
        device=settings.clip_device,
        precision=settings.clip_precision,
        batch=settings.clip_batch,
    )
