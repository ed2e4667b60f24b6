"""Figures of pages in a file that is only added to, so that a board which was stopped goes on where it was.

A page is known by the sum of all that it depends on: the code that colours and scores, the back-end and its weights,
the embedding space, the page, its look and every reference. A change of any of them measures anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.scoreboard.towers import file_sha256

ROOT = Path(__file__).resolve().parents[2]
SERVED = ("retrieval", "colorizer", "serving")
SCORED = (
    "benchmarks/metrics.py",
    "benchmarks/degrade.py",
    "benchmarks/colour_transfer.py",
    "benchmarks/scoreboard/consistency.py",
    "benchmarks/scoreboard/figures.py",
    "benchmarks/scoreboard/play.py",
)
SUFFIXES = {".py", ".onnx", ".safetensors", ".json", ".npz", ".npy"}


@cache
def code_sha256() -> str:
    """One sum over what colours and scores a page, weights included, as it lies in the working tree; read once."""
    files = [p for folder in SERVED for p in (ROOT / folder).rglob("*") if p.suffix in SUFFIXES]
    return sum_of(*(f"{p.relative_to(ROOT)} {file_sha256(p)}" for p in sorted([*files, *(ROOT / s for s in SCORED)])))


def sum_of(*parts: object) -> str:
    """SHA-256 of texts, one a line."""
    return hashlib.sha256("\n".join(str(part) for part in parts).encode()).hexdigest()


@cache
def picture_sha256(path: Path) -> str:
    """SHA-256 of a picture's file, read once a run."""
    return file_sha256(path)


class Journal:
    """Entries by sum, in a file of JSON lines; later entries of one sum add to earlier ones.

    Args:
        path: the file; made with its folder at the first addition. A last line cut short is overlooked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
                made, anew = str(entry.pop("made")), entry.pop("anew", False)
            except (ValueError, KeyError, AttributeError, TypeError):
                continue  # what a stop has cut short is measured again
            self._add(made, entry, anew=anew)

    def get(self, made: str) -> dict[str, Any] | None:
        """What is known under this sum; what is added later is in it too."""
        return self._known.get(made)

    def put(self, made: str, entry: dict[str, Any], *, anew: bool = False) -> None:
        """Adds to what is known under this sum; it is on disk when this returns.

        Args:
            made: the sum.
            entry: names and figures, as JSON takes them.
            anew: what was known before is forgotten.
        """
        self._add(made, entry, anew=anew)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # A new line first: what a stop has cut short does not spoil this one.
        line = "\n" + json.dumps({"made": made, "anew": anew, **entry}) + "\n"
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _add(self, made: str, entry: dict[str, Any], *, anew: bool) -> None:
        known = self._known.setdefault(made, {})
        if anew:
            known.clear()
        known.update(entry)
