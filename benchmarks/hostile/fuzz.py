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

from benchmarks.hostile.case import Case, of_bytes
from benchmarks.hostile.drawing import ENDINGS
from benchmarks.hostile.fuzz_child import LIMIT_BYTES, made

HANG = 10.0  # seconds without a new number
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
        kind, data = made(seed, number)
        faults.append(f"{kind} {number}: {ended}")
        _keep(found, kind, seed, number, data)
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
        last, since = first, time.monotonic()
        while process.poll() is None:
            time.sleep(0.05)
            number = int(beat.read_text() or last)
            if number != last:
                last, since = number, time.monotonic()
            elif time.monotonic() - since > HANG + 20 * (number == first):  # the first one waits for the imports
                process.kill()
                process.wait()
                _take(told, counts, faults)
                return last, f"no end after {HANG:.0f} s"
        assert process.stderr is not None
        error = process.stderr.read().strip()
        _take(told, counts, faults)
        if process.returncode == 0:
            return last, None
        return int(beat.read_text() or last), f"ended with {process.returncode}: {error[-300:]}"


def _take(told: Path, counts: dict[str, int], faults: list[str]) -> None:
    if not told.exists():
        return
    said = json.loads(told.read_text())
    for name, count in said["counts"].items():
        counts[name] = counts.get(name, 0) + count
    faults += [fault for fault in said["faults"] if fault not in faults]
