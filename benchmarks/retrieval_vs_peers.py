"""This server beside other products that keep and search vectors, at the same vectors and under the same limits.

Each product is reached through its own public client and runs in an environment and in processes of its own. A cell is
one product in one kind at one size, and may take ten minutes and 12 GB (all of its processes together). A time-out, an
overrun and a failure are results. Each cell is written when it ends, and a second run goes on where the first stopped.

A cell inserts all rows in batches of a size natural to the product (`insert_per_s`: up to the last acknowledgement),
lets it do what it wants before a search and search once, kills it (SIGKILL) and starts it again:
`restart_to_first_answer_s` runs from the start of the process (a server's own; in process, the Python interpreter's)
to the first search that finds one of the last rows, with a warm file cache. Then come searches for the 3 best, of 1
and of 4 queries a call, by 1 client and by 16 at once (processes for a server, threads in process), without a bound
and under `chapter <= N`, which passes half: after a warm-up, up to 1000 calls or 5 s a client. `rss_mb` is the
resident set afterwards, of the server's processes, or of the whole process for a product in process; `disk_mb` is
what its files occupy. Recall is against float64: a hit counts if its true score is at least the third best minus
1e-6. The vectors are described in `benchmarks/peers/vectors.py`.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import python_of
from benchmarks.peers.kinds import KINDS, LARGE, Kind
from benchmarks.peers.runner import FIGURE_SECONDS, ROOT, SECONDS, Limits, rows_of, run_cell
from benchmarks.peers.vectors import make
from benchmarks.report import RESULTS, meta, write_results

NAME = "retrieval_vs_peers"
CACHE = ROOT / "build" / "peers"


@dataclass(frozen=True)
class Size:
    """Of a pool."""

    rows: int
    dim: int


def sizes(rows: list[int], dims: list[int]) -> list[Size]:
    """All sizes wanted, small ones first; a million rows only with 512 numbers."""
    return [Size(r, d) for r in sorted(rows) for d in sorted(dims) if r < LARGE or d == 512]


def planned(only: list[str], wanted: list[Size]) -> Iterator[tuple[Kind, Size]]:
    """The cells in the order in which they run."""
    for size in wanted:
        for kind in KINDS:
            if size.rows <= kind.most_rows and (not only or kind.product in only):
                yield kind, size


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes rows of the results file belong to one cell."""
    return row["product"], row["kind"], row["rows"], row["dim"]


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of an earlier run on this machine; none where there was none.

    Raises:
        SystemExit: they are of another machine; figures of two machines do not belong into one table.
    """
    path = folder / f"{NAME}.json"
    if not path.exists():
        return []
    content = json.loads(path.read_text())
    if content["meta"]["machine"] != meta()["machine"]:
        raise SystemExit(f"{path.name} is of {content['meta']['machine']}; take it away or give another --out")
    rows: list[dict[str, Any]] = content["cells"]
    return rows


def measure(kind: Kind, size: Size, cache: Path, environments: Path, limits: Limits) -> list[dict[str, Any]]:
    """One cell's rows."""
    data = make(cache / "vectors", size.rows, size.dim)
    scratch = cache / "cells" / f"{kind.product}-{kind.kind}-{size.rows}x{size.dim}".replace(" ", "_").replace(",", "")
    try:
        python = python_of(environments, kind.environment, kind.packages)
    except RuntimeError as error:
        return rows_of(kind, data, scratch / "none", f"failed: {error}", 0.0)
    return run_cell(kind, data, python, scratch, limits)


def run(args: argparse.Namespace) -> None:
    """Runs what is not done yet."""
    limits = Limits(seconds=args.seconds, figure_seconds=args.figure_seconds)
    rows = read_rows(args.out)
    begin = time.monotonic()
    for kind, size in planned(args.only, sizes(args.rows, args.dims)):
        cell = (kind.product, kind.kind, size.rows, size.dim)
        if any(key(row) == cell for row in rows) and not args.again:
            continue
        if args.minutes and time.monotonic() - begin > 60 * args.minutes:
            print("out of time; the next run goes on here")
            return
        made = measure(kind, size, args.cache, args.venvs or args.cache / "environments", limits)
        rows = [row for row in rows if key(row) != cell] + made
        write_results(NAME, rows, folder=args.out, under="cells")
        print(*cell, made[-1]["state"], made[-1]["notes"], flush=True)


def numbers(text: str) -> list[int]:
    """Whole numbers between commas."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """The command; see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted({kind.product for kind in KINDS})
    parser.add_argument("--only", action="append", default=[], choices=names, help="a product; may be given again")
    parser.add_argument("--rows", type=numbers, default=[10_000, 100_000, LARGE], help="default 10000,100000,1000000")
    parser.add_argument("--dims", type=numbers, default=[512, 1024], help="default 512,1024")
    parser.add_argument("--again", action="store_true", help="also cells that are done, however they ended")
    parser.add_argument("--minutes", type=float, help="begin no cell after this time")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="limit of a cell; default 600")
    parser.add_argument("--figure-seconds", type=float, default=FIGURE_SECONDS, help="of one figure's calls; default 5")
    parser.add_argument("--cache", type=Path, default=CACHE, help="vectors, environments, logs; default build/peers")
    parser.add_argument("--venvs", type=Path, help="folder of the environments; default: below --cache")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    args = parser.parse_args()
    for name in ("cache", "venvs", "out"):
        if getattr(args, name):
            setattr(args, name, getattr(args, name).resolve())
    run(args)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cell's processes are ended as well
    main()
