"""`python -m benchmarks.hostile`: hundreds of hostile files through the real commands, then a fuzz run."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.hostile.archives import archives
from benchmarks.hostile.bombs import bombs
from benchmarks.hostile.case import Case
from benchmarks.hostile.damaged import damaged
from benchmarks.hostile.ground import ground
from benchmarks.hostile.kinds import kinds
from benchmarks.hostile.places import places
from benchmarks.hostile.play import SERIES, Row, played
from benchmarks.hostile.talks import talks
from benchmarks.hostile.wires import spoken
from benchmarks.report import RESULTS, write_results


def every() -> Iterator[Case]:
    """All cases that are files."""
    yield from kinds()
    yield from damaged()
    yield from places()
    yield from archives()
    yield from bombs()


def main() -> None:
    """Runs it all and writes benchmarks/results/hostile.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only cases whose group/name begins with one of these, commas between")
    parser.add_argument("--fuzz-seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    cases = [case for case in every() if case.key.startswith(tuple(arguments.only.split(",")))]
    said = [talk for talk in talks() if talk.key.startswith(tuple(arguments.only.split(",")))]
    rows: list[Row] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="panelhue-hostile-") as folder, ground(Path(folder)) as here:
        for row in _all(here, cases, said):
            rows.append(row)
            print(_line(row), flush=True)
    results: dict[str, Any] = {"seconds": time.monotonic() - start, "rows": [row.plain for row in rows]}
    if arguments.fuzz_seconds:
        from benchmarks.hostile.fuzz import fuzzed

        results["fuzz"] = fuzzed(arguments.fuzz_seconds, arguments.seed)
        print(results["fuzz"])
    if not arguments.only:
        write_results("hostile", results, folder=arguments.results)
    bad = [row for row in rows if row.faults]
    print(f"{len(rows)} cases, {len(bad)} with faults, {time.monotonic() - start:.0f} s")
    raise SystemExit(1 if bad else 0)


def _all(here: Any, cases: list[Case], said: Any) -> Iterator[Row]:
    yield from played(here, cases)
    yield from spoken(here, said, SERIES)


def _line(row: Row) -> str:
    seconds = f"{row.seconds:.1f} s, {row.cpu_seconds:.1f} busy, {row.client_mb:.0f}+{row.servers_mb:.0f} MB"
    fault = f"  !! {'; '.join(row.faults)}" if row.faults else ""
    return f"{row.group}/{row.name!r}: {row.ingest} | {row.colorize} ({seconds}){fault}"


if __name__ == "__main__":
    main()
