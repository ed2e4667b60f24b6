"""Every way to search keeps the same promises; the CPU's is the sibling of the GPU's."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import index as index_module
from retrieval.index import CpuScanner, Index, load_faiss
from serving.errors import FailedState
from tests.rows import ENGINES, Rows, Stand, alike, engine, unit

DIM = 32
SMALL = 8


@pytest.fixture(params=[*ENGINES, pytest.param("gpu", marks=pytest.mark.gpu)])
def kind(request) -> str:
    return request.param


@pytest.fixture
def filled(kind) -> tuple[Index, Rows]:
    index, rows = engine(kind, DIM, 300)
    rows.put(index, unit(np.random.default_rng(1), 1000, DIM), np.arange(200) // 10, patches=5)
    index.place_on_device()
    return index, rows


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05, 0.5, 0.95, 0.999, 1.0])
def test_search_gives_the_best_rows_that_pass(filled, share):
    index, rows = filled
    rng = np.random.default_rng(2)
    queries, passing = unit(rng, 5, DIM), rng.random(200) < share
    rows.check(index.snapshot().search(queries, 20, passing), queries, 20, passing)


@pytest.mark.parametrize("chapter", [-1, 0, 3, 11, 19])
def test_search_under_a_bound_gives_the_best_rows_below_it(filled, chapter):
    index, rows = filled
    queries, passing = unit(np.random.default_rng(2), 5, DIM), rows.chapters <= chapter
    rows.check(index.snapshot().search(queries, 20, passing), queries, 20, passing)


def test_a_forbidden_row_never_answers_not_even_the_best(filled):
    index, rows = filled
    passing = np.ones(200, bool)
    passing[rows.owners[[5, 305, 905]]] = False
    nearest = index.snapshot().search(rows.rows[[5, 305, 905]], 50, passing)
    assert not np.isin(nearest.numbers, [5, 305, 905]).any()
    assert (nearest.numbers >= 0).all()


def test_a_batch_scores_as_each_query_does_alone(filled):
    index, _ = filled
    queries = unit(np.random.default_rng(3), 256, DIM)
    batch = index.snapshot().search(queries, 9)
    for n, query in enumerate(queries):
        alone = index.snapshot().search(query[None], 9)
        assert np.array_equal(alone.scores[0], batch.scores[n])
        assert np.array_equal(alone.numbers[0], batch.numbers[n])


def test_threads_that_help_change_no_answer(filled):
    index, rows = filled
    queries = unit(np.random.default_rng(3), 30, DIM)
    passing = np.random.default_rng(4).random(200) < 0.7
    with ThreadPoolExecutor(3) as executor:
        for few in (queries[:2], queries):
            rows.check(index.snapshot().search(few, 9, passing, executor=executor, helpers=3), few, 9, passing)


def test_more_hits_than_rows_are_filled_up_with_nothing(kind):
    index, rows = engine(kind, DIM, 4)
    rows.put(index, unit(np.random.default_rng(1), 6, DIM))
    index.place_on_device()
    rows.check(index.snapshot().search(rows.rows[:2], 9), rows.rows[:2], 9)


def test_an_empty_index_finds_nothing(kind):
    index, _ = engine(kind, DIM, 4)
    index.place_on_device()
    nearest = index.snapshot().search(np.eye(2, DIM, dtype=np.float32), 3)
    assert (nearest.numbers == -1).all()
    assert np.isneginf(nearest.scores).all()


def test_no_query_finds_nothing(filled):
    assert filled[0].snapshot().search(np.zeros((0, DIM), np.float32), 3).scores.shape == (0, 3)


@pytest.mark.parametrize("count", [1, 30])
def test_equal_rows_come_in_order_of_insertion(kind, count):
    index, rows = engine(kind, DIM, 100)
    base = unit(np.random.default_rng(1), 61, DIM)
    rows.put(index, np.concatenate([base[:50], np.repeat(base[60:61], 170, axis=0), base[:50]]))
    index.place_on_device()
    found = index.snapshot().search(np.repeat(base[60:61], count, axis=0), 40)
    assert found.numbers.tolist() == [list(range(50, 90))] * count


@pytest.mark.parametrize("count", [1, 4, 30])
def test_rows_that_float16_puts_in_another_order_are_ranked_as_float32_ones(kind, count):
    index, rows = engine(kind, DIM, 100)
    rng = np.random.default_rng(8)
    near = unit(rng, 1, DIM) + 2e-4 * rng.standard_normal((1000, DIM))
    rows.put(index, near.astype(np.float32), np.arange(1000) % 9)
    index.place_on_device()
    queries = unit(rng, count, DIM)
    rows.check(index.snapshot().search(queries, 12), queries, 12)


def test_an_append_is_in_the_next_snapshot(filled):
    index, rows = filled
    row = unit(np.random.default_rng(3), 1, DIM)
    rows.put(index, row)
    assert index.snapshot().search(row, 1).numbers[0, 0] == 1000


steps = st.lists(
    st.tuples(st.sampled_from(["add", "add", "remove", "compact", "place"]), st.integers(1, 23), st.integers(0, 4)),
    max_size=12,
)
bounds = st.sampled_from(["all", "early", "late", "middle", "alternate", "one"])


def bounded(what: str, rows: Rows, alive: np.ndarray) -> np.ndarray | None:
    """Which references pass a bound of that shape."""
    place = np.arange(len(alive))
    shapes = {
        "early": rows.chapters <= 1, "late": rows.chapters >= 3, "middle": (rows.chapters > 0) & (rows.chapters < 3),
        "alternate": place % 2 == 0, "one": place == 3, "all": np.ones(len(alive), bool),
    }  # fmt: skip
    return None if what == "all" and alive.all() else shapes[what] & alive


@given(steps=steps, bound=bounds, k=st.integers(1, 9), queries=st.sampled_from([1, 3, 25]), seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("kind", ENGINES)
def test_search_is_the_oracles_after_any_history(kind, steps, bound, k, queries, seed):
    rng = np.random.default_rng(seed)
    index, rows = engine(kind, SMALL, 16)
    alive = np.zeros(0, bool)
    asked = alike(rng, queries, SMALL)
    earlier = []
    for what, count, chapter in steps:
        if what == "add":  # late additions to early chapters among them
            rows.put(index, alike(rng, count, SMALL), np.full(-(-count // 3), chapter), patches=3)
            alive = np.append(alive, np.ones(len(rows.chapters) - len(alive), bool))
        elif what == "remove":
            alive = alive & (rng.random(len(alive)) > count / 40)
        elif what == "compact":
            index.compact(alive)
            assert index.dead_share(alive) <= 0.2
        else:
            index.place_on_device()
        earlier.append((index.snapshot(), bounded(bound, rows, alive), len(rows.rows)))
    for snapshot, passing, count in earlier:
        if passing is not None and snapshot.rows == count:  # a mask hides the rows that a compaction left out
            rows.check(snapshot.search(asked, k, passing), asked, k, passing, count)
    if earlier:
        passing = bounded("alternate", rows, alive)
        rows.check(index.snapshot().search(asked, k, passing), asked, k, passing)


def test_compaction_while_others_append_loses_nothing(kind):
    index, rows = engine(kind, SMALL, 16)
    rng = np.random.default_rng(5)
    rows.put(index, alike(rng, 300, SMALL))
    alive = rng.random(300) < 0.5
    go, errors = threading.Event(), []

    def compact() -> None:
        go.wait()
        try:
            for _ in range(30):
                index.compact(alive)
                index.place_on_device()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=compact)
    thread.start()
    go.set()
    for _ in range(40):
        rows.put(index, alike(rng, 7, SMALL))
    thread.join()
    assert not errors
    passing = np.append(alive, np.ones(280, bool))
    queries = alike(rng, 4, SMALL)
    rows.check(index.snapshot().search(queries, 30, passing), queries, 30, passing)


# -- the device


def on_device(room: int = 10**9, **settings) -> tuple[Index, Rows, Stand]:
    rows, scanner = Rows(DIM), Stand(room=room, block_segments=3, **settings)
    index = Index(DIM, scanner, segment_rows=100, source=rows)
    rows.put(index, unit(np.random.default_rng(1), 1050, DIM))
    return index, rows, scanner


def test_blocks_are_searched_on_the_device():
    index, rows, scanner = on_device()
    assert index.place_on_device() == 1000
    rows.check(index.snapshot().search(rows.rows[:3], 5), rows.rows[:3], 5)
    assert index.device_bytes == scanner.resident_bytes
    assert scanner.searches == 4  # three full blocks and one of a single segment
    assert scanner.resident_bytes == 1000 * DIM * 4


def test_half_precision_takes_half_the_memory():
    index, _, scanner = on_device(precision="fp16")
    index.place_on_device()
    assert scanner.resident_bytes == 1000 * DIM * 2


def test_a_device_that_is_full_leaves_the_rest_to_the_cpu():
    index, rows, scanner = on_device(room=650)
    assert index.place_on_device() == 600
    rows.check(index.snapshot().search(rows.rows[:3], 5), rows.rows[:3], 5)
    assert scanner.resident_bytes == 600 * DIM * 4


def test_growth_never_needs_more_than_the_rows():
    index, rows, scanner = on_device(room=1400)
    index.place_on_device()
    for n in range(4):
        rows.put(index, unit(np.random.default_rng(n), 100, DIM))
        assert index.place_on_device() == 1000 + (n + 1) * 100
    assert scanner.used == 1400


def test_what_was_dropped_is_searched_on_the_cpu():
    index, rows, scanner = on_device()
    index.place_on_device()
    before = index.snapshot()
    assert index.drop_from_device() == 1000 * DIM * 4
    assert scanner.used == scanner.resident_bytes == index.device_bytes == 0
    rows.check(before.search(rows.rows[:3], 5), rows.rows[:3], 5)
    assert scanner.searches == 0


def test_a_device_that_fails_during_a_search_leaves_it_to_the_cpu(monkeypatch):
    index, rows, _ = on_device()
    index.place_on_device()
    for block in index.snapshot().blocks:
        monkeypatch.setattr(block.index, "_index", None)
        monkeypatch.setattr(block.index, "search", lambda queries, k: (_ for _ in ()).throw(RuntimeError("lost")))
    rows.check(index.snapshot().search(rows.rows[:3], 5), rows.rows[:3], 5)


def test_searches_on_a_device_follow_one_another():
    index, rows, _ = on_device()
    index.place_on_device()
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda n: index.snapshot().search(rows.rows[n : n + 1], 1), range(300)))
    assert [nearest.numbers[0, 0] for nearest in found] == list(range(300))


def test_without_faiss_the_message_names_the_extras(monkeypatch):
    load_faiss.cache_clear()
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(FailedState) as caught:
        index_module.load_faiss()
    assert caught.value.reason == "NO_FAISS"
    assert all(extra in caught.value.message for extra in ("panelhue[cpu]", "panelhue[gpu]", "panelhue[gpu-cu12]"))
    monkeypatch.undo()
    load_faiss.cache_clear()


def test_the_cpu_has_no_device():
    index = Index(DIM, CpuScanner())
    assert index.place_on_device() == index.drop_from_device() == 0
