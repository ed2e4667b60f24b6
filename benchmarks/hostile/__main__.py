"""`python -m benchmarks.hostile`: hundreds of hostile files through the real commands, then a fuzz run."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.hostile.archives import archives
from benchmarks.hostile.bombs import bombs
from benchmarks.hostile.case import Case
from benchmarks.hostile.damaged import damaged
from benchmarks.hostile.documents import documents
from benchmarks.hostile.fuzz import found_before, fuzzed
from benchmarks.hostile.ground import Ground, ground
from benchmarks.hostile.kinds import kinds
from benchmarks.hostile.places import places
from benchmarks.hostile.play import SERIES, Row, played
from benchmarks.hostile.talks import Talk, talks
from benchmarks.hostile.wires import spoken
from benchmarks.report import RESULTS, write_results


def every() -> Iterator[Case]:
    """All cases that are files."""
    yield from kinds()
    yield from damaged()
    yield from places()
    yield from archives()
    yield from documents()
    yield from found_before()
    yield from bombs()


def main() -> None:
    """Runs it all and writes benchmarks/results/hostile.json; what was played before stays where it is not repeated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", help="only cases whose group/name begins with one of these, commas between"
    )
    parser.add_argument("--resume", action="store_true", help="leaves out cases that were played without a fault")
    parser.add_argument("--fuzz-seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end too
    results = _before(arguments.results)
    done = {key for key, row in results["rows"].items() if not row["faults"]} if arguments.resume else set()
    wanted = tuple(arguments.only.split(","))
    cases = [case for case in every() if case.key.startswith(wanted) and case.key not in done]
    said = [talk for talk in talks() if talk.key.startswith(wanted) and talk.key not in done]
    played_now: list[Row] = []
    start = time.monotonic()
    if cases or said:
        with tempfile.TemporaryDirectory(prefix="panelhue-hostile-") as folder, ground(Path(folder)) as here:
            for row in _all(here, cases, said):
                played_now.append(row)
                results["rows"][f"{row.group}/{row.name}"] = row.plain
                _write(results, arguments.results)  # so that a run that is stopped can be resumed
                print(_line(row), flush=True)
    if arguments.fuzz_seconds:
        results["fuzz"] = fuzzed(arguments.fuzz_seconds, arguments.seed)
        _write(results, arguments.results)
        print(results["fuzz"])
    bad = [row for row in played_now if row.faults]
    print(f"{len(played_now)} cases, {len(bad)} with faults, {time.monotonic() - start:.0f} s")
    raise SystemExit(1 if bad or results.get("fuzz", {}).get("faults") else 0)


def _before(folder: Path) -> dict[str, Any]:
    """What earlier runs have found, but rows of cases that are no more."""
    path = folder / "hostile.json"
    known = {case.key for case in every()} | {talk.key for talk in talks()}
    found: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {"rows": {}}
    return found | {"cases": len(known), "rows": {key: row for key, row in found["rows"].items() if key in known}}


def _write(results: dict[str, Any], folder: Path) -> None:
    write_results("hostile", results, folder=folder)


def _all(here: Ground, cases: list[Case], said: list[Talk]) -> Iterator[Row]:
    yield from played(here, cases)
    yield from spoken(here, said, SERIES)


def _line(row: Row) -> str:
    seconds = f"{row.seconds:.1f} s, {row.cpu_seconds:.1f} busy, {row.client_mb:.0f}+{row.servers_mb:.0f} MB"
    fault = f"  !! {'; '.join(row.faults)}" if row.faults else ""
    return f"{row.group}/{row.name!r}: {row.ingest} | {row.colorize} ({seconds}){fault}"


if __name__ == "__main__":
    main()
