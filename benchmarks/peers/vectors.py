"""The vectors of the comparison, their true answers, and the recall of what a product answered.

A pool of `rows` unit vectors looks like that of a series: 100 rows are a chapter of 20 pages with five patches each. A
patch is a weighted sum of unit directions that it shares with others, made a unit vector again:

    0.45 the whole series · 0.60 one of 64 scenes · 0.25 its chapter · 0.45 its page · 0.40 its own

so that patches of one page have a cosine of about 0.84, pages of one scene 0.57, and any two patches 0.20. A chapter
has four scenes, and few scenes make up most pages. A query is another patch of a stored page with twice the noise of a
stored one: the page found again in grey. Chapters are thousandths, as everywhere; the bound passes half of the rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

CHAPTER, PAGE = 100, 5  # rows of a chapter and of a page
SCENES, SCENES_OF_A_CHAPTER = 64, 4
SERIES_SHARE, SCENE_SHARE, CHAPTER_SHARE, PAGE_SHARE, PATCH_SHARE = 0.45, 0.60, 0.25, 0.45, 0.40
QUERY_NOISE = 2.0  # times a stored patch's own share
QUERIES = 200
TOP = 3
SLACK = 1e-6  # a hit's score may be this much below the k-th best
BLOCK = 20_000  # rows made, or scored, at once


@dataclass(frozen=True)
class Data:
    """Where the vectors of one size lie, and what is true of them."""

    folder: Path  # vectors.npy (rows, dim) float32; chapters.npy (rows,) int64; queries.npy (QUERIES, dim) float32
    rows: int
    dim: int
    bound: int  # highest chapter that passes, thousandths
    kth: Float64[np.ndarray, "q"]  # of each query, the score of the third best row
    bounded_kth: Float64[np.ndarray, "q"]  # the same among the rows that pass the bound

    def load(self, name: str) -> np.ndarray:
        """One of the arrays, mapped from its file."""
        array: np.ndarray = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return array


def _units(rng: np.random.Generator, count: int, dim: int) -> Float32[np.ndarray, "count dim"]:
    made: np.ndarray = rng.standard_normal((count, dim), dtype=np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def _normed(sums: Float32[np.ndarray, "n dim"]) -> Float32[np.ndarray, "n dim"]:
    normed: np.ndarray = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
    return normed


class Patches:
    """Draws the pool of one size; the same seed gives the same rows, whatever blocks they are asked for in."""

    def __init__(self, dim: int, seed: int) -> None:
        self._dim, self._seed = dim, seed
        rng = np.random.default_rng([seed, 0])
        self._series = _units(rng, 1, dim)[0]
        self._scenes = _units(rng, SCENES, dim)
        self._weights = 1.0 / np.arange(1, SCENES + 1)  # few scenes make up most pages
        self._weights /= self._weights.sum()

    def pages(self, chapter: int) -> Float32[np.ndarray, "pages dim"]:
        """What the pages of a chapter (counted from 0) have in common with their patches; not normalised."""
        rng = np.random.default_rng([self._seed, 1, chapter])
        own = rng.choice(SCENES, SCENES_OF_A_CHAPTER, replace=False, p=self._weights)
        scene = self._scenes[rng.choice(own, CHAPTER // PAGE)]
        mine = _units(rng, 1, self._dim)
        page = _units(rng, CHAPTER // PAGE, self._dim)
        sums: np.ndarray = SERIES_SHARE * self._series + SCENE_SHARE * scene + CHAPTER_SHARE * mine + PAGE_SHARE * page
        return sums

    def chapter(self, chapter: int) -> Float32[np.ndarray, "patches dim"]:
        """The patches of a chapter, unit vectors."""
        noise = _units(np.random.default_rng([self._seed, 2, chapter]), CHAPTER, self._dim)
        return _normed(np.repeat(self.pages(chapter), PAGE, axis=0) + PATCH_SHARE * noise)

    def queries(self, chapters: int, count: int) -> Float32[np.ndarray, "count dim"]:
        """Patches of stored pages of any of the first `chapters`, each seen anew."""
        rng = np.random.default_rng([self._seed, 3])
        pages = [self.pages(int(c))[rng.integers(CHAPTER // PAGE)] for c in rng.integers(chapters, size=count)]
        return _normed(np.stack(pages) + QUERY_NOISE * PATCH_SHARE * _units(rng, count, self._dim))


def make(folder: Path, rows: int, dim: int, *, queries: int = QUERIES, seed: int = 0) -> Data:
    """The vectors of one size; made at the first call and found in the folder afterwards.

    Args:
        folder: below which a folder of this size is made.
        rows: of the pool, at least 8.
        dim: length of a vector.
        queries: how many.
        seed: of all that is drawn.
    """
    place = folder / f"{rows}x{dim}-{queries}-{seed}"
    if not (place / "truth.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        _write(place, rows, dim, queries, seed)
    truth = json.loads((place / "truth.json").read_text())
    return Data(place, rows, dim, truth["bound"], np.array(truth["kth"]), np.array(truth["bounded_kth"]))


def _write(place: Path, rows: int, dim: int, queries: int, seed: int) -> None:
    patches, chapters = Patches(dim, seed), -(-rows // CHAPTER)
    vectors = np.lib.format.open_memmap(place / "vectors.npy", "w+", np.float32, (rows, dim))
    for chapter in range(chapters):
        first = chapter * CHAPTER
        vectors[first : first + CHAPTER] = patches.chapter(chapter)[: rows - first]
    vectors.flush()
    numbers = 1000 * (np.arange(rows, dtype=np.int64) // CHAPTER)
    np.save(place / "chapters.npy", numbers)
    asked = patches.queries(chapters, queries)
    np.save(place / "queries.npy", asked)
    bound = int(numbers[rows // 2 - 1])
    passing = int(np.searchsorted(numbers, bound, side="right"))  # chapters ascend: the bound passes a prefix
    truth = {
        "bound": bound,
        "kth": kth_best(vectors, asked, TOP).tolist(),
        "bounded_kth": kth_best(vectors[:passing], asked, TOP).tolist(),
    }
    (place / "truth.json").write_text(json.dumps(truth))  # last, so that a half-made folder is made again


def kth_best(
    vectors: Float32[np.ndarray, "rows dim"], queries: Float32[np.ndarray, "q dim"], k: int
) -> Float64[np.ndarray, "q"]:
    """Each query's k-th highest inner product, in float64. Cost: q · rows · dim, in blocks of 20,000 rows."""
    wide = queries.astype(np.float64)
    best = np.full((len(queries), k), -np.inf)
    for first in range(0, len(vectors), BLOCK):
        scores = wide @ np.asarray(vectors[first : first + BLOCK], dtype=np.float64).T
        best = np.partition(np.concatenate([best, scores], axis=1), -k, axis=1)[:, -k:]
    kth: np.ndarray = best[:, 0]
    return kth


def recall(
    data: Data, asked: Int64[np.ndarray, "n"], ids: Int64[np.ndarray, "n k"], *, bounded: bool
) -> tuple[float, int]:
    """Share of hits, and how many answers broke the bound.

    A hit's true score is at least the k-th best minus 1e-6; a row that is answered twice counts once, one that the
    bound forbids and one that does not exist not at all.

    Args:
        data: the pool that was searched.
        asked: row of queries.npy that each answer belongs to.
        ids: rows that were answered, below the pool's number of rows; -1: nothing.
        bounded: whether the bound was set.
    """
    kth = data.bounded_kth if bounded else data.kth
    pairs = np.repeat(asked, ids.shape[1]) * (data.rows + 1) + ids.ravel() + 1
    unique, back = np.unique(pairs, return_inverse=True)
    query, row = unique // (data.rows + 1), unique % (data.rows + 1) - 1
    there = row >= 0
    vectors, queries, chapters = data.load("vectors"), data.load("queries"), data.load("chapters")
    scores = np.full(len(row), -np.inf)
    a, b = vectors[row[there]].astype(np.float64), queries[query[there]].astype(np.float64)
    scores[there] = np.einsum("nd,nd->n", a, b)
    forbidden = np.zeros(len(row), dtype=bool)
    if bounded:
        forbidden[there] = chapters[row[there]] > data.bound
    good = ((scores >= kth[query] - SLACK) & ~forbidden)[back].reshape(ids.shape)
    return float((good & ~_repeated(ids)).mean()), int(forbidden[back].sum())


def _repeated(ids: Int64[np.ndarray, "n k"]) -> np.ndarray:
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    same = np.zeros(ids.shape, dtype=bool)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.empty_like(same)
    np.put_along_axis(repeated, order, same, axis=1)
    return repeated
