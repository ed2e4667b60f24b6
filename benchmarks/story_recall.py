"""Does a grey page find other pages of its own story among all stories, and are those coloured as it is?

The pool is every page of every comic; the page that asks takes no part. Each of its four corners gets its three best
hits. `any` is the share of corners with a hit of the same story (a chapter or book) among them, `hits` the share of
all hits that are of the same story, `chance` what `hits` would be for hits drawn at random. Stories of one page ask
nothing.

`colour_left` says what a colouriser would get. It looks only at other pages of the same comic: the true chroma of a
corner is predicted by the mean chroma that the three hits have at the same luma (16 bins, drawn towards grey where the
hits have few such pixels), and what remains is given as a share of the corner's chroma energy, sum over sum. 1 is
what grey leaves; below is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from PIL import Image

from retrieval.embed import Embedder
from retrieval.patches import CropRecipe, cut_reference

TOP = 3  # hits per corner
SMALL = 24  # pixels; the side of a patch whose colours are looked up
LEVELS = 16  # of luma
DRAW = 20.0  # pixels' worth of grey in each level


@dataclass(frozen=True)
class Page:
    """One page of the pool."""

    comic: str
    story: str  # "comic/chapter"
    rows: Float32[np.ndarray, "5 dim"]  # the whole page, then its corners, which are the queries too
    colours: UInt8[np.ndarray, "5 small small 3"]  # of the same patches: Y, Cb, Cr


def read_page(embedder: Embedder, comic: str, chapter: str, pixels: UInt8[np.ndarray, "h w 3"]) -> Page:
    """A page with its vectors, as a reference without colour."""
    if not embedder.space.grey_twin:
        raise ValueError("a space without the grey twin has other vectors for queries; it is not measured here")
    patches = cut_reference(pixels, CropRecipe.parse(embedder.space.crop_recipe))
    colours = [_small(patch) for patch in patches.pixels]
    return Page(comic, f"{comic}/{chapter}", embedder.embed_references([pixels])[0], np.stack(colours))


def measure_stories(pages: Sequence[Page], among: Bool[np.ndarray, " n"] | None = None) -> dict[str, Any]:
    """The figures of the module's docstring.

    Args:
        pages: the pool.
        among: which pages ask; all that have another page of their story when None.
    """
    story = np.array([page.story for page in pages])
    comic = np.array([page.comic for page in pages])
    asking = (story[:, None] == story[None]).sum(1) > 1
    asking = asking if among is None else asking & among
    rows = np.stack([page.rows for page in pages])
    right: list[Bool[np.ndarray, "4 top"]] = []
    off: list[float] = []
    energy: list[float] = []
    for at in np.flatnonzero(asking).tolist():
        everywhere, _ = _hits(rows, at, np.arange(len(pages)) != at)
        right.append(story[everywhere] == story[at])
        page, patch = _hits(rows, at, (comic == comic[at]) & (np.arange(len(pages)) != at))
        for corner in range(4):
            seen = np.concatenate([pages[p].colours[q] for p, q in zip(page[corner], patch[corner], strict=True)])
            lost, whole = _unexplained(pages[at].colours[1 + corner], seen)
            off.append(lost)
            energy.append(whole)
    chance = np.mean([((story == story[at]).sum() - 1) / (len(pages) - 1) for at in np.flatnonzero(asking)])
    return {
        "any": float(np.mean([r.any(1).mean() for r in right])),
        "hits": float(np.mean([r.mean() for r in right])),
        "chance": float(chance),
        "colour_left": float(np.sum(off) / max(np.sum(energy), 1.0)),  # 0 where all is grey
        "n": int(asking.sum()),
        "stories": len(set(story[asking])),
        "pool_patches": 5 * len(pages),
    }


def _hits(
    rows: Float32[np.ndarray, "n 5 dim"], at: int, allowed: Bool[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, "4 top"], Int64[np.ndarray, "4 top"]]:
    """Page and patch of each corner's best hits."""
    scores = np.einsum("cd,npd->cnp", rows[at, 1:], rows, optimize=True)
    scores[:, ~allowed] = -np.inf
    best = np.argsort(-scores.reshape(4, -1), axis=1, kind="stable")[:, :TOP]
    return best // 5, best % 5


def _small(patch: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "small small 3"]:
    return np.asarray(Image.fromarray(patch).convert("YCbCr").resize((SMALL, SMALL), Image.Resampling.BOX))


def _unexplained(true: UInt8[np.ndarray, "h w 3"], seen: UInt8[np.ndarray, "h2 w2 3"]) -> tuple[float, float]:
    """Chroma energy that the lookup leaves, and all there was."""
    target, source = true.reshape(-1, 3), seen.reshape(-1, 3)
    level = source[:, 0].astype(np.int64) * LEVELS // 256
    count = np.bincount(level, minlength=LEVELS) + DRAW
    table: Float64[np.ndarray, "levels 2"] = np.stack(
        [np.bincount(level, source[:, channel] - 128.0, minlength=LEVELS) / count for channel in (1, 2)], axis=1
    )
    chroma = target[:, 1:] - 128.0
    off = chroma - table[target[:, 0].astype(np.int64) * LEVELS // 256]
    return float((off * off).sum()), float((chroma * chroma).sum())
