"""What the studio writes: cards, patches, notices; nothing that a name or a message says becomes markup."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from panelhue import maintenance_types as m
from panelhue import types as t
from panelhue.errors import NotFound, Overloaded, QuotaViolation, UsageError, of_status
from panelhue.studio.colours import palette_html, swatches_of
from panelhue.studio.drift import drift_html, plot_svg
from panelhue.studio.pool import Wall
from panelhue.studio.viewer import box_shares, patches_of
from panelhue.studio.wall import wall_html
from panelhue.studio.words import bad, good, problem

EVIL = '<img src=x onerror="alert(1)">'
SPACE = t.EmbeddingSpace("space")
ASSETS = Path(__file__).resolve().parents[2] / "clients" / "python" / "panelhue" / "studio" / "assets"


def reference(number: int, chapter: int | None, provenance: t.Provenance | None = None) -> t.Reference:
    return t.Reference(
        f"{number:064d}",
        chapter,
        number,
        (),
        provenance or t.Provenance(),
        400,
        600,
        "image/png",
        10,
        number,
        datetime(2026, 1, 2, tzinfo=UTC),
    )


def wall(*references: t.Reference, name: str = "tale", most: int = 0, more: bool = False) -> str:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    quota = t.Quota(max_references=most)
    series = t.Series("tale", name, "structure", SPACE, (), {}, 1, len(references), now, now, "", quota=quota)
    chapters = {one.chapter: 1 for one in references if one.chapter is not None}
    depths: dict[int, int] = {}
    for one in references:
        depths[one.provenance.depth] = depths.get(one.provenance.depth, 0) + 1
    stats = t.SeriesStats(len(references), 0, 0, 0, True, 1, chapters, depths, 0)
    return wall_html(Wall(series, stats, references, more))


def test_the_wall_tells_given_from_generated_colour():
    made = t.Provenance(t.Origin.GENERATED, 2, ("a" * 64,), "exemplar")
    html = wall(reference(1, 1000), reference(2, 10500, made))
    assert re.findall(r"<em class=\"ph-(?:given|made)\">([^<]*)</em>", html) == [
        "given",
        "generated · depth 2 · exemplar",
    ]
    assert re.findall(r"<h3>(Chapter [\d.]+)", html) == ["Chapter 1", "Chapter 10.5"]
    assert "<li>1 given</li><li>1 generated</li>" in html


def test_a_wall_with_a_limit_tells_how_much_room_is_left():
    assert "room for 3 more" in wall(reference(1, 1000), most=4)


def test_an_empty_wall_says_what_to_do():
    assert "Drop colour pages" in wall()


def test_a_wall_that_shows_only_some_says_so():
    assert "Only 1 references are shown" in wall(reference(1, None), more=True)


def test_no_name_becomes_markup():
    source = t.Provenance(source=EVIL, backend=EVIL)
    for html in (
        wall(reference(1, 1000, source), name=EVIL),
        good(EVIL),
        bad(EVIL),
        palette_html([t.Swatch(EVIL, 1)], EVIL),
    ):
        assert "<img src=x" not in html


def test_a_full_pool_is_explained_with_what_to_do():
    error = Overloaded("the pool is full", quota=[QuotaViolation("series:tale", "at most 2 references, got 3")])
    assert problem(error).splitlines() == [
        "The pool is full",
        "  series:tale: at most 2 references, got 3",
        "The pool is full: remove references, or raise its limit with `panelhue series set`.",
    ]


@pytest.mark.parametrize(
    ("status", "advice"),
    [("UNAVAILABLE", "try again in a moment"), ("DEADLINE_EXCEEDED", "nothing is lost"), ("ABORTED", "press Reload")],
)
def test_each_error_says_what_to_do(status, advice):
    assert advice in problem(of_status(status, "no"))


def test_a_series_that_is_gone_is_told_with_a_way_out():
    assert "press Reload" in problem(NotFound("there is no series tale"))


def hit(corner: t.Corner, score: float, reference_id: str = "a", *, used: bool | None = None) -> t.Hit:
    return t.Hit(corner, 0, score, reference_id, t.Box(10, 0, 40, 30), 40, 60, used=used)


def test_a_patch_found_for_two_corners_is_shown_once_with_its_best_score():
    [patch] = patches_of([hit(t.Corner.TOP_LEFT, 0.5, used=False), hit(t.Corner.TOP_RIGHT, 0.7, used=True)])
    assert (patch.best.score, patch.used) == (0.7, True)
    assert patch.corners == (t.Corner.TOP_LEFT, t.Corner.TOP_RIGHT)


def test_patches_that_gave_colour_come_first():
    found = patches_of([hit(t.Corner.TOP_LEFT, 0.9, "a", used=False), hit(t.Corner.TOP_LEFT, 0.3, "b", used=True)])
    assert [patch.best.reference_id for patch in found] == ["b", "a"]


def test_a_box_is_drawn_where_the_patch_lies():
    assert box_shares(hit(t.Corner.TOP_LEFT, 1)) == (25, 0, 75, 50)


def test_the_palettes_form_is_read_back_without_its_empty_rows():
    sent = [{"name": " hair ", "rgb": "#cc3322"}, {"name": "", "rgb": "#000000"}]
    assert swatches_of(sent) == (t.Swatch("hair", 0xCC3322),)


@pytest.mark.parametrize(
    "sent",
    [
        *(None, "x", [1], [{"name": "a"}], [{"name": "a", "rgb": 3}], [{"name": "é" * 200, "rgb": "#000"}], [{}] * 400),
        [{"name": "a", "rgb": "#000000"}, {"name": "a", "rgb": "#ffffff"}],
    ],
)
def test_a_palette_that_is_none_is_refused(sent):
    with pytest.raises(UsageError):
        swatches_of(sent)


def drift() -> m.Drift:
    pair = m.DriftPair("b" * 64, t.Box(0, 0, 200, 300), "a" * 64, t.Box(0, 0, 400, 600), 0.95, 12.3)
    return m.Drift((m.ChapterDrift(10500, 4, 6.0, 11.0, 0.5),), (pair,), 4, 6.0, 7)


def test_the_plot_is_as_high_as_the_figures():
    chapters = [m.ChapterDrift(1000 * number, 4, 2.0 * number, 4.0 * number, 0) for number in (1, 2)]
    svg = plot_svg(chapters)
    first, second = (float(height) for height in re.findall(r'<rect [^>]*height="([\d.]+)"', svg))
    assert second == pytest.approx(2 * first, abs=0.2)
    assert "chapter 2: mean 4.00, 95th percentile 8.00, 4 pairs" in svg


def test_a_plot_of_hundreds_of_chapters_keeps_its_letters_apart():
    chapters = [m.ChapterDrift(1000 * number, 1, 0.0, 0.0, 0) for number in range(300)]
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="220"', plot_svg(chapters))]
    assert len(places) == 300
    assert min(after - before for before, after in itertools.pairwise(places)) >= 30


def test_long_numbers_of_chapters_keep_their_distance_in_a_plot():
    chapters = [m.ChapterDrift(1_200_125 + 1000 * number, 1, 6.0, 8.0, 0) for number in range(30)]
    svg = plot_svg(chapters)
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="220"', svg)]
    assert min(after - before for before, after in itertools.pairwise(places)) >= 7 * len("1200.125")
    assert "from 5 on, a reader sees it" in svg


def test_a_pair_whose_reference_is_gone_is_told_and_the_other_shown():
    html = drift_html(drift(), {"b" * 64: reference(2, 10500)}, "tale")
    assert "earlier: aaaaaaaaaaaa… is gone" in html
    assert "left:0.00%;top:0.00%;width:50.00%;height:50.00%" in html


def test_style_and_script_name_no_address_of_the_internet():
    for path in ASSETS.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), path.name
        assert "@import" not in text
