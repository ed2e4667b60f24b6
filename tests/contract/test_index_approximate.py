"""An approximate search serves only once its recall was measured; what it is not sure to find is searched exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.index import CpuScanner, Index, gpu_count
from retrieval.index.approximate import cover
from retrieval.index.recall import chapter_bounds, measured, own_queries
from retrieval.index.structures import LIST_ROWS
from serving.errors import FailedState
from tests.rows import Rows, alike, unit

DIM = 16
SMALL = 8


@pytest.fixture(params=["ivf", "hnsw"])
def kind(request) -> str:
    return request.param


def clustered(rng: np.random.Generator, count: int) -> np.ndarray:
    centres = np.random.default_rng(0).standard_normal((40, DIM))
    rows = centres[rng.integers(0, 40, count)] + 0.3 * rng.standard_normal((count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def filled(precision: str = "fp32") -> tuple[Index, Rows]:
    rows = Rows(DIM)
    index = Index(DIM, CpuScanner(), segment_rows=500, precision=precision, source=rows)
    rng = np.random.default_rng(1)
    rows.put(index, clustered(rng, 4200), rng.integers(0, 50, 840), patches=5)
    return index, rows


def share_found(found, truth) -> float:
    pairs = zip(found.numbers.tolist(), truth.numbers.tolist(), strict=True)
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in pairs]))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_serves_has_reached_the_floor(kind, precision):
    index, rows = filled(precision)
    before = index.snapshot()
    recall = index.approximate(kind, floor=0.9, k=5, queries=20)
    assert recall.kind == kind
    assert recall.least >= 0.9
    assert len(recall.by_share) == 6
    queries = clustered(np.random.default_rng(9), 50)
    for passing in (None, rows.chapters < 20):
        found, truth = index.snapshot().search(queries, 5, passing), before.search(queries, 5, passing)
        assert share_found(found, truth) > 0.8
        assert found.candidates == truth.candidates


def test_the_floor_is_reached_with_the_least_effort():
    index, _ = filled()
    made = [measured(index.snapshot(), "ivf", floor=floor, k=5, queries=20) for floor in (0.3, 0.999)]
    assert made[0].effort < made[1].effort
    assert made[0].recall is not None
    assert made[0].recall.least < 0.999


def test_a_floor_out_of_reach_is_refused_with_the_figure(kind, monkeypatch):
    index, rows = filled()
    least = cover(kind, index.snapshot().sealed, 0).structure.efforts[:1]
    monkeypatch.setattr("retrieval.index.structures._doubled", lambda most: least)
    with pytest.raises(FailedState) as caught:
        index.approximate(kind, floor=1.01, k=5, queries=20)
    assert caught.value.reason == "RECALL_TOO_LOW"
    assert caught.value.metadata["actual"][:5] in caught.value.message
    assert index.snapshot().approximate is None
    rows.check(index.snapshot().search(rows.rows[:2], 5), rows.rows[:2], 5)


def test_one_seed_gives_one_structure(kind):
    index, _ = filled()
    queries = clustered(np.random.default_rng(9), 30)
    found = []
    for _ in range(2):
        index.approximate(kind, floor=0.5, k=5, queries=20, seed=3)
        found.append(index.snapshot().search(queries, 5))
    assert np.array_equal(found[0].numbers, found[1].numbers)


def test_a_forbidden_row_never_answers(kind):
    index, rows = filled()
    index.approximate(kind, floor=0.5, k=30, queries=20)
    passing = np.random.default_rng(2).random(840) < 0.6
    found = index.snapshot().search(rows.rows[:100], 30, passing)
    assert (found.owners >= 0).all()
    assert passing[found.owners].all()


def test_rows_that_came_later_are_found_exactly(kind):
    index, rows = filled()
    index.approximate(kind, floor=0.5, k=5, queries=20)
    late = clustered(np.random.default_rng(4), 900)
    rows.put(index, late)
    found = index.snapshot().search(late[::30], 1)
    assert found.numbers[:, 0].tolist() == list(range(4200, 5100, 30))


def test_where_few_rows_pass_the_search_is_exact(kind):
    index, rows = filled()
    index.approximate(kind, floor=0.3, k=5, queries=20)
    passing = rows.chapters < 4
    queries = clustered(np.random.default_rng(9), 30)
    rows.check(index.snapshot().search(queries, 9, passing), queries, 9, passing)


def test_more_rows_than_were_measured_are_searched_exactly(kind):
    index, rows = filled()
    index.approximate(kind, floor=0.3, k=5, queries=20)
    rows.check(index.snapshot().search(rows.rows[:2], 6), rows.rows[:2], 6)


def test_every_row_is_found_when_all_are_asked_for(kind):
    index, rows = filled()
    index.approximate(kind, floor=0.0, k=4200, queries=2)
    found = index.snapshot().search(rows.rows[:1], 4200)
    assert sorted(found.numbers[0].tolist()) == list(range(4200))


def test_a_compaction_beside_it_doubles_no_row(kind):
    index, rows = filled()
    index.approximate(kind, floor=0.5, k=200, queries=5)
    alive = np.ones(840, bool)
    alive[100:150] = False
    assert index.compact(alive)
    found = index.snapshot().search(rows.rows[:60], 200, alive)
    assert all(len(set(numbers)) == 200 for numbers in found.numbers.tolist())
    assert alive[found.owners].all()


def test_after_it_ends_the_search_is_exact(kind):
    index, rows = filled()
    index.approximate(kind, floor=0.3, k=5, queries=20)
    index.exact()
    rows.check(index.snapshot().search(rows.rows[:5], 9), rows.rows[:5], 9)


@given(
    count=st.integers(LIST_ROWS * 2, 300),
    late=st.integers(0, 40),
    k=st.integers(1, 12),
    share=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=25, deadline=None)
def test_all_lists_searched_are_the_oracles_answer(count, late, k, share, seed):
    rng = np.random.default_rng(seed)
    rows = Rows(SMALL)
    index = Index(SMALL, CpuScanner(), segment_rows=16)
    rows.put(index, unit(rng, count, SMALL), rng.integers(0, 5, count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrieval.index.structures._doubled", lambda most: (most,))
        index.approximate("ivf", floor=0.0, k=12, queries=4, seed=seed)
    rows.put(index, alike(rng, late, SMALL), rng.integers(0, 5, late))
    passing, queries = rng.random(count + late) < share, unit(rng, 3, SMALL)
    rows.check(index.snapshot().search(queries, k, passing), queries, k, passing)


def test_a_pool_without_a_full_segment_is_refused(kind):
    rows = Rows(DIM)
    index = Index(DIM, CpuScanner(), segment_rows=500)
    rows.put(index, clustered(np.random.default_rng(0), 499))
    with pytest.raises(FailedState) as caught:
        index.approximate(kind)
    assert caught.value.reason == "INDEX_TOO_SMALL"


@pytest.mark.parametrize("absent", ["gpu_ivf", "cagra"])
def test_a_kind_that_this_faiss_lacks_is_refused(absent):
    if gpu_count():
        pytest.skip("this FAISS has it")
    index, _ = filled()
    with pytest.raises(FailedState) as caught:
        index.approximate(absent)
    assert caught.value.reason == "INDEX_KIND_UNAVAILABLE"


@pytest.mark.gpu
@pytest.mark.parametrize("on_gpu", ["gpu_ivf", "cagra"])
def test_kinds_on_a_gpu_reach_the_floor(on_gpu):
    if not gpu_count():
        pytest.skip("no GPU that FAISS can use")
    index, rows = filled()
    assert index.approximate(on_gpu, floor=0.9, k=5, queries=20).least >= 0.9
    passing = rows.chapters < 30
    rows.check(index.snapshot().search(rows.rows[:3], 5, passing), rows.rows[:3], 5, passing)


def test_queries_are_near_the_pools_own_rows():
    index, rows = filled()
    queries = own_queries(index.snapshot().sealed, 20, 1)
    assert ((queries @ rows.rows.T).max(axis=1) > 0.9).all()
    assert np.array_equal(queries, own_queries(index.snapshot().sealed, 20, 1))
    assert not np.array_equal(queries, own_queries(index.snapshot().sealed, 20, 2))


def test_bounds_that_are_tried_have_several_widths():
    index, rows = filled()
    shares = [mask[rows.owners[:4000]].mean() for mask in chapter_bounds(index.snapshot().sealed)]
    assert shares == pytest.approx([0.75, 0.5, 0.25, 0.12, 0.5], abs=0.05)
