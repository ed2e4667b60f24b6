"""Servers of products: a free port, a start, a hard end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def launch(
    command: Sequence[str], folder: Path, *, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """The command as a process that works in `folder` and logs to `server.log` there."""
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **(environment or {})}
        )  # fmt: skip


def tree(pid: int) -> list[psutil.Process]:
    """The process and all below it; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(pid: int) -> None:
    """SIGKILL for the process and all below it."""
    for process in tree(pid):
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def resident_bytes(pids: Sequence[int]) -> int:
    """Resident set of the processes and all below them; pages that two of them share count twice."""
    total = 0
    for pid in pids:
        for process in tree(pid):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    return total


def disk_bytes(folder: Path) -> int:
    """Bytes that the files below the folder occupy; holes do not count."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if not path.is_dir())
