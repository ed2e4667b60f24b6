"""What the child process of `inspector` does: it reads commands, and answers each with lines of JSON."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieval.check import check
from retrieval.disk import disk_errors, sync_file
from retrieval.folder import sync_folder
from retrieval.onlooker import Onlooker
from retrieval.types import Finding
from serving.errors import ServiceError


def main() -> None:
    """Serves until the standard input ends; then the process ends at once, also in the middle of something."""
    commands: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands,), daemon=True).start()
    while True:
        for answer in _answers(commands.get()):
            _say(answer)


def _listen(commands: queue.SimpleQueue[dict[str, str]]) -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    os._exit(0)


def _say(answer: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the parent was killed
        os._exit(0)


def _answers(command: dict[str, str]) -> Iterator[dict[str, Any]]:
    try:
        yield from _check(Path(command["check"])) if "check" in command else _copy(command)
        yield {"done": True}
    except ServiceError as error:
        yield {"error": type(error).__name__, "message": error.message, "reason": error.reason}


def _check(folder: Path) -> Iterator[dict[str, Any]]:
    onlooker = Onlooker(folder)
    try:
        for found in check(onlooker):
            if isinstance(found, Finding):
                yield {"finding": found.text, "reference_id": found.reference_id}
            else:
                yield {"references": found.references, "byte_size": found.byte_size}
    finally:
        onlooker.close()


def _copy(command: dict[str, str]) -> Iterator[dict[str, Any]]:
    target = Path(command["target"])
    onlooker = Onlooker(Path(command["copy"]))
    try:
        with disk_errors(target):
            transaction = onlooker.copy(target)
            sync_file(target / "data.mdb")
            sync_folder(target)
    finally:
        onlooker.close()
    yield {"transaction": transaction}
