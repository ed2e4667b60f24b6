"""Pages coloured through both real servers, as a user would: pools made, pages sent, finished pages added."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from benchmarks.colour_transfer import colour_transfer
from benchmarks.scoreboard.chapters import Chapter, Target
from benchmarks.scoreboard.rows import TRANSFER, Row
from benchmarks.servers import Pair, both
from panelhue import (
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
from panelhue.types import Backend

WINDOW = 4  # pages under way at once, where none waits for another
CHAPTER = 1000  # of every picture; a board's chapters are series of their own
STYLES = {"line": "sketch"}  # what `colorflow` calls a look; "gray" for the others
LICENCE = "non-commercial"  # of the published weights


def png(picture: UInt8[np.ndarray, "..."]) -> bytes:
    """The picture as a PNG file, quickly compressed."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG", compress_level=1)
    return out.getvalue()


def running(folder: Path, *, workers: int = 2, colorflow: Path | None = None) -> AbstractContextManager[Pair]:
    """Both servers with their data below `folder`, stopped at the end.

    Args:
        folder: for data, logs and the settings file.
        workers: processes of the colouriser.
        colorflow: the folder of the published weights, whose licence the caller has accepted; None: there are none.
    """
    flags: tuple[str, ...] = ()
    if colorflow is not None:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "colorizer.toml"
        models = json.dumps(str(colorflow.resolve()))  # a JSON string is a TOML string
        config.write_text(f'[backend_settings.colorflow]\nmodels = {models}\naccept_licence = "{LICENCE}"\n')
        flags = ("--config", str(config))
    return both(folder, *flags, workers=workers)


@dataclass(frozen=True)
class Painted:
    """A page that a row has coloured."""

    target: Target
    picture: bytes  # PNG
    depth: int = 0  # provenance depth: 1 if coloured from given colour
    parents: tuple[str, ...] = ()  # references that it took colour from
    failure: str = ""  # why there is no picture


class Player:
    """Both servers, asked for one chapter after the other. A context manager.

    Args:
        servers: both, running.
        embedder: of the series; empty: the server's default.
    """

    def __init__(self, servers: Pair, embedder: str = "") -> None:
        self._retrieval = RetrievalClient(servers.retrieval.address)
        self._colorizer = ColorizerClient(servers.colorizer.address)
        self.embedder = embedder or self._retrieval.info().default_embedder
        probe = self._retrieval.create_series(display_name="scoreboard probe", embedder=self.embedder)
        self.space_id = probe.embedding_space.id
        self.rejected: dict[str, str] = {}  # references that the server would not take, and why
        self._pools: dict[str, str] = {}

    def __enter__(self) -> Player:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._retrieval.close()
        self._colorizer.close()

    def backends(self) -> dict[str, Backend]:
        """The cards of all back-ends of the server, by name."""
        return {card.name: card for card in self._colorizer.backends()}

    def paint(self, board: str, chapter: Chapter, look: str, row: Row, targets: Sequence[Target]) -> Iterator[Painted]:
        """The targets as they are done, in order; each by the chapter's references alone.

        Args:
            board: its name.
            chapter: whose references are the pool.
            look: of the pages.
            row: neither truth nor grey, without growth.
            targets: some of the chapter's.
        """
        series = self._pool(board, chapter) if row.retrieval else ""
        if row.method == TRANSFER:
            for target in targets:
                yield Painted(target, png(self._transfer(series, target.grey_pixels(look))), depth=1)
        else:
            yield from self._colourise(series, look, row.method, targets)

    def grow(
        self, board: str, chapter: Chapter, look: str, row: Row, done: Sequence[Painted], targets: Sequence[Target]
    ) -> Iterator[Painted]:
        """The targets one after the other; each finished page joins the pool as generated before the next is coloured.

        Nobody looks at the pages: all are approved, so an error may be carried on.

        Args:
            board: its name.
            chapter: whose references begin the pool.
            look: of the pages.
            row: with growth.
            done: pages of before a stop, which join first.
            targets: those that follow them in the chapter.
        """
        series = self._create(f"{board} {chapter.name} {look} {row.name}", chapter)
        for painted in done:
            self._approve(series, row.method, painted)
        for target in targets:
            for painted in self._colourise(series, look, row.method, [target]):
                if not painted.failure:
                    self._approve(series, row.method, painted)
                yield painted

    def _pool(self, board: str, chapter: Chapter) -> str:
        name = f"{board} {chapter.name}"
        if name not in self._pools:
            self._pools[name] = self._create(name, chapter)
        return self._pools[name]

    def _create(self, name: str, chapter: Chapter) -> str:
        series = self._retrieval.create_series(display_name=name, embedder=self.embedder).id
        files = (ReferenceFile(p.name, p, CHAPTER, page=i + 1) for i, p in enumerate(chapter.references))
        self._add(series, chapter.name, files)
        return series

    def _add(self, series: str, chapter: str, files: Iterable[ReferenceFile]) -> None:
        for answer in self._retrieval.add_references(series, files):
            if answer.failure:
                self.rejected[f"{chapter}/{answer.name}"] = answer.failure.message

    def _approve(self, series: str, backend: str, painted: Painted) -> None:
        source = Provenance(Origin.GENERATED, painted.depth, painted.parents, backend, painted.target.name)
        file = ReferenceFile(painted.target.name, painted.picture, CHAPTER, None, (), source)
        self._add(series, f"grown {series}", [file])

    def _colourise(self, series: str, look: str, backend: str, targets: Sequence[Target]) -> Iterator[Painted]:
        by_key = {target.name: target for target in targets}
        files = (
            PageFile(t.name, lambda t=t: png(t.grey_pixels(look)))  # type: ignore[misc]  # bound now, called later
            for t in targets
        )
        options = ColorizeOptions(
            backend=backend,
            series=SeriesContext(series) if series else None,
            media_type="image/png",
            parameters={"style": STYLES.get(look, "gray")} if backend == "colorflow" else {},
        )
        for event in self._colorizer.colorize(files, options, window=WINDOW):
            if isinstance(event, Failed):
                yield Painted(by_key[event.key], b"", failure=event.failure.message)
            if isinstance(event, Finished):
                parents = dict.fromkeys(h.reference_id for h in event.result.references if h.used is not False)
                yield Painted(by_key[event.key], event.picture.data, event.result.depth, tuple(parents))

    def _transfer(self, series: str, grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
        context = self._retrieval.retrieve_context(series, png(grey), hits_per_corner=1)
        if not context.hits:
            return np.stack([grey] * 3, axis=-1)
        best = max(context.hits, key=lambda hit: hit.score)
        with Image.open(io.BytesIO(context.pictures[best.picture_key].data)) as picture:
            return colour_transfer(grey, np.asarray(picture.convert("RGB")))
