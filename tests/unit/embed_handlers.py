"""What the children of test_retrieval_batching.py run: the data of a piece of work says what becomes of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrieval.types import Space
from retrieval.work import Work, WorkBatch, WorkDone
from serving.errors import InvalidInput
from serving.workers import WorkerContext

SPACE = Space("s", "m", "", "p", "native", 1, True)


def build(log: str) -> Callable[[Any, WorkerContext], object]:
    """A handler that notes in the file `log` what came together."""

    def handle(batch: WorkBatch, context: WorkerContext) -> list[WorkDone | Exception]:
        with Path(log).open("a") as file:
            file.write(" ".join(f"{work.embedder}:{work.text}" for work in batch.works) + "\n")
        return [_done(work, context) for work in batch.works]

    return handle


def _done(work: Work, context: WorkerContext) -> WorkDone | Exception:
    act, _, path = work.data.decode().partition(" ")
    while act == "wait" and not Path(path).exists():
        context.check()
        time.sleep(0.002)
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "fail":
        return InvalidInput(f"no picture in {work.text}", reason="IMAGE_UNREADABLE")
    return WorkDone(SPACE, width=int(work.text))
