"""What serving costs, each figure beside a floor that was measured in the same run.

- search: SearchVectors over gRPC (4 vectors, top 3) beside the pool's own search in process and beside FAISS's
  IndexFlatIP on the same vectors, at 10,000 patches;
- retrieve: a whole page over gRPC, decoding and embedding included;
- ingest: colour pages a second, each synced to disk, and the share of the time that is the embedder's;
- cold start: from the start of the process to the first answer of a pool of 10,000 patches;
- colourise: seconds a page, the pages' own time and the wall clock;
- memory of both servers with their workers (proportional set size).
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from benchmarks.comics import Comic, ComicPage, read_comic
from benchmarks.protocols import grey_png
from benchmarks.report import RESULTS, write_results
from benchmarks.servers import both, start, stop
from panelhue import (
    AddStatus,
    ColorizeOptions,
    ColorizerClient,
    Failed,
    Finished,
    PageFile,
    ReferenceFile,
    RetrievalClient,
    SeriesContext,
)

PATCHES = 10_000
QUERIES, TOP = 4, 3  # a page's corners, and the hits of each
SMALL = (136, 96)  # height and width of the pictures that fill the large pool, pixels
WARM_UP, REPEATS = 50, 1000
RETRIEVALS = 40
COLOURED = 8


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return {"p50_ms": float(p50), "p95_ms": float(p95), "n": len(seconds)}


def timed(call: Callable[[], object], repeats: int, warm_up: int) -> dict[str, float]:
    """Latency of a call."""
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return quantiles(seconds)


def small_pictures(count: int) -> Iterator[ReferenceFile]:
    """Different small colour pictures: smooth fields of three random colours."""
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 4, 3), dtype=np.uint8))
        out = io.BytesIO()
        coarse.resize(SMALL[::-1], Image.Resampling.BICUBIC).save(out, "PNG")
        yield ReferenceFile(str(number), out.getvalue(), chapter=1000 * (number // 20), page=number % 20)


def ingest(client: RetrievalClient, series: str, files: Iterator[ReferenceFile]) -> dict[str, float]:
    """Adds the files; pages a second and where the time went."""
    begin = time.perf_counter()
    answers = list(client.add_references(series, files))
    seconds = time.perf_counter() - begin
    added = [a for a in answers if a.status is AddStatus.ADDED]
    return {
        "n": len(added),
        "rejected": len(answers) - len(added),
        "pages_per_s": len(added) / seconds,
        "embedder_share": sum(a.timing.embed_ns for a in added) / 1e9 / seconds,
        "decode_share": sum(a.timing.decode_ns for a in added) / 1e9 / seconds,
        "store_share": sum(a.timing.store_ns for a in added) / 1e9 / seconds,
    }


def true_pages(pages: tuple[ComicPage, ...]) -> Iterator[ReferenceFile]:
    """Colour pages as references."""
    for number, page in enumerate(pages):
        yield ReferenceFile(f"{page.chapter}/{page.name}", page.path, chapter=1000, page=number)


def in_process(data: Path, queries: Float32[np.ndarray, "q dim"]) -> dict[str, Any]:
    """The floors: the same pool's search without gRPC, and bare FAISS on the same vectors. No server may be running."""
    import faiss

    from retrieval.catalog import Catalog
    from retrieval.index import best_scanner
    from retrieval.pool import Pool
    from retrieval.types import Bound, SearchOptions

    catalog = Catalog(data)
    try:
        pool = Pool(catalog, "large", best_scanner())
        begin = time.perf_counter()
        view = pool.load()
        load = time.perf_counter() - begin
        own = timed(lambda: view.find(queries, SearchOptions(TOP, Bound()), None), REPEATS, WARM_UP)
        flat = faiss.IndexFlatIP(queries.shape[1])
        after = 0
        while batch := catalog.patches("large", after):
            flat.add(np.concatenate([patches.vectors for patches in batch]))
            after = batch[-1].sequence
        bare = {}
        for threads in (1, 2):
            faiss.omp_set_num_threads(threads)
            bare[threads] = timed(lambda: flat.search(queries, TOP), REPEATS, WARM_UP)
        best = min(bare, key=lambda threads: bare[threads]["p50_ms"])
        return {"in_process": own, "faiss": {**bare[best], "threads": best}, "load_s": load, "rows": flat.ntotal}
    finally:
        catalog.close()


def colourise(address: str, series: str, pages: tuple[ComicPage, ...]) -> dict[str, float]:
    """Seconds a page with one worker."""
    computed, begin = [], time.perf_counter()
    with ColorizerClient(address) as client:
        files = (PageFile(f"{page.chapter}/{page.name}", grey_png(page)) for page in pages)
        for event in client.colorize(files, ColorizeOptions(series=SeriesContext(series))):
            if isinstance(event, Failed):
                raise RuntimeError(f"page {event.key} failed: {event.failure.message}")
            if isinstance(event, Finished):
                computed.append(event.result.timing.compute_ns / 1e9)
    wall = time.perf_counter() - begin
    return {
        "n": len(computed),
        "s_per_page": wall / len(computed),
        "back_end_s_p50": float(np.median(computed)),
        "megapixels_per_page": float(np.mean([page.pixels()[..., 0].size for page in pages])) / 1e6,
    }


def cold_start(folder: Path, queries: Float32[np.ndarray, "q dim"], page: bytes) -> dict[str, float]:
    """From the start of the process to its first answers on the large pool; the file cache is warm."""
    begin = time.perf_counter()
    server = start("retrieval-server", folder, "--data", str(folder / "data"))
    ready = time.perf_counter() - begin
    try:
        with RetrievalClient(server.address) as client:
            client.search("large", queries.tobytes(), queries.shape[1], k=TOP)
            first = time.perf_counter() - begin
            client.retrieve_context("large", page)
            context = time.perf_counter() - begin
    finally:
        stop(server)
    return {"ready_s": ready, "first_search_s": first, "first_context_s": context}


def run(comic: Comic) -> dict[str, Any]:
    """All figures."""
    results: dict[str, Any] = {}
    references = comic.pages[::2]
    targets = comic.pages[1::2][:COLOURED]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with both(folder, workers=1) as servers, RetrievalClient(servers.retrieval.address) as client:
            results["memory_idle_mb"] = {
                "retrieval": servers.retrieval.memory_bytes() / 1e6,
                "colorizer": servers.colorizer.memory_bytes() / 1e6,
            }
            dim = client.create_series("comic").embedding_space.dim
            client.create_series("large")
            results["ingest"] = ingest(client, "comic", true_pages(references))
            print("ingest", results["ingest"])
            results["ingest_small"] = ingest(client, "large", small_pictures(PATCHES // 5))
            print("ingest_small", results["ingest_small"])
            rng = np.random.default_rng(0)
            queries = rng.normal(size=(QUERIES, dim)).astype(np.float32)
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
            vectors = queries.tobytes()
            grpc = timed(lambda: client.search("large", vectors, dim, k=TOP), REPEATS, WARM_UP)
            grey = grey_png(targets[0])
            retrieve = timed(lambda: client.retrieve_context("comic", grey), RETRIEVALS, 3)
            results["colourise"] = colourise(servers.colorizer.address, "comic", targets)
            print("colourise", results["colourise"])
            results["memory_busy_mb"] = {
                "retrieval": servers.retrieval.memory_bytes() / 1e6,
                "colorizer": servers.colorizer.memory_bytes() / 1e6,
            }
        floors = in_process(folder / "data", queries)
        results["search"] = {
            "patches": floors.pop("rows"),
            "grpc": grpc,
            **floors,
            "overhead_ms": {key: grpc[key] - floors["in_process"][key] for key in ("p50_ms", "p95_ms")},
            "grpc_over_faiss": grpc["p50_ms"] / floors["faiss"]["p50_ms"],
        }
        results["retrieve"] = retrieve
        results["cold_start"] = cold_start(folder, queries, grey)
    return results


def main() -> None:
    """The command; see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comics", type=Path, required=True, help="one sub-folder of colour pages per chapter")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    args = parser.parse_args()
    results = run(read_comic(args.comics.resolve()))
    print(results)
    print(write_results("serving", results, folder=args.out))


if __name__ == "__main__":
    main()
