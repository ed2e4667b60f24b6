"""The index on one GPU: latency beside the memory's own speed, bounded searches, residency swaps and build time.

Flat float16 rows of 512 numbers at 100,000, one million and ten million rows. The floor of a search is the time that
the device needs to read the rows once, by the bandwidth of a large copy measured in the same run. On a few queries the
answer is checked against the CPU's. Without a GPU it says so; `--small` tries all of it on the CPU at a small size.

One command: python -m benchmarks.gpu.retrieval. It needs numpy, FAISS with its GPU side, and torch for the bandwidth.
Sizes are written as they finish, so that a run that is cut short keeps what it has.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Float32, Int32

from benchmarks.report import RESULTS, meta, write_results
from retrieval.index import CpuScanner, GpuScanner, Index, Scanner, faiss_version, gpu_count

DIM, TOP, PATCHES = 512, 3, 5
ROWS = (100_000, 1_000_000, 10_000_000)
SMALL = (20_000, 50_000)
QUERIES = (1, 4, 64)
CHUNK = 50_000  # rows made at a time
SWAPS, SWAP_ROWS = 40, 20_000
REPEATS = {100_000: 200, 1_000_000: 100, 10_000_000: 30}
ROWS_A_CHAPTER = 100


class Rows:
    """Made-up unit rows that float16 can hold, so that ten million of them take 10 GB; the index' source of rows."""

    def __init__(self, rows: int) -> None:
        self.half: Float16[np.ndarray, "rows dim"] = np.empty((rows, DIM), np.float16)
        rng = np.random.default_rng(0)
        for first in range(0, rows, CHUNK):
            count = min(CHUNK, rows - first)
            pages = rng.standard_normal((-(-count // PATCHES), DIM), np.float32).repeat(PATCHES, 0)[:count]
            made = pages + 0.6 * rng.standard_normal((count, DIM), np.float32)
            self.half[first : first + count] = made / np.linalg.norm(made, axis=1, keepdims=True)

    def vectors(self, owners: Int32[np.ndarray, "n"], parts: Int32[np.ndarray, "n"]) -> Float32[np.ndarray, "n dim"]:
        """As `RowSource.vectors`."""
        rows: Float32[np.ndarray, "n dim"] = self.half[owners * PATCHES + parts].astype(np.float32)
        return rows


def built(rows: Rows, scanner: Scanner) -> tuple[Index, dict[str, float]]:
    """The index of all rows, on the device where there is one, and how long that took."""
    index = Index(DIM, scanner, precision="fp16", source=rows)
    begin = time.perf_counter()
    for first in range(0, len(rows.half), CHUNK):
        part = rows.half[first : first + CHUNK].astype(np.float32)
        number = np.arange(first, first + len(part))
        owners, parts = (number // PATCHES).astype(np.int32), (number % PATCHES).astype(np.int32)
        boxes = np.zeros((len(part), 4), np.int32)
        index.append(part, owners, parts, boxes, number // ROWS_A_CHAPTER)
    appended = time.perf_counter() - begin
    on_device = index.place_on_device()
    placed = time.perf_counter() - begin - appended
    return index, {"append_s": appended, "place_s": placed, "rows_on_device": on_device}


def latency(
    index: Index, queries: Float32[np.ndarray, "q dim"], passing: Bool[np.ndarray, "places"] | None, repeats: int
) -> dict[str, float]:
    """Quantiles of one search, milliseconds."""
    snapshot = index.snapshot()
    for _ in range(3):
        snapshot.search(queries, TOP, passing)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        snapshot.search(queries, TOP, passing)
        seconds.append(time.perf_counter() - begin)
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return {"p50_ms": float(p50), "p95_ms": float(p95), "n": repeats}


def bandwidth(*, gpu: bool) -> float:
    """Bytes a second that a large copy reads (it writes as many)."""
    if not gpu:
        source = np.zeros(1 << 28, np.uint8)
        target = np.empty_like(source)
        seconds = min(_timed(lambda: np.copyto(target, source)) for _ in range(5))
        return source.nbytes / seconds
    import torch

    on_device = torch.zeros(1 << 32, dtype=torch.uint8, device="cuda")
    copy = torch.empty_like(on_device)

    def work() -> None:
        copy.copy_(on_device)
        torch.cuda.synchronize()

    seconds = min(_timed(work) for _ in range(5))
    del on_device, copy
    torch.cuda.empty_cache()
    return 2 * (1 << 32) / seconds  # reading alone may use what reading and writing use together


def _timed(work: Any) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def swaps(scanner: Scanner) -> dict[str, float]:
    """How many series of 20,000 rows can take turns on the device in a second."""
    rows = Rows(SWAP_ROWS)
    indexes = [built(rows, scanner)[0] for _ in range(4)]
    for index in indexes:
        index.drop_from_device()
    begin = time.perf_counter()
    for number in range(SWAPS):
        indexes[(number - 1) % 4].drop_from_device()
        indexes[number % 4].place_on_device()
        indexes[number % 4].snapshot().search(rows.half[:4].astype(np.float32), TOP, None)
    seconds = time.perf_counter() - begin
    for index in indexes:
        index.drop_from_device()
    return {"rows": SWAP_ROWS, "swaps_per_s": SWAPS / seconds, "bytes_per_s": SWAPS * SWAP_ROWS * DIM * 2 / seconds}


def size(count: int, scanner: Scanner, rate: float) -> dict[str, Any]:
    """All figures of one number of rows."""
    rows = Rows(count)
    index, figures = built(rows, scanner)
    rng = np.random.default_rng(1)
    places = -(-count // PATCHES)
    chapter = np.arange(places) * PATCHES // ROWS_A_CHAPTER
    half, tags = chapter <= chapter[-1] // 2, rng.random(places) < 0.5
    repeats = REPEATS.get(count, 50)
    floor = count * DIM * 2 / rate * 1000
    result: dict[str, Any] = {"build": figures, "device_bytes": scanner.resident_bytes, "floor_ms": floor, "search": []}
    for number in QUERIES:
        near = rows.half[rng.integers(0, count, number)].astype(np.float32)
        queries = near + 0.02 * rng.standard_normal(near.shape, np.float32)
        for bound, passing in (("none", None), ("chapter <= half", half), ("every second reference", tags)):
            slow = repeats if bound != "every second reference" else max(5, repeats // 10)
            figures = latency(index, queries, passing, slow)
            over = figures["p50_ms"] / floor
            result["search"].append({"queries": number, "bound": bound, **figures, "over_floor": over})
            print(count, result["search"][-1], flush=True)
    few = rows.half[:: max(1, count // 7)].astype(np.float32)
    found = index.snapshot().search(few, TOP, half)
    index.drop_from_device()
    same = index.snapshot().search(few, TOP, half)
    result["same_as_cpu"] = bool((found.numbers == same.numbers).all() and (found.scores == same.scores).all())
    return result


def main() -> None:
    """The command; see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small sizes, on the CPU where there is no GPU")
    parser.add_argument("--rows", type=int, nargs="*", help="sizes; default 100,000, 1,000,000 and 10,000,000")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    arguments = parser.parse_args()
    gpu = gpu_count() > 0
    if not gpu and not arguments.small:
        raise SystemExit(f"no GPU that FAISS {faiss_version()} can use; --small tries the command on the CPU")
    scanner: Scanner = GpuScanner(precision="fp16") if gpu else CpuScanner()
    rate = bandwidth(gpu=gpu)
    machine = f"{meta()['machine']}, FAISS {faiss_version()}"
    if gpu:
        import torch

        machine = f"{torch.cuda.get_device_name()}, {machine}"
    results: dict[str, Any] = {"bandwidth_gb_per_s": rate / 1e9, "dim": DIM, "sizes": {}}
    for count in arguments.rows or (SMALL if arguments.small else ROWS):
        results["sizes"][str(count)] = size(count, scanner, rate)
        write_results("retrieval_gpu", results, folder=arguments.out, facts={"machine": machine})
    results["swaps"] = swaps(scanner)
    print(write_results("retrieval_gpu", results, folder=arguments.out, facts={"machine": machine}))


if __name__ == "__main__":
    main()
