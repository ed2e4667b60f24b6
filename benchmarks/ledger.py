"""Figures of pages that were measured already, kept on disk so that a benchmark that was stopped goes on.

A figure is found again only under the same fingerprint: the code and weights of both servers, the back-end, the
embedding space, the page's bytes and those of every reference. A change of any of them measures anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path

from benchmarks.metrics import Scores
from benchmarks.protocols import Trial, file_sha256

ROOT = Path(__file__).resolve().parents[1]
LEDGER = ROOT / "build" / "benchmarks" / "pages.jsonl"
SERVED = ("retrieval", "colorizer", "serving")
SUFFIXES = {".py", ".onnx", ".safetensors", ".json", ".npz", ".npy"}


@cache
def code_sha256() -> str:
    """One sum over the code and the weights of both servers, as they lie in the working tree. Read once a run."""
    total = hashlib.sha256()
    for folder in SERVED:
        for file in sorted(p for p in (ROOT / folder).rglob("*") if p.suffix in SUFFIXES):
            total.update(f"{file.relative_to(ROOT)} {file_sha256(file)}\n".encode())
    return total.hexdigest()


def fingerprint(backend: str, space_id: str, trial: Trial, page: Path) -> str:
    """What a figure of one page depends on, as one sum.

    Args:
        backend: name, version and sums of the weights of what coloured it, as one text.
        space_id: id of the embedding space.
        trial: its references and bound count.
        page: the target's file.
    """
    references = sorted(file_sha256(one.path) for one in trial.references)
    parts = [code_sha256(), backend, space_id, str(trial.bound), file_sha256(page), *references]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Ledger:
    """Figures by fingerprint in a file of JSON lines, added to as pages are done.

    Args:
        path: the file; made with its folder at the first addition. A last line cut short is overlooked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Scores] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
                self._known[entry["fingerprint"]] = Scores(**entry["scores"])
            except (ValueError, KeyError, TypeError):
                continue  # what a stop has cut short is measured again

    def get(self, fingerprint: str) -> Scores | None:
        """The figures measured under this fingerprint, if there are any."""
        return self._known.get(fingerprint)

    def put(self, fingerprint: str, scores: Scores, page: str) -> None:
        """Keeps figures; they are on disk when this returns.

        Args:
            fingerprint: see the function of this name.
            scores: of the page.
            page: says which it was, for people.
        """
        self._known[fingerprint] = scores
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # A new line first: what a stop has cut short does not spoil this one.
        line = "\n" + json.dumps({"page": page, "fingerprint": fingerprint, "scores": vars(scores)}) + "\n"
        with self._path.open("a") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
