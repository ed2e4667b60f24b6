"""Colour error on a real comic through both real servers, under the fixed protocols.

A, across episodes: targets are all pages of the last third of the chapters (Pepper&Carrot: ep11 to ep15).
  A-truth: the references of chapter N are the true colour pages of all earlier chapters.
  A-own: the chapters before the targets are true, later ones the system's own output, promoted at depth 1 or more.
B, same chapter: the 1st, 3rd, 5th … page of each chapter is a reference, the 2nd, 4th … a target.

Methods: `grey` (the page as it is), `colour_transfer` (one colour per luma level from the best hit), `exemplar` and any
other back-end. The grey input is PIL's convert('L'). Figures are means over pages; a ratio to grey is sum over sum.
Overall figures of B are over the reported chapters (Pepper&Carrot: ep06 to ep15; ep01 to ep05 are for tuning, and
listed too).
"""

from __future__ import annotations

import argparse
import io
import json
import math
import tempfile
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.colour_transfer import colour_transfer
from benchmarks.comics import Comic, ComicPage, read_comic
from benchmarks.metrics import Scores, colourfulness, score
from benchmarks.report import RESULTS, write_results
from benchmarks.servers import Pair, both
from panelhue import (
    Bound,
    ColorizeOptions,
    ColorizerClient,
    Failed,
    Finished,
    Origin,
    PageFile,
    Provenance,
    ReferenceFile,
    RetrievalClient,
    SeriesContext,
)
from panelhue.types import PageResult

PEPPERCARROT_TUNED = ("ep01", "ep02", "ep03", "ep04", "ep05")
PEPPERCARROT_TARGETS = ("ep11", "ep12", "ep13", "ep14", "ep15")
TRUTH, GREY, TRANSFER = "truth", "grey", "colour_transfer"

Picture = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Measured:
    """One page's figures under one method."""

    chapter: str
    page: str
    method: str
    scores: Scores


def png(picture: UInt8[np.ndarray, "..."]) -> bytes:
    """The picture as a PNG file, quickly compressed."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG", compress_level=1)
    return out.getvalue()


def measure(page: ComicPage, method: str, result: bytes) -> Measured:
    """One page's figures; runs in a process of its own."""
    picture = np.asarray(Image.open(io.BytesIO(result)).convert("RGB"))
    if method == TRUTH:
        return Measured(page.chapter, page.name, method, Scores(math.inf, 1.0, 0.0, colourfulness(picture)))
    return Measured(page.chapter, page.name, method, score(page.pixels(), picture))


class Run:
    """One comic through the servers.

    Args:
        comic: true pages.
        servers: both, running.
        backends: names of the back-ends to measure.
        keep: folder for the coloured pages; None: they are not kept.
    """

    def __init__(self, comic: Comic, servers: Pair, backends: Iterable[str], keep: Path | None) -> None:
        self._comic = comic
        self._retrieval = RetrievalClient(servers.retrieval.address)
        self._colorizer = ColorizerClient(servers.colorizer.address)
        self._backends = tuple(backends)
        self._keep = keep
        self._chapters = {name: (i + 1) * 1000 for i, name in enumerate(comic.chapters)}
        self._pool = ProcessPoolExecutor(1)
        self.console = Console(stderr=True)

    def close(self) -> None:
        """Frees the scoring process and the channels."""
        self._pool.shutdown()
        self._retrieval.close()
        self._colorizer.close()

    def _add(self, series: str, pages: Iterable[ComicPage]) -> None:
        files = (
            ReferenceFile(page.name, page.path, chapter=self._chapters[page.chapter], page=i + 1)
            for i, page in enumerate(pages)
        )
        for answer in self._retrieval.add_references(series, files):
            if answer.failure:
                self.console.print(f"[yellow]{series}: {answer.name} was rejected: {answer.failure.message}")

    def _series(self, name: str) -> str:
        return self._retrieval.create_series(f"{self._comic.name}-{name}".lower()).id

    def _colourise(
        self, series: str, backend: str, pages: tuple[ComicPage, ...], bound: Bound
    ) -> Iterable[tuple[ComicPage, bytes, PageResult]]:
        by_key = {page.name: page for page in pages}
        files = (PageFile(page.name, lambda page=page: grey_png(page)) for page in pages)  # type: ignore[misc]
        options = ColorizeOptions(backend=backend, series=SeriesContext(series, bound))
        for event in self._colorizer.colorize(files, options, window=4):
            if isinstance(event, Failed):
                raise RuntimeError(f"{series}: page {event.key} failed: {event.failure.message}")
            if isinstance(event, Finished):
                yield by_key[event.key], event.picture.data, event.result

    def _transfer(self, series: str, page: ComicPage, bound: Bound) -> bytes:
        grey = np.asarray(Image.open(page.path).convert("L"))
        context = self._retrieval.retrieve_context(series, png(grey), hits_per_corner=1, bound=bound)
        if not context.hits:
            return png(np.stack([grey] * 3, axis=-1))
        best = max(context.hits, key=lambda hit: hit.score)
        patch = np.asarray(Image.open(io.BytesIO(context.pictures[best.picture_key].data)).convert("RGB"))
        return png(colour_transfer(grey, patch))

    def targets(self, protocol: str, series: str, pages: tuple[ComicPage, ...], bound: Bound) -> list[Future[Measured]]:
        """Every method on these pages; the figures are worked out meanwhile in another process."""
        waiting = []
        for page in pages:
            truth = page.pixels()
            waiting.append(self._pool.submit(measure, page, TRUTH, png(truth)))
            waiting.append(self._pool.submit(measure, page, GREY, grey_png(page, rgb=True)))
            waiting.append(self._pool.submit(measure, page, TRANSFER, self._transfer(series, page, bound)))
        for backend in self._backends:
            for page, picture, _ in self._colourise(series, backend, pages, bound):
                waiting.append(self._pool.submit(measure, page, backend, picture))
                self._save(protocol, backend, page, picture)
        return waiting

    def _save(self, protocol: str, backend: str, page: ComicPage, picture: bytes) -> None:
        if self._keep:
            file = self._keep / self._comic.name / protocol / backend / page.chapter / f"{page.name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture)

    def same_chapter(self) -> list[Measured]:
        """Protocol B."""
        waiting: list[Future[Measured]] = []
        for chapter, pages in self._comic.chapters.items():
            if len(pages) > 1:
                self.console.print(f"B {chapter}: {len(pages[::2])} references, {len(pages[1::2])} targets")
                series = self._series(f"b-{chapter}")
                self._add(series, pages[::2])
                waiting += self.targets("B", series, pages[1::2], Bound())
        return [one.result() for one in waiting]

    def across_truth(self, targets: tuple[str, ...]) -> list[Measured]:
        """Protocol A-truth: the pool grows by true chapters."""
        series = self._series("a-truth")
        waiting: list[Future[Measured]] = []
        for chapter, pages in self._comic.chapters.items():
            if chapter in targets:
                self.console.print(f"A-truth {chapter}: {len(pages)} targets")
                earlier = Bound(max_chapter=self._chapters[chapter] - 1)
                waiting += self.targets("A-truth", series, pages, earlier)
            self._add(series, pages)
        return [one.result() for one in waiting]

    def across_own(self, targets: tuple[str, ...], backend: str) -> list[Measured]:
        """Protocol A-own: from the first target on, the pool grows by the system's own pages."""
        series = self._series(f"a-own-{backend}")
        waiting: list[Future[Measured]] = []
        for chapter, pages in self._comic.chapters.items():
            if chapter not in targets:
                self._add(series, pages)
                continue
            self.console.print(f"A-own {chapter}: {len(pages)} targets")
            made: list[ReferenceFile] = []
            for page, picture, result in self._colourise(series, backend, pages, Bound()):
                parents = tuple(dict.fromkeys(h.reference_id for h in result.references if h.used is not False))
                provenance = Provenance(Origin.GENERATED, result.depth, parents, backend, page.name)
                made.append(ReferenceFile(page.name, picture, self._chapters[chapter], len(made) + 1, (), provenance))
                waiting.append(self._pool.submit(measure, page, GREY, grey_png(page, rgb=True)))
                waiting.append(self._pool.submit(measure, page, TRUTH, png(page.pixels())))
                waiting.append(self._pool.submit(measure, page, backend, picture))
                self._save("A-own", backend, page, picture)
            for answer in self._retrieval.add_references(series, made):
                if answer.failure:
                    self.console.print(f"[yellow]{answer.name} stays out of the pool: {answer.failure.message}")
        return [one.result() for one in waiting]


def grey_png(page: ComicPage, *, rgb: bool = False) -> bytes:
    """The page without its colour; `rgb` as three equal channels."""
    grey = np.asarray(Image.open(page.path).convert("L"))
    return png(np.stack([grey] * 3, axis=-1) if rgb else grey)


def summary(measured: list[Measured], chapters: Iterable[str] | None = None) -> dict[str, Any]:
    """Figures per method over the pages of `chapters` (None: all)."""
    wanted = None if chapters is None else set(chapters)
    table: dict[str, dict[tuple[str, str], Scores]] = {}
    for one in measured:
        if wanted is None or one.chapter in wanted:
            table.setdefault(one.method, {})[one.chapter, one.page] = one.scores
    grey = table.get(GREY, {})
    figures = {}
    for method, pages in table.items():
        if method == TRUTH:
            figures[method] = {
                "n": len(pages),
                "colourfulness": float(np.mean([s.colourfulness for s in pages.values()])),
            }
            continue
        figures[method] = {
            "n": len(pages),
            "psnr_db": float(np.mean([s.psnr for s in pages.values()])),
            "psnr_gain_db": float(np.mean([s.psnr - grey[key].psnr for key, s in pages.items()])),
            "ssim": float(np.mean([s.ssim for s in pages.values()])),
            "ciede": float(np.mean([s.ciede for s in pages.values()])),
            "ciede_ratio_to_grey": sum(s.ciede for s in pages.values()) / sum(grey[key].ciede for key in pages),
            "colourfulness": float(np.mean([s.colourfulness for s in pages.values()])),
        }
    return figures


def with_episodes(measured: list[Measured], reported: Iterable[str] | None) -> dict[str, Any]:
    """Overall figures over the reported chapters, and per chapter over all."""
    overall = summary(measured, reported)
    for chapter in dict.fromkeys(one.chapter for one in measured):
        for method, figures in summary(measured, [chapter]).items():
            overall.setdefault(method, {}).setdefault("per_episode", {})[chapter] = figures
    return overall


def show(console: Console, name: str, results: dict[str, Any]) -> None:
    """Prints one protocol's table."""
    table = Table(
        "method", "n", "PSNR gain dB", "worst chapter dB", "SSIM", "CIEDE2000 of grey's", "colourfulness", title=name
    )
    for method, f in results.items():
        gains = [e["psnr_gain_db"] for e in f.get("per_episode", {}).values() if "psnr_gain_db" in e]
        cells = [
            f"{f['psnr_gain_db']:+.2f}" if "psnr_gain_db" in f else "",
            f"{min(gains):+.2f}" if gains else "",
            f"{f['ssim']:.4f}" if "ssim" in f else "",
            f"{f['ciede_ratio_to_grey']:.3f}" if "ciede_ratio_to_grey" in f else "",
            f"{f['colourfulness']:.1f}",
        ]
        table.add_row(method, str(f["n"]), *cells)
    console.print(table)


def run(comic: Comic, servers: Pair, backends: list[str], protocols: list[str], keep: Path | None) -> dict[str, Any]:
    """All figures of one comic."""
    pepper = comic.name == "peppercarrot"
    names = list(comic.chapters)
    targets = PEPPERCARROT_TARGETS if pepper else tuple(names[len(names) - len(names) // 3 :])
    reported = [name for name in names if name not in PEPPERCARROT_TUNED] if pepper else None
    job = Run(comic, servers, backends, keep)
    results: dict[str, Any] = {}
    try:
        if "B" in protocols:
            results["B"] = with_episodes(job.same_chapter(), reported)
        if "A-truth" in protocols and targets:
            results["A-truth"] = with_episodes(job.across_truth(targets), None)
        if "A-own" in protocols and targets:
            own: dict[str, Any] = {}
            for backend in backends:
                own |= with_episodes(job.across_own(targets, backend), None)
            results["A-own"] = own
    finally:
        job.close()
    for protocol, figures in results.items():
        show(job.console, f"{comic.name}, {protocol}", figures)
    return results


def main() -> None:
    """The command; see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--comics",
        type=Path,
        action="append",
        required=True,
        help="one sub-folder of colour pages per chapter; may be given again",
    )
    parser.add_argument("--backend", action="append", help="back-end to measure; may be given again; default exemplar")
    parser.add_argument("--protocol", action="append", choices=["A-truth", "A-own", "B"], help="default: all three")
    parser.add_argument("--limit", type=int, help="at most so many pages of each chapter")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the colouriser; default 2")
    parser.add_argument("--keep", type=Path, help="folder for the coloured pages")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    args = parser.parse_args()
    file = args.out / "comic_quality.json"
    results = json.loads(file.read_text())["results"] if file.exists() else {}
    for folder in args.comics:
        comic = read_comic(folder.resolve(), limit=args.limit)
        with tempfile.TemporaryDirectory() as data, both(Path(data), workers=args.workers) as servers:
            figures = run(
                comic, servers, args.backend or ["exemplar"], args.protocol or ["B", "A-truth", "A-own"], args.keep
            )
        results[comic.name] = {**results.get(comic.name, {}), **figures}
        print(write_results("comic_quality", results, folder=args.out))


if __name__ == "__main__":
    main()
