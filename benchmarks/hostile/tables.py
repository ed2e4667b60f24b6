"""Renders docs/HOSTILE.md from benchmarks/results/hostile.json; called by its cog blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.render import load, provenance, table

TITLES = {
    "modes": "Every mode of every format",
    "sizes": "Sizes",
    "orientations": "EXIF orientations",
    "profiles": "ICC profiles",
    "animations": "Animations and files of several pictures",
    "oddities": "Sound and odd",
    "broken EXIF": "EXIF blocks that are broken",
    "cut short": "Cut short",
    "turned bits": "Turned bits",
    "contradictions": "Files that contradict themselves",
    "no picture": "No pictures, named like some",
    "two in one": "Two files in one",
    "no plain files": "What can lie in a folder beside plain files",
    "names": "Names of files",
    "bombs": "Bombs and floods",
    "archives": "Archives",
    "documents": "PDF, EPUB, RAR, 7z and TAR",
    "wire": "Misuse of the wire",
    "found": "Found by fuzzing",
}


def _rows() -> list[dict[str, Any]]:
    return list(load("hostile")["results"]["rows"].values())


def _groups() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    rows = _rows()
    for group in TITLES:
        if mine := [row for row in rows if row["group"] == group]:
            yield group, mine


def summary() -> str:
    """Groups of cases, what became of them, and the most that any took."""
    lines = [_line(TITLES[group], rows) for group, rows in _groups()]
    lines.append(_line("**all**", _rows()))
    header = ["cases", "number", "taken", "refused", "faults", "slowest, s", "busiest, s", "client, MB", "servers, MB"]
    return "\n\n".join([table(header, lines), _how_many(), provenance("hostile")])


def _how_many() -> str:
    rows, cases = len(_rows()), load("hostile")["results"]["cases"]
    left = f" The other {cases - rows} have not been played yet; `--resume` plays them." if rows < cases else ""
    return f"{rows} of {cases} cases.{left}"


def _line(name: str, rows: list[dict[str, Any]]) -> list[str]:
    def most(field: str, form: str) -> str:
        return form.format(max(row[field] for row in rows))

    return [
        name,
        str(len(rows)),
        str(sum(_taken(row) for row in rows)),
        str(sum(not _taken(row) for row in rows)),
        str(sum(bool(row["faults"]) for row in rows)),
        most("seconds", "{:.1f}"),
        most("cpu_seconds", "{:.1f}"),
        most("client_mb", "{:.0f}"),
        most("servers_mb", "{:.0f}"),
    ]


def _taken(row: dict[str, Any]) -> bool:
    outcome = row["colorize"] or row["ingest"]
    return any(word in outcome for word in ("done", "result", "ADDED", "context"))


def fuzzing() -> str:
    """What the fuzz run came to."""
    found = load("hostile")["results"].get("fuzz")
    if not found:
        return "Not run."
    kinds: dict[str, dict[str, int]] = {}
    for name, count in found["counts"].items():
        kind, _, how = name.partition(" ")
        kinds.setdefault(kind.replace(":", ", "), {})[how] = count
    hows = sorted({how for counts in kinds.values() for how in counts})
    lines = [[kind, *(str(counts.get(how, 0)) for how in hows)] for kind, counts in sorted(kinds.items())]
    said = (
        f"{found['files']} files in {found['seconds']:.0f} s, seed {found['seed']}, in a process that may take "
        f"{found['limit_bytes'] >> 20} MiB beyond its imports; {len(found['faults'])} faults."
    )
    return f"{said}\n\n{table(['kind', *hows], lines)}"


def outcomes() -> str:
    """Each case and what became of it."""
    parts = []
    for group, rows in _groups():
        lines = [[_cell(row["name"]), *_two(row)] for row in rows]
        header = ["case", "ingest", "colourise"] if group != "wire" else ["call and misuse", "answer", ""]
        parts.append(f"### {TITLES[group]}\n\n{_left(header, lines)}")
    return "\n\n".join(parts)


def _two(row: dict[str, Any]) -> list[str]:
    faults = f" **{_cell('; '.join(row['faults']))}**" if row["faults"] else ""
    if row["group"] == "wire":
        return [_cell(row["ingest"] or row["colorize"]) + faults, ""]
    same = row["ingest"] == row["colorize"]
    return [_cell(row["ingest"]), ("the same" if same else _cell(row["colorize"])) + faults]


def _cell(text: str) -> str:
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    for letter in "\\`*_<>[]|~":
        clean = clean.replace(letter, f"\\{letter}")
    return clean


def _left(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|---|---|---|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
