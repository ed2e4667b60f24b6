"""Ten thousand series under a budget of a tenth of their bytes: memory, latency and errors of searches in a Zipf order.

Each series is imported over gRPC with made-up vectors, so that the store holds all of them; then a fresh server with
the budget answers searches for series drawn by Zipf's law, one client after the other and several at once. Memory is
the server's own (RssAnon, mapped files not counted) above what it had before the first search.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pools import (
    PATCHES,
    anonymous_bytes,
    clustered,
    create,
    fill,
    question,
    references,
    resident_bytes,
    stubs,
)
from benchmarks.report import RESULTS, write_results
from benchmarks.servers import start, stop
from panelhue.retrieval.v1 import maintenance_pb2, retrieval_pb2

CLIENTS = 4
TOP, CORNERS = 3, 4
ZIPF = 1.1  # exponent of the order in which series are asked for
LIMITS = ("--set", "max_series=1000000")


def name(number: int) -> str:
    """The id of a series."""
    return f"series-{number:05d}"


def import_all(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Makes and fills every series; how fast."""
    server = start("retrieval-server", folder, "--data", str(folder / "data"), *LIMITS)
    begin = time.perf_counter()
    try:
        with stubs(server.address) as servers, ThreadPoolExecutor(CLIENTS) as threads:

            def one(number: int) -> int:
                space = create(servers, name(number), arguments.dim)
                rows = clustered(PATCHES * arguments.references, arguments.dim, seed=number)
                return fill(servers, name(number), space, references(rows, 1, name(number)))

            added = sum(threads.map(one, range(arguments.series)))
    finally:
        stop(server)
    seconds = time.perf_counter() - begin
    return {
        "references": added,
        "seconds": seconds,
        "references_per_s": added / seconds,
        "series_per_s": arguments.series / seconds,
    }


class Watch:
    """The most memory that a process had, sampled every few milliseconds until the block ends."""

    def __init__(self, pid: int) -> None:
        self._pid, self._done = pid, threading.Event()
        self.base = anonymous_bytes(pid)
        self.most = self.most_resident = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, anonymous_bytes(self._pid) - self.base)
            self.most_resident = max(self.most_resident, resident_bytes(self._pid))


def searched(address: str, arguments: argparse.Namespace, clients: int) -> dict[str, Any]:
    """Latency of searches in a Zipf order, and whether each found its own series' rows."""
    rng = np.random.default_rng(clients)
    drawn = (rng.zipf(ZIPF, 4 * arguments.searches) - 1) % arguments.series
    order = np.random.default_rng(7).permutation(arguments.series)[drawn[: arguments.searches]]
    shares = np.array_split(order, clients)
    errors: list[str] = []

    def client(share: np.ndarray) -> list[float]:
        seconds = []
        with stubs(address) as servers:
            for number in share:
                rows = clustered(PATCHES * arguments.references, arguments.dim, seed=int(number))
                request = question(name(int(number)), rows[:: max(1, len(rows) // CORNERS)][:CORNERS], TOP)
                begin = time.perf_counter()
                try:
                    answer = servers.retrieval.SearchVectors(request)
                except Exception as error:  # counted and told, which is what the figure is about
                    errors.append(str(error)[:200])
                    continue
                seconds.append(time.perf_counter() - begin)
                best = [hit.score for hit in answer.hits if hit.rank == 0]
                if len(best) != CORNERS or min(best) < 1 - 1e-5:
                    errors.append(f"{name(int(number))}: expected each row to find itself, got {best}")
        return seconds

    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        seconds = [s for part in threads.map(client, shares) for s in part]
    wall = time.perf_counter() - begin
    p50, p95, p99 = np.percentile(np.array(seconds) * 1000, [50, 95, 99])
    return {
        "clients": clients,
        "n": len(seconds),
        "series_asked": len(set(order.tolist())),
        "errors": len(errors),
        "first_errors": errors[:3],
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "searches_per_s": len(seconds) / wall,
    }


def run(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    results: dict[str, Any] = {"series": arguments.series, "references_each": arguments.references}
    results |= {"dim": arguments.dim, "zipf": ZIPF, "import": import_all(folder, arguments)}
    print("import", results["import"], flush=True)
    total = 4 * PATCHES * arguments.references * arguments.dim * arguments.series
    budget = total // 10
    begin = time.perf_counter()
    server = start(
        "retrieval-server", folder, "--data", str(folder / "data"), *LIMITS, "--set", f"index_bytes={budget}"
    )
    try:
        results |= {"vector_bytes": total, "budget_bytes": budget, "ready_s": time.perf_counter() - begin}
        results["searches"] = []
        with Watch(server.process.pid) as watch, stubs(server.address) as servers:
            for clients in (1, CLIENTS):
                results["searches"].append(searched(server.address, arguments, clients))
                print(results["searches"][-1], flush=True)
            info = servers.retrieval.GetServerInfo(retrieval_pb2.GetServerInfoRequest())
            listed = servers.maintenance.ListResidents(maintenance_pb2.ListResidentsRequest(page_size=1))
        results["counted_bytes_at_the_end"] = info.index_bytes
        results["residents_at_the_end"] = listed.total
        results["most_bytes_above_start"] = watch.most
        results["most_resident_bytes"] = watch.most_resident
        results["most_over_budget"] = watch.most / budget
    finally:
        stop(server)
    return results


def main() -> None:
    """The command; see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=10_000, help="how many; default 10,000")
    parser.add_argument("--references", type=int, default=50, help="of each; default 50")
    parser.add_argument("--dim", type=int, default=256, help="length of a vector; default 256")
    parser.add_argument("--searches", type=int, default=10_000, help="of each round; default 10,000")
    parser.add_argument("--folder", type=Path, help="where the store is made; default: a temporary folder")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = run(Path(folder), arguments)
    print(results)
    print(write_results("residency", results, folder=arguments.out))


if __name__ == "__main__":
    main()
