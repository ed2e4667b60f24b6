"""The comparison with other products: its vectors, their true answers, and a driver that no cell's end stops."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import render, render_peers, retrieval_vs_peers
from benchmarks.peers.environments import python_of
from benchmarks.peers.kinds import KINDS, Kind
from benchmarks.peers.runner import MEASURED, Limits, run_cell
from benchmarks.peers.vectors import CHAPTER, PAGE, TOP, Data, Patches, kth_best, make, recall

DIM = 64
UNIT = 1e-6  # of a float32 vector's length
EXACT = 1e-12  # float64 sums in another order
QUICK = Limits(seconds=60.0, figure_seconds=0.05)
LITTLE = Limits(seconds=60.0, memory_bytes=300e6, figure_seconds=0.05)
KEYS = {"product", "kind", "rows", "dim", "clients", "queries", "state", *MEASURED, "sync", "versions", "notes"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return make(tmp_path_factory.mktemp("vectors"), 510, DIM)


def kind(name: str) -> Kind:
    return Kind("a product", "in process", f"tests.unit.peer_products:{name}", "whatever")


def cell(name: str, data: Data, scratch: Path, limits: Limits = QUICK) -> list[dict[str, Any]]:
    return run_cell(kind(name), data, Path(sys.executable), scratch, limits)


def test_the_vectors_are_units(data: Data):
    for name in ("vectors", "queries"):
        lengths = np.linalg.norm(data.load(name).astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths, 1.0, atol=UNIT)


def test_one_seed_gives_one_pool(data: Data, tmp_path: Path):
    again, other = make(tmp_path, 510, DIM), make(tmp_path, 510, DIM, seed=1)
    assert (again.load("vectors") == data.load("vectors")).all()
    assert not (other.load("vectors") == data.load("vectors")).any()


def test_a_larger_pool_begins_with_the_smaller_one(data: Data, tmp_path: Path):
    assert (make(tmp_path, 700, DIM).load("vectors")[:510] == data.load("vectors")).all()


def test_patches_of_a_page_are_nearer_than_pages_are():
    chapter = Patches(512, 0).chapter(3).astype(np.float64)
    scores = chapter @ chapter.T
    pages = np.arange(CHAPTER) // PAGE
    same = pages[:, None] == pages[None]
    inside, across = scores[same & ~np.eye(CHAPTER, dtype=bool)], scores[~same]
    assert inside.min() > across.max()


def test_the_bound_passes_about_half(data: Data):
    share = (data.load("chapters") <= data.bound).mean()
    assert 0.4 < share < 0.6


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 60), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_kth_best_is_that_of_a_full_sort(rows: int, k: int, seed: int):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (rows, 3)).astype(np.float32)  # small whole numbers, so that there are ties
    queries = rng.integers(-2, 3, (5, 3)).astype(np.float32)
    truth = np.sort(queries.astype(np.float64) @ vectors.T.astype(np.float64), axis=1)[:, -k]
    np.testing.assert_allclose(kth_best(vectors, queries, k), truth, atol=EXACT)


def best(data: Data, *, bounded: bool) -> np.ndarray:
    scores = data.load("queries").astype(np.float64) @ data.load("vectors").T.astype(np.float64)
    if bounded:
        scores[:, data.load("chapters") > data.bound] = -np.inf
    return np.argsort(-scores, axis=1)


@pytest.mark.parametrize("bounded", [False, True])
def test_the_true_answers_have_recall_1(data: Data, bounded: bool):
    order = best(data, bounded=bounded)
    asked = np.arange(len(order))
    assert recall(data, asked, order[:, :TOP], bounded=bounded) == (1.0, 0)


def test_a_row_below_the_kth_best_is_no_hit(data: Data):
    order = best(data, bounded=False)
    answers = np.concatenate([order[:, : TOP - 1], order[:, TOP : TOP + 1]], axis=1)
    assert recall(data, np.arange(len(order)), answers, bounded=False) == (pytest.approx(2 / 3), 0)


def test_another_row_of_the_same_score_is_a_hit(tmp_path: Path):
    np.save(tmp_path / "vectors.npy", np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32))
    np.save(tmp_path / "queries.npy", np.array([[0, 1]], dtype=np.float32))
    np.save(tmp_path / "chapters.npy", np.zeros(3, dtype=np.int64))
    data = Data(tmp_path, 3, 2, 0, np.array([1.0]), np.array([1.0]))
    asked = np.array([0])
    assert recall(data, asked, np.array([[1]]), bounded=False) == (1.0, 0)
    assert recall(data, asked, np.array([[2]]), bounded=False) == (1.0, 0)
    assert recall(data, asked, np.array([[0]]), bounded=False) == (0.0, 0)


def test_a_row_answered_twice_counts_once(data: Data):
    first = best(data, bounded=False)[:, :1]
    answers = np.repeat(first, TOP, axis=1)
    assert recall(data, np.arange(len(first)), answers, bounded=False)[0] == pytest.approx(1 / 3)


def test_nothing_answered_is_no_hit(data: Data):
    assert recall(data, np.array([0, 1]), np.full((2, TOP), -1), bounded=False) == (0.0, 0)


def test_a_row_beyond_the_bound_is_told(data: Data):
    late = int(np.flatnonzero(data.load("chapters") > data.bound)[0])
    answers = np.full((4, TOP), -1)
    answers[0, 0] = late
    assert recall(data, np.arange(4), answers, bounded=True) == (0.0, 1)


def test_a_whole_cell_has_every_figure(data: Data, tmp_path: Path):
    rows = cell("Files", data, tmp_path)
    assert [(row["clients"], row["queries"]) for row in rows] == [(1, 1), (1, 4), (16, 1), (16, 4)]
    for row in rows:
        assert set(row) == KEYS
        assert row["state"] == "ok"
        assert all(row[name] > 0 for name in MEASURED)
        assert (row["recall_at_3"], row["bounded_recall_at_3"]) == (1.0, 1.0)
    assert not (tmp_path / "data").exists()


def test_a_time_out_is_recorded_as_such(data: Data, tmp_path: Path):
    rows = cell("Sleeper", data, tmp_path, Limits(seconds=2.0))
    assert len(rows) == 4
    assert {row["state"] for row in rows} == {"timeout"}
    assert {row["search_p50_ms"] for row in rows} == {None}


def test_what_was_measured_before_a_limit_is_kept(data: Data, tmp_path: Path):
    rows = cell("GreedyUnderABound", data, tmp_path, LITTLE)
    assert {row["state"] for row in rows} == {"memory"}
    assert rows[0]["search_p50_ms"] > 0
    assert rows[0]["bounded_p50_ms"] is None
    assert rows[3]["search_p50_ms"] is None


@pytest.mark.parametrize(
    ("name", "said"), [("Aborts", "failed: fill ended with -6"), ("Raises", "failed: ValueError: no room for rows")]
)
def test_a_failure_is_recorded_with_its_reason(data: Data, tmp_path: Path, name: str, said: str):
    rows = cell(name, data, tmp_path)
    assert len(rows) == 4
    assert all(row["state"].startswith(said) for row in rows)


def test_too_much_memory_is_recorded_as_such_with_all_processes_ended(data: Data, tmp_path: Path):
    rows = cell("Greedy", data, tmp_path, LITTLE)
    assert {row["state"] for row in rows} == {"memory"}
    assert not psutil.pid_exists(int((tmp_path / "child.txt").read_text()))


def test_a_product_without_bounds_has_no_bounded_figures(data: Data, tmp_path: Path):
    rows = cell("Boundless", data, tmp_path)
    for row in rows:
        assert row["state"] == "ok"
        assert row["search_p50_ms"] > 0
        assert row["bounded_p50_ms"] is None
        assert "no filter here" in row["notes"]


def test_rows_lost_by_the_kill_are_told(data: Data, tmp_path: Path):
    assert "410 rows after SIGKILL of 510 acknowledged" in cell("Forgets", data, tmp_path)[0]["notes"]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def called(*arguments: str) -> dict[str, Any]:
        flags = ["--rows", "500", "--dims", "64", "--figure-seconds", "0.05", "--cache", str(tmp_path / "cache")]
        monkeypatch.setattr(
            "sys.argv", ["retrieval_vs_peers", *flags, "--out", str(tmp_path), "--only", "faiss", *arguments]
        )
        retrieval_vs_peers.main()
        content: dict[str, Any] = json.loads((tmp_path / "retrieval_vs_peers.json").read_text())
        return content

    return called


def test_faiss_is_exact_end_to_end(command: Any):
    content = command()
    assert set(content) == {"meta", "cells"}
    assert set(content["meta"]) == {"command", "machine", "commit", "date"}
    for row in content["cells"]:
        assert (row["product"], row["state"]) == ("faiss", "ok")
        assert (row["recall_at_3"], row["bounded_recall_at_3"]) == (1.0, 1.0)
        assert row["insert_per_s"] is None


@pytest.mark.parametrize(("flags", "runs"), [([], 1), (["--again"], 2)])
def test_a_cell_that_is_done_runs_again_only_if_asked(
    command: Any, monkeypatch: pytest.MonkeyPatch, flags: list[str], runs: int
):
    seen: list[Kind] = []

    def counted(kind: Kind, data: Data, python: Path, scratch: Path, limits: Limits) -> list[dict[str, Any]]:
        seen.append(kind)
        known = {"product": kind.product, "kind": kind.kind, "rows": data.rows, "dim": data.dim}
        return [known | {"state": "timeout", "notes": ""}]

    monkeypatch.setattr(retrieval_vs_peers, "run_cell", counted)
    command()
    content = command(*flags)
    assert len(seen) == runs
    assert len(content["cells"]) == 1


def test_figures_of_another_machine_are_not_added_to(command: Any, tmp_path: Path):
    (tmp_path / "retrieval_vs_peers.json").write_text(json.dumps({"meta": {"machine": "a mainframe"}, "cells": []}))
    with pytest.raises(SystemExit, match="a mainframe"):
        command()


def test_no_cell_begins_after_the_given_minutes(command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(retrieval_vs_peers, "run_cell", lambda *_: pytest.fail("a cell began"))
    with pytest.raises(FileNotFoundError):
        command("--minutes", "-1")


def test_a_million_rows_are_asked_of_three_products_only():
    plan = list(retrieval_vs_peers.planned([], retrieval_vs_peers.sizes([1_000_000], [512, 1024])))
    assert [(kind.product, size.dim) for kind, size in plan] == [
        ("panelhue", 512), ("panelhue", 512), ("faiss", 512), ("lancedb", 512),
    ]  # fmt: skip


def test_every_kind_is_told_apart():
    assert len({(kind.product, kind.kind) for kind in KINDS}) == len(KINDS)


def test_packages_that_cannot_be_installed_are_a_reason(tmp_path: Path):
    with pytest.raises(RuntimeError, match="cannot be installed"):
        python_of(tmp_path, "wrong", ("not a requirement!",))


def test_a_cell_needs_no_more_than_numpy_and_psutil():
    code = (
        "import sys; before = set(sys.modules); import benchmarks.peers.cell; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"__mp_main__", "benchmarks", "numpy", "psutil"}


def row(product: str, kind: str, queries: int = 1, state: str = "ok", **figures: float) -> dict[str, Any]:
    named = {"product": product, "kind": kind, "rows": 100_000, "dim": 512, "clients": 1, "queries": queries}
    said = {"state": state, "sync": "all of it", "versions": "1.0", "notes": ""}
    return {**named, **said, **dict.fromkeys(MEASURED), **figures}


@pytest.fixture
def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def called(*cells: dict[str, Any]) -> str:
        meta = {"command": "a command", "machine": "a machine", "commit": "abc", "date": "2026-11-25"}
        (tmp_path / "retrieval_vs_peers.json").write_text(json.dumps({"meta": meta, "cells": cells}))
        for module in (render, render_peers):
            monkeypatch.setattr(module, "RESULTS", tmp_path)
        return render_peers.peers()

    return called


def test_a_latency_within_the_target_is_said_to_be(rendered: Any):
    floor = row("faiss", "in process", search_p50_ms=4.0, search_p95_ms=9.0)
    assert "p50 6.90 ms, the bar: 7.00: reached" in rendered(
        floor, row("panelhue", "server", search_p50_ms=6.9, search_p95_ms=9.0)
    )
    assert "the bar: 7.00: **not reached**" in rendered(
        floor, row("panelhue", "server", search_p50_ms=7.1, search_p95_ms=9.0)
    )


def test_a_server_that_is_ahead_is_named(rendered: Any):
    ours = row("panelhue", "server", insert_per_s=100.0, restart_to_first_answer_s=1.0)
    other = row("chromadb", "server over HTTP", insert_per_s=200.0, restart_to_first_answer_s=2.0)
    text = rendered(ours, other)
    assert "insert: **behind** chromadb, server over HTTP" in text
    assert "restart: ahead of every other server" in text


def test_an_approximate_kind_of_ours_is_judged_by_its_searches_and_not_beside_the_exact_one(rendered: Any):
    exact = row("panelhue", "server", bounded_p50_ms=1.0, bounded_p95_ms=9.0, bounded_recall_at_3=1.0)
    ours = row(
        "panelhue", "server, IVF, recall floor 0.95", bounded_p50_ms=2.0, bounded_p95_ms=9.0, bounded_recall_at_3=0.97
    )
    other = row("milvus", "server over gRPC", bounded_p50_ms=1.5, bounded_p95_ms=9.0, bounded_recall_at_3=0.8)
    text = rendered(exact, ours, other)
    assert "recall floor 0.95: lowest recall 0.9700; bounded p50, 1 client: **behind** milvus" in text
    assert "behind** panelhue" not in text
    assert "100,000 x 512, bounded p50, 1 client: ahead of every other server" in text


def test_a_product_in_process_is_no_server_to_be_ahead_of(rendered: Any):
    ours = row("panelhue", "server", insert_per_s=100.0)
    others = (row("chromadb", "server over HTTP", insert_per_s=50.0), row("lancedb", "in process", insert_per_s=900.0))
    assert "insert: ahead of every other server" in rendered(ours, *others)


def test_how_a_cell_ended_is_in_its_row(rendered: Any):
    text = rendered(row("qdrant-client", "python emulation in process", state="timeout"))
    assert "| qdrant-client, python emulation in process |  |  |  |  | timeout |" in text
