"""The made-up series keeps its promises: same bytes, known colours, the files it says it writes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from examples.made_up_series import CHARACTERS, Page, draw_page, draw_series, screentone, write_series
from examples.made_up_series.__main__ import main
from examples.made_up_series.cast import ACTIONS, MOODS
from examples.made_up_series.interiors import SCENES
from examples.made_up_series.page import PROBE_MATCH
from examples.made_up_series.scenes import WEATHERS
from examples.made_up_series.story import CHAPTERS, PAGES, page_script

WIDTH, HEIGHT = 320, 452
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def series() -> Sequence[Page]:
    return list(draw_series(3, 3, width=WIDTH, height=HEIGHT))


def test_the_same_seed_draws_the_same_bytes(series: Sequence[Page]) -> None:
    again = draw_page(2, 1, width=WIDTH, height=HEIGHT)
    assert again.colour.tobytes() == series[3].colour.tobytes()


def test_a_page_has_the_same_bytes_in_another_process(series: Sequence[Page]) -> None:
    program = (
        "import hashlib; from examples.made_up_series import draw_page;"
        f"print(hashlib.sha256(draw_page(1, 2, width={WIDTH}, height={HEIGHT}).colour.tobytes()).hexdigest())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == hashlib.sha256(series[1].colour.tobytes()).hexdigest()


def test_another_seed_draws_another_page(series: Sequence[Page]) -> None:
    other = draw_page(1, 1, seed=1, width=WIDTH, height=HEIGHT)
    assert not np.array_equal(other.colour, series[0].colour)


def test_grey_is_the_luma_of_colour(series: Sequence[Page]) -> None:
    for page in series:
        assert np.array_equal(page.grey, np.asarray(Image.fromarray(page.colour).convert("L")))


@pytest.mark.parametrize(("width", "height"), [(120, 120), (200, 283), (301, 500)])
def test_a_page_has_the_size_asked_for(width: int, height: int) -> None:
    page = draw_page(1, 1, width=width, height=height)
    assert page.colour.shape == (height, width, 3)
    assert page.grey.shape == (height, width)


def test_every_neutral_probe_shows_its_true_colour(series: Sequence[Page]) -> None:
    probes = [(page, probe) for page in series for probe in page.probes if probe.neutral]
    assert probes
    for page, probe in probes:
        shown = page.colour[probe.y, probe.x].astype(int)
        assert np.abs(shown - CHARACTERS[probe.character][probe.part]).max() <= PROBE_MATCH


def test_every_tinted_probe_shows_the_colour_it_names(series: Sequence[Page]) -> None:
    probes = [(page, probe) for page in series for probe in page.probes if not probe.neutral]
    assert probes
    for page, probe in probes:
        assert np.abs(page.colour[probe.y, probe.x].astype(int) - probe.colour).max() <= PROBE_MATCH


def test_probes_name_only_characters_of_their_page(series: Sequence[Page]) -> None:
    for page in series:
        assert {probe.character for probe in page.probes} <= set(page.characters)


def test_each_character_on_a_page_has_a_probe(series: Sequence[Page]) -> None:
    for page in series:
        assert {probe.character for probe in page.probes} == set(page.characters)


def test_the_heroine_has_the_same_red_hair_in_several_chapters() -> None:
    found = {}
    for chapter, number in ((1, 1), (3, 2), (4, 3)):  # pages with panels in plain daylight or close to it
        page = draw_page(chapter, number, width=WIDTH, height=HEIGHT)
        spots = [probe for probe in page.probes if (probe.character, probe.part) == ("wren", "hair")]
        found[chapter] = [page.colour[probe.y, probe.x].astype(int) for probe in spots]
    assert all(found.values())
    for shown in (colour for colours in found.values() for colour in colours):
        assert np.abs(shown - CHARACTERS["wren"]["hair"]).max() <= 4 * PROBE_MATCH  # morning light is a little warm


def test_each_character_appears_in_several_chapters(series: Sequence[Page]) -> None:
    for name in CHARACTERS:
        assert len({page.chapter for page in series if name in page.characters}) >= 2, name


def test_each_scene_appears_in_several_chapters() -> None:
    seen: dict[str, set[int]] = {}
    for chapter in range(1, len(CHAPTERS) + 1):
        for number in range(1, PAGES + 1):
            for shot in page_script(chapter, number):
                seen.setdefault(shot.scene, set()).add(chapter)
    assert len(seen) >= 6
    assert min(map(len, seen.values())) >= 2


def test_pages_have_three_to_six_panels() -> None:
    counts = {len(page_script(chapter, number)) for chapter in range(1, 9) for number in range(1, 9)}
    assert counts <= {3, 4, 5, 6}


def test_a_page_past_the_written_script_is_drawn() -> None:
    assert draw_page(9, 13, width=160, height=226).characters


def test_the_gutters_are_white(series: Sequence[Page]) -> None:
    for page in series:
        assert (page.grey[: HEIGHT // 60] == 255).all()
        assert (page.grey[:, : WIDTH // 60] == 255).all()


def test_screentone_keeps_paper_white(series: Sequence[Page]) -> None:
    assert (screentone(series[0])[: HEIGHT // 60] == 255).all()


def test_screentone_leaves_few_middle_greys(series: Sequence[Page]) -> None:
    toned = screentone(series[0], period=8)
    middle = (toned > 90) & (toned < 165)
    assert middle.mean() < 0.5 * ((series[0].grey > 90) & (series[0].grey < 165)).mean()


def test_screentone_prints_darker_panels_darker(series: Sequence[Page]) -> None:
    dark = min(series, key=lambda page: float(page.grey.mean()))
    bright = max(series, key=lambda page: float(page.grey.mean()))
    assert screentone(dark).mean() < screentone(bright).mean()


def test_screentone_refuses_a_period_too_small(series: Sequence[Page]) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        screentone(series[0], period=1)


@pytest.mark.parametrize(
    ("chapter", "number", "seed", "width", "height"),
    [(0, 1, 0, 160, 226), (1, 0, 0, 160, 226), (1, 1, -1, 160, 226), (1, 1, 0, 60, 226), (1, 1, 0, 160, 100)],
)
def test_a_number_out_of_range_is_refused(chapter: int, number: int, seed: int, width: int, height: int) -> None:
    with pytest.raises(ValueError, match="got"):
        draw_page(chapter, number, seed=seed, width=width, height=height)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    write_series(folder, 2, 2, seed=3, width=160, height=226, cbz=True)
    return folder


def test_the_written_folder_has_the_promised_files(written: Path) -> None:
    files = sorted(path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file())
    pages = [f"{kind}/ch{c:02d}/p{n:02d}.png" for kind in ("grey", "truth") for c in (1, 2) for n in (1, 2)]
    assert files == sorted([*pages, "grey/ch02.cbz"])


def test_a_written_grey_page_is_the_luma_of_its_truth(written: Path) -> None:
    with Image.open(written / "truth/ch02/p01.png") as truth, Image.open(written / "grey/ch02/p01.png") as grey:
        assert (truth.mode, grey.mode) == ("RGB", "L")
        assert truth.convert("L").tobytes() == grey.tobytes()


def test_the_archive_holds_the_grey_pages(written: Path) -> None:
    with zipfile.ZipFile(written / "grey/ch02.cbz") as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["ComicInfo.xml", "p01.png", "p02.png"]
        with (
            archive.open("p02.png") as inside,
            Image.open(inside) as page,
            Image.open(written / "grey/ch02/p02.png") as out,
        ):
            assert page.tobytes() == out.tobytes()


def test_comic_info_names_series_and_chapter(written: Path) -> None:
    with zipfile.ZipFile(written / "grey/ch02.cbz") as archive:
        root = ElementTree.fromstring(archive.read("ComicInfo.xml"))
    assert root.tag == "ComicInfo"
    told = {tag: root.findtext(tag) for tag in ("Title", "Series", "Number", "PageCount", "LanguageISO")}
    expected = {"Title": "Under the Hill", "Series": "Saltlight", "Number": "2", "PageCount": "2", "LanguageISO": "en"}
    assert told == expected
    assert root.findtext("Writer")


def test_two_writes_give_the_same_archive_bytes(written: Path, tmp_path: Path) -> None:
    write_series(tmp_path, 2, 2, seed=3, width=160, height=226, cbz=True)
    assert (tmp_path / "grey/ch02.cbz").read_bytes() == (written / "grey/ch02.cbz").read_bytes()


def test_the_command_writes_a_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--chapters", "1", "--pages", "1", "--width", "160", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "truth/ch01/p01.png").is_file()
    assert "1 pages" in capsys.readouterr().out


def test_the_command_refuses_no_chapters(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--chapters", "0", "--out", str(tmp_path / "none")])
    assert stopped.value.code == 2
    assert not (tmp_path / "none").exists()


def test_a_script_that_comes_round_again_comes_under_other_weather() -> None:
    first, again = page_script(1, 1), page_script(1 + len(CHAPTERS), 1)
    assert [shot.lines for shot in first] == [shot.lines for shot in again]
    assert all(one.weather != two.weather for one, two in zip(first, again, strict=True))


def test_every_shot_names_characters_scenes_weathers_and_actions_that_exist() -> None:
    for chapter in range(1, 2 * len(CHAPTERS) + 1):
        for number in range(1, PAGES + 1):
            for shot in page_script(chapter, number):
                assert shot.scene in SCENES
                assert shot.weather in WEATHERS
                for name, action, mood in shot.figures:
                    assert (name in CHARACTERS, action in ACTIONS, mood in MOODS) == (True, True, True), shot
                assert {line.speaker for line in shot.lines if line.speaker} <= {name for name, _, _ in shot.figures}
