"""Colour error on real comics through both real servers, under the fixed protocols of `benchmarks.protocols`.

Methods: `grey` (the page as it is), `colour_transfer` (one colour per luma level from the best hit), `exemplar` and any
other back-end. The grey input is PIL's convert('L').

Rows that are in the JSON already, over the same pages and by the same version of the back-end, are kept; each is
written as soon as it is measured, and pages that were measured before a stop are not coloured again. A folder that
holds no chapters but comics stands for all of them:

    python -m benchmarks.comic_quality --comics ../shared/data/other --backend exemplar --backend incontext
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.comics import Comic, read_comics
from benchmarks.ledger import LEDGER, Ledger
from benchmarks.protocols import (
    GREY,
    PROTOCOLS,
    TRANSFER,
    TRUTH,
    Measured,
    Trial,
    across,
    chapter_number,
    left_out,
    page_set,
    playable,
    reported_chapters,
    same_chapter,
    with_episodes,
    worst_pages,
)
from benchmarks.quality_rows import Row, Rows, row_key
from benchmarks.report import RESULTS
from benchmarks.servers import both
from benchmarks.studio import Keep, Studio, kept_in
from panelhue import Bound, Origin, Provenance, ReferenceFile


class Bench:
    """One comic under the protocols, row by row.

    Args:
        comic: as it is played.
        skipped: what takes no part, and why.
        studio: the servers.
        rows: of before; added to.
        backends: names.
        keep: folder for the coloured pages; None: they are not kept.
        fresh: measure rows that are there again.
    """

    def __init__(
        self,
        comic: Comic,
        skipped: dict[str, str],
        studio: Studio,
        rows: Rows,
        backends: Iterable[str],
        keep: Path | None,
        *,
        fresh: bool,
    ) -> None:
        self._comic = comic
        self._skipped = skipped
        self._studio = studio
        self._rows = rows
        self._backends = tuple(backends)
        self._keep = keep
        self._fresh = fresh

    def protocol(self, protocol: str) -> None:
        """Measures what is missing of one protocol and shows its table."""
        trials = same_chapter(self._comic) if protocol == "B" else across(self._comic)
        if not trials or (protocol == "A-own" and len(trials) < 2):
            return
        pages, targets = page_set(trials), [page for trial in trials for page in trial.targets]
        missing = [method for method in self._methods(protocol) if not self._has(protocol, method, pages)]
        if missing:
            plain = self._studio.plain(targets)
            overall = with_episodes(plain, self._reported(protocol))
            if self._fresh:
                self._rows.drop(self._comic.name, protocol)
            self._rows.adopt(self._comic.name, protocol, pages, overall[GREY])
            overall[TRUTH]["left_out"] = self._skipped
            for method in (TRUTH, GREY):
                self._rows.put(self._comic.name, protocol, method, overall[method] | {"pages_sha256": pages})
            for method in missing:
                self._row(protocol, method, trials, plain, pages)
        show(self._studio.console, f"{self._comic.name}, {protocol}", self._rows.of(self._comic.name, protocol))

    def _methods(self, protocol: str) -> tuple[str, ...]:
        return self._backends if protocol == "A-own" else (TRANSFER, *self._backends)

    def _reported(self, protocol: str) -> tuple[str, ...] | None:
        return reported_chapters(self._comic) if protocol == "B" else None

    def _has(self, protocol: str, method: str, pages: str) -> bool:
        if self._fresh:
            return False
        row = self._rows.of(self._comic.name, protocol).get(row_key(method, self._studio.embedder))
        if row is None:
            return False
        if "pages_sha256" not in row:  # a row of before, which names neither pages nor version: it stays if it fits
            self._check(protocol, pages)
        described = self._described(method)
        return bool(row["pages_sha256"] == pages and row.get("backend", described) == described)

    def _check(self, protocol: str, pages: str) -> None:
        trials = same_chapter(self._comic) if protocol == "B" else across(self._comic)
        plain = self._studio.plain([page for trial in trials for page in trial.targets])
        self._rows.adopt(self._comic.name, protocol, pages, with_episodes(plain, self._reported(protocol))[GREY])
        self._rows.save()

    def _described(self, method: str) -> dict[str, object] | None:
        return None if method == TRANSFER else self._studio.describe(method)

    def _row(self, protocol: str, method: str, trials: tuple[Trial, ...], plain: list[Measured], pages: str) -> None:
        self._studio.console.print(f"{self._comic.name}, {protocol}: {method} with {self._studio.embedder}")
        keep = kept_in(self._keep / self._comic.name / protocol / method if self._keep else None)
        if protocol == "A-own":
            measured = self._own(trials, method, keep)
        else:
            measured = [one for trial in trials for one in self._studio.trial(trial, method, keep=keep)]
        row: Row = with_episodes([*plain, *measured], self._reported(protocol))[method]
        row |= {"worst_pages": worst_pages([*plain, *measured], method), "embedder": self._studio.embedder}
        if (backend := self._described(method)) is not None:
            row["backend"] = backend
        key = row_key(method, self._studio.embedder)
        self._rows.put(self._comic.name, protocol, key, row | {"pages_sha256": pages})

    def _own(self, trials: tuple[Trial, ...], backend: str, keep: Keep | None) -> list[Measured]:
        """A-own: from the first target on, the pool grows by the system's own pages."""
        studio, waiting = self._studio, list[Future[Measured]]()
        series = studio.create(f"a-own-{backend}")
        first = chapter_number(self._comic, trials[0].chapter)
        studio.add(
            series, studio.references(p for p in self._comic.pages if chapter_number(self._comic, p.chapter) < first)
        )
        for trial in trials:
            made: list[ReferenceFile] = []
            for page, picture, result in studio.colourise(series, backend, trial.targets, Bound()):
                parents = tuple(dict.fromkeys(h.reference_id for h in result.references if h.used is not False))
                provenance = Provenance(Origin.GENERATED, result.depth, parents, backend, page.name)
                chapter = chapter_number(self._comic, trial.chapter)
                made.append(ReferenceFile(page.name, picture, chapter, len(made) + 1, (), provenance))
                waiting.append(studio.scored(page, backend, picture))
                if keep:
                    keep(page, picture)
            studio.add(series, made)
        return [one.result() for one in waiting]


def show(console: Console, name: str, rows: dict[str, Row]) -> None:
    """Prints one protocol's table."""
    table = Table(
        "method", "n", "PSNR gain dB", "worst chapter dB", "SSIM", "CIEDE2000 of grey's", "colourfulness",
        "of the truth's",
        title=name,
    )  # fmt: skip
    for key, f in rows.items():
        gains = [e["psnr_gain_db"] for e in f.get("per_episode", {}).values() if "psnr_gain_db" in e]
        cells = [
            f"{f['psnr_gain_db']:+.2f}" if "psnr_gain_db" in f else "",
            f"{min(gains):+.2f}" if gains else "",
            f"{f['ssim']:.4f}" if "ssim" in f else "",
            f"{f['ciede_ratio_to_grey']:.3f}" if "ciede_ratio_to_grey" in f else "",
            f"{f['colourfulness']:.1f}",
            f"{f['colourfulness_ratio']:.2f}" if "colourfulness_ratio" in f else "",
        ]
        table.add_row(key, str(f["n"]), *cells)
    console.print(table)


def main(arguments: list[str] | None = None) -> None:
    """The command; see --help."""
    args = _parser().parse_args(arguments)
    rows = Rows(args.out)
    for comic in [comic for folder in args.comics for comic in read_comics(folder.resolve(), limit=args.limit)]:
        played, grey = playable(comic)
        with (
            tempfile.TemporaryDirectory() as data,
            both(Path(data), workers=args.workers, embedder=args.embedder) as servers,
            Studio(played, servers, Ledger(args.ledger)) as studio,
        ):
            skipped = left_out(played, grey)
            for what, why in skipped.items():
                studio.console.print(f"[yellow]{played.name}: {what} takes no part: {why}")
            bench = Bench(played, skipped, studio, rows, args.backend or ["exemplar"], args.keep, fresh=args.fresh)
            for protocol in args.protocol or PROTOCOLS:
                bench.protocol(protocol)
    print(rows.save())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--comics",
        type=Path,
        action="append",
        required=True,
        help="one sub-folder of colour pages per chapter, or one of such folders per comic; may be given again",
    )
    add("--backend", action="append", help="back-end to measure; may be given again; default exemplar")
    add("--embedder", help="of the retrieval server; default: the server's. open_clip is set up by the environment")
    add("--protocol", action="append", choices=PROTOCOLS, help="may be given again; default: all three")
    add("--limit", type=int, help="at most so many pages of each chapter")
    add("--workers", type=int, default=2, help="worker processes of the colouriser; default 2")
    add("--keep", type=Path, help="folder for the coloured pages; then every page is coloured now")
    add("--fresh", action="store_true", help="drop the rows of the comics and protocols that are measured")
    add("--ledger", type=Path, default=LEDGER, help="pages measured already; default build/benchmarks/pages.jsonl")
    add("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    return parser


if __name__ == "__main__":
    main()
