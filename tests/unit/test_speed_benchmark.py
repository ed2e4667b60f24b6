"""A page's time is told by stage and against the matmul rate."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks import default_speed, render, render_learned
from benchmarks.default_speed import against_matmul, on_cores
from examples.made_up_series import write_series

STAGES = {
    "in_process": {
        "embed": {"p50_s": 0.5, "multiply_adds": 1e9, "network_s": 0.25},
        "colour": {"p50_s": 1.5, "multiply_adds": 3e9, "network_s": 1.0},
    },
    "through_servers": {"together": {"p50_s": 3.0}},
}


def test_a_page_is_held_against_the_best_rate_that_was_seen():
    figures = against_matmul(STAGES, [{"512": 2e9, "1024": 4e9}, {"512": 3e9, "1024": 3.5e9}])
    assert figures["floor_s"] == pytest.approx(1.0)
    assert figures["together_over_floor"] == pytest.approx(3.0)
    assert figures["in_process_over_floor"] == pytest.approx(2.0)
    assert figures["networks_over_floor"] == pytest.approx(1.25)
    assert figures["by_side_gmac_per_s"] == {"512": 3.0, "1024": 4.0}


def test_without_a_network_no_ratio_is_told():
    bare = {stage: {"p50_s": 1.0, "multiply_adds": 0.0} for stage in ("embed", "colour")}
    figures = against_matmul(STAGES | {"in_process": bare}, [{"512": 2e9}])
    assert not any(key.endswith("over_floor") for key in figures)


def test_the_cores_come_back():
    before = os.sched_getaffinity(0)
    with on_cores(1) as cores:
        assert cores == len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_the_benchmark_tells_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_series(tmp_path, 2, 2, seed=3, width=160, height=226)
    monkeypatch.setattr(default_speed, "matmul_rate", lambda _: {"64": 1e9})
    flags = ["--comics", str(tmp_path / "truth"), "--backend", "tint", "--pages", "2", "--out", str(tmp_path)]
    default_speed.main([*flags, "--width", "160", "--height", "226"])
    results = json.loads((tmp_path / "default_speed.json").read_text())["results"]
    served = results["through_servers"]
    assert (served["backend"], served["references"]) == ("tint", 2)
    assert {served[stage]["n"] for stage in ("retrieve", "colour", "together")} == {2}
    assert served["retrieve"]["embed_s"] > 0
    assert results["in_process"]["colour"]["multiply_adds"] == 0  # tint has no network
    peak, high = results["memory_peak_mb"], results["memory_high_water_mb"]
    assert 0 < results["memory_idle_mb"]["total"] <= peak["total"] <= high["total"]

    monkeypatch.setattr(render, "RESULTS", tmp_path)
    monkeypatch.setattr(render_learned, "RESULTS", tmp_path)
    assert "n = 2" in render_learned.default_speed()
