"""Starts both servers as a user would, in processes of their own, for the length of a benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

START_SECONDS = 120.0


@dataclass(frozen=True)
class Running:
    """A server process."""

    address: str  # host:port
    process: subprocess.Popen[bytes]

    def memory_bytes(self) -> int:
        """Proportional set size of the process and its workers: shared pages are counted once."""
        family = psutil.Process(self.process.pid)
        return sum(p.memory_full_info().pss for p in [family, *family.children(recursive=True)])


def start(name: str, folder: Path, *flags: str) -> Running:
    """The server `panelhue NAME` on a free port, ready to serve; its log goes to `folder`.

    Raises:
        RuntimeError: it ended, or was not ready within two minutes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready, log = folder / f"{name}.ready.json", folder / f"{name}.log"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "panelhue", name, "--listen", "127.0.0.1:0", "--ready-file", str(ready), *flags]
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    deadline = time.monotonic() + START_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"panelhue {name} did not start; its log: {log.read_text()[-2000:]}")
        time.sleep(0.005)
    return Running(json.loads(ready.read_text())["address"], process)


def stop(server: Running) -> None:
    """Ends a server gracefully, by force after 30 s."""
    server.process.terminate()
    try:
        server.process.wait(30)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()


@dataclass(frozen=True)
class Pair:
    """Both servers."""

    retrieval: Running
    colorizer: Running


@contextmanager
def both(
    folder: Path, *flags: str, workers: int | None = 2, embedder: str | None = None, backend: str | None = None
) -> Iterator[Pair]:
    """Both servers with their data below `folder`, stopped at the end.

    Args:
        folder: for data and logs.
        flags: more of the colouriser's.
        workers: processes of the colouriser; None: the server's default.
        embedder: of series that name none; None: the server's default.
        backend: of pages that name none; None: the server's default.
    """
    retrieval = start("retrieval-server", folder, "--data", str(folder / "data"), *_flag("--embedder", embedder))
    try:
        places = ("--retrieval", retrieval.address, *_flag("--workers", workers), *_flag("--backend", backend))
        colorizer = start("colorizer-server", folder, *places, *flags)
        try:
            yield Pair(retrieval, colorizer)
        finally:
            stop(colorizer)
    finally:
        stop(retrieval)


def _flag(name: str, value: object) -> tuple[str, ...]:
    return () if value is None else (name, str(value))
