"""The rows of comic_quality.json: what is there already, whether it is of the same pages, and how rows are added.

A row is one comic, protocol and method; of a method that uses references its key is METHOD@EMBEDDER. Each says with
which command, machine, commit and date it was measured, and over which pages, so that rows of a new back-end come
beside those of before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.protocols import GREY, TRUTH
from benchmarks.report import meta, write_results

NAME = "comic_quality"
FIRST_EMBEDDER = "structure"  # of the rows written before rows named theirs; it was the servers' default
SAME = 1e-3  # relative; figures of the grey page are of the same page if they differ by less

Row = dict[str, Any]


def row_key(method: str, embedder: str) -> str:
    """Key of a row; grey and truth use no references and so no embedder."""
    return method if method in (GREY, TRUTH) else f"{method}@{embedder}"


def row_of(rows: Mapping[str, Row], method: str, embedder: str | None = None) -> Row:
    """The row of a method, with the embedder asked for or else the last one added.

    Raises:
        KeyError: there is none.
    """
    for key, row in reversed(list(rows.items())):
        name, _, own = key.partition("@")
        if name == method and (embedder is None or embedder == (own or row.get("embedder", FIRST_EMBEDDER))):
            return row
    raise KeyError(f"no row of {method}" + (f" with {embedder}" if embedder else ""))


class Rows:
    """The rows in a folder's comic_quality.json, written back after each addition.

    Args:
        folder: of the JSON.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        file = folder / f"{NAME}.json"
        content = json.loads(file.read_text()) if file.exists() else {"meta": {}, "results": {}}
        self.results: dict[str, dict[str, dict[str, Row]]] = {
            comic: {protocol: _named(rows, content["meta"]) for protocol, rows in protocols.items()}
            for comic, protocols in content["results"].items()
        }

    def of(self, comic: str, protocol: str) -> dict[str, Row]:
        """The rows of one comic and protocol, by key."""
        return self.results.setdefault(comic, {}).setdefault(protocol, {})

    def adopt(self, comic: str, protocol: str, pages: str, grey: Row) -> None:
        """Takes the rows written before pages had sums for rows over `pages`, if the grey page's figures agree.

        Args:
            comic: name.
            protocol: name.
            pages: sum of the page set that is measured now.
            grey: figures of the grey page over it, with its chapters.

        Raises:
            SystemExit: rows are over other pages; nothing is changed.
        """
        rows = self.of(comic, protocol)
        others = [key for key, row in rows.items() if row.get("pages_sha256") not in (None, pages)]
        unmarked = [key for key, row in rows.items() if "pages_sha256" not in row]
        differing = _differences(rows[GREY], grey) if unmarked and GREY in rows else []
        differing += [f"n of {key}" for key in unmarked if _counts(rows[key]) != _counts(grey)]
        if others or differing:
            what = f"sums of {', '.join(others)}" if others else ", ".join(differing)
            raise SystemExit(
                f"{comic}, {protocol}: the rows in {NAME}.json must be over the pages that are measured now, and "
                f"differ in {what}; write elsewhere with --out, or drop the old rows with --fresh"
            )
        for key in unmarked:
            rows[key]["pages_sha256"] = pages

    def drop(self, comic: str, protocol: str) -> None:
        """Forgets the rows of one comic and protocol."""
        self.results.get(comic, {}).pop(protocol, None)

    def put(self, comic: str, protocol: str, key: str, row: Row) -> None:
        """Adds or replaces a row, with where and when it was measured; on disk when this returns."""
        self.of(comic, protocol)[key] = row | {"made": meta()}
        self.save()

    def save(self) -> Path:
        """Writes all rows; the file's path."""
        return write_results(NAME, self.results, folder=self._folder)


def _named(rows: dict[str, Row], made: dict[str, str]) -> dict[str, Row]:
    """Rows under their keys; those of before are given the file's command, machine, commit and date."""
    named: dict[str, Row] = {}
    for key, row in rows.items():
        method, _, embedder = key.partition("@")
        if method in (GREY, TRUTH):
            named[method] = {"made": made} | row
        else:
            embedder = embedder or FIRST_EMBEDDER
            named[row_key(method, embedder)] = {"made": made, "embedder": embedder} | row
    if TRUTH in rows:
        for row in named.values():
            _add_ratio(row, rows[TRUTH])
    return named


def _add_ratio(row: Row, truth: Row) -> None:
    """Colourfulness over the truth's, where a row of before lacks it; also by chapter."""
    if "psnr_db" in row and truth["colourfulness"]:
        row.setdefault("colourfulness_ratio", row["colourfulness"] / truth["colourfulness"])
    for chapter, figures in row.get("per_episode", {}).items():
        if chapter in truth.get("per_episode", {}):
            _add_ratio(figures, truth["per_episode"][chapter])


def _counts(row: Row) -> dict[str, int]:
    return {"": row["n"]} | {chapter: figures["n"] for chapter, figures in row["per_episode"].items()}


def _differences(old: Row, new: Row) -> list[str]:
    """Chapters over which the grey page's figures differ."""
    before, now = old["per_episode"], new["per_episode"]
    return [
        chapter
        for chapter in sorted({*before, *now})
        if not all(
            math.isclose(before.get(chapter, {}).get(key, -1), now.get(chapter, {}).get(key, -2), rel_tol=SAME)
            for key in ("n", "psnr_db", "ciede", "ssim")
        )
    ]
