"""The degradations are what they say, and recall is counted as it is defined."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import recall
from benchmarks.comics import read_comic
from benchmarks.degrade import DEGRADATIONS, grey, line_art, screentone
from benchmarks.story_recall import Page, measure_stories
from tests.contract.test_embedders import draw_page

TONE_TOLERANCE = 0.04  # of full scale; posterising alone may move a tone by half a step


@pytest.mark.parametrize("version", sorted(DEGRADATIONS))
def test_a_degraded_page_is_grey_and_of_the_same_size(version: str):
    page = draw_page(1)
    made = DEGRADATIONS[version](page, 3)
    assert made.shape == page.shape
    assert (made == made[..., :1]).all()


@pytest.mark.parametrize("version", sorted(DEGRADATIONS))
def test_one_seed_gives_one_picture(version: str):
    page = draw_page(1)
    np.testing.assert_array_equal(DEGRADATIONS[version](page, 3), DEGRADATIONS[version](page, 3))


def test_another_seed_gives_another_screen():
    assert (screentone(draw_page(1), 3) != screentone(draw_page(1), 4)).any()


@pytest.mark.parametrize("level", [0.22, 0.45, 0.65, 0.82])
def test_a_screen_prints_the_tone_it_stands_for(level: float):
    flat = np.full((300, 300, 3), round(level * 255), np.uint8)
    assert screentone(flat, 0).mean() / 255 == pytest.approx(level, abs=TONE_TOLERANCE)


def test_a_screen_is_black_on_white():
    printed = screentone(np.full((1400, 200, 3), 140, np.uint8), 0)
    assert (printed < 64).mean() > 0.2
    assert (printed > 192).mean() > 0.3


def test_line_art_of_a_flat_page_is_white():
    assert (line_art(np.full((100, 80, 3), 90, np.uint8)) == 255).all()


def test_line_art_draws_the_dark_side_of_an_edge():
    page = np.full((100, 80, 3), 255, np.uint8)
    page[:, 40:42] = 0
    drawn = line_art(page)
    assert drawn[50, 40, 0] < 30
    assert drawn[50, 10, 0] == 255


def test_grey_is_pillows_luma():
    page = draw_page(1)
    np.testing.assert_array_equal(grey(page)[..., 0], np.asarray(Image.fromarray(page).convert("L")))


def test_a_corner_counts_if_one_of_its_three_best_hits_is_of_its_page():
    references = np.zeros((3, 5, 15), np.float32)
    references.reshape(15, 15)[:] = np.eye(15)
    queries = np.zeros((3, 4, 15), np.float32)
    queries[0, 0, [5, 6, 0]] = 3, 2, 1  # own page third: counts
    queries[0, 1, [5, 6, 7, 0]] = 4, 3, 2, 1  # own page fourth: does not
    queries[2, 3, 14] = 1
    hits = recall.found(queries, references, recall.TOP)
    assert (hits[0, 0], hits[0, 1], hits[2, 3]) == (True, False, True)


def test_anybodys_folders_are_read_in_order(tmp_path: Path):
    for name in ("ch10/a.png", "ch2/b.png", "ch2/a.jpg", "ch2/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    pages = read_comic(tmp_path).pages
    assert [(p.chapter, p.path.name) for p in pages] == [("ch2", "a.jpg"), ("ch2", "b.png"), ("ch10", "a.png")]


def test_covers_of_a_manifest_take_no_part(tmp_path: Path):
    entries = [{"file": f"{tmp_path.name}/ep01/{kind}.jpg", "kind": kind} for kind in ("cover", "page", "reference")]
    for entry in entries:
        path = tmp_path.parent / entry["file"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    assert [p.path for p in read_comic(tmp_path).pages] == [tmp_path / "ep01" / "page.jpg"]


def test_a_folder_without_pages_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="found none with a page"):
        read_comic(tmp_path)


def test_the_benchmark_runs_on_a_folder(tmp_path: Path):
    for number in range(3):
        folder = tmp_path / "comic" / f"ch{number}"
        folder.mkdir(parents=True)
        Image.fromarray(draw_page(number, 300, 420)).save(folder / "p1.png")
    recall.main(["--comics", str(tmp_path / "comic"), "--embedder", "structure", "--out", str(tmp_path / "out")])
    written = json.loads((tmp_path / "out" / "recall.json").read_text())
    assert written["results"]["structure"]["grey"] == 1
    assert {"screentone", "line", "n"} <= written["results"]["structure"].keys()
    assert {"command", "machine", "commit", "date"} <= written["meta"].keys()


def page_of(comic: str, story: str, vector: list[float], chroma: int = 128) -> Page:
    """A page whose five patches have one vector and one colour."""
    rows = np.tile(np.array(vector, np.float32), (5, 1))
    colours = np.full((5, 24, 24, 3), 128, np.uint8)
    colours[..., 1] = chroma
    return Page(comic, f"{comic}/{story}", rows, colours)


def test_a_hit_counts_if_it_is_another_page_of_the_story():
    pages = [
        page_of("a", "1", [1, 0]),
        page_of("a", "1", [0.9, 0.1]),
        page_of("a", "2", [0, 1]),
        page_of("b", "1", [-1, 0]),
    ]
    figures = measure_stories(pages)
    assert (figures["any"], figures["hits"], figures["n"], figures["stories"]) == (1, 1, 2, 1)
    assert figures["chance"] == pytest.approx(1 / 3)


def test_a_page_is_never_its_own_hit():
    pages = [page_of("a", "1", [1, 0]), page_of("a", "1", [0, 1]), page_of("b", "1", [0.8, 0.6])]
    assert measure_stories(pages, np.array([True, False, False]))["any"] == 0


@pytest.mark.parametrize(("chroma", "least", "most"), [(168, 0.0, 0.01), (128, 0.99, 1.01), (88, 3.0, 4.0)])
def test_what_is_left_of_the_colour_is_judged_within_the_comic(chroma: int, least: float, most: float):
    pages = [page_of("a", "1", [1, 0], 168), page_of("a", "1", [1, 0], chroma), page_of("b", "1", [1, 0], 168)]
    left = measure_stories(pages, np.array([True, False, False]))["colour_left"]
    assert least <= left <= most


def test_kept_figures_say_where_they_are_from(tmp_path: Path):
    folder = tmp_path / "comic" / "ch0"
    folder.mkdir(parents=True)
    for number in range(2):
        Image.fromarray(draw_page(number, 120, 160)).save(folder / f"p{number}.png")
    common = ["--embedder", "structure", "--out", str(tmp_path), "--keep"]
    recall.main([*common, "--comics", str(tmp_path / "comic"), "--versions", "grey"])
    recall.main([*common, "--stories", str(tmp_path / "comic")])
    row = json.loads((tmp_path / "recall.json").read_text())["results"]["structure"]
    assert row["grey"] == 1
    assert row["story"]["all"]["any"] == 1
    assert len(row["runs"]) == 1
    assert {"command", "machine", "commit", "date"} <= row["runs"][0].keys()
    assert "grey" in row["runs"][0]["figures"]
    assert "story" not in row["runs"][0]["figures"]
