"""Reads somebody's comics for the benchmarks: one sub-folder of colour pages per chapter.

A folder whose parent chain holds a `manifest.json` of the project's test comics is read by it, so that covers and
character sheets take no part; in any other folder every picture is a page.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from natsort import natsorted
from PIL import Image

from serving.colour import is_in_colour

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


@dataclass(frozen=True)
class ComicPage:
    """One colour page on disk."""

    chapter: str  # the sub-folder's name, such as "ep01"
    name: str  # the file's name without its suffix
    path: Path

    def pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        """The true colours, sRGB."""
        with Image.open(self.path) as picture:
            return np.asarray(picture.convert("RGB"))


@dataclass(frozen=True)
class Comic:
    """A series as the benchmarks see it."""

    name: str
    chapters: dict[str, tuple[ComicPage, ...]]  # in reading order

    @property
    def pages(self) -> tuple[ComicPage, ...]:
        """All pages in reading order."""
        return tuple(page for pages in self.chapters.values() for page in pages)


def _manifest(folder: Path) -> dict[Path, str] | None:
    """Kind of each picture that a manifest in or above `folder` names, or None when there is no manifest."""
    for base in (folder, folder.parent, folder.parent.parent):
        file = base / "manifest.json"
        if file.is_file():
            entries = json.loads(file.read_text())
            return {(base.parent / e["file"]).resolve(): e.get("kind", "page") for e in entries}
    return None


def read_comic(folder: Path, *, limit: int | None = None) -> Comic:
    """The comic in `folder`.

    Args:
        folder: one sub-folder per chapter.
        limit: at most so many pages of each chapter; None: all.

    Raises:
        ValueError: there is no page in it.
    """
    kinds = _manifest(folder)
    chapters: dict[str, tuple[ComicPage, ...]] = {}
    for chapter in natsorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.name):
        files = [p for p in chapter.iterdir() if p.suffix.lower() in SUFFIXES]
        if kinds is not None:
            files = [p for p in files if kinds.get(p.resolve()) in ("page", "illustration")]
        pages = [ComicPage(chapter.name, p.stem, p) for p in natsorted(files, key=lambda p: p.name)]
        if pages:
            chapters[chapter.name] = tuple(pages[:limit])
    if not chapters:
        raise ValueError(f"{folder} must hold one sub-folder of colour pages per chapter, found none with a page")
    return Comic(folder.name, chapters)


def read_comics(folder: Path, *, limit: int | None = None) -> tuple[Comic, ...]:
    """The comic in `folder`, or the comics in its sub-folders where it holds no chapters itself, by name.

    Args:
        folder: of one comic, or of one sub-folder per comic.
        limit: at most so many pages of each chapter; None: all.

    Raises:
        ValueError: there is no page in it.
    """
    try:
        return (read_comic(folder, limit=limit),)
    except ValueError as error:
        comics = []
        for inner in natsorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.name):
            with contextlib.suppress(ValueError):
                comics.append(read_comic(inner, limit=limit))
        if not comics:
            raise error
        return tuple(comics)


def in_colour(comic: Comic) -> tuple[Comic, tuple[ComicPage, ...]]:
    """The comic without its grey and single-ink pages, and those, by the servers' own rule.

    Such a page cannot be a reference, since the retrieval server rejects it, and is no target, since its grey version
    is right already.
    """
    grey = tuple(page for page in comic.pages if not is_in_colour(page.pixels()))
    kept = {chapter: tuple(p for p in pages if p not in grey) for chapter, pages in comic.chapters.items()}
    return Comic(comic.name, {chapter: pages for chapter, pages in kept.items() if pages}), grey
