"""The index and the bounds against plain numpy: every row compared, then every rule applied one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.bounds import Facts, Table, passes
from retrieval.index import CpuScanner, Index
from retrieval.types import GENERATED, OFFICIAL, Bound, Provenance, Reference
from serving.errors import ShapeMismatch

DIM = 8
TOLERANCE = 1e-6  # float32
TAGS = tuple(f"t{n}" for n in range(70))  # more than a word of bits


def unit(rng: np.random.Generator, count: int, dim: int = DIM) -> np.ndarray:
    rows = rng.standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def coarse(rng: np.random.Generator, count: int) -> np.ndarray:
    """Unit rows with many ties: signed unit vectors."""
    return (np.eye(DIM, dtype=np.float32)[rng.integers(0, DIM, count)] * rng.choice([-1, 1], (count, 1))).astype(
        np.float32
    )


def oracle(rows: np.ndarray, query: np.ndarray, k: int, allowed: np.ndarray) -> list[int]:
    """The best allowed rows, equal scores in order of insertion; only for scores that are exact."""
    scores = rows @ query
    return sorted(np.flatnonzero(allowed).tolist(), key=lambda row: (-scores[row], row))[:k]


@given(
    counts=st.lists(st.integers(0, 13), max_size=6),
    segment=st.integers(1, 9),
    k=st.integers(1, 40),
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
@settings(max_examples=150, deadline=None)
def test_search_is_the_oracles_with_ties_in_order_of_insertion(counts, segment, k, seed, share):
    rng = np.random.default_rng(seed)
    index = Index(DIM, CpuScanner(), segment_rows=segment)
    parts = [coarse(rng, count) for count in counts]
    for part in parts:
        index.append(part)
    rows = np.concatenate([np.zeros((0, DIM), np.float32), *parts])
    allowed = rng.random(len(rows)) < share
    queries = coarse(rng, 3)
    nearest = index.snapshot().search(queries, k, allowed)
    for query, found, scores in zip(queries, nearest.rows, nearest.scores, strict=True):
        expected = oracle(rows, query, k, allowed)
        assert found.tolist() == expected + [-1] * (k - len(expected))
        assert np.allclose(scores[: len(expected)], rows[expected] @ query, atol=TOLERANCE)
        assert np.isneginf(scores[len(expected) :]).all()


@given(seed=st.integers(0, 10**6), count=st.integers(1, 400), k=st.integers(1, 20), masked=st.booleans())
@settings(max_examples=60, deadline=None)
def test_scores_do_not_depend_on_how_rows_are_cut_into_segments(seed, count, k, masked):
    rng = np.random.default_rng(seed)
    rows, queries = unit(rng, count), unit(rng, 4)
    allowed = rng.random(count) < 0.5 if masked else None
    answers = []
    for segment in (7, 64, 1000):
        index = Index(DIM, CpuScanner(), segment_rows=segment)
        index.append(rows)
        answers.append(index.snapshot().search(queries, k, allowed))
    for answer in answers[1:]:
        assert np.array_equal(answer.rows, answers[0].rows)
        assert np.array_equal(answer.scores, answers[0].scores)


def test_a_snapshot_never_changes():
    rng = np.random.default_rng(0)
    index = Index(DIM, CpuScanner(), segment_rows=10)
    index.append(unit(rng, 25))
    queries = unit(rng, 2)
    before = index.snapshot()
    found = before.search(queries, 5)
    index.append(np.repeat(queries, 20, axis=0))
    assert np.array_equal(before.search(queries, 5).rows, found.rows)
    assert index.snapshot().search(queries, 5).rows.min() >= 25


def test_growth_copies_nothing_that_is_there():
    rng = np.random.default_rng(0)
    index = Index(DIM, CpuScanner(), segment_rows=10)
    index.append(unit(rng, 25))
    before = [segment.vectors for segment in index.snapshot().segments]
    index.append(unit(rng, 25))
    after = [segment.vectors for segment in index.snapshot().segments]
    assert all(old is new for old, new in zip(before, after, strict=False))
    assert len(after) == 5


def test_a_search_leaves_the_queries_as_they_were():
    rng = np.random.default_rng(0)
    index = Index(DIM, CpuScanner())
    index.append(unit(rng, 5))
    queries = unit(rng, 3) * 7
    copy = queries.copy()
    index.snapshot().search(queries, 2)
    assert np.array_equal(queries, copy)


def test_vectors_of_another_length_are_refused():
    index = Index(DIM, CpuScanner())
    with pytest.raises(ShapeMismatch):
        index.append(np.zeros((1, DIM + 1), np.float32))
    with pytest.raises(ShapeMismatch):
        index.snapshot().search(np.zeros((1, DIM + 1), np.float32), 1)


# -- bounds

references = st.builds(
    lambda n, chapter, depth, tags: (n, chapter, depth, tuple(sorted(tags))),
    st.integers(0, 11),
    st.none() | st.integers(0, 3),
    st.integers(0, 3),
    st.sets(st.sampled_from(TAGS[:4] + TAGS[-2:]), max_size=4),
)
some_tags = st.lists(st.sampled_from((*TAGS[:4], TAGS[-1], "unheard of")), max_size=2).map(tuple)
bounds = st.builds(  # plain, because the checks on types draw random numbers, which a strategy may not
    dict,
    max_chapter=st.none() | st.integers(0, 3),
    min_chapter=st.none() | st.integers(0, 3),
    max_depth=st.none() | st.integers(0, 3),
    all_tags=some_tags,
    any_tags=some_tags,
    none_tags=some_tags,
    exclude=st.lists(st.integers(0, 12).map(lambda n: f"{n:064x}"), max_size=2).map(tuple),
)


def reference(n: int, chapter: int | None, depth: int, tags: tuple[str, ...]) -> Reference:
    origin = GENERATED if depth else OFFICIAL
    return Reference(f"{n:064x}", chapter, None, tags, Provenance(origin, depth), 20, 20, "image/png", 9, n + 1, 0)


def rules(bound: Bound, r: Reference) -> bool:
    """The contract's sentences, one by one."""
    if r.chapter is not None and bound.max_chapter is not None and r.chapter > bound.max_chapter:
        return False
    if r.chapter is not None and bound.min_chapter is not None and r.chapter < bound.min_chapter:
        return False
    if bound.max_depth is not None and r.provenance.depth > bound.max_depth:
        return False
    if not all(tag in r.tags for tag in bound.all_tags):
        return False
    if bound.any_tags and not any(tag in r.tags for tag in bound.any_tags):
        return False
    return not any(tag in r.tags for tag in bound.none_tags) and r.id not in bound.exclude


@given(
    steps=st.lists(st.tuples(st.sampled_from(["add", "add", "change", "remove"]), references), max_size=25),
    bound=bounds,
)
@settings(max_examples=300, deadline=None)
def test_a_mask_is_what_the_rules_say_after_any_history(steps, bound):
    table, limits = Table(), Bound(**bound)
    table.add(reference(99, None, 0, TAGS))  # so that tags take more than one word
    alive: dict[str, Reference] = {f"{99:064x}": reference(99, None, 0, TAGS)}
    order: list[str] = [f"{99:064x}"]
    seen: list[tuple[Facts, list[bool]]] = []
    for what, fields in steps:
        made = reference(*fields)
        if what == "add" and made.id not in alive:
            table.add(made)
            order.append(made.id)
            alive[made.id] = made
        elif what == "change" and made.id in alive:
            table.replace(made)
            alive[made.id] = made
        elif what == "remove" and made.id in alive:
            table.remove([made.id])
            del alive[made.id]
        last = {reference_id: place for place, reference_id in enumerate(order)}
        expected = [last[r] == place and r in alive and rules(limits, alive[r]) for place, r in enumerate(order)]
        assert table.facts().mask(limits).tolist() == expected
        seen.append((table.facts(), expected))
    unnamed = Bound(**{**bound, "exclude": ()})
    for facts, expected in seen:  # what was given out before stays as it was
        if not limits.exclude:
            assert facts.mask(unnamed).tolist() == expected


@given(fields=references, bound=bounds)
@settings(max_examples=200, deadline=None)
def test_one_reference_passes_as_the_rules_say(fields, bound):
    assert passes(Bound(**bound), reference(*fields)) == rules(Bound(**bound), reference(*fields))
