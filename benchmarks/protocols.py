"""The fixed protocols: which pages of a comic are references and which are targets, and how figures are averaged.

A, across chapters: targets are all pages of the last third of the chapters, at least of one (Pepper&Carrot: ep11 to
ep15).
  A-truth: the references of chapter N are the true colour pages of all earlier chapters.
  A-own: the chapters before the targets are true, later ones the system's own output, promoted at depth 1 or more.
B, same chapter: the 1st, 3rd, 5th … page of each chapter is a reference, the 2nd, 4th … a target.

Figures are means over pages; a ratio to grey is sum over sum, colourfulness to the truth's mean over mean. Overall
figures of B are over the reported chapters (Pepper&Carrot: ep06 to ep15; ep01 to ep05 are for tuning, and listed too).
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from benchmarks.comics import Comic, ComicPage, in_colour
from benchmarks.metrics import Scores, colourfulness, score
from panelhue import Bound

PROTOCOLS = ("B", "A-truth", "A-own")
PEPPERCARROT = "peppercarrot"
PEPPERCARROT_TUNED = ("ep01", "ep02", "ep03", "ep04", "ep05")
PEPPERCARROT_TARGETS = ("ep11", "ep12", "ep13", "ep14", "ep15")
TRUTH, GREY, TRANSFER = "truth", "grey", "colour_transfer"


@dataclass(frozen=True)
class Measured:
    """One page's figures under one method."""

    chapter: str
    page: str
    method: str
    scores: Scores


@dataclass(frozen=True)
class Trial:
    """The targets of one chapter, and what may answer them."""

    chapter: str
    pool: str  # name of the series that holds the references
    references: tuple[ComicPage, ...]  # all that the series holds
    bound: Bound  # which of them may answer
    targets: tuple[ComicPage, ...]


def chapter_number(comic: Comic, chapter: str) -> int:
    """Place of the chapter in the comic, thousandths, the first being 1000."""
    return (list(comic.chapters).index(chapter) + 1) * 1000


def same_chapter(comic: Comic) -> tuple[Trial, ...]:
    """Protocol B; a chapter of one page takes no part."""
    return tuple(
        Trial(chapter, f"b-{chapter}", pages[::2], Bound(), pages[1::2])
        for chapter, pages in comic.chapters.items()
        if len(pages) > 1
    )


def across(comic: Comic) -> tuple[Trial, ...]:
    """Protocol A-truth; empty for a comic of one chapter."""
    return tuple(
        Trial(
            chapter,
            "a-truth",
            comic.pages,
            Bound(max_chapter=chapter_number(comic, chapter) - 1),
            comic.chapters[chapter],
        )
        for chapter in target_chapters(comic)
    )


def target_chapters(comic: Comic) -> tuple[str, ...]:
    """The chapters whose pages A asks for."""
    names = list(comic.chapters)
    if comic.name == PEPPERCARROT:
        return tuple(name for name in PEPPERCARROT_TARGETS if name in names)
    return tuple(names[-max(1, len(names) // 3) :]) if len(names) > 1 else ()


def reported_chapters(comic: Comic) -> tuple[str, ...]:
    """The chapters that B's overall figures are over: all that nothing was tuned on."""
    tuned = PEPPERCARROT_TUNED if comic.name == PEPPERCARROT else ()
    return tuple(name for name in comic.chapters if name not in tuned)


def playable(comic: Comic) -> tuple[Comic, tuple[ComicPage, ...]]:
    """The comic without pages that can be neither target nor reference, and those.

    Pepper&Carrot is left whole: its page set is fixed, one nearly grey page of a tuning episode included.
    """
    return (comic, ()) if comic.name == PEPPERCARROT else in_colour(comic)


def left_out(comic: Comic, pages: Iterable[ComicPage]) -> dict[str, str]:
    """What the protocols skip of a comic, and why: by chapter, page or protocol.

    Args:
        comic: as it is played.
        pages: those that `playable` took away.
    """
    said = {f"{page.chapter}/{page.name}": "not in colour" for page in pages}
    said |= {name: "a single page has no reference for B" for name, p in comic.chapters.items() if len(p) == 1}
    targets = target_chapters(comic)
    if not targets:
        said["A-truth"] = "the comic has one chapter"
    if len(targets) < 2:
        said["A-own"] = "own pages come into the pool after the first target chapter, and there is no second"
    return said


@cache
def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read once a run."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def page_set(trials: Iterable[Trial]) -> str:
    """One sum over the targets, the references and the bounds, by the bytes of their files."""
    lines = [
        f"{trial.chapter} {role} {trial.bound.max_chapter} {page.chapter}/{page.name} {file_sha256(page.path)}"
        for trial in trials
        for role, pages in (("reference", trial.references), ("target", trial.targets))
        for page in pages
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def png(picture: UInt8[np.ndarray, "..."]) -> bytes:
    """The picture as a PNG file, quickly compressed."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG", compress_level=1)
    return out.getvalue()


def grey_png(page: ComicPage, *, rgb: bool = False) -> bytes:
    """The page without its colour; `rgb` as three equal channels."""
    grey = np.asarray(Image.open(page.path).convert("L"))
    return png(np.stack([grey] * 3, axis=-1) if rgb else grey)


def measure(page: ComicPage, method: str, result: bytes) -> Measured:
    """One page's figures."""
    picture = np.asarray(Image.open(io.BytesIO(result)).convert("RGB"))
    if method == TRUTH:
        return Measured(page.chapter, page.name, method, Scores(math.inf, 1.0, 0.0, colourfulness(picture)))
    return Measured(page.chapter, page.name, method, score(page.pixels(), picture))


def summary(measured: Iterable[Measured], chapters: Iterable[str] | None = None) -> dict[str, Any]:
    """Figures per method over the pages of `chapters` (None: all); every page needs its GREY figures."""
    wanted = None if chapters is None else set(chapters)
    table: dict[str, dict[tuple[str, str], Scores]] = {}
    for one in measured:
        if wanted is None or one.chapter in wanted:
            table.setdefault(one.method, {})[one.chapter, one.page] = one.scores
    grey, truth = table.get(GREY, {}), table.get(TRUTH, {})
    return {
        method: {"n": len(pages), "colourfulness": _mean(s.colourfulness for s in pages.values())}
        if method == TRUTH
        else _figures(pages, grey, truth)
        for method, pages in table.items()
    }


def _figures(
    pages: dict[tuple[str, str], Scores], grey: dict[tuple[str, str], Scores], truth: dict[tuple[str, str], Scores]
) -> dict[str, Any]:
    figures = {
        "n": len(pages),
        "psnr_db": _mean(s.psnr for s in pages.values()),
        "psnr_gain_db": _mean(s.psnr - grey[key].psnr for key, s in pages.items()),
        "ssim": _mean(s.ssim for s in pages.values()),
        "ciede": _mean(s.ciede for s in pages.values()),
        "ciede_ratio_to_grey": sum(s.ciede for s in pages.values()) / sum(grey[key].ciede for key in pages),
        "colourfulness": _mean(s.colourfulness for s in pages.values()),
    }
    if pages.keys() <= truth.keys():
        figures["colourfulness_ratio"] = figures["colourfulness"] / _mean(truth[key].colourfulness for key in pages)
    return figures


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def with_episodes(measured: list[Measured], reported: Iterable[str] | None) -> dict[str, Any]:
    """Overall figures over the reported chapters (None: all), and per chapter over all."""
    overall = summary(measured, reported)
    for chapter in dict.fromkeys(one.chapter for one in measured):
        for method, figures in summary(measured, [chapter]).items():
            overall.setdefault(method, {}).setdefault("per_episode", {})[chapter] = figures
    return overall


def worst_pages(measured: Iterable[Measured], method: str, count: int = 3) -> list[dict[str, Any]]:
    """The pages on which a method gains least over grey, worst first."""
    every = list(measured)
    grey = {(m.chapter, m.page): m.scores for m in every if m.method == GREY}
    own = [m for m in every if m.method == method]
    own.sort(key=lambda m: m.scores.psnr - grey[m.chapter, m.page].psnr)
    return [
        {
            "page": f"{m.chapter}/{m.page}",
            "psnr_gain_db": m.scores.psnr - grey[m.chapter, m.page].psnr,
            "ciede_ratio_to_grey": m.scores.ciede / grey[m.chapter, m.page].ciede,
            "colourfulness": m.scores.colourfulness,
        }
        for m in own[:count]
    ]
