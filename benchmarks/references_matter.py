"""Does the gain come from the references? The same pages with the right pool, another series' pool, and none.

Targets are those of the fixed protocols B and A-truth (`benchmarks.protocols`) in the reported chapters. Each goes
through both real servers three times:

  right: the protocol's own references.
  other: all colour pages of another series, the next of the comics given (the last has the first).
  none:  a series without references.

Reported are each condition's figures against grey, also per chapter, and the difference of right to the other two, page
by page, with its mean's 95 % interval (bootstrap over pages). A back-end that paints the same whatever it is given
scores 0 there. Pages that were measured before a stop, or for comic_quality, are not coloured again.

    python -m benchmarks.references_matter --comics ../shared/data/peppercarrot --comics ../shared/data/other
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.table import Table

from benchmarks.comics import Comic, read_comics
from benchmarks.ledger import LEDGER, Ledger
from benchmarks.protocols import Measured, Trial, across, playable, reported_chapters, same_chapter, with_episodes
from benchmarks.report import RESULTS, meta, write_results
from benchmarks.servers import both
from benchmarks.studio import Studio
from panelhue import Bound

NAME = "references_matter"
RIGHT, OTHER, NONE = CONDITIONS = ("right", "other", "none")
PROTOCOLS = {"B": same_chapter, "A-truth": across}
RESAMPLES = 2000


def conditions(trial: Trial, other: Comic) -> dict[str, Trial]:
    """The trial with its own references, with all of `other`'s, and with none."""
    foreign = replace(trial, pool=f"other-{other.name}", references=other.pages, bound=Bound())
    return {RIGHT: trial, OTHER: foreign, NONE: replace(trial, pool="none", references=(), bound=Bound())}


def difference(right: Sequence[float], without: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Mean of right minus without over pages, its 95 % interval, and the share of pages on which right is more.

    Args:
        right: one figure a page.
        without: of the same pages in the same order.
        seed: of the bootstrap.
    """
    each: Float64[np.ndarray, "n"] = np.subtract(right, without, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(each), (RESAMPLES, len(each)))
    low, high = np.percentile(each[drawn].mean(axis=1), [2.5, 97.5])
    return {
        "n": len(each),
        "mean": float(each.mean()),
        "interval": [float(low), float(high)],
        "pages_more": float((each > 0).mean()),
    }


def compared(measured: Sequence[Measured]) -> dict[str, Any]:
    """Figures of all conditions, with chapters, and right against the others page by page.

    Args:
        measured: every page under every condition, and its grey and true figures.
    """
    figures = with_episodes(list(measured), None)
    pages = {name: {(m.chapter, m.page): m.scores for m in measured if m.method == name} for name in CONDITIONS}
    keys = list(pages[RIGHT])
    for name in (OTHER, NONE):
        pairs = [(pages[RIGHT][key], pages[name][key]) for key in keys]
        figures[f"right_minus_{name}"] = {
            "psnr_db": difference([one.psnr for one, _ in pairs], [two.psnr for _, two in pairs]),
            "ciede": difference([one.ciede for one, _ in pairs], [two.ciede for _, two in pairs]),
        }
    return figures


def measure(studio: Studio, comic: Comic, other: Comic, backend: str, protocol: str) -> dict[str, Any] | None:
    """Figures of one comic, protocol and back-end; None where the protocol has no targets.

    Args:
        studio: the servers, for `comic`.
        comic: whose pages are the targets.
        other: whose pages are the wrong references.
        backend: name.
        protocol: a key of PROTOCOLS.
    """
    reported = reported_chapters(comic)
    trials = [trial for trial in PROTOCOLS[protocol](comic) if trial.chapter in reported]
    if not trials:
        return None
    measured = studio.plain([page for trial in trials for page in trial.targets])
    for trial in trials:
        studio.console.print(f"{comic.name}, {protocol} {trial.chapter}: {len(trial.targets)} targets")
        for name, asked in conditions(trial, other).items():
            whose = other if name == OTHER else comic
            measured += [replace(one, method=name) for one in studio.trial(asked, backend, whose)]
    facts = {"other_series": other.name, "other_references": len(other.pages), "embedder": studio.embedder}
    return compared(measured) | facts | {"backend": studio.describe(backend), "made": meta()}


def show(studio: Studio, title: str, figures: dict[str, Any]) -> None:
    """Prints one comparison."""
    table = Table("references", "n", "PSNR gain dB", "CIEDE2000 of grey's", "colourfulness of the truth's", title=title)
    for name in CONDITIONS:
        f = figures[name]
        table.add_row(
            name,
            str(f["n"]),
            f"{f['psnr_gain_db']:+.2f}",
            f"{f['ciede_ratio_to_grey']:.3f}",
            f"{f['colourfulness_ratio']:.2f}",
        )
    studio.console.print(table)


def main(arguments: list[str] | None = None) -> None:
    """The command; see --help."""
    args = _parser().parse_args(arguments)
    comics = [playable(c)[0] for folder in args.comics for c in read_comics(folder.resolve(), limit=args.limit)]
    if len(comics) < 2:
        raise SystemExit(
            f"--comics must name at least two series, as each needs another's references; got {len(comics)}"
        )
    file = args.out / f"{NAME}.json"
    results = json.loads(file.read_text())["results"] if file.exists() else {}
    for comic, other in zip(comics, [*comics[1:], comics[0]], strict=True):
        if args.targets and comic.name not in args.targets:
            continue
        with (
            tempfile.TemporaryDirectory() as data,
            both(Path(data), workers=args.workers, embedder=args.embedder) as servers,
            Studio(comic, servers, Ledger(args.ledger)) as studio,
        ):
            for backend in args.backend or [default_backend(studio)]:
                for protocol in PROTOCOLS:
                    if (figures := measure(studio, comic, other, backend, protocol)) is not None:
                        results.setdefault(comic.name, {}).setdefault(protocol, {})[backend] = figures
                        write_results(NAME, results, folder=args.out)
                        show(studio, f"{comic.name}, {protocol}, {backend}", figures)
    print(file)


def default_backend(studio: Studio) -> str:
    """The colouriser server's own default."""
    return next(card.name for card in studio.colorizer.backends() if card.is_default)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--comics", type=Path, action="append", required=True, help="as for comic_quality; at least two series in all")
    add(
        "--targets", action="append", help="name of a series whose pages are coloured; may be given again; default: all"
    )
    add("--backend", action="append", help="back-end to measure; may be given again; default: the server's")
    add("--embedder", help="of the retrieval server; default: the server's")
    add("--limit", type=int, help="at most so many pages of each chapter")
    add("--workers", type=int, default=2, help="worker processes of the colouriser; default 2")
    add("--ledger", type=Path, default=LEDGER, help="pages measured already; default build/benchmarks/pages.jsonl")
    add("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    return parser


if __name__ == "__main__":
    main()
