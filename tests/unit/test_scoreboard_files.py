"""The scoreboard's data: ColorFlow-Bench's layout, comics under protocol B, and the journal of pages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.comics import read_comic
from benchmarks.degrade import screentone
from benchmarks.scoreboard.bench import read_bench, write_bench
from benchmarks.scoreboard.chapters import Board, from_comic
from benchmarks.scoreboard.journal import Journal
from benchmarks.scoreboard.late import Weights, load
from benchmarks.scoreboard.rows import board_rows
from benchmarks.scoreboard.tables import cells, columns, notes


def comic(folder: Path, pages: int = 5, chapters: int = 2) -> Path:
    """Small pages of random colours."""
    rng = np.random.default_rng(0)
    for chapter in range(1, chapters + 1):
        (folder / f"ch{chapter:02d}").mkdir(parents=True)
        for page in range(1, pages + 1):
            small = Image.fromarray(rng.integers(0, 256, (6, 4, 3), np.uint8))
            small.resize((64, 96)).save(folder / f"ch{chapter:02d}" / f"p{page:02d}.png")
    return folder


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return from_comic(read_comic(comic(tmp_path / "tale")))


def test_every_second_page_of_a_comic_is_a_target(board: Board):
    first = board.chapters[0]
    assert [t.name for t in first.targets] == ["p02", "p04"]
    assert [p.stem for p in first.references] == ["p01", "p03", "p05"]


def test_a_page_without_colour_takes_no_part(tmp_path: Path):
    folder = comic(tmp_path / "tale", chapters=1)
    Image.new("RGB", (64, 96), (90, 90, 90)).save(folder / "ch01" / "p02.png")
    made = from_comic(read_comic(folder))
    assert made.left_out == {"ch01/p02": "not in colour"}
    assert [t.name for t in made.chapters[0].targets] == ["p03", "p05"]


def test_a_board_is_cut_to_the_first_targets_while_its_references_stay(board: Board):
    cut = board.cut(chapters=["ch02"], pages=1)
    assert [(c.name, len(c.targets), len(c.references)) for c in cut.chapters] == [("ch02", 1, 3)]


def test_a_chapter_that_is_not_there_is_named(board: Board):
    with pytest.raises(ValueError, match="got ch09"):
        board.cut(chapters=["ch01", "ch09"])


def test_grey_is_pils_grey(board: Board):
    target = board.chapters[0].targets[0]
    wanted = np.asarray(Image.open(target.truth).convert("L"))
    np.testing.assert_array_equal(target.grey_pixels("grey"), wanted)


def test_screens_differ_from_page_to_page(board: Board):
    second = board.chapters[0].targets[1]
    np.testing.assert_array_equal(second.grey_pixels("screentone"), screentone(second.true_pixels(), 1)[..., 0])


def test_a_written_bench_reads_back_as_the_board_it_was_made_from(board: Board, tmp_path: Path):
    folder = write_bench(board, tmp_path / "bench", ["grey", "line"], licence="CC BY 4.0", attribution=["Somebody"])
    again = read_bench(folder)
    assert again.looks == {"grey", "line"}
    for wanted, found in zip(board.chapters, again.chapters, strict=True):
        assert [p.read_bytes() for p in found.references] == [p.read_bytes() for p in wanted.references]
        for one, other in zip(wanted.targets, found.targets, strict=True):
            assert (one.name, one.seed) == (other.name, other.seed)
            np.testing.assert_array_equal(one.true_pixels(), other.true_pixels())
            for look in ("grey", "line"):
                np.testing.assert_array_equal(one.grey_pixels(look), other.grey_pixels(look))


def test_bench_json_says_whose_the_pictures_are(board: Board, tmp_path: Path):
    folder = write_bench(board, tmp_path / "bench", ["grey"], licence="CC BY 4.0", attribution=["Somebody"])
    said = json.loads((folder / "bench.json").read_text())
    assert (said["format"], said["version"], said["licence"]) == ("panelhue-bench", 1, "CC BY 4.0")
    assert said["chapters"]["ch01"] == {"pages": ["p02", "p04"], "references": ["p01.png", "p03.png", "p05.png"]}


def test_a_bench_keeps_to_the_numbers_it_is_given(board: Board, tmp_path: Path):
    again = read_bench(write_bench(board, tmp_path / "bench", ["grey"], pages=1, references=2))
    assert [(len(c.targets), len(c.references)) for c in again.chapters] == [(1, 2), (1, 2)]


def test_a_bench_is_never_written_over(board: Board, tmp_path: Path):
    (tmp_path / "bench").mkdir()
    with pytest.raises(FileExistsError):
        write_bench(board, tmp_path / "bench", ["grey"])


def test_a_bench_that_cannot_be_finished_leaves_nothing(board: Board, tmp_path: Path):
    board.chapters[1].references[0].unlink()
    with pytest.raises(FileNotFoundError):
        write_bench(board, tmp_path / "bench", ["grey"])
    assert [p.name for p in tmp_path.iterdir()] == ["tale"]


def test_a_bench_needs_no_bench_json(board: Board, tmp_path: Path):
    folder = write_bench(board, tmp_path / "bench", ["grey"])
    (folder / "bench.json").unlink()
    assert read_bench(folder).name == "bench"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "ch01" / "truth" / "p02.png").unlink(), "must hold the same pages, differ in \\['p02'\\]"),
        (lambda f: Image.new("L", (9, 9)).save(f / "ch01" / "bw" / "grey" / "p02.png"), "must be \\(64, 96\\) pixels"),
        (lambda f: (f / "ch01" / "references" / "p01.png").unlink(), "bench.json lists"),
        (lambda f: (f / "bench.json").write_text('{"format": "other", "version": 1}'), "must say format"),
        (lambda f: (f / "ch03").mkdir(), "must hold pictures in truth/ and in references/, found 0 and 0"),
    ],
)
def test_a_damaged_bench_is_refused_with_what_is_wrong(board: Board, tmp_path: Path, spoil, message: str):
    folder = write_bench(board, tmp_path / "bench", ["grey"])
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        read_bench(folder)


def test_the_journal_knows_after_reopening_what_was_put(tmp_path: Path):
    Journal(tmp_path / "j.jsonl").put("a", {"psnr_db": 20.0})
    Journal(tmp_path / "j.jsonl").put("a", {"clip_is@1": 0.5})
    assert Journal(tmp_path / "j.jsonl").get("a") == {"psnr_db": 20.0, "clip_is@1": 0.5}


def test_a_page_that_is_measured_anew_forgets_what_was_known_of_the_old_picture(tmp_path: Path):
    journal = Journal(tmp_path / "j.jsonl")
    journal.put("a", {"psnr_db": 20.0, "clip_is@1": 0.5})
    journal.put("a", {"psnr_db": 21.0}, anew=True)
    assert journal.get("a") == Journal(tmp_path / "j.jsonl").get("a") == {"psnr_db": 21.0}


def test_a_line_cut_short_costs_that_line_alone(tmp_path: Path):
    file = tmp_path / "j.jsonl"
    for name in "abc":
        Journal(file).put(name, {"psnr_db": 1.0})
    file.write_bytes(file.read_bytes()[:-9])
    Journal(file).put("d", {"psnr_db": 2.0})
    journal = Journal(file)
    assert [journal.get(name) is not None for name in "abcd"] == [True, True, False, True]


def test_every_back_end_plays_alone_with_retrieval_or_with_growth():
    names = [row.name for row in board_rows(["exemplar"])]
    assert names == ["grey", "colour_transfer", "exemplar-alone", "exemplar", "exemplar+growth"]
    assert "exemplar+growth" not in [row.name for row in board_rows(["exemplar"], growth=False)]


def test_a_column_without_figures_is_left_out_while_its_reason_is_told():
    row = {"n": 2, "psnr_db": 20.0, "psnr_gain_db": 0.5}
    results = {
        "metrics": load(Weights()).said(),
        "left_out_rows": {"colorflow": "no weights"},
        "boards": {"tale": {"truth": {"n": 2}, "looks": {"grey": {"exemplar": row}}, "failed": {}}},
    }
    wanted = columns(results)
    assert [c.key for c in wanted] == ["n", "psnr_db", "psnr_gain_db"]
    assert cells(row, wanted) == ["2", "20.00", "+0.50"]
    assert [line.split(":")[0] for line in notes(results)] == ["CLIP-IS", "FID", "aesthetic score", "colorflow"]
