"""Kills a process in the middle of snapshots, restores, backups and compactions; says whether all is whole after it.

`killed` does it once, `tests/formats/test_life_cycle_kills.py` a few times, a benchmark a hundred times. Run as a
program it is the process that is killed: `python -m tests.formats.life_cycle_kills FOLDER OPERATION FIRST`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from retrieval.backup import back_up, sweep_backups
from retrieval.catalog import Catalog
from retrieval.compaction import compact_file
from retrieval.inspector import Inspector
from retrieval.snapshots import Snapshots
from tests.unit.pools import add, filled, findings, id_of, ids

ROOT = Path(__file__).resolve().parents[2]
START, LATEST = 6, 0.8  # references at first; seconds after which the process is killed at the latest
KEPT = "kept"  # the snapshot that is restored


@dataclass(frozen=True)
class Outcome:
    """What was found after a kill."""

    acknowledged: int  # additions and operations that were, in the life that was killed
    wrong: tuple[str, ...]  # what is not as it must be


def prepare(folder: Path) -> None:
    """Makes the data folder FOLDER/data with a series and a snapshot of it."""
    catalog = filled(folder / "data", references=START)
    Snapshots(catalog).create("s", KEPT)
    catalog.close()


def killed(folder: Path, operation: str, first: int, moment: float, inspector: Inspector) -> Outcome:
    """Starts the operation, again and again, kills it after `moment` seconds, and looks at what is there then.

    Args:
        folder: as `prepare` made it, or as an earlier kill left it.
        operation: "snapshot", "restore", "backup" or "compact".
        first: number of the first picture that is added meanwhile; greater by 10,000 at each call.
        moment: seconds from when the first operation begins.
        inspector: checks.
    """
    before = _state(folder)
    command = [sys.executable, "-m", "tests.formats.life_cycle_kills", str(folder), operation, str(first)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        timer = threading.Timer(moment, process.kill)
        timer.start()
        lines = [line for line in process.stdout if line.endswith("\n")]
        code = process.wait()
        timer.cancel()
    said = [json.loads(line) for line in lines]
    wrong = list(_wrong(folder, operation, before, said, first, inspector))
    if not ready or code != -9:
        wrong.append(f"the process ended by itself with {code}")
    return Outcome(len(said), tuple(wrong))


def _state(folder: Path) -> set[str]:
    catalog = Catalog(folder / "data")
    try:
        return ids(catalog)
    finally:
        catalog.close()


def _wrong(
    folder: Path, operation: str, before: set[str], said: list[dict[str, int]], first: int, inspector: Inspector
) -> Iterator[str]:
    catalog = Catalog(folder / "data")
    try:
        if left := [path.name for path in catalog.folder.trash.iterdir()]:
            yield f"trash must be empty after a start, got {left}"
        if list((folder / "data" / "swaps").glob("*")):
            yield "a swap was not settled"
        now, generation = ids(catalog), catalog.view("s").pool.generation
        yield from (found.text for found in findings(inspector, folder / "data" / "series" / "s"))
        reached = max([0, *(line["generation"] for line in said)])
        if generation < reached:
            yield f"expected a generation of at least {reached}, got {generation}"
        if operation == "restore":
            yield from _wrong_restore(before, now, said, first)
        else:
            acknowledged = {id_of(line["number"]) for line in said if "number" in line}
            tried = {id_of(number) for number in range(first, first + len(acknowledged) + 1)}
            if not before | acknowledged <= now <= before | tried:
                yield f"expected what was there and was acknowledged, got {len(now)} references"
        for place in sorted((folder / "data" / "snapshots").glob("*/*")):
            if not (place / "manifest.json").exists():
                yield f"{place.name} is half a snapshot"
        for made in Snapshots(catalog).known():
            yield from (found.text for found in findings(inspector, folder / "data" / "snapshots" / "s" / made.name))
    finally:
        catalog.close()
    yield from _wrong_backups(folder / "backups", inspector)


def _wrong_restore(before: set[str], now: set[str], said: list[dict[str, int]], first: int) -> Iterator[str]:
    """The series must be as in the snapshot, or as it was: with the picture that was added last."""
    start = {id_of(number) for number in range(1, START)}
    added = [line["number"] for line in said if "number" in line]
    wanted = [start, start | {id_of(added[-1] if added else first)}, start | {id_of((added or [first - 1])[-1] + 1)}]
    if not said:
        wanted.append(before)
    if now not in wanted:
        yield f"expected the series as before or as restored, got {len(now)} references"


def _wrong_backups(backups: Path, inspector: Inspector) -> Iterator[str]:
    if not backups.exists():
        return
    sweep_backups(backups)
    for backup in sorted(backups.iterdir()):
        if backup.name.startswith("."):
            yield f"{backup.name} was not swept"
            continue
        copy = Catalog(backup)
        try:
            ids(copy)
        finally:
            copy.close()
        yield from (found.text for found in findings(inspector, backup / "series" / "s"))


# -- the process that is killed


def main() -> None:
    """Works until it is killed; says what was acknowledged."""
    folder, operation, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    catalog = Catalog(folder / "data")
    numbers = count(first)
    inspector = Inspector()  # one for all, or most kills would come while it starts
    findings(inspector, folder / "data" / "series" / "s")

    def lent() -> AbstractContextManager[Inspector]:
        return nullcontext(inspector)

    if operation == "restore":
        _say({})
        _restores(catalog, Snapshots(catalog, inspectors=lent), numbers)
    works: dict[str, Callable[[], object]] = {
        "snapshot": lambda: Snapshots(catalog, keep=3, inspectors=lent).create("s"),
        "backup": lambda: list(back_up(catalog, folder / "backups" / f"b{time.time_ns()}", lent)),
        "compact": lambda: compact_file(catalog, "s", lent),
    }
    threading.Thread(target=_adding, args=(catalog, numbers), daemon=True).start()
    _say({})
    while True:
        works[operation]()
        _say({"generation": 0})


def _restores(catalog: Catalog, snapshots: Snapshots, numbers: Iterator[int]) -> None:
    for number in numbers:
        view = snapshots.restore("s", KEPT, replacing=True)
        _say({"generation": view.pool.generation})
        add(catalog, number)
        _say({"number": number, "generation": catalog.view("s").pool.generation})


def _adding(catalog: Catalog, numbers: Iterator[int]) -> None:
    for number in numbers:
        add(catalog, number)
        _say({"number": number, "generation": catalog.view("s").pool.generation})


def _say(fact: dict[str, int]) -> None:
    os.write(1, (json.dumps(fact) + "\n").encode())  # one write, so that two threads' lines do not mix


def moments(seed: int, kills: int) -> list[float]:
    """Seconds after which a process is killed, the same for the same seed."""
    rng = random.Random(seed)
    return [rng.uniform(0.0, LATEST) for _ in range(kills)]


if __name__ == "__main__":
    main()
