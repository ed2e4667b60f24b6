"""Checks and copies of environments, made in a child process: a damaged tree ends the child and is told as a finding.

The child serves one caller after the other through its standard input and output, a line of JSON each.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import WeakSet

from retrieval.check import CheckProgress
from retrieval.stopping import draining
from retrieval.types import Finding
from serving import errors
from serving.errors import CorruptData, ServiceError, Unavailable

STALL_SECONDS = 600.0  # without a word; the longest silence is a copy, which is as fast as the disk
START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from retrieval.inspection import main; main()"


Inspectors = Callable[[], AbstractContextManager["Inspector"]]  # makes one, or lends one that is there already


class Inspector:
    """A child process that checks and copies; started when it is first needed, again after it died.

    To be used by one caller at a time, and closed; a context manager closes it.

    Args:
        stall_seconds: a child that says nothing for so long is killed.
    """

    def __init__(self, *, stall_seconds: float = STALL_SECONDS) -> None:
        self._stall_seconds = stall_seconds
        self._abandoning = threading.Lock()  # held while a child is started or killed
        self._abandoned = False
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def __enter__(self) -> Inspector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def check(self, folder: Path) -> Iterator[Finding | CheckProgress]:
        """What is wrong with the environment in `folder`, and how far the check is; progress comes last.

        It may be live; a change while it is read is no finding. Nothing that is wrong with it is an error.

        Raises:
            Unavailable: STORE_FAILED, the child cannot be started or the system refuses to read.
        """
        progress = CheckProgress()
        try:
            for answer in self._ask(check=str(folder)):
                if "finding" in answer:
                    yield Finding(answer["finding"], answer["reference_id"])
                else:
                    progress = CheckProgress(answer["references"], answer["byte_size"])
                    yield progress
        except CorruptData as error:
            yield Finding(error.message)
            yield progress

    def sound(self, folder: Path) -> None:
        """Returns if a check of the environment in `folder` finds nothing.

        Raises:
            CorruptData: DATA_DAMAGED, with the first finding.
            Unavailable: as `check`.
        """
        findings = [found.text for found in self.check(folder) if isinstance(found, Finding)]
        if findings:
            more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
            raise CorruptData(f"{findings[0]}{more}", reason="DATA_DAMAGED", metadata={"findings": str(len(findings))})

    def copy(self, folder: Path, target: Path) -> int:
        """Writes the environment as it is at one moment into the empty folder `target`, without holes, and synced.

        Returns:
            The number of the transaction that was copied.

        Raises:
            CorruptData: DATA_DAMAGED.
            Overloaded: DISK_FULL.
            Unavailable: STORE_FAILED.
        """
        (answer,) = self._ask(copy=str(folder), target=str(target))
        return int(answer["transaction"])

    def close(self) -> None:
        """Ends the child, whatever it is doing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def abandon(self) -> None:
        """Ends the child whatever it is doing, for good; from any thread. Whoever waits for it gets Unavailable."""
        with self._abandoning:
            self._abandoned, process = True, self._process
            if process is not None:
                process.kill()

    def _refuse_abandoned(self) -> None:
        if self._abandoned:
            raise draining()

    def _ask(self, **command: str) -> Iterator[dict[str, Any]]:
        process = self._started()
        assert process.stdin is not None
        finished = False
        try:
            with contextlib.suppress(OSError):  # it is dead: the answer says so
                process.stdin.write(json.dumps(command) + "\n")
                process.stdin.flush()
            while "done" not in (answer := self._answer(process, next(iter(command.values())))):
                if "error" in answer:
                    finished = True
                    raise _error(answer)
                yield answer
            finished = True
        finally:
            if not finished:  # it may still be speaking of this
                self.close()

    def _answer(self, process: subprocess.Popen[str], folder: str) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=self._stall_seconds)
        except queue.Empty:
            raise CorruptData(
                f"{folder}: expected to be read, got no word for {self._stall_seconds:g} s", reason="DATA_DAMAGED"
            ) from None
        if line is None:
            code = process.wait()
            self._refuse_abandoned()
            raise CorruptData(
                f"{folder}: expected to be read, got the end of the process that read it ({_ending(code)})",
                reason="DATA_DAMAGED",
            )
        return dict(json.loads(line))

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._lines = queue.SimpleQueue()
        with self._abandoning:
            self._refuse_abandoned()
            self._process = _child()
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
        return self._process


class Office:
    """Lends inspectors, and ends all of them at once. May be used by several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._lent: WeakSet[Inspector] = WeakSet()
        self._closed = False

    def __call__(self) -> Inspector:
        """An inspector, to be closed by whoever asks.

        Raises:
            Unavailable: DRAINING, the office is closed.
        """
        with self._guard:
            if self._closed:
                raise draining()
            inspector = Inspector()
            self._lent.add(inspector)
            return inspector

    def close(self) -> None:
        """Ends what every inspector does; there are no more."""
        with self._guard:
            self._closed = True
            lent = list(self._lent)
        for inspector in lent:
            inspector.abandon()


def _child() -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            [sys.executable, "-c", START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends the child
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    except OSError as error:
        raise Unavailable(f"the process that checks cannot be started: {error}", reason="STORE_FAILED") from error


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError):  # closed by `close`
        for line in process.stdout:
            lines.put(line)
    lines.put(None)


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _error(answer: dict[str, Any]) -> ServiceError:
    kind: type[ServiceError] = getattr(errors, answer["error"])
    return kind(answer["message"], reason=answer["reason"])
