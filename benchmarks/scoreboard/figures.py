"""One page's figures, and their means over a row."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.metrics import colourfulness, score
from benchmarks.scoreboard.chapters import read_rgb
from benchmarks.scoreboard.consistency import Pairs, differences, patch_means

PERFECT_DB = 100.0  # what a page equal to the truth counts, where the formula says infinity

Page = tuple[str, str]  # chapter, page
Entry = Mapping[str, Any]  # one page's figures under one row


def page_figures(truth: Path, result: bytes) -> dict[str, Any]:
    """Figures of a coloured page: psnr_db, ssim, ciede, colourfulness, and the mean colours of its patches.

    Args:
        truth: the true page.
        result: an encoded picture of the same size.

    Raises:
        ValueError: the sizes differ.

    Cost: some 2 s per megapixel.
    """
    with Image.open(io.BytesIO(result)) as opened:
        picture = np.asarray(opened.convert("RGB"))
    scores = score(read_rgb(truth), picture)
    return {
        "psnr_db": min(scores.psnr, PERFECT_DB),
        "ssim": scores.ssim,
        "ciede": scores.ciede,
        "colourfulness": scores.colourfulness,
        "patches": patch_means(picture).round(3).tolist(),
    }


def truth_figures(truth: Path) -> dict[str, Any]:
    """What can be said of a true page by itself: colourfulness and the mean colours of its patches."""
    picture = read_rgb(truth)
    return {"colourfulness": colourfulness(picture), "patches": patch_means(picture).round(3).tolist()}


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean."""
    return float(statistics.fmean(values))


def patches_of(entry: Entry) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The mean colours of a page's patches, CIELAB, one a row."""
    return np.asarray(entry["patches"], np.float64).reshape(-1, 3)


def means(
    pages: Mapping[Page, Entry], grey: Mapping[Page, Entry], truth: Mapping[Page, Entry], late: Sequence[str] = ()
) -> dict[str, Any]:
    """A row's figures: means over its pages; ratios are sum over sum, colourfulness to the truth's mean over mean.

    Args:
        pages: at least one.
        grey: the same pages as they were given, black and white.
        truth: the same pages in their true colours.
        late: further keys whose mean is taken where all pages have them.
    """
    entries = list(pages.values())
    figures: dict[str, Any] = {
        "n": len(entries),
        "psnr_db": mean(e["psnr_db"] for e in entries),
        "psnr_gain_db": mean(e["psnr_db"] - grey[key]["psnr_db"] for key, e in pages.items()),
        "ssim": mean(e["ssim"] for e in entries),
        "ciede": mean(e["ciede"] for e in entries),
        "colourfulness": mean(e["colourfulness"] for e in entries),
    }
    if below := sum(grey[key]["ciede"] for key in pages):
        figures["ciede_ratio_to_grey"] = sum(e["ciede"] for e in entries) / below
    if colour := sum(truth[key]["colourfulness"] for key in pages):
        figures["colourfulness_ratio"] = sum(e["colourfulness"] for e in entries) / colour
    return figures | late_means(entries, late)


def late_means(entries: Sequence[Entry], late: Sequence[str]) -> dict[str, float]:
    """Means of the keys that all entries have, under what stands before the @ of each key."""
    return {key.split("@")[0]: mean(e[key] for e in entries) for key in late if all(key in e for e in entries)}


def consistency(
    chapters: Mapping[str, tuple[Sequence[Page], Sequence[Pairs]]], pages: Mapping[Page, Entry]
) -> dict[str, Any]:
    """Mean difference of what should be one colour on different pages of a chapter, CIEDE2000, and how many pairs.

    Args:
        chapters: of each, its pages in the order that the pairs count them in, and the pairs.
        pages: a row's figures; a chapter with a page that is not there takes no part.
    """
    total, count = 0.0, 0
    for names, pairs in chapters.values():
        if all(name in pages for name in names):
            more, number = differences([patches_of(pages[name]) for name in names], pairs)
            total, count = total + more, count + number
    return {"consistency_ciede": total / count, "consistency_pairs": count} if count else {}
