"""Takes cases through `panelhue ingest` and `panelhue colorize` and says what became of each."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.hostile.archives import SOUND
from benchmarks.hostile.case import Case
from benchmarks.hostile.drawing import drawing, file_of
from benchmarks.hostile.ground import Ground, Told
from panelhue import folders

TOGETHER = 12  # cases that are pages of one book
SHEETS = ("names", "no plain files", "broken EXIF", "two in one")  # whose books get a sheet too
SERIES = "hostile"
MOST_BYTES = 5 << 30  # of a command and both servers with their workers, each process at its own peak
BOOKS = re.compile(r"/\S*/books/b\d+/")  # where a book lay, which is of no interest


@dataclass
class Row:
    """What became of a case."""

    group: str
    name: str
    ingest: str
    colorize: str
    seconds: float  # of the slower one of the two commands that it went through
    stalled_seconds: float  # of these in which the machine had more to do than it has processors
    cpu_seconds: float  # of processor time of the busier one, servers included
    sharing: int  # cases in that command
    client_mb: float  # most that a command held
    servers_mb: float  # most that both servers with their workers held meanwhile
    faults: list[str] = field(default_factory=list)  # none, or the bar is missed

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def played(ground: Ground, cases: Iterable[Case]) -> Iterator[Row]:
    """The row of each case; those that are pages go a dozen at a time, each beside a sound page."""
    pages = []
    for number, case in enumerate(cases):
        if case.is_book:
            yield _book(ground, case, f"b{number}")
        elif case.alone:
            yield from _pages(ground, [case], f"a{number}")
        else:
            pages.append(case)
    for number, start in enumerate(range(0, len(pages), TOGETHER)):
        yield from _pages(ground, pages[start : start + TOGETHER], f"p{number}")


def _pages(ground: Ground, cases: list[Case], name: str) -> Iterator[Row]:
    book = ground.book(name)
    for number, case in enumerate(cases):
        case.make(book / _file_name(case, number))
        (book / f"{number:03d}-well.png").write_bytes(file_of(drawing(hash_of(name) * 100 + number)))
    sheet = any(case.group in SHEETS for case in cases)
    added, coloured, output = _commands(ground, book, name, ".cbz" if hash_of(name) % 2 else "", sheet)
    of_all = _shared_faults(added, coloured, max(case.megapixels for case in cases))
    gone, shown = _by_page(added.answer), _results(coloured.answer)
    for number in range(len(cases)):
        well = f"{number:03d}-well.png"
        for what, found, good in (("ingest", gone, ("added", "already_present")), ("colourise", shown, ("done",))):
            if found.get(well) not in good:
                of_all.append(f"{what} lost a sound page: {found.get(well)}")
    for number, case in enumerate(cases):
        stem = folders.shown(case.file_name) or f"{number:03d}."
        row = _row(case, added, coloured, len(cases))
        row.ingest = _outcome(gone, stem, well=f"{number:03d}-well", told=added)
        row.colorize = _outcome(shown, stem, well=f"{number:03d}-well", told=coloured)
        row.faults = [*of_all, *_unexpected(case, row.colorize), *_wrong(case, coloured, output, stem)]
        yield row
    ground.clear(name)


def hash_of(name: str) -> int:
    """The number in a book's name."""
    return int("".join(letter for letter in name if letter.isdigit()))


def _file_name(case: Case, number: int) -> str:
    return case.file_name or f"{number:03d}{case.ending}"


def _book(ground: Ground, case: Case, name: str) -> Row:
    folder = ground.book(name)
    path = folder / f"book{case.ending}"
    case.make(path)
    added, coloured, _ = _commands(ground, path, name, "" if hash_of(name) % 3 else ".cbz", True)
    row = _row(case, added, coloured, 1)
    row.ingest, row.colorize = _of_book(added, _by_page(added.answer)), _of_book(coloured, _results(coloured.answer))
    row.faults = _shared_faults(added, coloured, case.megapixels)
    taken = _results(coloured.answer).get(SOUND) == "done"
    if case.expect != "either" and taken != (case.expect == "taken"):
        row.faults.append(f"was to be {case.expect}")
    ground.clear(name)
    return row


def _commands(ground: Ground, book: Path, name: str, ending: str, sheet: bool) -> tuple[Told, Told, Path]:
    apart = ground.folder / "out" / name
    apart.mkdir()
    output = apart / f"done{ending}"
    added = ground.run("ingest", book, "-s", SERIES, "--chapter", "1", "--create", "--json", apart=apart)
    how = ("--colour-pages", "recolour", "--json", "--sheet" if sheet else "--no-sheet")
    coloured = ground.run("colorize", book, "-s", SERIES, "--chapter", "2", "-o", output, *how, apart=apart)
    return added, coloured, output


def _row(case: Case, added: Told, coloured: Told, sharing: int) -> Row:
    return Row(
        group=case.group,
        name=case.name,
        ingest="",
        colorize="",
        seconds=max(added.seconds, coloured.seconds),
        stalled_seconds=max((added, coloured), key=lambda told: told.seconds).stalled_seconds,
        cpu_seconds=max(added.cpu_seconds, coloured.cpu_seconds),
        sharing=sharing,
        client_mb=max(added.client_bytes, coloured.client_bytes) / 1e6,
        servers_mb=max(added.server_bytes, coloured.server_bytes) / 1e6,
    )


def _shared_faults(added: Told, coloured: Told, megapixels: float) -> list[str]:
    found = [f"ingest {text}" for text in added.faults(megapixels)]
    found += [f"colourise {text}" for text in coloured.faults(megapixels)]
    held = max(told.client_bytes + told.server_bytes for told in (added, coloured))
    return found + [f"held {held / 1e9:.1f} GB"] * (held > MOST_BYTES)


def _by_page(answer: Any) -> dict[str, str]:
    """What ingest says of each page."""
    if not isinstance(answer, list):
        return {}
    return {one["page"]: one["status"] if not one["failure"] else one["failure"]["reason"] for one in answer}


def _results(answer: Any) -> dict[str, str]:
    """What colourise says of each page."""
    if not isinstance(answer, dict) or "results" not in answer:  # else it says why there are none
        return {}
    return {page: why["reason"] for page, why in answer["failed"].items()} | {
        one["page"]: "done" for one in answer["results"]
    }


def _outcome(found: dict[str, str], stem: str, well: str, told: Told) -> str:
    mine = {page: what for page, what in found.items() if page.startswith(stem) and not page.startswith(well)}
    if mine:
        return ", ".join(sorted(set(mine.values())))
    notes = [line.partition(": ")[2] for line in told.err.splitlines() if line.startswith("note: ")]
    mine_notes = [note for note in notes if note.startswith(stem)]
    return f"passed over{': ' + mine_notes[0].partition(': ')[2] if mine_notes else ''}"


def _of_book(told: Told, found: dict[str, str]) -> str:
    if told.code == 2:
        return f"book refused: {_last(told.err)}"
    kinds: dict[str, int] = {}
    for what in found.values():
        kinds[what] = kinds.get(what, 0) + 1
    return ", ".join(f"{count} {what}" for what, count in sorted(kinds.items())) or f"exit code {told.code}"


def _last(text: str) -> str:
    lines = [line for line in BOOKS.sub("", text).splitlines() if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ")[:200] if lines else text.strip()[-200:]


def _unexpected(case: Case, outcome: str) -> list[str]:
    taken = "done" in outcome
    if case.expect == "either" or taken == (case.expect == "taken"):
        return []
    return [f"was to be {case.expect}, got {outcome}"]


def _wrong(case: Case, coloured: Told, output: Path, stem: str) -> list[str]:
    """A picture that came out is the drawing."""
    if not case.right or not isinstance(coloured.answer, dict):
        return []
    names = [one["output"] for one in coloured.answer["results"] if one["page"].startswith(stem)]
    if not names:
        return []
    with Image.open(io.BytesIO(_bytes_of(output, names[0]))) as image:
        grey = np.asarray(image.convert("L"), float)
    wanted = np.asarray(drawing().convert("L"), float)
    if grey.shape != wanted.shape:
        return [f"came out as {grey.shape[1]} x {grey.shape[0]}"]
    off = float(np.abs(grey - wanted).mean())
    return [f"came out {off:.1f} levels off"] if off > case.right else []


def _bytes_of(output: Path, name: str) -> bytes:
    import zipfile

    if output.is_dir():
        return (output / name).read_bytes()
    with zipfile.ZipFile(output) as archive:
        return archive.read(name)
