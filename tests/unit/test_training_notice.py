"""NOTICE names everybody whose pictures were trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.errors import InvalidInput
from tests.conftest import ROOT
from training.notice import BEGIN, END, main, with_section


def write_pictures(folder: Path, attributions: list[tuple[str, str]]) -> Path:
    """A manifest of one picture for each attribution and licence."""
    folder.mkdir(parents=True)
    entries = []
    for number, (attribution, licence) in enumerate(attributions):
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / f"{number}.png")
        entries.append(
            {"file": f"{number}.png", "series": "s", "episode": "e", "licence": licence, "attribution": attribution}
        )
    (folder / "manifest.json").write_text(json.dumps(entries))
    return folder / "manifest.json"


@pytest.fixture
def notice(tmp_path: Path) -> Path:
    path = tmp_path / "NOTICE"
    path.write_text("Ours\n")
    return path


def test_every_attribution_of_the_training_pictures_is_a_line_of_the_notice(shared_dir: Path):
    entries = json.loads((shared_dir / "data" / "train" / "manifest.json").read_text())
    lines = {line.strip() for line in (ROOT / "NOTICE").read_text("utf-8").splitlines()}
    assert sorted({entry["attribution"] for entry in entries} - lines) == []


def test_what_was_in_the_notice_stays(tmp_path: Path, notice: Path):
    main([str(write_pictures(tmp_path / "data", [("Ann", "CC-BY")])), "--notice", str(notice)])
    assert notice.read_text().startswith("Ours\n")


def test_an_attribution_stands_under_its_licence_once(tmp_path: Path, notice: Path):
    given = [("Ann", "CC-BY"), ("Bob", "CC0-1.0"), ("Ann", "CC-BY")]
    main([str(write_pictures(tmp_path / "data", given)), "--notice", str(notice)])
    text = notice.read_text()
    assert text.count("  Ann\n") == 1
    assert text.index("Attribution") < text.index("  Ann\n") < text.index("Zero") < text.index("  Bob\n")


def test_writing_it_again_replaces_the_section(tmp_path: Path, notice: Path):
    for name in ("Ann", "Bob"):
        main([str(write_pictures(tmp_path / name, [(name, "CC-BY")])), "--notice", str(notice)])
    text = notice.read_text()
    assert (text.count(BEGIN), text.count(END), text.count("Ann"), text.count("  Bob\n")) == (1, 1, 0, 1)


def test_a_picture_whose_licence_asks_for_a_name_needs_one(tmp_path: Path, notice: Path):
    with pytest.raises(InvalidInput, match="no attribution"):
        main([str(write_pictures(tmp_path / "data", [("", "CC-BY")])), "--notice", str(notice)])


def test_a_notice_with_one_mark_is_refused():
    with pytest.raises(InvalidInput, match="both marks"):
        with_section(f"Ours\n{BEGIN}\n", "new")
