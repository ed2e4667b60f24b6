"""docs/GALLERY.md: its command makes its pictures, which are few and small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures" / "gallery"
SHOWN = re.findall(r"!\[[^]]+\]\(pictures/gallery/(.+?)\)", (ROOT / "docs" / "GALLERY.md").read_text())


def test_the_command_makes_every_picture(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.gallery", "--out", str(tmp_path)]
    small = ["--chapters", "2", "--pages", "1", "--width", "120"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")])}
    done = subprocess.run([*command, *small], env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert {*SHOWN, "figures.json"} == {path.name for path in tmp_path.iterdir()}


def test_the_pictures_are_all_shown_and_take_little_room() -> None:
    files = [path for path in PICTURES.iterdir() if path.name != "figures.json"]
    assert {path.name for path in files} == set(SHOWN)
    assert sum(path.stat().st_size for path in files) < 1_000_000
    for path in files:
        with Image.open(path) as image:
            assert image.width >= 600
