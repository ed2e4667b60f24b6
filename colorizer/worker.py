"""What runs in a worker process: decode, colour check, back-end, luma, encode."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from colorizer.backend import Backend, Card, Registry, discover
from colorizer.context import PictureCache, Pixels, corner_hits
from colorizer.outcome import Clock, kept
from colorizer.running import All, Listener, Ready, alone, out_of_memory, report, run, run_together
from colorizer.tasks import (
    Loading,
    OfPage,
    Options,
    PageBatch,
    PageOutcome,
    PageTask,
    Preview,
    Started,
    Stepped,
)
from colorizer.types import Job
from serving.colour import grey_of
from serving.errors import Cancelled, FailedState, InvalidInput, ServiceError
from serving.images import ImageLimits, decode_picture, encode_picture
from serving.workers import Handler, WorkerContext

_PREVIEW_TYPE, _PREVIEW_QUALITY = "image/jpeg", 80


@dataclass(frozen=True)
class WorkerPlan:
    """What a worker process is built from; picklable."""

    device: str = "cpu"
    extra_backends: tuple[str, ...] = ()
    allowed: tuple[str, ...] | None = None
    backend_settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by back-end
    limits: ImageLimits = field(default_factory=ImageLimits)
    cache_bytes: int = 1 << 29  # of decoded context pictures
    loaded: int = 2  # back-ends held at a time


def build(plan: WorkerPlan) -> Handler:
    """The handler of one worker process; called once in it."""
    return Worker(plan, discover(plan.extra_backends, plan.allowed, plan.backend_settings)).handle


class _Member:
    """Whoever waits for one page of a batch."""

    def __init__(self, context: Listener, index: int) -> None:
        self.check = context.check
        self._context = context
        self._index = index

    def emit(self, event: object) -> None:
        self._context.emit(OfPage(self._index, event))  # type: ignore[arg-type]  # what a worker emits for a page


class Worker:
    """Colourises a page, or a few together.

    Args:
        plan: device, limits and sizes of caches.
        registry: where back-ends come from; each is loaded when a page first asks for it.
    """

    def __init__(self, plan: WorkerPlan, registry: Registry) -> None:
        self._plan = plan
        self._registry = registry
        self._backends: OrderedDict[str, Backend] = OrderedDict()
        self._cache = PictureCache(lambda data: decode_picture(data, _any_side(plan.limits)).pixels, plan.cache_bytes)

    def handle(self, request: PageTask | PageBatch, context: WorkerContext) -> PageOutcome | None:
        """The finished page; of a batch, an OfPage is emitted for each page as soon as it is done or has failed.

        Raises:
            ServiceError: with a reason of PageError, or BACKEND_UNAVAILABLE; for a batch only Cancelled.
        """
        if isinstance(request, PageBatch):
            self._handle_batch(request.tasks, context)
            return None
        context.emit(Started())
        try:
            page = self._prepared(request, context)
            if isinstance(page, PageOutcome):
                return page
            backend = self._backend(request.backend, context)
            page.clock.lap("load")
            return page.finished(run(backend, request.backend, page.job))
        except MemoryError as error:
            raise out_of_memory(str(error)) from error
        except ServiceError as error:
            report(error, request.backend, context)
            raise

    def _handle_batch(self, tasks: Sequence[PageTask], context: Listener) -> None:
        members = [_Member(context, index) for index in range(len(tasks))]
        for member in members:
            member.emit(Started())
        pages: list[Ready] = []
        for task, member in zip(tasks, members, strict=True):
            with alone(task.backend, member):
                page = self._prepared(task, member)
                if isinstance(page, PageOutcome):
                    member.emit(page)
                else:
                    pages.append(page)
        if not pages:
            return
        try:
            backend = self._backend(tasks[0].backend, All(pages))
        except Cancelled:
            raise
        except Exception as error:
            for page in pages:
                with alone(page.task.backend, page.listener):
                    raise error
            return
        for page in pages:
            page.clock.lap("load")
        run_together(backend, pages)

    def _prepared(self, task: PageTask, listener: Listener) -> Ready | PageOutcome:
        """The page decoded and checked; or finished, where it was in colour already."""
        clock = Clock()
        page = decode_picture(task.data, self._plan.limits)
        if page.in_colour and task.options.colour_pages == "reject":
            raise InvalidInput("the page must be grey, but it is in colour already", reason="PAGE_IN_COLOUR")
        if page.in_colour and task.options.colour_pages == "keep":
            return kept(task, page, clock)
        grey = grey_of(page.pixels)
        _check_fits(task, self._registry.spec(task.backend).card, grey)
        corners, places, missing = corner_hits(task.hits, task.pictures, self._cache, spare=task.spare)
        listener.check()
        clock.lap("decode")
        job = Job(
            page=grey,
            context=corners,
            seed=task.seed,
            steps=task.options.steps,
            hints=task.hints,
            palette=task.palette,
            parameters=dict(task.options.parameters),
        )
        return Ready(
            task, listener, clock, _with_callbacks(job, task.options, listener), places, (*page.notes, *missing)
        )

    def _backend(self, name: str, context: Listener) -> Backend:
        """The loaded back-end; loads it first if need be, and closes the one that was idle longest."""
        if name in self._backends:
            self._backends.move_to_end(name)
            return self._backends[name]
        context.emit(Loading())
        while len(self._backends) >= self._plan.loaded:
            _, oldest = self._backends.popitem(last=False)
            with contextlib.suppress(Exception):  # its page is done; the next one is not to suffer
                oldest.close()
        settings = {"device": self._plan.device, **self._plan.backend_settings.get(name, {})}
        try:
            backend = self._registry.spec(name).load(settings)
        except ServiceError as error:
            raise FailedState(error.message, reason="BACKEND_UNAVAILABLE") from error
        except Exception as error:
            raise FailedState(
                f"back-end {name!r} cannot be loaded here: {type(error).__name__}; the server's log has the trace",
                reason="BACKEND_UNAVAILABLE",
            ) from error
        self._backends[name] = backend
        context.emit(Started())
        context.check()
        return backend


def _any_side(limits: ImageLimits) -> ImageLimits:
    """The same limits for context pictures, which may be narrow patches."""
    return replace(limits, min_side=1)


def _check_fits(task: PageTask, card: Card, grey: UInt8[np.ndarray, "h w"]) -> None:
    height, width = grey.shape
    if min(height, width) < card.min_side:
        raise InvalidInput(
            f"back-end {card.name!r} needs pages of at least {card.min_side} pixels a side, got {width} x {height}",
            reason="IMAGE_TOO_SMALL",
        )
    if height * width > card.max_pixels:
        raise InvalidInput(
            f"back-end {card.name!r} takes pages of at most {card.max_pixels} pixels, got {width} x {height}",
            reason="IMAGE_TOO_LARGE",
        )
    for index, hint in enumerate(task.hints):
        if not (0 <= hint.x < width and 0 <= hint.y < height):
            raise InvalidInput(
                f"hint {index} must lie within the page of {width} x {height}, got x {hint.x:g}, y {hint.y:g}",
                reason="INVALID_HINT",
            )


def _with_callbacks(job: Job, options: Options, context: Listener) -> Job:
    """The job with progress and previews that go to the caller, and that raise when the caller has gone."""
    last = [-1]

    def progress(step: int, steps: int) -> None:
        context.check()
        last[0] = step
        context.emit(Stepped(max(0, int(step)), max(1, int(steps))))

    def preview(pixels: Pixels) -> None:
        context.check()
        if last[0] > 0 and last[0] % options.preview_every == 0:
            context.emit(_preview(pixels, options.preview_side))

    if not options.preview_every:
        return replace(job, progress=progress)
    return replace(job, progress=progress, preview=preview, preview_every=options.preview_every)


def _preview(pixels: Pixels, side: int) -> Preview:
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    data = encode_picture(pixels, _PREVIEW_TYPE, _PREVIEW_QUALITY)
    return Preview(data, _PREVIEW_TYPE, pixels.shape[1], pixels.shape[0])
