"""The gain is told apart by pool, page by page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import references_matter, render, render_learned
from benchmarks.comics import read_comic
from benchmarks.protocols import across
from benchmarks.references_matter import NONE, OTHER, RIGHT, conditions, difference
from examples.made_up_series import write_series


def test_the_mean_lies_within_its_interval():
    found = difference([3.0, 5.0, 1.0, 7.0], [1.0, 1.0, 2.0, 2.0])
    assert found["mean"] == pytest.approx(2.5)
    assert found["interval"][0] < found["mean"] < found["interval"][1]
    assert (found["n"], found["pages_more"]) == (4, 0.75)


def test_pages_that_all_gain_alike_leave_no_doubt():
    assert difference([2.0, 3.0], [1.0, 2.0])["interval"] == [1.0, 1.0]


@pytest.fixture(scope="module")
def comics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comics")
    for name, seed in (("one", 3), ("two", 4)):
        write_series(folder / name, 2, 2, seed=seed, width=160, height=226)
        (folder / name / "truth").rename(folder / f"{name}-true")
    return folder


def test_the_wrong_pool_is_all_of_the_other_series(comics: Path):
    own, other = read_comic(comics / "one-true"), read_comic(comics / "two-true")
    (trial,) = across(own)
    made = conditions(trial, other)
    assert made[RIGHT] == trial
    assert made[OTHER].references == other.pages
    assert made[OTHER].bound.max_chapter is None
    assert made[NONE].references == ()
    assert {one.targets for one in made.values()} == {trial.targets}


def test_one_series_alone_is_refused(comics: Path):
    with pytest.raises(SystemExit, match="at least two series"):
        references_matter.main(["--comics", str(comics / "one-true")])


def test_the_benchmark_compares_three_pools(comics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flags = ["--comics", str(comics / "one-true"), "--comics", str(comics / "two-true"), "--backend", "tint"]
    flags += ["--targets", "one-true"]
    references_matter.main([*flags, "--ledger", str(tmp_path / "p.jsonl"), "--out", str(tmp_path), "--workers", "1"])
    results = json.loads((tmp_path / "references_matter.json").read_text())["results"]
    assert results.keys() == {"one-true"}
    figures = results["one-true"]["A-truth"]["tint"]
    assert figures["none"]["n"] == figures["right"]["n"] == figures["other"]["n"] == 2
    assert figures["right"]["per_episode"].keys() == {"ch02"}
    assert figures["none"]["colourfulness"] == pytest.approx(0, abs=1)  # tint leaves a page without references grey
    assert figures["right"]["colourfulness"] > figures["none"]["colourfulness"]
    assert (figures["other_series"], figures["other_references"]) == ("two-true", 4)
    gain = figures["right_minus_none"]["psnr_db"]["mean"]
    assert gain == pytest.approx(figures["right"]["psnr_db"] - figures["none"]["psnr_db"], abs=1e-3)

    monkeypatch.setattr(render, "RESULTS", tmp_path)
    monkeypatch.setattr(render_learned, "RESULTS", tmp_path)
    assert "| another series' pool |" in render_learned.references_matter("tint")
    assert "| ch02 | 2 |" in render_learned.episodes_by_pool("one-true", "A-truth", "tint")
