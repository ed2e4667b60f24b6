"""What the children of test_batching.py run: a page's data says what becomes of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from colorizer.tasks import OfPage, PageBatch, PageOutcome, PageTask, Started, Stepped
from serving.errors import NotFound
from serving.workers import WorkerContext


def build(log: str) -> Callable[[Any, WorkerContext], object]:
    """A handler that notes in the file `log` which pages came together."""

    def handle(request: PageTask | PageBatch, context: WorkerContext) -> object:
        tasks = request.tasks if isinstance(request, PageBatch) else (request,)
        with Path(log).open("a") as file:
            file.write(" ".join(f"{task.backend}{task.seed}" for task in tasks) + "\n")
        if isinstance(request, PageTask):
            context.emit(Started())
            return _done(request, context)
        for index, task in enumerate(tasks):
            context.emit(OfPage(index, Stepped(task.seed, 99)))
            try:
                context.emit(OfPage(index, _done(task, context)))
            except NotFound as error:
                context.emit(OfPage(index, error))
        return None

    return handle


def build_failing(log: str) -> Callable[[Any, WorkerContext], object]:
    raise LookupError("no weights")


def _done(task: PageTask, context: WorkerContext) -> PageOutcome:
    act, _, path = task.data.decode().partition(" ")
    while act == "wait" and not Path(path).exists():
        context.check()
        time.sleep(0.002)
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "fail":
        raise NotFound("nothing there", reason="INVALID_CONTEXT")
    return PageOutcome(str(task.seed).encode(), "image/png", 1, 1, "", False, (), None, 0, 0, 0)
