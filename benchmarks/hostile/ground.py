"""Where the cases are played: a folder with a home, a place for temporary files, books and outputs; both servers beside."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.hostile.watch import (
    Fact,
    begin_peaks,
    busy_seconds,
    family,
    peak_bytes,
    stalled_seconds,
    strayed,
    surroundings,
)
from benchmarks.servers import Pair, both

LONGEST = 10.0  # seconds that a command may take, those aside in which others had the processor
PER_MEGAPIXEL = 0.3  # seconds of work that a page which really is that large may take instead
PATIENCE = 900.0  # seconds after which it is killed
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2  # linux/prctl.h, linux/capability.h


@dataclass(frozen=True)
class Told:
    """What a command did."""

    code: int  # exit code; negative: the signal that ended it
    seconds: float  # from its start to its end
    stalled_seconds: float  # of these in which the machine had more to do than it has processors
    cpu_seconds: float  # of processor time, servers included
    client_bytes: int  # most that it held
    server_bytes: int  # most that both servers with their workers held meanwhile
    out: str
    err: str
    strayed: tuple[str, ...]  # paths outside its output that appeared, changed or went
    restarted: int  # workers that were there before and are gone

    @property
    def answer(self) -> Any:
        """Its JSON; None where there is none."""
        try:
            return json.loads(self.out)
        except ValueError:
            return None

    def faults(self, megapixels: float = 0.0) -> list[str]:
        """What no file may bring about; one that really has many megapixels is worked on for longer."""
        longest = max(LONGEST, PER_MEGAPIXEL * megapixels)
        found = []
        if self.code < 0 or self.code not in (0, 1, 2, 3, 4):
            found.append(f"ended with {self.code}")
        if "Traceback (most recent call last)" in self.err or (self.code in (0, 1) and self.answer is None):
            found.append(f"crashed: {self.err.strip().splitlines()[-1][:300] if self.err.strip() else 'no word'}")
        if self.code in (3, 4):
            found.append(f"a server gave up: {self.err.strip()[:300]}")
        # On a busy machine a command waits for its turn, which is no hang.
        waited = self.seconds - self.stalled_seconds
        found += [f"{self.seconds:.0f} s, {self.cpu_seconds:.0f} s of them busy"] * (
            self.cpu_seconds > longest or waited > longest
        )
        found += [f"wrote {path}" for path in self.strayed]
        return found + [f"{self.restarted} workers died"] * bool(self.restarted)


class Ground:
    """The folder and the servers. Make it with `ground`.

    Args:
        folder: where everything lies.
        servers: which run.
    """

    def __init__(self, folder: Path, servers: Pair) -> None:
        self.folder, self.servers = folder, servers
        for name in ("home", "tmp", "here", "books", "out"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "books" / "canary.png").write_bytes(b"nobody touches this")
        self._environment = {
            **os.environ,
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "XDG_DATA_HOME": str(folder / "home" / "data"),
            "COLUMNS": "200",
            "PANELHUE_RETRIEVAL": servers.retrieval.address,
            "PANELHUE_COLORIZER": servers.colorizer.address,
        }
        self._starter = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.hostile.commands"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=_without_privileges,
        )

    def book(self, name: str) -> Path:
        """An empty folder for a book."""
        path = self.folder / "books" / name
        path.mkdir()
        return path

    def clear(self, name: str) -> None:
        """Drops a book and its output."""
        for place in (self.folder / "books" / name, self.folder / "out" / name):
            for folder, folders, _ in os.walk(place):
                for inner in folders:
                    path = Path(folder, inner)
                    if not path.is_symlink():
                        path.chmod(0o700)
            shutil.rmtree(place, ignore_errors=True)

    def workers(self) -> set[int]:
        """Ids of all processes of the servers."""
        return {one.pid for server in (self.servers.retrieval, self.servers.colorizer) for one in family(server)}

    def run(self, *arguments: object, apart: Path) -> Told:
        """Runs `panelhue`; what it writes below `apart` is its output.

        Raises:
            RuntimeError: a server is gone.
        """
        before, workers = self._around(apart), self.workers()
        for server in (self.servers.retrieval, self.servers.colorizer):
            begin_peaks(server)
        busy, stalled = self._busy(), stalled_seconds()
        answer, out, err = self._command([str(one) for one in arguments])
        for server in (self.servers.retrieval, self.servers.colorizer):
            if server.process.poll() is not None:
                raise RuntimeError(f"a server ended with {server.process.returncode} in {arguments}")
        held = sum(map(peak_bytes, (self.servers.retrieval, self.servers.colorizer)))
        after = self._around(apart)
        gone = len(workers - self.workers())
        return Told(
            code=answer["code"],
            seconds=answer["seconds"],
            stalled_seconds=stalled_seconds() - stalled,
            cpu_seconds=answer["cpu_seconds"] + max(0.0, self._busy() - busy),
            client_bytes=answer["bytes"],
            server_bytes=held,
            out=out,
            err=err,
            strayed=tuple(strayed(before, after)),
            restarted=gone,
        )

    def _busy(self) -> float:
        """Seconds of processor time that the servers with their workers have taken."""
        return sum(busy_seconds(server) for server in (self.servers.retrieval, self.servers.colorizer))

    def _around(self, apart: Path) -> dict[str, Fact]:
        return dict(surroundings(self.folder, (self.folder / "servers", self.folder / "logs", apart)))

    def _command(self, arguments: list[str]) -> tuple[dict[str, Any], str, str]:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        out, err = logs / "out", logs / "err"
        order = {
            "arguments": arguments,
            "environment": self._environment,
            "here": str(self.folder / "here"),
            "out": str(out),
            "err": str(err),
            "patience": PATIENCE,
        }
        assert self._starter.stdin is not None
        assert self._starter.stdout is not None
        self._starter.stdin.write(json.dumps(order) + "\n")
        self._starter.stdin.flush()
        answer = json.loads(self._starter.stdout.readline())
        return answer, out.read_text(errors="surrogateescape"), err.read_text(errors="surrogateescape")

    def close(self) -> None:
        """Ends the process that starts commands."""
        assert self._starter.stdin is not None
        self._starter.stdin.close()
        self._starter.wait()


def _without_privileges() -> None:
    """Even root finds unreadable what may not be read; does nothing where that cannot be had."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


@contextlib.contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """A ground with servers that end with it; their log must hold no trace.

    Raises:
        RuntimeError: it does.
    """
    logs = folder / "servers"
    with both(logs, workers=1, backend="tint") as servers, contextlib.closing(Ground(folder, servers)) as made:
        yield made
    for log in logs.glob("*.log"):
        if "Traceback (most recent call last)" in log.read_text():
            raise RuntimeError(f"a server has met what it did not expect; see {log}")
