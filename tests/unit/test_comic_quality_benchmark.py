"""The protocols choose the pages that they say, and rows come beside those of before only over the same pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import comic_quality, render
from benchmarks.comics import Comic, read_comic, read_comics
from benchmarks.ledger import Ledger, fingerprint
from benchmarks.metrics import Scores
from benchmarks.protocols import (
    GREY,
    TRUTH,
    Measured,
    across,
    left_out,
    page_set,
    playable,
    reported_chapters,
    same_chapter,
    summary,
    with_episodes,
    worst_pages,
)
from benchmarks.quality_rows import Rows, row_of
from examples.made_up_series import write_series


def draw(path: Path, seed: int, *, grey: bool = False) -> None:
    """A picture of random blocks, in colour or not."""
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(blocks).resize((96, 128), Image.Resampling.NEAREST)
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture.convert("L").convert("RGB") if grey else picture).save(path)


def comic(folder: Path, chapters: int = 3, pages: int = 5, name: str = "comic") -> Comic:
    for chapter in range(chapters):
        for page in range(pages):
            draw(folder / name / f"ch{chapter}" / f"p{page}.png", 100 * chapter + page)
    return read_comic(folder / name)


def names(pages: Any) -> list[str]:
    return [f"{page.chapter}/{page.name}" for page in pages]


def test_b_takes_turns_within_a_chapter(tmp_path: Path):
    (first, *_) = same_chapter(comic(tmp_path))
    assert names(first.references) == ["ch0/p0", "ch0/p2", "ch0/p4"]
    assert names(first.targets) == ["ch0/p1", "ch0/p3"]


def test_a_asks_for_the_last_third_with_earlier_chapters_alone(tmp_path: Path):
    (trial,) = across(comic(tmp_path))
    assert (trial.chapter, len(trial.targets), trial.bound.max_chapter) == ("ch2", 5, 2999)


def test_a_comic_of_two_chapters_has_one_that_a_asks_for(tmp_path: Path):
    assert [trial.chapter for trial in across(comic(tmp_path, chapters=2))] == ["ch1"]


def test_a_comic_of_one_chapter_has_no_a(tmp_path: Path):
    one = comic(tmp_path, chapters=1)
    assert across(one) == ()
    assert {"A-truth", "A-own"} <= left_out(one, ()).keys()


def test_the_tuning_chapters_are_not_reported(tmp_path: Path):
    for number in (5, 6):
        draw(tmp_path / "peppercarrot" / f"ep0{number}" / "p1.png", number)
    assert reported_chapters(read_comic(tmp_path / "peppercarrot")) == ("ep06",)


def test_a_grey_page_is_neither_target_nor_reference(tmp_path: Path):
    comic(tmp_path, chapters=1)
    draw(tmp_path / "comic" / "ch0" / "p1.png", 1, grey=True)
    played, grey = playable(read_comic(tmp_path / "comic"))
    assert names(grey) == ["ch0/p1"]
    (trial,) = same_chapter(played)
    assert names(trial.targets) == ["ch0/p2", "ch0/p4"]
    assert left_out(played, grey)["ch0/p1"] == "not in colour"


def test_a_fixed_page_set_stays_whole(tmp_path: Path):
    draw(tmp_path / "peppercarrot" / "ep05" / "p1.png", 0, grey=True)
    played, grey = playable(read_comic(tmp_path / "peppercarrot"))
    assert (len(played.pages), grey) == (1, ())


def test_a_folder_of_comics_stands_for_all_of_them(tmp_path: Path):
    comic(tmp_path, name="two")
    comic(tmp_path, name="one")
    assert [one.name for one in read_comics(tmp_path)] == ["one", "two"]
    assert [one.name for one in read_comics(tmp_path / "two")] == ["two"]


def test_a_folder_without_comics_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="found none with a page"):
        read_comics(tmp_path)


def test_another_reference_makes_another_page_set(tmp_path: Path):
    before = page_set(same_chapter(comic(tmp_path)))
    draw(tmp_path / "other" / "ch0" / "p0.png", 77)
    (tmp_path / "comic").rename(tmp_path / "moved")  # sums are remembered by path
    (tmp_path / "other" / "ch0" / "p0.png").replace(tmp_path / "moved" / "ch0" / "p0.png")
    assert page_set(same_chapter(read_comic(tmp_path / "moved"))) != before


def measured(method: str, psnr: float, ciede: float, colour: float, page: str = "p1", chapter: str = "c") -> Measured:
    return Measured(chapter, page, method, Scores(psnr, 0.9, ciede, colour))


FIGURES = [
    measured(GREY, 20, 10, 0),
    measured(TRUTH, 99, 0, 50),
    measured("mine", 22, 5, 40),
    measured(GREY, 30, 2, 0, "p2"),
    measured(TRUTH, 99, 0, 30, "p2"),
    measured("mine", 29, 4, 20, "p2"),
]


def test_ratios_are_of_sums_while_gains_are_means():
    mine = summary(FIGURES)["mine"]
    assert mine["psnr_gain_db"] == pytest.approx(0.5)
    assert mine["ciede_ratio_to_grey"] == pytest.approx(9 / 12)
    assert mine["colourfulness_ratio"] == pytest.approx(60 / 80)


def test_the_worst_page_comes_first():
    worst = worst_pages(FIGURES, "mine")
    assert [one["page"] for one in worst] == ["c/p2", "c/p1"]
    assert worst[0]["psnr_gain_db"] == pytest.approx(-1)


def old_rows(folder: Path) -> Rows:
    """Rows as they were written before rows said what they are over."""
    rows = {key: value for key, value in with_episodes(FIGURES, None).items() if key != "mine"}
    rows["exemplar"] = with_episodes(FIGURES, None)["mine"]
    (folder / "comic_quality.json").write_text(
        json.dumps({"meta": {"commit": "old"}, "results": {"comic": {"B": rows}}})
    )
    return Rows(folder)


def test_rows_of_before_name_their_embedder_and_commit(tmp_path: Path):
    rows = old_rows(tmp_path).of("comic", "B")
    assert rows.keys() == {GREY, TRUTH, "exemplar@structure"}
    assert rows["exemplar@structure"]["made"] == {"commit": "old"}


def test_rows_of_before_stay_over_the_same_pages(tmp_path: Path):
    rows = old_rows(tmp_path)
    rows.adopt("comic", "B", "sum", with_episodes(FIGURES, None)[GREY])
    assert {row["pages_sha256"] for row in rows.of("comic", "B").values()} == {"sum"}


def test_rows_over_pages_of_other_figures_are_refused(tmp_path: Path):
    other = with_episodes([measured(GREY, 21, 10, 0), measured(GREY, 30, 2, 0, "p2")], None)[GREY]
    with pytest.raises(SystemExit, match="differ in c; write elsewhere"):
        old_rows(tmp_path).adopt("comic", "B", "sum", other)


def test_rows_over_another_page_set_are_refused(tmp_path: Path):
    rows = old_rows(tmp_path)
    grey = with_episodes(FIGURES, None)[GREY]
    rows.adopt("comic", "B", "sum", grey)
    with pytest.raises(SystemExit, match="differ in sums of"):
        rows.adopt("comic", "B", "another", grey)


def test_a_row_is_found_by_method_and_embedder():
    rows = {"grey": {"n": 1}, "mine@a": {"n": 2}, "mine@b": {"n": 3}, "old": {"n": 4}}
    assert [row_of(rows, "mine")["n"], row_of(rows, "mine", "a")["n"], row_of(rows, "old")["n"]] == [3, 2, 4]
    with pytest.raises(KeyError, match="no row of mine with c"):
        row_of(rows, "mine", "c")


def test_a_ledger_goes_on_after_a_line_cut_short(tmp_path: Path):
    file, scores = tmp_path / "pages.jsonl", Scores(20.5, 0.9, 5.0, 30.0)
    Ledger(file).put("one", scores, "a page")
    with file.open("a") as out:
        out.write('{"fingerprint": "two", "sco')
    again = Ledger(file)
    again.put("three", scores, "another page")
    last = Ledger(file)
    assert (last.get("one"), last.get("two"), last.get("three")) == (scores, None, scores)


def test_a_figure_depends_on_the_references_and_the_bound(tmp_path: Path):
    made = comic(tmp_path)
    first, second, _ = same_chapter(made)
    (third,) = across(made)
    page = first.targets[0].path
    sums = {fingerprint("b", "space", trial, page) for trial in (first, second, third)}
    assert len(sums | {fingerprint("c", "space", first, page), fingerprint("b", "other", first, page)}) == 5


def test_a_second_run_keeps_the_rows_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_series(tmp_path, 2, 2, seed=3, width=160, height=226)
    flags = ["--comics", str(tmp_path / "truth"), "--out", str(tmp_path / "out"), "--workers", "1"]
    flags += ["--ledger", str(tmp_path / "pages.jsonl"), "--embedder", "structure"]
    comic_quality.main([*flags, "--backend", "tint", "--protocol", "B"])
    first = json.loads((tmp_path / "out" / "comic_quality.json").read_text())["results"]["truth"]
    assert first["B"].keys() == {TRUTH, GREY, "colour_transfer@structure", "tint@structure"}
    assert first["B"]["tint@structure"].keys() >= {"made", "pages_sha256", "backend", "embedder", "worst_pages"}
    assert first["B"]["tint@structure"]["n"] == 2

    comic_quality.main([*flags, "--backend", "tint", "--protocol", "B", "--protocol", "A-truth", "--protocol", "A-own"])
    second = json.loads((tmp_path / "out" / "comic_quality.json").read_text())["results"]["truth"]
    assert second["B"] == first["B"]
    assert second["A-truth"]["tint@structure"]["per_episode"].keys() == {"ch02"}
    assert "A-own" not in second  # one target chapter: nothing of its own can come back

    monkeypatch.setattr(render, "RESULTS", tmp_path / "out")
    assert "| tint | structure | 2 |" in render.quality()
    assert "| ch02 | 2 |" in render.episodes("truth", "A-truth", "tint")
