"""What the commands and servers do beside their work: memory, workers that die, files that appear where none should."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import psutil

from benchmarks.servers import Running

ESCAPES = (Path("/tmp/panelhue-hostile-escape.png"), Path("/panelhue-hostile-was-here"))  # where cases try to write
Fact = tuple[int, int, int]  # kind and permissions, bytes, time of the last change in ns


def family(server: Running) -> list[psutil.Process]:
    """The process of a server and its workers."""
    parent = psutil.Process(server.process.pid)
    return [parent, *parent.children(recursive=True)]


def begin_peaks(server: Running) -> None:
    """Forgets the peaks of before: from here on `peak_bytes` tells those that come."""
    for process in family(server):
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_bytes(server: Running) -> int:
    """Most that the processes of a server have held since `begin_peaks`, each at its own moment, together."""
    return sum(_peak_of(process.pid) for process in family(server))


def _peak_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def busy_seconds(server: Running) -> float:
    """Seconds of processor time that the processes of a server have taken."""
    total = 0.0
    for process in family(server):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def stalled_seconds() -> float:
    """Seconds since the machine's start in which something waited for a processor; 0 where the kernel does not say."""
    try:
        line = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:
        return 0.0
    return int(line.rpartition("total=")[2]) / 1e6


def surroundings(ground: Path, apart: tuple[Path, ...]) -> Mapping[str, Fact]:
    """All that lies below `ground` but in the folders `apart`, and in the places outside that cases try to write to."""
    found: dict[str, Fact] = {}
    for folder, folders, files in os.walk(ground):
        folders[:] = [name for name in folders if Path(folder, name) not in apart]
        for name in (*folders, *files):
            found[os.path.join(folder, name)] = _fact(Path(folder, name))
    found |= {str(place): _fact(place) for place in ESCAPES if place.exists()}
    return found


def _fact(path: Path) -> Fact:
    one = path.lstat()
    # A folder's own time changes with what lies in it, which is told by that.
    return (one.st_mode, 0, 0) if stat.S_ISDIR(one.st_mode) else (one.st_mode, one.st_size, one.st_mtime_ns)


def strayed(before: Mapping[str, Fact], after: Mapping[str, Fact]) -> list[str]:
    """Paths that appeared, changed or went."""
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
