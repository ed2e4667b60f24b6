"""The scoreboard from end to end: a made-up comic through both real servers, stopped and gone on with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import render_scoreboard
from benchmarks.scoreboard import command
from examples.made_up_series import write_series

ROWS = ["grey", "colour_transfer", "exemplar-alone", "exemplar", "exemplar+growth"]


def play(folder: Path, *more: str) -> dict[str, Any]:
    arguments = [
        "--comics",
        str(folder / "truth"),
        "--inputs",
        "grey",
        "--out",
        str(folder / "out"),
        "--backends",
        "exemplar",
    ]
    assert command.main([*arguments, "--results", str(folder / "results"), "--workers", "1", *more]) == 0
    results: dict[str, Any] = json.loads((folder / "results" / "scoreboard.json").read_text())["results"]
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scoreboard")
    write_series(made, 1, 4, width=120, height=170)
    return made


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    return play(folder)


def lines(folder: Path) -> list[str]:
    return [line for line in (folder / "out" / "journal.jsonl").read_text().splitlines() if line]


def test_every_row_is_measured_on_every_page(results: dict[str, Any]):
    rows = results["boards"]["truth"]["looks"]["grey"]
    assert list(rows) == ROWS
    assert {figures["n"] for figures in rows.values()} == {2}
    assert results["boards"]["truth"]["chapters"] == {"ch01": {"pages": 2, "references": 2}}


def test_without_references_a_page_stays_grey(results: dict[str, Any]):
    rows = results["boards"]["truth"]["looks"]["grey"]
    assert rows["exemplar-alone"]["colourfulness"] < 1 < rows["exemplar"]["colourfulness"]


def test_what_is_missing_says_why(results: dict[str, Any]):
    assert set(results["left_out_rows"]) >= {"colorflow"}
    assert all("left_out" in said for said in results["metrics"].values())
    assert "fid" not in results["boards"]["truth"]["looks"]["grey"]["exemplar"]


def test_a_rerun_goes_on_where_a_page_is_missing(folder: Path, results: dict[str, Any]):
    before = lines(folder)
    pages = folder / "out" / "pages" / "truth" / "grey"
    (pages / "exemplar" / "ch01" / "p02.png").unlink()
    (pages / "exemplar+growth" / "ch01" / "p04.png").unlink()  # the first page is kept and joins the pool again
    again = play(folder)
    added = [json.loads(line)["page"] for line in lines(folder)[len(before) :]]
    assert added == ["truth/ch01/p02 exemplar", "truth/ch01/p04 exemplar+growth"]
    assert again == results  # the same page through the same servers has the same figures


def test_the_report_shows_pages_without_asking_for_anything_from_outside(folder: Path, results: dict[str, Any]):
    text = (folder / "out" / "scoreboard.html").read_text()
    shown = len(ROWS) - 1  # grey is in every triple
    assert text.count('src="data:image/jpeg;base64,') == text.count("<img") == shown * 2 * 3
    assert not re.search(r"<script|<link|@import|url\(|(src|href)=\"(?!data:|#)", text)
    assert "Published figures" in text


def test_the_markdown_has_every_row_beside_the_published_ones(results: dict[str, Any]):
    ours = render_scoreboard.ours(results)
    assert all(f"| {row} |" in ours for row in [*ROWS, "truth"])
    assert "FID: left out" in ours
    published = render_scoreboard.published(results)
    assert "| ColorFlow | yes | 0.9419 |" in published
    assert "grey input made from the colour pages" in published


def test_a_comic_written_in_the_bench_layout_is_played_as_a_bench(folder: Path, capsys: pytest.CaptureFixture[str]):
    target = folder / "bench"
    assert command.main(["--comics", str(folder / "truth"), "--inputs", "grey", "--write-bench", str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    boards = command.read_boards(command.parser().parse_args(["--bench", str(target), "--inputs", "grey"]))
    assert [(c.name, len(c.targets)) for c in boards[0].chapters] == [("ch01", 2)]
    with Image.open(target / "ch01" / "bw" / "grey" / "p02.png") as picture:
        assert picture.mode == "L"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a comic"),
        (["--comics", "COMIC", "--inputs", "sepia"], "got sepia"),
        (["--comics", "COMIC", "--chapters", "ch09"], "got ch09"),
        (["--comics", "COMIC", "--comics", "COMIC"], "different names"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit, match="2"):
        command.main([str(folder / "truth") if word == "COMIC" else word for word in arguments])
    assert message in capsys.readouterr().err
