"""What runs in a worker process: decode, colour check, back-end, luma, encode."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from colorizer.backend import Backend, Card, Registry, discover
from colorizer.chroma import chroma_layer, encode_layer
from colorizer.context import PictureCache, Pixels, corner_hits
from colorizer.device_lost import EXIT_STATUS, device_lost
from colorizer.luma import chroma_of, luma_of, with_luma
from colorizer.tasks import Loading, Options, PageOutcome, PageTask, Preview, Started, Stepped, Trouble
from colorizer.types import Job, Result
from serving.colour import grey_of
from serving.errors import Cancelled, FailedState, InvalidInput, Overloaded, ServiceError
from serving.images import ImageLimits, Picture, decode_picture, encode_picture
from serving.workers import Handler, WorkerContext

_TRACE_CHARS = 8000  # of a back-end's traceback that are logged
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


class Worker:
    """Colourises one page at a time.

    Args:
        plan: device, limits and sizes of caches.
        registry: where back-ends come from; each is loaded when a page first asks for it.
    """

    def __init__(self, plan: WorkerPlan, registry: Registry) -> None:
        self._plan = plan
        self._registry = registry
        self._backends: OrderedDict[str, Backend] = OrderedDict()
        self._cache = PictureCache(lambda data: decode_picture(data, _any_side(plan.limits)).pixels, plan.cache_bytes)

    def handle(self, task: PageTask, context: WorkerContext) -> PageOutcome:
        """The finished page.

        Raises:
            ServiceError: with a reason of PageError, or BACKEND_UNAVAILABLE.
        """
        context.emit(Started())
        try:
            return self._colorize(task, context)
        except MemoryError as error:
            raise _out_of_memory(str(error)) from error
        except ServiceError as error:
            if error.__cause__ is not None and not isinstance(error.__cause__, ServiceError):
                context.emit(Trouble(task.backend, "".join(traceback.format_exception(error))[-_TRACE_CHARS:]))
            if device_lost(error.message) or device_lost(str(error.__cause__)):
                os._exit(EXIT_STATUS)  # every page after this one would fail; a new process will not
            raise

    def _colorize(self, task: PageTask, context: WorkerContext) -> PageOutcome:
        clock = _Clock()
        card = self._registry.spec(task.backend).card
        page = decode_picture(task.data, self._plan.limits)
        if page.in_colour and task.options.colour_pages == "reject":
            raise InvalidInput("the page must be grey, but it is in colour already", reason="PAGE_IN_COLOUR")
        if page.in_colour and task.options.colour_pages == "keep":
            return _kept(task, page, clock)
        grey = grey_of(page.pixels)
        _check_fits(task, card, grey)
        corners, places = corner_hits(task.hits, task.pictures, self._cache)
        context.check()
        clock.lap("decode")
        backend = self._backend(task.backend, context)
        clock.lap("load")
        job = Job(
            page=grey,
            context=corners,
            seed=task.seed,
            steps=task.options.steps,
            hints=task.hints,
            palette=task.palette,
            parameters=dict(task.options.parameters),
        )
        result = _run(backend, card, _with_callbacks(job, task.options, context))
        context.check()
        pixels = _repaired(result.pixels, grey) if task.options.luma == "keep" else result.pixels
        clock.lap("compute")
        return replace(
            _encoded(pixels, task.options, clock),
            used=tuple(result.used is None or bool(result.used[place]) for place in places),
            confidence=None if result.confidence is None else float(result.confidence.mean(dtype=np.float64)) / 255,
        )

    def _backend(self, name: str, context: WorkerContext) -> Backend:
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


class _Clock:
    """Nanoseconds by name of the part that just ended."""

    def __init__(self) -> None:
        self.ns: dict[str, int] = {}
        self._last = time.perf_counter_ns()

    def lap(self, name: str) -> None:
        now = time.perf_counter_ns()
        self.ns[name], self._last = now - self._last, now


def _any_side(limits: ImageLimits) -> ImageLimits:
    """The same limits for context pictures, which may be narrow patches."""
    return replace(limits, min_side=1)


def _out_of_memory(detail: str) -> Overloaded:
    return Overloaded(f"the page does not fit into the worker's memory {detail}".rstrip(), reason="OUT_OF_MEMORY")


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


def _with_callbacks(job: Job, options: Options, context: WorkerContext) -> Job:
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


def _run(backend: Backend, card: Card, job: Job) -> Result:
    """The back-end's one result, checked.

    Raises:
        Cancelled: as the job's progress raised it.
        ServiceError: BACKEND_FAILED or OUT_OF_MEMORY.
    """
    results: Iterator[Result] | None = None
    try:
        results = iter(backend.colorize([job]))
        result = next(results, None)
    except Cancelled:
        raise
    except MemoryError:
        raise
    except ServiceError as error:
        raise _failed(f"back-end {card.name!r} failed: {error.message}", cause=error.reason) from error
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's; not imported here
            raise _out_of_memory(f"of {card.device}") from error
        kind = type(error).__name__
        message = f"back-end {card.name!r} failed with {kind}; the server's log has the trace"
        raise _failed(message, cause=kind) from error
    finally:
        close: Callable[[], None] | None = getattr(results, "close", None)
        if close:
            with contextlib.suppress(Exception):
                close()
    return _checked(result, card.name, job)


def _failed(message: str, **metadata: str) -> ServiceError:
    return ServiceError(message, reason="BACKEND_FAILED", metadata=metadata)  # INTERNAL on the wire


def _checked(result: object, name: str, job: Job) -> Result:
    if not isinstance(result, Result):
        raise _failed(f"back-end {name!r} must yield a Result for each page, got {type(result).__name__}")
    height, width = job.page.shape
    _check_array(name, "pixels", result.pixels, "uint8", (height, width, 3))
    if result.confidence is not None:
        _check_array(name, "confidence", result.confidence, "uint8", (height, width))
    if result.used is not None:
        ranks = max((len(corner) for corner in job.context), default=0)
        _check_array(name, "used", result.used, "bool", (len(job.context), ranks))
    return result


def _check_array(name: str, what: str, array: object, dtype: str, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray):
        raise _failed(f"back-end {name!r}: {what} must be an array, got {type(array).__name__}")
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise _failed(
            f"back-end {name!r}: {what} must be {dtype} of shape {shape}, got {array.dtype} of shape {array.shape}",
            expected=f"{dtype} {shape}",
            actual=f"{array.dtype} {array.shape}",
        )


def _repaired(pixels: Pixels, grey: UInt8[np.ndarray, "h w"]) -> Pixels:
    """The same colour at exactly the page's luma."""
    if np.array_equal(luma_of(pixels), grey):
        return pixels
    return with_luma(grey, chroma_of(pixels))


def _kept(task: PageTask, page: Picture, clock: _Clock) -> PageOutcome:
    """A page that is in colour already, as it came; the very same bytes where the type allows."""
    clock.lap("decode")
    options = task.options
    if options.chroma_only or page.media_type != options.media_type:
        outcome = _encoded(page.pixels, options, clock)
    else:
        outcome = _outcome(task.data, options, page.pixels, clock)
    return replace(outcome, already_colour=True, used=(False,) * len(task.hits))


def _encoded(pixels: Pixels, options: Options, clock: _Clock) -> PageOutcome:
    if options.chroma_only:
        data = encode_layer(chroma_layer(pixels))
    else:
        try:
            data = encode_picture(pixels, options.media_type, options.jpeg_quality)
        except InvalidInput as error:
            raise InvalidInput(error.message, reason="IMAGE_TOO_LARGE") from error
    return _outcome(data, options, pixels, clock)


def _outcome(data: bytes, options: Options, pixels: Pixels, clock: _Clock) -> PageOutcome:
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
