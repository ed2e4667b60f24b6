"""Small picture books for tests of training: a folder with manifest.json, every story in colours of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def page_of(story: int, page: int, side: int = 64) -> np.ndarray:
    """Discs of the story's three colours on its paper, placed by the page; "h w 3" uint8."""
    colours = np.random.default_rng(story).integers(40, 230, (4, 3))
    places = np.random.default_rng([story, page]).uniform(0.1, 0.9, (6, 2)) * side
    y, x = np.mgrid[0:side, 0:side]
    picture = np.broadcast_to(colours[3], (side, side, 3)).copy()
    for number, (cx, cy) in enumerate(places):
        distance = np.hypot(x - cx, y - cy)
        picture[distance < side / 7] = 20  # an outline
        picture[distance < side / 7 - 1.5] = colours[number % 3]
    return picture.astype(np.uint8)


def make(folder: Path, stories: int = 3, pages: int = 4, side: int = 64) -> Path:
    """Writes the books; pages are listed in no order, numbered 1, 2, … 10, 11."""
    entries = []
    for story in range(stories):
        place = folder / "tiny" / f"{story:04}"
        place.mkdir(parents=True)
        for page in range(pages, 0, -1):
            Image.fromarray(page_of(story, page, side)).save(place / f"p{page}.png")
            entries.append(
                {
                    "file": f"{folder.name}/tiny/{story:04}/p{page}.png",
                    "series": "tiny",
                    "episode": f"{story:04}",
                    "page": page,
                    "licence": "CC0-1.0",
                    "attribution": f"Book {story}",
                }
            )
    (folder / "manifest.json").write_text(json.dumps(entries))
    return folder
