"""docs/STUDIO.md: its options, limits and keys are the studio's own, and its pictures are there."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from panelhue.cli import app
from panelhue.studio import desk, desks, pool

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "STUDIO.md").read_text()
SCRIPT = (ROOT / "clients" / "python" / "panelhue" / "studio" / "assets" / "studio.js").read_text()


def test_every_option_of_the_guide_is_one():
    shown = CliRunner().invoke(app, ["studio", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    named = set(re.findall(r"`(--[a-z-]+)", GUIDE))
    assert {"--port", "--host", "--retrieval", "--colorizer", "--upload-mb"} <= named
    assert not [option for option in named if option not in shown]


def test_the_limits_of_the_guide_are_those_of_the_code():
    limits = dict(re.findall(r"^\| ([a-z ]+) \| (\d+)", GUIDE, re.M))
    assert int(limits["one drop"]) == desk.MOST_BYTES >> 30
    assert int(limits["pages of a chapter on the desk"]) == desk.MOST_PAGES
    assert int(limits["tabs at work"]) == desks.MOST_DESKS
    assert int(limits["references on the wall at once"]) == pool.MOST_CARDS
    assert desks.KEEP_SECONDS == 12 * 3600
    assert "for twelve hours" in GUIDE


def test_the_keys_of_the_guide_are_those_of_the_page():
    rows = re.findall(r"^\| (`[^|]*`) \|", GUIDE, re.M)
    told = set(re.findall(r"`(\w)`", " ".join(rows)))
    [table] = re.findall(r"const KEYS = \{(.*?)\}", SCRIPT)
    assert told == {*re.findall(r"(\w): ", table), *re.findall(r'event\.key === "(\w)"', SCRIPT)}


def test_the_pictures_of_the_guide_are_there_and_small():
    paths = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", GUIDE)
    assert len(paths) >= 2
    for path in paths:
        file = ROOT / "docs" / path
        with Image.open(file) as picture:
            assert picture.width <= 1280
        assert file.stat().st_size < 300_000
