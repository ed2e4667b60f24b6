"""What the tests of the documents share: two servers, and the books of a new user."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from examples.made_up_series import draw_page
from tests.docs.shell import ROOT, Ground, Server, bare, commands

WIDTH = 200  # of a page, pixels
PAGES = 2  # in a chapter
VARIANTS = {"structure-fit": {"embedder": "structure", "crop_recipe": "fit:64x96"}}  # to which a series can be moved


@dataclass(frozen=True)
class Pair:
    """Both servers of `panelhue up`."""

    folder: Path
    retrieval: str
    colorizer: str

    @property
    def backups(self) -> Path:
        """The retrieval server's `backup_dir`."""
        return self.folder / "backups"


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The servers that the README tells a new user to start, on free ports; all tests of a worker share them."""
    folder = tmp_path_factory.mktemp("pair")
    (command,) = (one for one in commands(ROOT / "README.md") if bare(one) == "panelhue up")
    ground = Ground(folder, "", "")
    ground.environment["PANELHUE_RETRIEVAL_BACKUP_DIR"] = str(folder / "backups")
    ground.environment["PANELHUE_RETRIEVAL_EMBEDDER_VARIANTS"] = json.dumps(VARIANTS)
    ports = ("--retrieval-listen", "127.0.0.1:0", "--colorizer-listen", "127.0.0.1:0")
    with Server(ground, command, *ports, "--data", str(folder / "data")) as found:
        yield Pair(folder, found["retrieval"], found["colorizer"])


@pytest.fixture
def ground(tmp_path: Path, pair: Pair, books: Path) -> Ground:
    """An own folder with the books in it."""
    shutil.copytree(books, tmp_path, dirs_exist_ok=True)
    (tmp_path / "backups").symlink_to(pair.backups)
    (tmp_path / "protos").symlink_to(ROOT / "protos")
    return Ground(tmp_path, pair.retrieval, pair.colorizer)


def comic_pages(chapter: int) -> list[Image.Image]:
    """Colour pages: small copies of a real comic's where its folder is there, else of the made-up series."""
    shared = Path(os.environ.get("PANELHUE_SHARED", ROOT.parent / "shared"))
    found = sorted((shared / "data" / "peppercarrot" / f"ep{chapter:02d}").glob("p*.jpg"))[:PAGES]
    if not found:
        drawn = (draw_page(chapter, number, width=WIDTH, height=280) for number in range(1, PAGES + 1))
        return [Image.fromarray(page.colour) for page in drawn]
    pages = []
    for path in found:
        with Image.open(path) as image:
            image.draft("RGB", (2 * WIDTH, 2 * WIDTH))
            pages.append(image.convert("RGB").resize((WIDTH, round(WIDTH * image.height / image.width))))
    return pages


def write_book(target: Path, pages: list[Image.Image]) -> None:
    """A CBZ of JPEG pages p01.jpg, p02.jpg …, as people have them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for number, page in enumerate(pages, 1):
            buffer = io.BytesIO()
            page.save(buffer, "JPEG", quality=92)
            archive.writestr(f"p{number:02d}.jpg", buffer.getvalue())


@pytest.fixture(scope="session")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """colour/ch01.cbz, grey/ch02.cbz and ch03.cbz, and single pictures as each guide's reader has them."""
    folder = tmp_path_factory.mktemp("books")
    chapters = {number: comic_pages(number) for number in (1, 2, 3)}
    write_book(folder / "colour" / "ch01.cbz", chapters[1])
    for number in (2, 3):
        write_book(folder / "grey" / f"ch{number:02d}.cbz", [page.convert("L") for page in chapters[number]])
    shutil.copy(folder / "grey" / "ch02.cbz", folder / "my-comic.cbz")
    write_book(folder / "incoming" / "ch04.cbz", [chapters[3][0].convert("L")])
    singles = {"covers/front.jpg": chapters[1][0], "posters/big.png": chapters[2][0], "sheets/wren.png": chapters[3][0]}
    singles |= {"colour/p1.png": chapters[1][1], "grey/p2.png": chapters[2][1].convert("L")}
    for name, picture in singles.items():
        (folder / name).parent.mkdir(exist_ok=True)
        picture.save(folder / name)
    return folder
