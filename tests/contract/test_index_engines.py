"""Every way to search a segment keeps the same promises; the CPU's is the sibling of the GPU's."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from retrieval import index as index_module
from retrieval.index import CpuScanner, GpuScanner, Index, Scanner, gpu_count, load_faiss
from serving.errors import FailedState

DIM = 32
TOLERANCES = {"cpu": 1e-6, "gpu": 1e-5, "gpu_sibling": 1e-6}  # float32; the GPU multiplies matrices


class CpuResident(GpuScanner):
    """The GPU's way of searching with an index on the CPU in the place of the one on the GPU."""

    def __init__(self) -> None:
        self._faiss = _Stand(load_faiss())
        self._cpu = CpuScanner()
        self._device = 0
        self._resources = None
        self._lock = threading.Lock()


class _Stand:
    """FAISS with the names of its GPU side."""

    def __init__(self, faiss):
        self._faiss = faiss

    def GpuIndexFlatConfig(self):  # noqa: N802 - FAISS's name
        return type("Config", (), {})()

    def GpuIndexFlatIP(self, _resources, dim, _config):  # noqa: N802 - FAISS's name
        return self._faiss.IndexFlatIP(dim)


def make(kind: str) -> Scanner:
    if kind == "gpu":
        if not gpu_count():
            pytest.skip("no GPU that FAISS can use")
        return GpuScanner()
    return CpuScanner() if kind == "cpu" else CpuResident()


@pytest.fixture(params=["cpu", "gpu_sibling", pytest.param("gpu", marks=pytest.mark.gpu)])
def kind(request) -> str:
    return request.param


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.standard_normal((count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def rows() -> np.ndarray:
    return unit(np.random.default_rng(1), 1000)


@pytest.fixture
def index(kind, rows) -> Index:
    made = Index(DIM, make(kind), segment_rows=300)
    made.append(rows)
    return made


@pytest.mark.parametrize("share", [None, 0.0, 0.002, 0.05, 0.5, 0.95, 0.999, 1.0])
def test_search_gives_the_best_allowed_rows(index, rows, kind, share):
    rng = np.random.default_rng(2)
    allowed = np.ones(1000, bool) if share is None else rng.random(1000) < share
    queries = unit(rng, 5)
    nearest = index.snapshot().search(queries, 20, None if share is None else allowed)
    scores = np.where(allowed, queries @ rows.T, -np.inf)
    count = min(20, int(allowed.sum()))
    expected = np.sort(scores, axis=1)[:, ::-1][:, :count]
    assert np.allclose(nearest.scores[:, :count], expected, atol=TOLERANCES[kind])
    assert (nearest.rows[:, count:] == -1).all()
    found = np.take_along_axis(scores, nearest.rows[:, :count], 1)
    assert np.allclose(found, nearest.scores[:, :count], atol=TOLERANCES[kind])
    assert all(len(set(row)) == count for row in nearest.rows[:, :count].tolist())


def test_a_forbidden_row_never_answers_not_even_the_best(index, rows):
    allowed = np.ones(1000, bool)
    allowed[[5, 305, 905]] = False
    nearest = index.snapshot().search(rows[[5, 305, 905]], 50, allowed)
    assert not np.isin(nearest.rows, [5, 305, 905]).any()
    assert (nearest.rows >= 0).all()


def test_the_same_row_is_found_first(index, rows):
    nearest = index.snapshot().search(rows[[0, 299, 300, 999]], 1)
    assert nearest.rows[:, 0].tolist() == [0, 299, 300, 999]


def test_more_hits_than_rows_are_filled_up_with_nothing(kind, rows):
    made = Index(DIM, make(kind), segment_rows=4)
    made.append(rows[:6])
    nearest = made.snapshot().search(rows[:2], 9)
    assert (nearest.rows[:, :6] >= 0).all()
    assert (nearest.rows[:, 6:] == -1).all()
    assert np.isneginf(nearest.scores[:, 6:]).all()


def test_an_empty_index_finds_nothing(kind):
    nearest = Index(DIM, make(kind)).snapshot().search(np.eye(2, DIM, dtype=np.float32), 3)
    assert (nearest.rows == -1).all()


def test_equal_rows_come_in_order_of_insertion(kind, rows):
    made = Index(DIM, make(kind), segment_rows=100)
    made.append(np.concatenate([rows[:50], np.repeat(rows[60:61], 170, axis=0), rows[:50]]))
    assert made.snapshot().search(rows[60:61], 40).rows[0].tolist() == list(range(50, 90))


def test_an_append_is_in_the_next_snapshot(index):
    rng = np.random.default_rng(3)
    row = unit(rng, 1)
    index.append(row)
    assert index.snapshot().search(row, 1).rows[0, 0] == 1000


def test_without_faiss_the_message_names_the_extras(monkeypatch):
    load_faiss.cache_clear()
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(FailedState) as caught:
        index_module.load_faiss()
    assert caught.value.reason == "NO_FAISS"
    assert all(extra in caught.value.message for extra in ("panelhue[cpu]", "panelhue[gpu]", "panelhue[gpu-cu12]"))
    monkeypatch.undo()
    load_faiss.cache_clear()
