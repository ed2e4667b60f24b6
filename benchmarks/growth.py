"""A year of growth: chapters appended to one pool while searches run; latency, cost and memory as it grows.

Chapters of made-up vectors are imported over gRPC by another process, at a stated pace and once as fast as it goes,
while one client searches without a pause. Beside the latency while growing stands that of the same pool at rest, at its
final size, asked by the same client in the same run. Memory is the server's own (RssAnon) above what it had before the
first import.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pools import PATCHES, anonymous_bytes, clustered, create, fill, question, references, stubs
from benchmarks.report import RESULTS, write_results
from benchmarks.residency import Watch
from benchmarks.servers import start, stop

TOP, CORNERS = 3, 4
SEED = 11
IDLE_SEARCHES = 1500


def grow(
    address: str, series: str, space: str, arguments: argparse.Namespace, pace: float, done: Event, out: Any
) -> None:
    """Imports one chapter after the other; puts the seconds of each into `out`. Runs in a process of its own."""
    seconds = []
    with stubs(address) as servers:
        begin = time.perf_counter()
        for chapter in range(arguments.chapters):
            rows = clustered(PATCHES * arguments.references, arguments.dim, seed=SEED, chapter=chapter)
            items = references(rows, chapter, series)
            if pace:
                time.sleep(max(0.0, begin + chapter / pace - time.perf_counter()))
            start = time.perf_counter()
            fill(servers, series, space, items)
            seconds.append(time.perf_counter() - start)
    done.set()
    out.put(seconds)


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Quantiles in milliseconds."""
    p50, p95, p99 = np.percentile(np.array(seconds) * 1000, [50, 95, 99])
    return {"p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99), "n": len(seconds)}


def ask(servers: Any, series: str, dim: int, rng: np.random.Generator, chapters: int) -> tuple[float, int]:
    """Seconds of one search for patches like those of some chapter, and the generation that answered."""
    queries = clustered(CORNERS, dim, seed=SEED, chapter=int(rng.integers(chapters)))
    request = question(series, queries, TOP)
    begin = time.perf_counter()
    answer = servers.retrieval.SearchVectors(request)
    return time.perf_counter() - begin, answer.generation


def alone(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One growth that nobody searches: what a chapter costs by itself. The pool is in memory all the time."""
    server = start("retrieval-server", folder, "--data", str(folder / "data"))
    done, out = multiprocessing.get_context("spawn").Event(), queue.SimpleQueue[list[float]]()
    try:
        with stubs(server.address) as servers:
            space = create(servers, "grown", arguments.dim)
            ask(servers, "grown", arguments.dim, np.random.default_rng(0), 1)
            grow(server.address, "grown", space, arguments, 0.0, done, out)
    finally:
        stop(server)
    chapters = out.get()
    tenths = [float(np.mean(part)) for part in np.array_split(np.array(chapters), 10)]
    return {
        "seconds": float(sum(chapters)),
        "rows_per_s": PATCHES * arguments.references * arguments.chapters / sum(chapters),
        "chapter_s_by_tenth": tenths,
        "last_tenth_over_first": tenths[-1] / tenths[0],
    }


def measured(folder: Path, arguments: argparse.Namespace, pace: float) -> dict[str, Any]:
    """One growth from nothing to its final size, and the pool at rest after it."""
    server = start("retrieval-server", folder, "--data", str(folder / "data"))
    context = multiprocessing.get_context("spawn")
    done, out = context.Event(), context.Queue()
    rng = np.random.default_rng(0)
    try:
        with stubs(server.address) as servers, Watch(server.process.pid) as watch:
            space = create(servers, "grown", arguments.dim)
            importer = context.Process(
                target=grow, args=(server.address, "grown", space, arguments, pace, done, out)
            )  # fmt: skip
            importer.start()
            growing, sizes = [], []
            while not done.is_set():
                seconds, generation = ask(servers, "grown", arguments.dim, rng, arguments.chapters)
                growing.append(seconds)
                sizes.append(generation)
            chapters = out.get()
            importer.join()
            time.sleep(3)  # compaction and the like come to rest
            final = anonymous_bytes(server.process.pid) - watch.base
            idle = [ask(servers, "grown", arguments.dim, rng, arguments.chapters)[0] for _ in range(IDLE_SEARCHES)]
    finally:
        stop(server)
    most_rows = PATCHES * arguments.references * arguments.chapters
    tenths = [float(np.mean(part)) for part in np.array_split(np.array(chapters), 10)]
    late = [s for s, generation in zip(growing, sizes, strict=True) if generation > 0.9 * max(sizes)]
    vectors = 4 * arguments.dim * most_rows
    return {
        "pace_chapters_per_s": pace or "as fast as it goes",
        "seconds": float(sum(chapters)),
        "growing": quantiles(growing),
        "growing_last_tenth": quantiles(late),
        "idle": quantiles(idle),
        "p99_growing_over_idle": quantiles(growing)["p99_ms"] / quantiles(idle)["p99_ms"],
        "p99_last_tenth_over_idle": quantiles(late)["p99_ms"] / quantiles(idle)["p99_ms"],
        "chapter_s_by_tenth": tenths,
        "last_tenth_over_first": tenths[-1] / tenths[0],
        "vector_bytes": vectors,
        "final_bytes": final,
        "most_bytes": watch.most,
        "most_over_final": watch.most / final,
        "final_over_vectors": final / vectors,
    }


def run(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    results: dict[str, Any] = {
        "chapters": arguments.chapters,
        "references_each": arguments.references,
        "rows": PATCHES * arguments.references * arguments.chapters,
        "dim": arguments.dim,
        "runs": [],
    }
    for number, pace in enumerate((arguments.pace, 0.0)):
        results["runs"].append(measured(folder / str(number), arguments, pace))
        print(results["runs"][-1], flush=True)
    results["alone"] = alone(folder / "alone", arguments)
    print(results["alone"], flush=True)
    return results


def main() -> None:
    """The command; see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chapters", type=int, default=1000, help="how many; default 1,000")
    parser.add_argument("--references", type=int, default=20, help="of a chapter; default 20")
    parser.add_argument("--dim", type=int, default=512, help="length of a vector; default 512")
    parser.add_argument("--pace", type=float, default=10.0, help="chapters a second in the first run; default 10")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = run(Path(folder), arguments)
    print(write_results("growth", results, folder=arguments.out))


if __name__ == "__main__":
    main()
