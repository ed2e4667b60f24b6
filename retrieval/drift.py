"""How far a series' colour has drifted: for each patch of a chapter the most alike patch of an earlier chapter, and the
difference of their mean colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from retrieval.digest import mean_colours, read_digest
from retrieval.types import Reference, StoredPatches
from serving.colour import ciede2000, lab_of
from serving.geometry import Box

MIN_SCORE = 0.9  # of the contract
WORST = 100  # pairs that are listed, as the contract says
BLOCK = 2048  # patches compared with as many others at a time: 16 MiB of scores


@dataclass(frozen=True)
class DriftPair:
    """Two patches that show the same thing."""

    reference_id: str
    box: Box  # in the reference's pixels
    earlier_reference_id: str
    earlier_box: Box
    score: float  # cosine similarity
    colour_difference: float  # CIEDE2000 between their mean colours


@dataclass(frozen=True)
class ChapterDrift:
    """Drift of one chapter from the chapters before it."""

    chapter: int  # thousandths
    pairs: int
    mean: float  # CIEDE2000
    p95: float
    mean_depth: float  # provenance depth of the chapter's references


@dataclass(frozen=True)
class Drift:
    """Drift of a series."""

    chapters: tuple[ChapterDrift, ...]  # that have pairs, by chapter
    worst: tuple[DriftPair, ...]  # at most 100, the worst first
    pairs: int
    mean: float  # CIEDE2000 over all pairs; 0 without any
    skipped: int  # references of a chapter whose colours are not known; their patches are in no pair


@dataclass(frozen=True)
class _Rows:
    """All patches that take part, by chapter, order of insertion and place in their reference."""

    references: Sequence[Reference]
    patches: Sequence[StoredPatches]
    owner: Int64[np.ndarray, "rows"]  # place of each row's reference
    first: Int64[np.ndarray, "rows"]  # the row at which its chapter begins: those before it are of earlier chapters
    lab: Float64[np.ndarray, "rows 3"]

    def blocks(self) -> Iterator[tuple[int, Float32[np.ndarray, "_ dim"]]]:
        """The vectors of whole references, at least `BLOCK` at a time, each with the number of its first row."""
        begin = row = rows = 0
        for end, patches in enumerate(self.patches, 1):
            rows += len(patches.vectors)
            if rows >= BLOCK or end == len(self.patches):
                yield row, np.concatenate([one.vectors for one in self.patches[begin:end]])
                begin, row, rows = end, row + rows, 0

    def box(self, row: int) -> Box:
        place = int(self.owner[row])
        return Box(*self.patches[place].boxes[row - int(np.searchsorted(self.owner, place))].tolist())


def drift(
    members: Sequence[tuple[Reference, StoredPatches]],
    *,
    min_score: float = MIN_SCORE,
    digest_of: Callable[[Reference, StoredPatches], bytes] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Drift:
    """The drift of the references that are given; those without a chapter are left out.

    Args:
        members: references that take part, with their patches.
        min_score: least cosine similarity of a pair that counts as the same thing.
        digest_of: gives the digest of a reference that has none, or b"" if that cannot be done; without it, those are
            skipped.
        check: called between blocks; ends the work by raising.

    Cost: rows² / 2 · dim multiply-adds: 20,000 patches of 512 numbers take 3 s in one thread, and five times as many 25
        times as long. Memory: some 30 MiB beside the vectors that are given.
    """
    ordered = sorted(
        ((one, patches, one.chapter) for one, patches in members if one.chapter is not None),
        key=lambda member: (member[2], member[0].generation),
    )
    rows, skipped = _rows(ordered, digest_of)
    best, scores = _nearest(rows, check)
    later = np.flatnonzero((best >= 0) & (scores >= min_score))
    differences = np.asarray(ciede2000(rows.lab[later], rows.lab[best[later]]))
    depths: dict[int, list[int]] = {}
    for one, _, chapter in ordered:
        depths.setdefault(chapter, []).append(one.provenance.depth)
    return Drift(
        tuple(_by_chapter(rows, later, differences, depths)),
        tuple(_worst(rows, later, best, scores, differences)),
        len(later),
        float(differences.mean()) if len(later) else 0.0,
        skipped,
    )


def _rows(
    ordered: Sequence[tuple[Reference, StoredPatches, int]],
    digest_of: Callable[[Reference, StoredPatches], bytes] | None,
) -> tuple[_Rows, int]:
    references, patches, colours, chapters = [], [], [], []
    for one, stored, chapter in ordered:
        digest = one.digest or (digest_of(one, stored) if digest_of else b"")
        known = read_digest(digest)
        if known is not None and len(known) == len(stored.vectors):
            references.append(one)
            patches.append(stored)
            colours.append(lab_of(mean_colours(known)))
            chapters.append(np.full(len(known), chapter, np.int64))
    owner = np.repeat(np.arange(len(patches)), [len(one.vectors) for one in patches])
    chapter_of = np.concatenate([np.zeros(0, np.int64), *chapters])
    lab = np.concatenate([np.zeros((0, 3)), *colours])
    first = np.searchsorted(chapter_of, chapter_of)
    return _Rows(references, patches, owner, first, lab), len(ordered) - len(references)


def _nearest(rows: _Rows, check: Callable[[], None]) -> tuple[Int64[np.ndarray, "rows"], Float32[np.ndarray, "rows"]]:
    """For each row the most alike row of an earlier chapter, the first of equals, and its score; -1 where none is."""
    best, scores = np.full(len(rows.owner), -1, np.int64), np.full(len(rows.owner), -np.inf, np.float32)
    for start, queries in rows.blocks():
        mine = slice(start, start + len(queries))
        limit = rows.first[mine]
        for base, earlier in rows.blocks():
            if base >= limit[-1]:
                break
            check()
            alike = queries @ earlier.T
            if base + len(earlier) > limit[0]:
                alike[base + np.arange(len(earlier))[None] >= limit[:, None]] = -np.inf
            place = alike.argmax(axis=1)
            found = alike[np.arange(len(alike)), place]
            better = found > scores[mine]
            best[mine][better], scores[mine][better] = base + place[better], found[better]
    return best, scores


def _by_chapter(
    rows: _Rows,
    later: Int64[np.ndarray, "pairs"],
    differences: Float64[np.ndarray, "pairs"],
    depths: dict[int, list[int]],
) -> Iterator[ChapterDrift]:
    chapters = np.asarray([rows.references[place].chapter for place in rows.owner[later]], np.int64)
    for chapter in np.unique(chapters).tolist():
        own = differences[chapters == chapter]
        yield ChapterDrift(
            chapter,
            len(own),
            float(own.mean()),
            float(np.percentile(own, 95)),
            float(np.mean(depths[chapter])),
        )


def _worst(
    rows: _Rows,
    later: Int64[np.ndarray, "pairs"],
    best: Int64[np.ndarray, "rows"],
    scores: Float32[np.ndarray, "rows"],
    differences: Float64[np.ndarray, "pairs"],
) -> Iterator[DriftPair]:
    for pair in np.argsort(-differences, kind="stable")[:WORST].tolist():
        row, other = int(later[pair]), int(best[later[pair]])
        yield DriftPair(
            rows.references[rows.owner[row]].id,
            rows.box(row),
            rows.references[rows.owner[other]].id,
            rows.box(other),
            float(scores[row]),
            float(differences[pair]),
        )
