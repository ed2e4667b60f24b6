"""Which references of a pool nearly repeat an earlier one: the same drawing in the same colours in another file.

Two references are alike if every patch of one is like the same patch of the other, and their coarse colours agree. The
drawing is compared by the pool's own vectors, which may not see colour at all; so the colours are compared by the
digests.

Measured with the weight-free embedder on pages of two published comics (35 and 20) and of the made-up series (18):
copies as JPEG of quality 60 and 85, scaled by 0.5, 0.8 and 1.25, and both, have a least score of a patch of 0.9993
and a mean CIEDE2000 of at most 0.8; with a strip of 1 % cut off two sides, 0.993 and 1.9. Two different pages score
at most 0.90. The same drawing with all hues turned by 120 degrees scores up to 0.999, since vectors alone do not
tell, but has a CIEDE2000 of at least 4.2. So 0.98 and 3 lie within wide gaps. A slight turn, of some 15 degrees, may
pass as a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from retrieval.digest import Colours, mean_differences, read_digest
from retrieval.types import Reference

MIN_SCORE = 0.98  # of the contract
MAX_COLOUR_DIFFERENCE = 3.0  # mean CIEDE2000; of the contract
BLOCK = 1024  # references compared with as many others at a time: 4 MiB of scores
CHUNK = 512  # pairs whose patches are read at a time
ROUNDING = 1e-6  # of a float32 dot product of unit vectors; a picture's score with itself is 1 but for this

Vectors = Float32[np.ndarray, "_ dim"]


@dataclass(frozen=True)
class NearDuplicate:
    """A reference that nearly repeats an earlier one."""

    reference_id: str
    original_id: str  # the earliest of its kind, which is not marked itself
    score: float  # least cosine similarity of their patches; of a chain's end it may be below what was asked for
    colour_difference: float  # mean CIEDE2000 between their colours


@dataclass(frozen=True)
class NearDuplicates:
    """What was found in a pool."""

    found: tuple[NearDuplicate, ...]  # the most alike first
    skipped: int  # references whose colours are not known; they are compared with nothing

    def marks(self, references: Sequence[Reference]) -> dict[str, str]:
        """What has to change of `Reference.near_duplicate_of`, by reference id; "" where an older mark falls."""
        wanted = {one.reference_id: one.original_id for one in self.found}
        return {one.id: wanted.get(one.id, "") for one in references if wanted.get(one.id, "") != one.near_duplicate_of}


@dataclass(frozen=True)
class _Pool:
    """References with known colours, in order of insertion."""

    references: Sequence[Reference]
    wholes: Vectors
    colours: Sequence[Colours]
    patches_of: Callable[[Sequence[int]], Sequence[Vectors]]
    min_score: float
    max_difference: float


def find_near_duplicates(
    references: Sequence[Reference],
    wholes: Float32[np.ndarray, "n dim"],
    patches_of: Callable[[Sequence[int]], Sequence[Vectors]],
    *,
    min_score: float = MIN_SCORE,
    max_colour_difference: float = MAX_COLOUR_DIFFERENCE,
    digests: Mapping[str, bytes] | None = None,
    check: Callable[[], None] = lambda: None,
) -> NearDuplicates:
    """The references that nearly repeat an earlier one, each with the first of its kind.

    A reference that is like an earlier one, which is itself like a still earlier one, repeats the earliest of that
    chain. The same pool gives the same answer, in whatever order its references are given.

    Args:
        references: those that take part.
        wholes: the first patch's unit vector of each: of the whole picture, as it is cut by this server.
        patches_of: all vectors of the references with these sequence numbers, as `Catalog.vectors` gives them.
        min_score: least cosine similarity of each patch and the same patch of the other.
        max_colour_difference: greatest mean CIEDE2000 of their digests.
        digests: by reference id, for references that have none of their own.
        check: called between blocks; ends the search by raising.

    Cost: n² / 2 · dim multiply-adds: 20,000 references of 512 numbers take some 5 s in one thread. Memory: 4 MiB, and
        the digests of all, 241 bytes each.
    """
    known = {one.id: read_digest(one.digest or (digests or {}).get(one.id, b"")) for one in references}
    order = [place for place, one in enumerate(references) if known[one.id] is not None]
    order.sort(key=lambda place: references[place].generation)
    members = [references[place] for place in order]
    colours = [colours for one in members if (colours := known[one.id]) is not None]
    pool = _Pool(members, wholes[order], colours, patches_of, min_score, max_colour_difference)
    originals = _originals(_partners(pool, check))
    later = np.flatnonzero(originals != np.arange(len(members)))
    found = [
        NearDuplicate(members[j].id, members[i].id, score, difference)
        for at in range(0, len(later), CHUNK)
        for (i, j), score, difference in _measured(pool, [(int(originals[j]), int(j)) for j in later[at : at + CHUNK]])
    ]
    found.sort(key=lambda one: -one.score)
    return NearDuplicates(tuple(found), len(references) - len(members))


def _partners(pool: _Pool, check: Callable[[], None]) -> Int64[np.ndarray, "n"]:
    """For each reference the earliest one that it is like; -1 where there is none."""
    partners = np.full(len(pool.references), -1, np.int64)
    for first in range(0, len(partners), BLOCK):
        for before in range(0, first + 1, BLOCK):
            check()
            pending = first + np.flatnonzero(partners[first : first + BLOCK] < 0)
            scores = pool.wholes[before : before + BLOCK] @ pool.wholes[pending].T
            earlier = before + np.arange(len(scores))[:, None] < pending
            rows, columns = np.nonzero((scores >= pool.min_score - ROUNDING) & earlier)  # by the earlier one
            for i, j in _confirmed(pool, before + rows, pending[columns], partners):
                if partners[j] < 0:
                    partners[j] = i
    return partners


def _confirmed(
    pool: _Pool, i: Int64[np.ndarray, "m"], j: Int64[np.ndarray, "m"], partners: Int64[np.ndarray, "n"]
) -> Iterator[tuple[int, int]]:
    """Those of the pairs that are alike in all patches and in colour, by the earlier one; `partners` may grow."""
    while len(i):
        open_ = partners[j] < 0
        i, j = i[open_], j[open_]
        pairs = list(zip(i[:CHUNK].tolist(), j[:CHUNK].tolist(), strict=True))
        i, j = i[CHUNK:], j[CHUNK:]
        near = [pair for pair, passes in zip(pairs, _same_colours(pool, pairs), strict=True) if passes]
        for pair, score, _ in _measured(pool, near):
            if score >= pool.min_score - ROUNDING:
                yield pair


def _differences(pool: _Pool, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Mean CIEDE2000 of each pair; infinite where the two have another number of patches."""
    differences = [np.inf] * len(pairs)
    by_patches: dict[int, list[int]] = {}
    for at, (i, j) in enumerate(pairs):
        if len(pool.colours[i]) == len(pool.colours[j]):
            by_patches.setdefault(len(pool.colours[i]), []).append(at)
    for places in by_patches.values():
        one, other = (np.stack([pool.colours[pairs[at][side]] for at in places]) for side in (0, 1))
        for at, difference in zip(places, mean_differences(one, other).tolist(), strict=True):
            differences[at] = difference
    return differences


def _same_colours(pool: _Pool, pairs: Sequence[tuple[int, int]]) -> Bool[np.ndarray, "m"]:
    return np.asarray(_differences(pool, pairs), np.float64) <= pool.max_difference


def _measured(pool: _Pool, pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], float, float]]:
    """Each pair with the least score of its patches and the difference of its colours."""
    places = sorted({place for pair in pairs for place in pair})
    read = pool.patches_of([pool.references[place].generation for place in places]) if places else ()
    patches = dict(zip(places, read, strict=True))
    for (i, j), difference in zip(pairs, _differences(pool, pairs), strict=True):
        one, other = patches[i], patches[j]
        there = len(one) and one.shape == other.shape  # none where a reference was purged meanwhile
        score = float((one * other).sum(axis=1).min()) if there else -np.inf
        yield (i, j), score, difference


def _originals(partners: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    """The first of each one's chain; itself where it has no partner."""
    originals = np.arange(len(partners))
    for place in np.flatnonzero(partners >= 0):  # ascending: a partner is earlier, so its own chain is followed already
        originals[place] = originals[partners[place]]
    return originals
