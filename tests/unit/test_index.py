"""The index and the bounds against plain numpy: every row compared, then every rule applied one by one."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.bounds import Facts, Table, passes
from retrieval.index import NO_KEY, CpuScanner, Index
from retrieval.index.columns import Columns
from retrieval.index.scan import Passing
from retrieval.index.segments import longest
from retrieval.types import GENERATED, OFFICIAL, Bound, Provenance, Reference
from serving.errors import InvalidInput, ShapeMismatch
from tests.rows import Rows, alike, coarse, unit

DIM = 8
TAGS = tuple(f"t{n}" for n in range(70))  # more than a word of bits


def made(segment_rows: int = 10, **settings) -> tuple[Index, Rows]:
    rows = Rows(DIM)
    return Index(DIM, CpuScanner(), segment_rows=segment_rows, source=rows, **settings), rows


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
    index, rows = made(segment)
    for count in counts:
        rows.put(index, coarse(rng, count, DIM), rng.integers(0, 3, count))
    passing = rng.random(len(rows.rows)) < share
    queries = coarse(rng, 3, DIM)
    rows.check(index.snapshot().search(queries, k, passing), queries, k, passing)


@given(seed=st.integers(0, 10**6), count=st.integers(1, 400), k=st.integers(1, 20), masked=st.booleans())
@settings(max_examples=60, deadline=None)
def test_scores_do_not_depend_on_how_rows_are_cut_into_segments(seed, count, k, masked):
    rng = np.random.default_rng(seed)
    vectors, queries = unit(rng, count, DIM), unit(rng, 4, DIM)
    passing = rng.random(count) < 0.5 if masked else None
    answers = []
    for segment in (7, 64, 1000):
        index, rows = made(segment)
        rows.put(index, vectors)
        answers.append(index.snapshot().search(queries, k, passing))
    for answer in answers[1:]:
        assert np.array_equal(answer.numbers, answers[0].numbers)
        assert np.array_equal(answer.scores, answers[0].scores)


@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 8),
    dim=st.sampled_from([1, 3, 512, 1024]),
    scale=st.sampled_from([1.0, 1e-8, 1e-22, 1e-44, 1e12, 1e19]),
)
@settings(max_examples=100, deadline=None)
def test_no_row_is_longer_than_the_bound_says_and_hardly_shorter(seed, rows, dim, scale):
    vectors = (np.random.default_rng(seed).standard_normal((rows, dim)) * scale).astype(np.float32)
    exact = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1)).max()
    assert exact <= longest(vectors) <= exact * (1 + 1.3e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_snapshot_never_changes(precision):
    rng = np.random.default_rng(0)
    index, rows = made(precision=precision)
    rows.put(index, unit(rng, 25, DIM), rng.integers(0, 5, 25))
    queries = unit(rng, 2, DIM)
    before = index.snapshot()
    rows.put(index, np.repeat(queries, 20, axis=0), rng.integers(0, 5, 40))
    rows.check(before.search(queries, 5), queries, 5, n=25)
    rows.check(index.snapshot().search(queries, 5), queries, 5)


def test_growth_copies_nothing_that_is_there():
    rng = np.random.default_rng(0)
    index, rows = made()
    rows.put(index, unit(rng, 25, DIM), np.arange(25))
    before = [segment.columns for segment in index.snapshot().segments]
    rows.put(index, unit(rng, 25, DIM), np.arange(25, 50))
    after = [segment.columns for segment in index.snapshot().segments]
    assert all(old is new for old, new in zip(before, after, strict=False))
    assert len(after) == 5


def test_a_full_segment_is_ordered_by_chapter():
    index, rows = made()
    rows.put(index, unit(np.random.default_rng(0), 10, DIM), [5, 1, NO_KEY, 3, 5, 1, NO_KEY, 2, 9, 1])
    columns = index.snapshot().sealed[0].columns
    assert columns.number.tolist() == [2, 6, 1, 5, 9, 7, 3, 0, 4, 8]
    assert np.array_equal(columns.vectors, rows.rows[columns.number])


def test_a_bound_on_chapters_is_a_run_of_rows():
    index, rows = made(100)
    rng = np.random.default_rng(0)
    rows.put(index, unit(rng, 100, DIM), rng.integers(0, 9, 100))
    segment = index.snapshot().sealed[0]
    for passing in (rows.chapters <= 4, (rows.chapters >= 2) & (rows.chapters < 7)):
        chosen = Passing(passing).choose(segment)
        assert chosen is not None
        assert chosen.mask is None
        assert chosen.stop - chosen.start == chosen.count == passing.sum()
    assert Passing(np.zeros(100, bool)).choose(segment) is None
    every = Passing(np.ones(100, bool)).choose(segment)
    assert every is not None
    assert (every.start, every.stop, every.mask, every.count) == (0, 100, None, 100)


def test_memory_is_that_of_the_rows():
    index, rows = made(4096)
    rows.put(index, unit(np.random.default_rng(0), 5, DIM))
    assert index.bytes == 5 * (DIM * 4 + 40)


def test_half_precision_takes_half_the_memory_of_the_vectors():
    index, rows = made(100, precision="fp16")
    rows.put(index, unit(np.random.default_rng(0), 250, DIM))
    assert index.bytes == 200 * (DIM * 2 + 40) + 50 * (DIM * 4 + 40)


def test_rows_that_were_not_written_take_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = [Columns.allocate(1 << 20, 512) for _ in range(4)]  # 8 GiB
    for columns in kept:
        columns.vectors[0] = 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_an_append_that_fails_changes_nothing(monkeypatch):
    index, rows = made()
    rng = np.random.default_rng(0)
    rows.put(index, unit(rng, 5, DIM))
    kept, vectors = index.snapshot(), unit(rng, 30, DIM)

    def refuse(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Columns, "allocate", refuse)
        with pytest.raises(MemoryError):
            index.append(vectors, *[np.zeros(30, np.int32)] * 2, np.zeros((30, 4), np.int32), np.zeros(30, np.int64))
    assert index.snapshot() is kept
    rows.put(index, vectors)
    rows.check(index.snapshot().search(vectors[:3], 4), vectors[:3], 4)


# -- compaction


def test_compaction_rewrites_only_segments_with_many_dead_rows():
    index, rows = made(100)
    rows.put(index, unit(np.random.default_rng(0), 300, DIM), np.arange(300))
    alive = np.ones(300, bool)
    alive[:10] = alive[100:121] = False
    before = index.snapshot().sealed
    assert index.dead_share(alive) == pytest.approx(0.21)
    assert index.compact(alive)
    after = index.snapshot().sealed
    assert (after[0], after[2]) == (before[0], before[2])
    assert [segment.rows for segment in after] == [100, 79, 100]
    assert not index.compact(alive)


def test_compaction_joins_small_neighbours():
    index, rows = made(100)
    rows.put(index, unit(np.random.default_rng(0), 400, DIM))
    alive = np.arange(400) % 4 == 0
    assert index.compact(alive)
    assert [segment.rows for segment in index.snapshot().sealed] == [100]
    assert index.bytes == 100 * (DIM * 4 + 40)


def test_compaction_of_nothing_alive_leaves_nothing():
    index, rows = made()
    rows.put(index, unit(np.random.default_rng(0), 30, DIM))
    assert index.compact(np.zeros(30, bool))
    assert index.snapshot().rows == 0


def test_references_newer_than_the_mask_are_alive():
    index, rows = made()
    rows.put(index, unit(np.random.default_rng(0), 40, DIM))
    index.compact(np.zeros(15, bool))
    assert index.snapshot().rows == 25


def test_numbers_go_on_after_a_compaction():
    index, rows = made()
    same = np.repeat(unit(np.random.default_rng(0), 1, DIM), 35, axis=0)
    rows.put(index, same)
    alive = np.arange(35) >= 17
    index.compact(alive)
    rows.put(index, same)
    passing = np.append(alive, np.ones(35, bool))
    rows.check(index.snapshot().search(same[:1], 60, passing), same[:1], 60, passing)


# -- certainty


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("queries", [1, 4, 40])
def test_rows_that_float16_cannot_tell_apart_are_ranked_as_float32_ones(precision, queries):
    index, rows = made(64, precision=precision)
    rng = np.random.default_rng(7)
    rows.put(index, alike(rng, 1000, DIM))
    asked = alike(rng, queries, DIM)
    rows.check(index.snapshot().search(asked, 12), asked, 12)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("queries", [1, 4, 40])
def test_rows_that_a_float32_sum_cannot_tell_apart_are_ranked_as_in_float64(precision, queries):
    rng = np.random.default_rng(7)
    rows = Rows(64)
    index = Index(64, CpuScanner(), segment_rows=64, precision=precision, source=rows)
    base = unit(rng, 1, 64)
    steps = rng.integers(-1, 2, (1000, 64))
    rows.put(index, (base + steps * np.spacing(base)).astype(np.float32))
    asked = unit(rng, queries, 64)
    rows.check(index.snapshot().search(asked, 12), asked, 12)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("queries", [1, 30])
def test_a_pool_of_one_row_over_and_over_is_searched_in_bounded_memory(monkeypatch, precision, queries):
    monkeypatch.setattr("retrieval.index.snapshot.PENDING", 100)
    index, rows = made(64, precision=precision)
    rows.put(index, np.repeat(unit(np.random.default_rng(7), 1, DIM), 500, axis=0), np.arange(500) % 7)
    asked = np.repeat(rows.rows[:1], queries, axis=0)
    passing = rows.chapters != 3
    rows.check(index.snapshot().search(asked, 5, passing), asked, 5, passing)


def test_a_search_leaves_the_queries_as_they_were():
    rng = np.random.default_rng(0)
    index, rows = made()
    rows.put(index, unit(rng, 5, DIM))
    queries = unit(rng, 3, DIM) * 7
    copy = queries.copy()
    index.snapshot().search(queries, 2)
    assert np.array_equal(queries, copy)


def test_vectors_of_another_length_are_refused():
    index, _ = made()
    with pytest.raises(ShapeMismatch):
        index.append(
            np.zeros((1, DIM + 1), np.float32),
            np.zeros(1, np.int32),
            np.zeros(1, np.int32),
            np.zeros((1, 4), np.int32),
            np.zeros(1, np.int64),
        )
    with pytest.raises(ShapeMismatch):
        index.snapshot().search(np.zeros((1, DIM + 1), np.float32), 1)


def test_less_than_one_hit_is_refused():
    with pytest.raises(InvalidInput):
        made()[0].snapshot().search(np.zeros((1, DIM), np.float32), 0)


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
    table.add([reference(99, None, 0, TAGS)])  # so that tags take more than one word
    alive: dict[str, Reference] = {f"{99:064x}": reference(99, None, 0, TAGS)}
    order: list[str] = [f"{99:064x}"]
    seen: list[tuple[Facts, list[bool]]] = []
    for what, fields in steps:
        made = reference(*fields)
        if what == "add" and made.id not in alive:
            table.add([made])
            order.append(made.id)
            alive[made.id] = made
        elif what == "change" and made.id in alive:
            table.replace([made])
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
    assert passes(Bound(**bound), reference(*fields), lambda _: True) == rules(Bound(**bound), reference(*fields))
