"""What the children of test_workers.py run; apart from it, so that a child imports next to nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.errors import NotFound
from serving.workers import WorkerContext


def build_echo() -> Callable[[Any, WorkerContext], object]:
    """The child of most tests: does what the request says."""
    return obey


def obey(request: Any, context: WorkerContext) -> object:
    act, *rest = request if isinstance(request, tuple) else (request,)
    if act == "wait":  # until asked to stop, or until a file is there
        while not (rest and Path(rest[0]).exists()):
            context.check()
            time.sleep(0.002)
    elif act == "deaf":
        context.emit("began")
        time.sleep(600)
    elif act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif act == "emit":
        for event in rest:
            context.emit(event)
    elif act == "emit a lambda":
        context.emit(lambda: None)
    elif act == "raise":
        raise rest[0]
    elif act == "call":
        return rest[0](*rest[1:])
    return request


def build_failing(text: str) -> Callable[[Any, WorkerContext], object]:
    raise LookupError(text)


def build_dying() -> Callable[[Any, WorkerContext], object]:
    os._exit(7)


def build_killed(log: str, times: int) -> Callable[[Any, WorkerContext], object]:
    """Is killed from outside so many times before it is ready; leaves a line in `log` at each attempt."""
    with Path(log).open("a") as file:
        file.write("attempt\n")
    if Path(log).read_text().count("attempt") <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return obey


def build_slow() -> Callable[[Any, WorkerContext], object]:
    time.sleep(600)
    return obey


def build_unless(flag: str, log: str) -> Callable[[Any, WorkerContext], object]:
    """Fails while the file `flag` exists; leaves a line in `log` at each attempt."""
    with Path(log).open("a") as file:
        file.write("attempt\n")
    if Path(flag).exists():
        raise OSError("the weights are missing")
    return obey


def an_unpicklable_result() -> object:
    return lambda: None


def leave() -> None:
    sys.exit(3)


def run_out_of_memory() -> bytes:
    return bytes(1 << 62)


class PickyError(NotFound):
    """Pickles, and then can't be built again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def raise_picky() -> None:
    raise PickyError("one", "two")


def build_weighing() -> Handler:
    """Answers with this process's own resident bytes."""
    import psutil

    process = psutil.Process()
    return lambda request, context: process.memory_info().rss
