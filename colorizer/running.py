"""Runs a back-end for a page, or for a few together, and holds it to its contract."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from colorizer.backend import Backend
from colorizer.context import Places
from colorizer.device_lost import EXIT_STATUS, device_lost
from colorizer.outcome import Clock, encoded, repaired
from colorizer.tasks import Held, PageOutcome, PageTask, Started, Trouble
from colorizer.types import Job, Result
from serving.errors import Cancelled, Overloaded, ServiceError
from serving.workers import portable_error

_TRACE_CHARS = 8000  # of a back-end's traceback that are logged


@runtime_checkable
class Listener(Protocol):
    """Whoever waits for a page; the worker's context is one."""

    def emit(self, event: object) -> None:
        """Takes an event of the page."""

    def check(self) -> None:
        """Raises Cancelled when nobody waits any more."""


@dataclass(frozen=True, eq=False)
class Ready:
    """A page that can be computed."""

    task: PageTask
    listener: Listener
    clock: Clock
    job: Job
    places: Places
    notes: tuple[str, ...] = ()  # what was left out or guessed when the page was decoded

    def finished(self, result: Result) -> PageOutcome:
        """What goes back to the caller."""
        self.listener.check()
        pixels = repaired(result.pixels, self.job.page) if self.task.options.luma == "keep" else result.pixels
        self.clock.lap("compute")
        return replace(
            encoded(pixels, self.task.options, self.clock),
            used=tuple(
                place is not None and (result.used is None or bool(result.used[place])) for place in self.places
            ),
            confidence=None if result.confidence is None else float(result.confidence.mean(dtype=np.float64)) / 255,
            notes=self.notes,
        )


class All:
    """Whoever waits for any of these pages."""

    def __init__(self, pages: Sequence[Ready]) -> None:
        self.check = pages[0].listener.check
        self._pages = pages

    def emit(self, event: object) -> None:
        """Tells all of them."""
        for page in self._pages:
            page.listener.emit(event)


def out_of_memory(detail: str) -> Overloaded:
    """The failure of a page that the memory `detail` does not hold."""
    return Overloaded(f"the page does not fit into the worker's memory {detail}".rstrip(), reason="OUT_OF_MEMORY")


def report(error: ServiceError, name: str, listener: Listener) -> None:
    """Tells the log of a fault in a back-end's code; ends the process where every later page would meet it too."""
    if error.__cause__ is not None and not isinstance(error.__cause__, ServiceError):
        listener.emit(Trouble(name, "".join(traceback.format_exception(error))[-_TRACE_CHARS:]))
    if device_lost(error.message) or device_lost(str(error.__cause__)):
        os._exit(EXIT_STATUS)  # every page after this one would fail; a new process will not


@contextlib.contextmanager
def alone(name: str, listener: Listener) -> Iterator[None]:
    """What fails within is the failure of this one page of a batch."""
    try:
        yield
    except Cancelled:
        raise
    except MemoryError as error:
        listener.emit(out_of_memory(str(error)))
    except Exception as error:
        if isinstance(error, ServiceError):
            report(error, name, listener)
        listener.emit(portable_error(error))


def run_together(backend: Backend, pages: Sequence[Ready]) -> None:
    """Sends each page's end; pages that are left when the back-end fails are tried again, in smaller parts.

    Raises:
        Cancelled: as a job's progress raised it.
    """
    name = pages[0].task.backend
    if len(pages) == 1:
        with alone(name, pages[0].listener):
            pages[0].listener.emit(pages[0].finished(run(backend, name, pages[0].job)))
        return
    left, too_big = _results_of(backend, name, pages)
    size = (len(left) + 1) // 2 if too_big else 1
    for position, page in enumerate(left):
        page.listener.emit(Held(position))
    for start in range(0, len(left), size):
        part = left[start : start + size]
        All(part).emit(Started())
        run_together(backend, part)


def _results_of(backend: Backend, name: str, pages: Sequence[Ready]) -> tuple[Sequence[Ready], bool]:
    """Sends results as they come; the pages that have none because the back-end failed, and whether for memory."""
    done = 0
    too_big = False
    results: Iterator[Result] | None = None
    try:
        results = iter(backend.colorize([page.job for page in pages]))
        for page, result in zip(pages, results, strict=False):
            with alone(name, page.listener):
                page.listener.emit(page.finished(_checked(result, name, page.job)))
            done += 1
    except Cancelled:
        raise
    except Exception as error:
        too_big = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        report(_as_failure(error, name), name, pages[done].listener)
    finally:
        _close(results)
    return pages[done:], too_big


def run(backend: Backend, name: str, job: Job) -> Result:
    """The back-end's one result, checked.

    Raises:
        Cancelled: as the job's progress raised it.
        MemoryError: as the back-end raised it.
        ServiceError: BACKEND_FAILED or OUT_OF_MEMORY.
    """
    results: Iterator[Result] | None = None
    try:
        results = iter(backend.colorize([job]))
        result = next(results, None)
    except (Cancelled, MemoryError):
        raise
    except Exception as error:
        raise _as_failure(error, name) from error
    finally:
        _close(results)
    return _checked(result, name, job)


def _as_failure(error: Exception, name: str) -> ServiceError:
    """What a back-end raised, as a page's failure that was caused by it."""
    kind = type(error).__name__
    failure = _failed(f"back-end {name!r} failed with {kind}; the server's log has the trace", cause=kind)
    if isinstance(error, ServiceError):
        failure = _failed(f"back-end {name!r} failed: {error.message}", cause=error.reason)
    elif kind in ("MemoryError", "OutOfMemoryError"):  # the latter is torch's; not imported here
        failure = out_of_memory("of its device")
    failure.__cause__ = error
    return failure


def _close(results: object) -> None:
    close: Callable[[], None] | None = getattr(results, "close", None)
    if close:
        with contextlib.suppress(Exception):
            close()


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
