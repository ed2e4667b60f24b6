"""Runs a command and everything that it starts within limits of time and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.peers.processes import tree

LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    state: str  # "ok" (it ended by itself, however), "timeout" or "memory"
    code: int  # exit status; negative: a signal
    seconds: float
    peak_bytes: int  # highest resident set of all processes together that was seen


def watched(
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str],
    seconds: float,
    memory_bytes: float,
) -> Ended:
    """Runs the command; at a limit, and at the end, all that it started is killed.

    The resident set is looked at ten times a second, since a limit on the address space would also count what is only
    mapped.

    Args:
        command: program and arguments.
        folder: where it runs.
        log: both of its streams are appended here.
        environment: all of it.
        seconds: it may run.
        memory_bytes: all processes together may have resident.
    """
    seen: dict[int, psutil.Process] = {}
    begin, peak, state = time.monotonic(), 0, "ok"
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=out, env=dict(environment), start_new_session=True
        )
    try:
        while True:
            family = tree(process.pid)
            seen.update((one.pid, one) for one in family)
            resident = sum(_resident(one) for one in family)
            peak = max(peak, resident)
            if resident > memory_bytes:
                state = "memory"
            elif time.monotonic() - begin > seconds:
                state = "timeout"
            if state != "ok":
                break
            try:
                process.wait(LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
    finally:
        _end(process, seen)
    return Ended(state, process.wait(), time.monotonic() - begin, peak)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _end(process: subprocess.Popen[bytes], seen: dict[int, psutil.Process]) -> None:
    """Kills the process and everybody it ever had below it; psutil knows a process from a later one of the same id."""
    seen.update((one.pid, one) for one in tree(process.pid))
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for one in seen.values():
        try:
            one.kill()
        except psutil.Error:
            continue
    psutil.wait_procs([one for one in seen.values() if one.pid != process.pid], timeout=10)
