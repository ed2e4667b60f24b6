"""What the scoreboard is played on: chapters of target pages with colour references, from a comic or from a bench."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from benchmarks.comics import Comic
from benchmarks.degrade import DEGRADATIONS
from serving.colour import is_in_colour

NOTHING: Mapping[str, Path] = MappingProxyType({})


@cache
def read_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture on disk, pixels."""
    with Image.open(path) as picture:
        return picture.size


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """A picture on disk, sRGB."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@dataclass(frozen=True)
class Target:
    """A page to colour whose true colours are known."""

    name: str  # within its chapter
    truth: Path
    seed: int  # its place in the chapter; chooses the screens of a look that is made
    given: Mapping[str, Path] = field(default_factory=lambda: NOTHING)  # black-and-white versions on disk, by look

    def true_pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        """The true colours, sRGB."""
        return read_rgb(self.truth)

    def grey_pixels(self, look: str) -> UInt8[np.ndarray, "h w"]:
        """The black-and-white page that is to be coloured: the one on disk, or made from the truth.

        Args:
            look: a key of `given` or of `DEGRADATIONS`.

        Cost: up to 1 s per megapixel where a screentone is made.
        """
        if look in self.given:
            with Image.open(self.given[look]) as picture:
                return np.asarray(picture.convert("L"))
        if look == "grey":  # PIL's rounding, as the fixed protocols say
            return np.asarray(Image.fromarray(self.true_pixels()).convert("L"))
        return np.ascontiguousarray(DEGRADATIONS[look](self.true_pixels(), self.seed)[..., 0])


@dataclass(frozen=True)
class Chapter:
    """Targets and the references that they are coloured from."""

    name: str
    targets: tuple[Target, ...]  # in reading order
    references: tuple[Path, ...]  # colour pictures, in their order


@dataclass(frozen=True)
class Board:
    """All that one table is about."""

    name: str
    layout: str  # where targets and references come from, for people
    chapters: tuple[Chapter, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)  # chapters and pages that take no part, and why

    @property
    def looks(self) -> set[str]:
        """The looks that every page has on disk."""
        given = [set(target.given) for chapter in self.chapters for target in chapter.targets]
        return set.intersection(*given) if given else set()

    def cut(
        self, *, chapters: Iterable[str] | None = None, pages: int | None = None, references: int | None = None
    ) -> Board:
        """The part of it that is played.

        Args:
            chapters: names; None: all.
            pages: the first so many targets of each chapter; None: all.
            references: the first so many of each chapter; None: all.

        Raises:
            ValueError: a chapter is not there.
        """
        have = {chapter.name: chapter for chapter in self.chapters}
        wanted = list(have) if chapters is None else list(chapters)
        if unknown := [name for name in wanted if name not in have]:
            raise ValueError(f"{self.name}: expected chapters among {', '.join(have)}, got {', '.join(unknown)}")
        kept = tuple(
            Chapter(c.name, c.targets[:pages], c.references[:references]) for c in (have[name] for name in wanted)
        )
        return replace(self, chapters=kept)


def from_comic(comic: Comic) -> Board:
    """A comic under protocol B: of each chapter the 1st, 3rd, 5th … page is a reference, the 2nd, 4th … a target.

    Pages that are not in colour by the servers' own rule, and chapters of one page, take no part.

    Raises:
        ValueError: nothing remains.
    """
    chapters, left_out = [], dict[str, str]()
    for name, pages in comic.chapters.items():
        # The page set of the project's fixed protocols is never thinned: a nearly grey page stays a target.
        plain = () if comic.name == "peppercarrot" else [p for p in pages if not is_in_colour(p.pixels())]
        left_out |= {f"{name}/{page.name}": "not in colour" for page in plain}
        kept = [page for page in pages if page not in plain]
        if len(kept) < 2:
            left_out[name] = "fewer than two colour pages: no target has a reference"
            continue
        targets = tuple(Target(page.name, page.path, i) for i, page in enumerate(kept[1::2]))
        chapters.append(Chapter(name, targets, tuple(page.path for page in kept[::2])))
    if not chapters:
        raise ValueError(f"{comic.name}: expected a chapter of at least two colour pages, found none")
    said = "comic, protocol B: of each chapter every second page is a target and the others are its references"
    return Board(comic.name, said, tuple(chapters), left_out)
