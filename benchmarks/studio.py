"""One comic through both real servers: its pools, its pages coloured by any back-end, and their figures."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks.colour_transfer import colour_transfer
from benchmarks.comics import Comic, ComicPage
from benchmarks.ledger import Ledger, fingerprint
from benchmarks.protocols import (
    GREY,
    TRANSFER,
    TRUTH,
    Measured,
    Trial,
    chapter_number,
    grey_png,
    measure,
    png,
)
from benchmarks.servers import Pair
from panelhue import (
    Bound,
    ColorizeOptions,
    ColorizerClient,
    Failed,
    Finished,
    PageFile,
    ReferenceFile,
    RetrievalClient,
    SeriesContext,
)
from panelhue.types import PageResult

WINDOW = 4  # pages under way at once

Keep = Callable[[ComicPage, bytes], None]  # what becomes of a coloured page


class Studio:
    """One comic through the servers. A context manager.

    Args:
        comic: true pages.
        servers: both, running.
        ledger: figures of before; None: everything is measured now.
    """

    def __init__(self, comic: Comic, servers: Pair, ledger: Ledger | None = None) -> None:
        self._comic = comic
        self._ledger = ledger
        self.retrieval = RetrievalClient(servers.retrieval.address)
        self.colorizer = ColorizerClient(servers.colorizer.address)
        self.embedder = self.retrieval.info().default_embedder
        self._series: dict[str, str] = {}  # id by name of the pool
        self._space = ""  # of the embedding; known with the first series
        self._plain: dict[tuple[str, str, str], Measured] = {}  # grey and truth by method, chapter and page
        self._cards: dict[str, dict[str, object]] = {}
        self._scoring = ProcessPoolExecutor(1, get_context("spawn"))  # gRPC's threads do not survive a fork
        self.console = Console(stderr=True)

    def __enter__(self) -> Studio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scoring.shutdown()
        self.retrieval.close()
        self.colorizer.close()

    def describe(self, backend: str) -> dict[str, object]:
        """Version of a back-end and the sums of its weights, as it is served now."""
        if backend not in self._cards:
            card = self.colorizer.backend(backend)
            if not card.available:
                raise SystemExit(card.unavailable_reason)
            self._cards[backend] = {"version": card.version, "weights_sha256": dict(card.weights_sha256)}
        return self._cards[backend]

    def create(self, name: str) -> str:
        """A new, empty series; its id."""
        series = self.retrieval.create_series(f"{self._comic.name}-{name}".lower())
        self._space = series.embedding_space.id
        return series.id

    def add(self, series: str, files: Iterable[ReferenceFile]) -> None:
        """Adds references; one that is rejected is told of and stays out."""
        for answer in self.retrieval.add_references(series, files):
            if answer.failure:
                self.console.print(f"[yellow]{series}: {answer.name} was rejected: {answer.failure.message}")

    def references(self, pages: Iterable[ComicPage], comic: Comic | None = None) -> Iterator[ReferenceFile]:
        """True pages as references of their chapters."""
        for number, page in enumerate(pages):
            chapter = chapter_number(comic or self._comic, page.chapter)
            yield ReferenceFile(page.name, page.path, chapter=chapter, page=number + 1)

    def pool(self, name: str, pages: Iterable[ComicPage], comic: Comic | None = None) -> str:
        """The series of that name with these pages; made the first time.

        Args:
            name: within the comic.
            pages: its references, none for an empty pool.
            comic: whose pages they are; None: this one's.
        """
        if name not in self._series:
            self._series[name] = self.create(name)
            self.add(self._series[name], self.references(pages, comic))
        return self._series[name]

    def colourise(
        self, series: str, backend: str, pages: Iterable[ComicPage], bound: Bound
    ) -> Iterator[tuple[ComicPage, bytes, PageResult]]:
        """The pages as they are done.

        Raises:
            RuntimeError: a page failed.
        """
        by_key = {page.name: page for page in pages}
        files = (PageFile(key, lambda page=page: grey_png(page)) for key, page in by_key.items())  # type: ignore[misc]
        options = ColorizeOptions(backend=backend, series=SeriesContext(series, bound))
        for event in self.colorizer.colorize(files, options, window=WINDOW):
            if isinstance(event, Failed):
                raise RuntimeError(f"{series}: page {event.key} failed: {event.failure.message}")
            if isinstance(event, Finished):
                yield by_key[event.key], event.picture.data, event.result

    def scored(self, page: ComicPage, method: str, picture: bytes) -> Future[Measured]:
        """The page's figures, worked out in another process meanwhile."""
        return self._scoring.submit(measure, page, method, picture)

    def plain(self, pages: Iterable[ComicPage]) -> list[Measured]:
        """Figures of the grey and of the true pages."""
        wanted = list(pages)
        for method in (TRUTH, GREY):
            missing = [p for p in wanted if (method, p.chapter, p.name) not in self._plain]
            waiting = [
                self.scored(p, method, grey_png(p, rgb=True) if method == GREY else png(p.pixels())) for p in missing
            ]
            self._plain |= {(method, m.chapter, m.page): m for m in (one.result() for one in waiting)}
        return [self._plain[method, p.chapter, p.name] for method in (TRUTH, GREY) for p in wanted]

    def trial(
        self, trial: Trial, method: str, comic: Comic | None = None, keep: Keep | None = None
    ) -> Iterator[Measured]:
        """Figures of a trial's targets under `method`, those of before first.

        Args:
            trial: with at least one target.
            method: a back-end's name, or TRANSFER.
            comic: whose pages the references are; None: this one's.
            keep: given every coloured page; then all are coloured now.
        """
        series = self.pool(trial.pool, trial.references, comic)
        made = {page.name: self._fingerprint(trial, method, page) for page in trial.targets}
        missing = []
        for page in trial.targets:
            known = self._ledger.get(made[page.name]) if self._ledger and keep is None else None
            if known is None:
                missing.append(page)
            else:
                yield Measured(page.chapter, page.name, method, known)
        waiting: list[Future[Measured]] = []
        for page, picture in self._pictures(series, method, missing, trial.bound) if missing else ():
            waiting.append(self.scored(page, method, picture))
            if keep:
                keep(page, picture)
            while waiting and waiting[0].done():
                yield self._put(waiting.pop(0).result(), made)
        for one in waiting:
            yield self._put(one.result(), made)

    def _put(self, measured: Measured, made: dict[str, str]) -> Measured:
        if self._ledger:
            said = f"{self._comic.name}/{measured.chapter}/{measured.page} {measured.method}"
            self._ledger.put(made[measured.page], measured.scores, said)
        return measured

    def _fingerprint(self, trial: Trial, method: str, page: ComicPage) -> str:
        what = TRANSFER if method == TRANSFER else f"{method} {self.describe(method)}"
        return fingerprint(what, self._space, trial, page.path)

    def _pictures(
        self, series: str, method: str, pages: list[ComicPage], bound: Bound
    ) -> Iterator[tuple[ComicPage, bytes]]:
        if method == TRANSFER:
            for page in pages:
                yield page, self._transfer(series, page, bound)
        else:
            for page, picture, _ in self.colourise(series, method, pages, bound):
                yield page, picture

    def _transfer(self, series: str, page: ComicPage, bound: Bound) -> bytes:
        grey = np.asarray(Image.open(page.path).convert("L"))
        context = self.retrieval.retrieve_context(series, png(grey), hits_per_corner=1, bound=bound)
        if not context.hits:
            return png(np.stack([grey] * 3, axis=-1))
        best = max(context.hits, key=lambda hit: hit.score)
        patch = np.asarray(Image.open(io.BytesIO(context.pictures[best.picture_key].data)).convert("RGB"))
        return png(colour_transfer(grey, patch))


def kept_in(folder: Path | None) -> Keep | None:
    """Writes coloured pages to CHAPTER/PAGE.png below `folder`; None for None."""
    if folder is None:
        return None

    def keep(page: ComicPage, picture: bytes) -> None:
        file = folder / page.chapter / f"{page.name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture)

    return keep
