"""The choice of a query's hits against a naive one, and the asking for more candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import diversity
from retrieval.diversity import Candidates, Variety, groups_of, pick


class Pool:
    """Patches with vectors of halves, so that every product of two is exact and ties are real."""

    def __init__(self, seed: int, rows: int, references: int, queries: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.vectors = (rng.integers(-1, 2, (rows, 6)) / 2).astype(np.float32)
        self.owners = rng.integers(0, references, rows)
        self.queries = (rng.integers(-1, 2, (queries, 6)) / 2).astype(np.float32)
        self.orders = [np.argsort(-(self.vectors @ query), kind="stable") for query in self.queries]
        self.asked: list[int] = []

    def ask(self, count: int) -> list[Candidates]:
        self.asked.append(count)
        return [
            Candidates(
                (self.vectors @ query)[order[:count]],
                self.owners[order[:count]].astype(np.int64),
                lambda best=order[:count]: self.vectors[best],
            )
            for query, order in zip(self.queries, self.orders, strict=True)
        ]


def naive(pool: Pool, variety: Variety, query: int = 0) -> list[int]:
    """Places among all candidates of the query: at every step everything is worked out anew."""
    order = pool.orders[query]
    vectors, owners = pool.vectors[order], pool.owners[order]
    scores = vectors @ pool.queries[query]
    chosen: list[int] = []
    while len(chosen) < variety.k:
        full = [
            owner for owner in set(owners.tolist())
            if variety.per_reference and sum(owners[c] == owner for c in chosen) >= variety.per_reference
        ]  # fmt: skip
        open_ = [place for place in range(len(order)) if place in chosen or owners[place] not in full]
        if variety.diversity:
            open_ = open_[: diversity.WINDOW * variety.k]
        rest = [place for place in open_ if place not in chosen]
        if not rest:
            break

        def worth(place: int) -> float:
            if not (chosen and variety.diversity):
                return float(scores[place])
            nearest = max(float(vectors[place] @ vectors[c]) for c in chosen)
            return (1 - variety.diversity) * float(scores[place]) - variety.diversity * nearest

        chosen.append(max(rest, key=lambda place: (worth(place), -place)))
    return chosen


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 60),
    st.integers(1, 8),
    st.integers(1, 6),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    st.integers(1, 4),
)
def test_the_choice_is_the_naive_one(
    seed: int, rows: int, references: int, k: int, per_reference: int, share: float, window: int
) -> None:
    pool, variety = Pool(seed, rows, references, queries=2), Variety(k, per_reference, share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity, "WINDOW", window)
        hits = pick(variety, pool.ask)
        assert [places.tolist() for places in hits] == [naive(pool, variety, query) for query in (0, 1)]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 30), st.integers(1, 12), st.integers(1, 3))
def test_it_never_comes_up_short_while_the_pool_has_others(
    seed: int, rows: int, references: int, k: int, limit: int
) -> None:
    pool = Pool(seed, rows, references)
    (hits,) = pick(Variety(k, limit, 0.5), pool.ask)
    possible = sum(min(limit, int(count)) for count in np.unique(pool.owners, return_counts=True)[1])
    assert len(hits) == min(k, possible)


def test_by_score_alone_the_best_are_asked_for_once() -> None:
    pool = Pool(1, 50, 5)
    (hits,) = pick(Variety(4), pool.ask)
    assert hits.tolist() == [0, 1, 2, 3]
    assert pool.asked == [4]


def test_more_are_asked_for_while_one_reference_holds_the_best() -> None:
    pool = Pool(1, 100, 1)
    pool.owners[pool.orders[0][90]] = 7
    (hits,) = pick(Variety(2, 1), pool.ask)
    assert hits.tolist() == [0, 90]
    assert pool.asked == [8, 32, 128]


def test_full_diversity_looks_at_the_score_of_the_first_hit_only() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    candidates = Candidates(np.array([1, 1, 0], np.float32), np.arange(3), lambda: vectors)
    (hits,) = pick(Variety(2, 0, 1.0), lambda count: [candidates])
    assert hits.tolist() == [0, 2]


def test_the_vectors_are_not_read_where_no_diversity_is_wanted() -> None:
    def vectors() -> np.ndarray:
        raise AssertionError("not needed")

    candidates = Candidates(np.array([1, 1, 0], np.float32), np.array([5, 5, 6]), vectors)
    (hits,) = pick(Variety(2, 1), lambda count: [candidates])
    assert hits.tolist() == [0, 2]


def test_near_duplicates_are_one_group() -> None:
    assert groups_of(["a", "b", "a", "c", "b"]).tolist() == [0, 1, 0, 2, 1]
