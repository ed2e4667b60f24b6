"""ColorFlow-Bench's layout as files: per chapter black-and-white pages, their true colours and colour references.

    NAME/bench.json                  optional: format, version, name, licence, attribution, files
    NAME/CHAPTER/truth/PAGE.png      the true colours
    NAME/CHAPTER/bw/LOOK/PAGE.png    the page in black and white, one folder per look (grey, screentone, line …)
    NAME/CHAPTER/references/*.png    colour references

The published benchmark has 30 chapters with 50 pages and 40 references each; any number is read here. The names of the
folders are this project's: the published set's own file names are not known to it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from natsort import natsorted
from PIL import Image

from benchmarks.comics import SUFFIXES
from benchmarks.scoreboard.chapters import Board, Chapter, Target, read_size

FORMAT = "panelhue-bench"
VERSION = 1
PAGES, REFERENCES = 50, 40  # of a chapter, as published


def _pictures(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES] if folder.is_dir() else []
    return list(natsorted(found, key=lambda p: p.name))


def read_bench(folder: Path) -> Board:
    """The chapters in `folder`.

    Raises:
        ValueError: a file says another format or version, a page lacks its truth or is of another size, a chapter has
            no page or no reference, or bench.json lists what is not there.
    """
    said = _read_list(folder / "bench.json")
    found = [
        _chapter(p) for p in natsorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.name)
    ]  # fmt: skip
    if not found:
        raise ValueError(f"{folder} must hold one sub-folder per chapter, found none")
    for chapter in found:
        listed = said.get("chapters", {}).get(chapter.name)
        have = {"pages": [t.name for t in chapter.targets], "references": [p.name for p in chapter.references]}
        if listed is not None and listed != have:
            raise ValueError(f"{folder / chapter.name}: bench.json lists {listed}, the folder holds {have}")
    if missing := set(said.get("chapters", {})) - {chapter.name for chapter in found}:
        raise ValueError(f"{folder}: bench.json lists chapters that are not there: {', '.join(sorted(missing))}")
    return Board(str(said.get("name", folder.name)), "ColorFlow-Bench's layout", tuple(found))


def _read_list(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if (said.get("format"), said.get("version")) != (FORMAT, VERSION):
        raise ValueError(
            f"{path} must say format {FORMAT!r}, version {VERSION}; got {said.get('format')!r}, {said.get('version')!r}"
        )
    return said


def _chapter(folder: Path) -> Chapter:
    truths = {path.stem: path for path in _pictures(folder / "truth")}
    references = tuple(_pictures(folder / "references"))
    if not truths or not references:
        raise ValueError(
            f"{folder} must hold pictures in truth/ and in references/, found {len(truths)} and {len(references)}"
        )
    looks = {look.name: {p.stem: p for p in _pictures(look)} for look in sorted(_folders(folder / "bw"))}
    for look, pages in looks.items():
        if odd := set(pages) ^ set(truths):
            raise ValueError(f"{folder}: bw/{look} and truth/ must hold the same pages, differ in {sorted(odd)[:5]}")
    targets = tuple(
        Target(name, truth, place, {look: pages[name] for look, pages in looks.items()})
        for place, (name, truth) in enumerate(truths.items())
    )
    for target in targets:
        for path in target.given.values():
            if read_size(path) != read_size(target.truth):
                raise ValueError(f"{path} must be {read_size(target.truth)} pixels as its truth, got {read_size(path)}")
    return Chapter(folder.name, targets, references)


def _folders(folder: Path) -> Iterable[Path]:
    return [p for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []


def write_bench(
    board: Board,
    folder: Path,
    looks: Sequence[str],
    *,
    pages: int = PAGES,
    references: int = REFERENCES,
    licence: str = "",
    attribution: Sequence[str] = (),
) -> Path:
    """Writes a board in this layout and gives its folder, which appears whole or not at all.

    Args:
        board: what to write; colour files are copied byte for byte.
        folder: must not exist.
        looks: black-and-white versions to write, keys of `DEGRADATIONS`.
        pages: at most so many of each chapter.
        references: at most so many of each chapter.
        licence: of the pictures, for bench.json.
        attribution: who is to be named.

    Raises:
        FileExistsError: the folder is there already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} must not exist: a bench is written whole or not at all")
    draft = folder.with_name(f"{folder.name}.draft-{os.getpid()}")
    listed: dict[str, Mapping[str, list[str]]] = {}
    try:
        for chapter in board.cut(pages=pages, references=references).chapters:
            listed[chapter.name] = _write_chapter(chapter, draft / chapter.name, looks)
        entry = {
            "format": FORMAT,
            "version": VERSION,
            "name": board.name,
            "layout": board.layout,
            "licence": licence,
            "attribution": list(attribution),
            "chapters": listed,
        }
        (draft / "bench.json").write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _write_chapter(chapter: Chapter, folder: Path, looks: Sequence[str]) -> Mapping[str, list[str]]:
    for kind in ("truth", "references", *(f"bw/{look}" for look in looks)):
        (folder / kind).mkdir(parents=True)
    for target in chapter.targets:
        shutil.copyfile(target.truth, folder / "truth" / f"{target.name}{target.truth.suffix}")
        for look in looks:
            Image.fromarray(target.grey_pixels(look)).save(folder / "bw" / look / f"{target.name}.png")
    names = []
    for path in chapter.references:
        names.append(path.name)
        shutil.copyfile(path, folder / "references" / path.name)
    return {"pages": [target.name for target in chapter.targets], "references": names}
