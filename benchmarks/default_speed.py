"""Seconds a page and memory with the servers' defaults: embed, retrieve, colour; each apart, and all together.

Pages are resized to 992 x 1400 and sent one at a time, so that a figure is what one page waits, on as many cores as are
given (the first two; both servers and all their workers share them).

  retrieve: RetrieveContext, with the server's own split into decoding, embedding, search and encoding.
  colour:   ColorizePages with that context given.
  together: ColorizePages that names the series, so that the colouriser fetches the context. The figure that counts.
  stream:   the same, all pages in one call, so that one is fetched while another is coloured.

The networks are then run in this process and counted (`benchmarks.macs`): their multiply-adds over the matmul rate of
onnxruntime, measured before and after on the same cores, is the least time that they could take. Memory is the sum of
the resident sizes of both servers and their workers, the largest seen every 20 ms; "high water" adds up each process's
own largest, whenever it was.

    python -m benchmarks.default_speed --comics ../shared/data/peppercarrot
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from jaxtyping import UInt8
from PIL import Image

from benchmarks.comics import Comic, ComicPage, read_comic
from benchmarks.macs import Networks, matmul_rate, watched
from benchmarks.protocols import png
from benchmarks.report import RESULTS, write_results
from benchmarks.servers import Pair, Running, both
from colorizer.backend import discover
from colorizer.types import Hit, Job
from panelhue import (
    ColorizeOptions,
    ColorizerClient,
    Failed,
    Finished,
    PageFile,
    ReferenceFile,
    RetrievalClient,
    SeriesContext,
)
from panelhue.types import Context, PageResult, Timing
from retrieval.embed import create_embedder
from serving.geometry import CORNERS, Box

NAME = "default_speed"
SIZE = (992, 1400)  # width and height of a page, pixels
WARM_UP = 2  # pages before those that count
SAMPLE_SECONDS = 0.02
LOOK_SAMPLES = 50  # after which it is looked anew for worker processes: that takes 1 ms, which the servers lack
SERIES = "comic"


def sized(page: ComicPage, size: tuple[int, int]) -> Image.Image:
    """The true page at `size` (width, height), RGB."""
    return Image.fromarray(page.pixels()).resize(size, Image.Resampling.LANCZOS)


def family(server: Running) -> list[psutil.Process]:
    """The server's process and its workers."""
    parent = psutil.Process(server.process.pid)
    return [parent, *parent.children(recursive=True)]


def families(servers: Pair) -> dict[str, list[psutil.Process]]:
    """The processes of each server."""
    return {"retrieval": family(servers.retrieval), "colorizer": family(servers.colorizer)}


def resident(processes: dict[str, list[psutil.Process]]) -> dict[str, int]:
    """Bytes of each server with its workers now; pages that processes share count in each."""
    sizes = {}
    for name, some in processes.items():
        sizes[name] = 0
        for process in some:
            try:
                sizes[name] += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    return sizes


def high_water(servers: Pair) -> dict[str, int]:
    """Largest resident bytes that each process ever had (VmHWM), added up by server."""
    return {name: sum(_high_water(one.pid) for one in some) for name, some in families(servers).items()}


def _high_water(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


class Peak:
    """The largest sum of both servers' resident sizes while it is watched."""

    def __init__(self, servers: Pair) -> None:
        self._servers = servers
        self._over = threading.Event()
        self.total = 0  # bytes
        self.parts: dict[str, int] = {}  # bytes by server at that moment

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Samples in a thread until the block ends."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        for sample in itertools.count():
            if sample % LOOK_SAMPLES == 0:
                processes = families(self._servers)
            parts = resident(processes)
            if sum(parts.values()) > self.total:
                self.total, self.parts = sum(parts.values()), parts
            if self._over.wait(SAMPLE_SECONDS):
                return


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile of seconds, and how many there are."""
    return {
        "n": len(seconds),
        "p50_s": float(np.median(seconds)),
        "p95_s": float(np.percentile(seconds, 95)),
    }


def split(timings: Sequence[Timing], *parts: str) -> dict[str, float]:
    """Median seconds of each part that the server tells, such as "embed"."""
    return {f"{part}_s": float(np.median([getattr(one, f"{part}_ns") for one in timings])) / 1e9 for part in parts}


def one_by_one(
    client: ColorizerClient, pages: Sequence[bytes], options: ColorizeOptions, contexts: Sequence[Context | None]
) -> tuple[list[float], list[PageResult]]:
    """Seconds of each page in a call of its own, and how it was made; those that warm up are left out.

    Raises:
        RuntimeError: a page failed.
    """
    spent, results = [], []
    for number, (page, context) in enumerate(zip(pages, contexts, strict=True)):
        start = time.perf_counter()
        done = _finished(list(client.colorize([PageFile(f"p{number}", page, context=context)], options)))
        spent.append(time.perf_counter() - start)
        results += [one.result for one in done]
    return spent[WARM_UP:], results[WARM_UP:]


def _finished(events: Sequence[object]) -> list[Finished]:
    for event in events:
        if isinstance(event, Failed):
            raise RuntimeError(f"page {event.key} failed: {event.failure.message}")
    return [event for event in events if isinstance(event, Finished)]


def through_servers(
    servers: Pair, comic: Comic, pages: Sequence[bytes], size: tuple[int, int]
) -> tuple[dict[str, Any], list[Context]]:
    """Figures of every stage through the servers, and the contexts that were fetched.

    Args:
        servers: both, running.
        comic: its 1st, 3rd … page are the references.
        pages: grey, encoded; the first WARM_UP do not count.
        size: of the references, width and height.
    """
    with (
        RetrievalClient(servers.retrieval.address) as retrieval,
        ColorizerClient(servers.colorizer.address) as colorizer,
    ):
        card = next(card for card in colorizer.backends() if card.is_default)
        series = retrieval.create_series(SERIES)
        references = [ReferenceFile(f"{p.chapter}/{p.name}", png(np.asarray(sized(p, size)))) for p in comic.pages[::2]]
        added = [one for one in retrieval.add_references(SERIES, references) if not one.failure]
        contexts, retrieved = [], []
        for page in pages:
            start = time.perf_counter()
            contexts.append(retrieval.retrieve_context(SERIES, page, hits_per_corner=card.hits_per_corner))
            retrieved.append(time.perf_counter() - start)
        timings = [one.timing for one in contexts[WARM_UP:]]
        coloured, made = one_by_one(colorizer, pages, ColorizeOptions(), contexts)
        options = ColorizeOptions(series=SeriesContext(SERIES))
        whole, _ = one_by_one(colorizer, pages, options, [None] * len(pages))
        start = time.perf_counter()
        _finished(list(colorizer.colorize((PageFile(str(i), page) for i, page in enumerate(pages)), options)))
        stream = (time.perf_counter() - start) / len(pages)
    return {
        "backend": card.name,
        "embedder": series.embedder,
        "references": len(added),
        "patches": 5 * len(added),
        "retrieve": spread(retrieved[WARM_UP:]) | split(timings, "decode", "embed", "search", "encode"),
        "colour": spread(coloured) | split([one.timing for one in made], "decode", "compute", "encode"),
        "together": spread(whole),
        "stream_s_per_page": stream,
    }, contexts


def hits_of(context: Context) -> tuple[tuple[Hit, ...], ...]:
    """The context as a back-end takes it: per corner, best first."""
    corners: list[list[Hit]] = [[] for _ in CORNERS]
    decoded: dict[str, UInt8[np.ndarray, "h w 3"]] = {}
    for hit in sorted(context.hits, key=lambda one: one.rank):
        if hit.picture_key not in decoded:
            data = context.pictures[hit.picture_key].data
            decoded[hit.picture_key] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        pixels, cut = decoded[hit.picture_key], hit.picture_box
        if cut is not None:
            pixels = pixels[cut.y0 : cut.y1, cut.x0 : cut.x1]
        box = Box(hit.box.x0, hit.box.y0, hit.box.x1, hit.box.y1)
        size = (hit.reference_width, hit.reference_height)
        corners[hit.corner.value - 1].append(Hit(pixels, hit.score, hit.reference_id, box, size))
    return tuple(tuple(corner) for corner in corners)


def in_process(
    embedder: str, backend: str, pages: Sequence[UInt8[np.ndarray, "h w"]], contexts: Sequence[Context]
) -> dict[str, Any]:
    """Seconds of embedder and back-end without servers, of the networks in them, and their multiply-adds a page.

    Args:
        embedder: name.
        backend: name.
        pages: grey; the first WARM_UP do not count.
        contexts: of the pages.
    """
    with watched() as networks:
        embed = create_embedder(embedder)
        paint = discover().spec(backend).load({"device": "cpu"})
        try:
            colours = [np.repeat(page[..., None], 3, axis=2) for page in pages]
            jobs = [Job(page, hits_of(context)) for page, context in zip(pages, contexts, strict=True)]
            return {
                "embed": _timed(networks, [lambda c=c: embed.embed_pages([c]) for c in colours]),
                "colour": _timed(networks, [lambda j=j: list(paint.colorize([j])) for j in jobs]),
            }
        finally:
            paint.close()


def _timed(networks: Networks, calls: Sequence[Any]) -> dict[str, Any]:
    spent, inside, counted = [], [], []
    for number, call in enumerate(calls):
        networks.forget()
        start = time.perf_counter()
        call()
        if number >= WARM_UP:
            spent.append(time.perf_counter() - start)
            inside.append(networks.seconds)
            counted.append(networks.multiply_adds())
    figures: dict[str, Any] = spread(spent) | {"multiply_adds": float(np.mean(counted))}
    if any(counted):
        figures |= {"network_s": float(np.median(inside)), "runs": len(networks.runs)}
    return figures


def against_matmul(results: dict[str, Any], rates: Sequence[dict[str, float]]) -> dict[str, Any]:
    """The least time of the networks at the matmul rate, and how many times that the page takes.

    Args:
        results: with "through_servers" and "in_process".
        rates: multiply-adds a second by side, measured at different times; the largest of all counts.
    """
    rate = max(value for one in rates for value in one.values())
    stages = results["in_process"]
    counted = sum(stage["multiply_adds"] for stage in stages.values())
    figures: dict[str, Any] = {"matmul_gmac_per_s": rate / 1e9, "multiply_adds_per_page": counted}
    figures["by_side_gmac_per_s"] = {side: max(one[side] for one in rates) / 1e9 for side in rates[0]}
    if counted:  # without a network there is nothing to compare with
        floor = counted / rate
        figures |= {
            "floor_s": floor,
            "networks_over_floor": sum(stage.get("network_s", 0.0) for stage in stages.values()) / floor,
            "in_process_over_floor": sum(stage["p50_s"] for stage in stages.values()) / floor,
            "together_over_floor": results["through_servers"]["together"]["p50_s"] / floor,
        }
    return figures


@contextmanager
def on_cores(count: int) -> Iterator[int]:
    """This process, and those that it starts meanwhile, on the first `count` of its cores; how many there are."""
    before = os.sched_getaffinity(0)
    cores = sorted(before)[:count]
    os.sched_setaffinity(0, cores)
    try:
        yield len(cores)
    finally:
        os.sched_setaffinity(0, before)


def run(args: argparse.Namespace, cores: int) -> dict[str, Any]:
    """All figures.

    Args:
        args: the command's.
        cores: that this process may use.
    """
    comic = read_comic(args.comics.resolve())
    size = (args.width, args.height)
    targets = [comic.pages[1::2][i % len(comic.pages[1::2])] for i in range(args.pages + WARM_UP)]
    grey = [np.asarray(sized(page, size).convert("L")) for page in targets]
    rates = [matmul_rate(cores)]
    results: dict[str, Any] = {"size": f"{size[0]}x{size[1]}", "cores": cores}
    results["omp_num_threads"] = os.environ.get("OMP_NUM_THREADS", "")
    with (
        tempfile.TemporaryDirectory() as data,
        both(Path(data), workers=args.workers, embedder=args.embedder, backend=args.backend) as servers,
    ):
        peak = Peak(servers)
        results["memory_idle_mb"] = _mb(resident(families(servers)))
        with peak.watched():
            results["through_servers"], contexts = through_servers(servers, comic, [png(page) for page in grey], size)
        results["memory_peak_mb"] = _mb(peak.parts)
        results["memory_high_water_mb"] = _mb(high_water(servers))
    served = results["through_servers"]
    results["in_process"] = in_process(served["embedder"], served["backend"], grey, contexts)
    rates.append(matmul_rate(cores))
    results["against_matmul"] = against_matmul(results, rates)
    return results


def _mb(sizes: dict[str, int]) -> dict[str, float]:
    return {name: size / 1e6 for name, size in sizes.items()} | {"total": sum(sizes.values()) / 1e6}


def main(arguments: list[str] | None = None) -> None:
    """The command; see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--comics", type=Path, required=True, help="one sub-folder of colour pages per chapter")
    add("--embedder", help="default: the retrieval server's")
    add("--backend", help="default: the colouriser server's")
    add("--pages", type=int, default=10, help=f"pages that count, after {WARM_UP} that warm up; default 10")
    add("--width", type=int, default=SIZE[0], help="of a page, pixels; default 992")
    add("--height", type=int, default=SIZE[1], help="of a page, pixels; default 1400")
    add("--cores", type=int, default=2, help="that all processes share; default 2")
    add("--workers", type=int, help="worker processes of the colouriser; default: the server's")
    add("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    args = parser.parse_args(arguments)
    with on_cores(args.cores) as cores:
        results = run(args, cores)
    print(results)
    print(write_results(NAME, results, folder=args.out))


if __name__ == "__main__":
    main()
