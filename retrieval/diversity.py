"""Which of a query's best candidates become its hits: few of one reference, unlike one another if that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

WINDOW = 16  # times k: the candidates that variety is sought in, as the contract says


@dataclass(frozen=True)
class Variety:
    """How hits are chosen."""

    k: int  # hits per query, at least 1
    per_reference: int = 0  # hits of one query that may come from one reference; 0: any number
    diversity: float = 0.0  # [0, 1]; 0: by score alone

    @property
    def plain(self) -> bool:
        """Whether the best k are the hits, so that there is nothing to choose."""
        return self.per_reference == 0 and self.diversity == 0

    @property
    def first(self) -> int:
        """How many candidates to ask for at first."""
        if self.plain:
            return self.k
        return WINDOW * self.k if self.diversity else 4 * self.k


@dataclass(frozen=True)
class Candidates:
    """The nearest patches of one query, best first; of equal scores, the one that was added first comes first."""

    scores: Float32[np.ndarray, "c"]
    groups: Int64[np.ndarray, "c"]  # equal for patches of one reference and of its near duplicates
    vectors: Callable[[], Float32[np.ndarray, "c dim"]]  # theirs; only called if diversity is wanted


def pick(variety: Variety, ask: Callable[[int], Sequence[Candidates]]) -> list[Int64[np.ndarray, "_"]]:
    """For each query the places of its hits among its candidates, in order of rank.

    Asks for more candidates until every query has k hits, or has been shown all that there are. More candidates must
    begin with those shown before; so the places hold for the last answer of `ask`.

    Args:
        variety: what is wanted.
        ask: given n, at most n candidates of each query. Fewer than n means that there are no more.

    Cost: `ask` is called again, with four times as many, only where one reference holds most of the best; with
        diversity, k · 16 k · dim multiply-adds for each query.
    """
    wanted = variety.first
    while True:
        shown = ask(wanted)
        chosen = [choose(variety, one, complete=len(one.scores) < wanted) for one in shown]
        hits = [places for places in chosen if places is not None]
        if len(hits) == len(shown):
            return hits
        wanted *= 4


def choose(variety: Variety, candidates: Candidates, *, complete: bool) -> Int64[np.ndarray, "_"] | None:
    """The places of one query's hits in order of rank; None if more candidates are needed to tell.

    By score alone, a hit is the best candidate whose reference has not its `per_reference` hits yet. With diversity,
    it is the candidate with the greatest (1 - diversity) · score - diversity · (greatest similarity to a hit before
    it), or with the best score where two are equal, among the best 16 k. Of these, a candidate whose reference has
    its hits already takes no place: the next best moves up, so that a query never comes up short for want of others.

    Args:
        variety: what is wanted.
        candidates: the best ones.
        complete: whether there are no others.
    """
    walk = _Walk(variety, candidates)
    while len(walk.chosen) < variety.k:
        size = WINDOW * variety.k if variety.diversity else len(walk.chosen) + 1
        seen = walk.window(size)  # with those that were chosen
        if len(seen) < size and not complete:
            return None
        free = seen[~walk.taken[seen]]
        if not len(free):
            break
        walk.take(int(free[np.argmax(walk.worth(free))]))
    return np.asarray(walk.chosen, np.int64)


def groups_of(keys: Sequence[str]) -> Int64[np.ndarray, "c"]:
    """One number per different key, such as `near_duplicate_of or id` of each candidate's reference."""
    numbers: dict[str, int] = {}
    return np.asarray([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


class _Walk:
    """A choice under way."""

    def __init__(self, variety: Variety, candidates: Candidates) -> None:
        self.chosen: list[int] = []
        self.taken = np.zeros(len(candidates.scores), np.bool_)
        self._variety, self._candidates = variety, candidates
        self._barred = np.zeros(len(candidates.scores), np.bool_)  # not taken, of a reference that has its hits
        self._counts: dict[int, int] = {}
        self._vectors = candidates.vectors() if variety.diversity else None
        self._nearest = np.full(len(candidates.scores), -np.inf)  # greatest similarity to what was chosen

    def window(self, size: int) -> Int64[np.ndarray, "_"]:
        """The best places that are not barred, at most `size`."""
        return np.flatnonzero(~self._barred)[:size]

    def worth(self, places: Int64[np.ndarray, "m"]) -> Float64[np.ndarray, "m"]:
        """What is to be greatest; of equals the first is the best by score, then by order of insertion."""
        scores: Float64[np.ndarray, "m"] = self._candidates.scores[places].astype(np.float64)
        share = self._variety.diversity
        if not (share and self.chosen):
            return scores
        worth: Float64[np.ndarray, "m"] = (1 - share) * scores - share * self._nearest[places]
        return worth

    def take(self, place: int) -> None:
        self.chosen.append(place)
        self.taken[place] = True
        group = int(self._candidates.groups[place])
        self._counts[group] = self._counts.get(group, 0) + 1
        if self._counts[group] == self._variety.per_reference:
            self._barred |= (self._candidates.groups == group) & ~self.taken
        if self._vectors is not None:
            np.maximum(self._nearest, self._vectors @ self._vectors[place], out=self._nearest)
