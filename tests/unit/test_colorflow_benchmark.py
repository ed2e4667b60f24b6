"""The benchmark of the diffusion back-end runs at a tiny size, and counts and writes what it says it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)

import torch

from benchmarks import colorflow_cpu
from benchmarks.colorflow_flops import page_flops
from benchmarks.colorflow_random import FULL, TINY
from benchmarks.colorflow_rows import Bench
from benchmarks.gpu import colorflow
from colorizer.backends.colorflow.runner import Recipe
from colorizer.backends.colorflow.styles import STYLES

ROUNDING = 1e-4  # relative, of latents in float32
STAGES = {"guides", "encode", "steps", "decode", "refine"}
FIGURES = {"s_per_page", "pages_per_min", "n", "tflop", "tflop_per_s", "stages_s", "stages_tflop", "warm_up_s"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def called(*arguments: str) -> dict[str, Any]:
        out = tmp_path / "colorflow_gpu.json"
        monkeypatch.setattr("sys.argv", ["colorflow", "--small", "--repeats", "1", "--out", str(out), *arguments])
        colorflow.main()
        content: dict[str, Any] = json.loads(out.read_text())
        return content

    return called


@pytest.mark.parametrize(
    ("style", "names"),
    [("gray", ("ours", "two-halves", "lora-beside")), ("shading", ("ours", "lora-beside"))],
)
def test_the_command_writes_a_row_for_each_way_of_running(run: Any, style: str, names: tuple[str, ...]) -> None:
    content = run("--style", style, "--sizes", "32x64", "--steps", "2", "--rows", *names)
    rows = {key.removeprefix(f"{style}/32x64/"): row for key, row in content["results"]["rows"].items()}
    assert sorted(rows) == sorted(names)
    for row in rows.values():
        assert set(row) >= FIGURES, row
        assert set(row["stages_s"]) == set(row["stages_tflop"]) == STAGES
    assert {"command", "machine", "commit", "date"} <= set(content["meta"])
    assert rows["lora-beside"]["latent_error"] < ROUNDING


def test_a_guider_that_is_reused_is_an_approximation_that_does_less(run: Any) -> None:
    content = run("--sizes", "32x64", "--steps", "4", "--rows", "ours", "batch-4", "reuse-guider-2")
    ours, four, reused = (content["results"]["rows"][f"gray/32x64/{n}"] for n in ("ours", "batch-4", "reuse-guider-2"))
    assert reused["tflop"] < ours["tflop"] == four["tflop"]
    assert four["latent_error"] < ROUNDING < reused["latent_error"]


def test_a_row_that_is_there_is_kept(run: Any) -> None:
    first = run("--sizes", "32x64", "--steps", "1", "--rows", "ours")["results"]["rows"]
    both = run("--sizes", "32x64", "--steps", "1", "--rows", "ours", "no-guidance")["results"]["rows"]
    assert both["gray/32x64/ours"] == first["gray/32x64/ours"]
    assert "gray/32x64/no-guidance" in both


def test_rows_of_another_setting_are_not_mixed_in(run: Any) -> None:
    run("--sizes", "32x64", "--steps", "1", "--rows", "ours")
    with pytest.raises(SystemExit, match="steps 1, not 2"):
        run("--sizes", "32x64", "--steps", "2", "--rows", "no-guidance")


def test_a_row_that_cannot_be_run_says_so_without_stopping_the_others(run: Any) -> None:
    rows = run("--sizes", "40x40", "32x64", "--steps", "1", "--rows", "ours")["results"]["rows"]
    assert "multiples of 32" in rows["gray/40x40/ours"]["failed"]
    assert rows["gray/32x64/ours"]["n"] == 1


@pytest.mark.parametrize(("guidance", "tera"), [(7.5, 341.2), (1.0, 250.9)])  # the specification's, less its CLIP
def test_the_work_of_a_page_at_the_real_size_is_what_the_specification_counted(guidance: float, tera: float) -> None:
    counted = page_flops(FULL, Recipe(STYLES["gray"], 10, guidance), (640, 640))
    assert sum(counted.values()) / 1e12 == pytest.approx(tera, rel=0.005)


def test_the_published_draws_cost_the_guider_twice() -> None:
    def tera(parity: bool) -> float:
        return page_flops(FULL, Recipe(STYLES["gray"], 10, 7.5, parity=parity), (640, 640))["steps"] / 1e12

    assert tera(True) - tera(False) == pytest.approx(10 * 8.98, rel=0.005)


def test_the_rows_on_the_cpu_take_turns() -> None:
    bench = Bench(TINY, "gray", torch.device("cpu"), "float32", steps=2)
    names = {"plain", "ours", "lora-beside", "reuse-guider-2"}
    chosen = [variant for variant in colorflow_cpu.VARIANTS if variant.name in names]
    rows = colorflow_cpu.measure(bench, rounds=2, size=(32, 64), variants=chosen)
    assert set(rows) == names
    assert {row["n"] for row in rows.values()} == {2}
    assert rows["ours"]["tflop"] < rows["plain"]["tflop"]
    assert rows["lora-beside"]["latent_error"] < ROUNDING < rows["reuse-guider-2"]["latent_error"]
