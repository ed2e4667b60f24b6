"""A fuzz run: mutations of sound files and messages in a child with little memory; its deaths and hangs become cases."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.hostile.case import Case, of_bytes
from benchmarks.hostile.drawing import ENDINGS
from benchmarks.hostile.fuzz_child import LIMIT_BYTES, made

HANG = 10.0  # seconds of processor time without a new number
SILENCE = 300.0  # seconds by the clock
FOUND = Path(__file__).resolve().parent / "found"  # what was found, and is played as a case ever after


def fuzzed(seconds: float, seed: int, found: Path = FOUND) -> dict[str, Any]:
    """What came of it: how many files of each kind, how they ended, and what is at fault.

    Args:
        seconds: how long.
        seed: decides every file, by its number.
        found: where the bytes of faults are left.
    """
    counts: dict[str, int] = {}
    faults: list[str] = []
    number, until = 0, time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        number, ended = _life(seed, number, left, counts, faults)
        if ended is None:
            break
        faults.append(f"{made(seed, number)[0]} {number}: {ended}")
        number += 1
    for fault in faults:
        kind, _, rest = fault.partition(" ")
        at = int(rest.partition(":")[0])
        _keep(found, kind, seed, at, made(seed, at)[1])
    return {
        "seconds": seconds,
        "seed": seed,
        "files": sum(counts.values()),
        "counts": dict(sorted(counts.items())),
        "limit_bytes": LIMIT_BYTES,
        "faults": faults,
    }


def found_before(found: Path = FOUND) -> Iterator[Case]:
    """A case of each picture or archive that a fuzz run has found."""
    for path in sorted(found.glob("*.bin")):
        kind, name, _, _ = path.stem.split("-")
        if kind == "archive":
            yield of_bytes("found", path.stem, path.read_bytes(), ".cbz", is_book=True, alone=True)
        elif kind == "picture":
            yield of_bytes("found", path.stem, path.read_bytes(), ENDINGS.get(name, ".jpg"))


def _keep(found: Path, kind: str, seed: int, number: int, data: bytes) -> None:
    found.mkdir(exist_ok=True)
    (found / f"{kind.replace(':', '-')}-{seed}-{number}.bin").write_bytes(data)


def _life(
    seed: int, first: int, seconds: float, counts: dict[str, int], faults: list[str]
) -> tuple[int, str | None]:  # fmt: skip
    """One child's life: the number at which it ended, and how; None where its time was over."""
    with tempfile.TemporaryDirectory(prefix="panelhue-fuzz-") as folder:
        beat, told = Path(folder) / "beat", Path(folder) / "told.json"
        beat.write_text(str(first))
        command = [sys.executable, "-m", "benchmarks.hostile.fuzz_child", str(seed), str(first), str(seconds), folder]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        last, since, busy = first, time.monotonic(), 0.0
        while process.poll() is None:
            time.sleep(0.05)
            number, spent = int(beat.read_text() or last), _busy(process.pid)
            if number != last:
                last, since, busy = number, time.monotonic(), spent
            # The first one waits for the imports; on a busy machine every one waits for its turn.
            elif spent - busy > HANG + 20 * (number == first) or time.monotonic() - since > SILENCE:
                process.kill()
                process.wait()
                _take(told, counts, faults)
                return last, f"no end after {spent - busy:.0f} s of processor time"
        assert process.stderr is not None
        error = process.stderr.read().strip()
        _take(told, counts, faults)
        if process.returncode == 0:
            return last, None
        return int(beat.read_text() or last), f"ended with {process.returncode}: {error[-300:]}"


def _busy(pid: int) -> float:
    """Seconds of processor time that a process has taken; 0 if it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _take(told: Path, counts: dict[str, int], faults: list[str]) -> None:
    if not told.exists():
        return
    said = json.loads(told.read_text())
    for name, count in said["counts"].items():
        counts[name] = counts.get(name, 0) + count
    faults += [fault for fault in said["faults"] if fault not in faults]
