"""The figures of a played board: what needs weights is worked out last, then all is averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.scoreboard.chapters import Board, Target, read_rgb
from benchmarks.scoreboard.consistency import Pairs, same_colour
from benchmarks.scoreboard.figures import Page, consistency, late_means, mean, means, patches_of
from benchmarks.scoreboard.game import Score, Scores
from benchmarks.scoreboard.late import FID, Late, Networks
from benchmarks.scoreboard.rows import GREY, Row
from benchmarks.scoreboard.towers import Picture

Chapters = Mapping[str, tuple[Sequence[Page], Sequence[Pairs]]]  # of each, its pages, and their patches of one colour


def measure_late(board: Board, scores: Scores, late: Late, networks: Networks) -> None:
    """The metrics that need weights, for all pages."""
    if not (networks.keys or networks.inception):
        return
    for chapter in board.chapters:
        for target in chapter.targets:
            key = (chapter.name, target.name)
            true = scores.truth[key].made
            late.page(true, true, target.true_pixels, true=(true, target.true_pixels))
            for (look, _), pages in scores.rows.items():
                if score := pages.get(key):
                    read = _reader(score, target, look)
                    late.page(score.made, score.pixels_sha256, read, true=(true, target.true_pixels))


def _reader(score: Score, target: Target, look: str) -> Callable[[], Picture]:
    def read() -> Picture:
        if score.picture is not None:
            return read_rgb(score.picture)
        return np.repeat(target.grey_pixels(look)[..., None], 3, axis=2)

    return read


def results(
    board: Board, scores: Scores, looks: Iterable[str], rows: Sequence[Row], late: Late, networks: Networks
) -> dict[str, Any]:
    """The board's figures: per look and row over all pages, and per chapter."""
    pairs = _pairs(board, scores)
    return {
        "layout": board.layout,
        "chapters": {
            c.name: {"pages": len(c.targets), "references": len(c.references)} for c in board.chapters
        },
        "made_inputs": [look for look in looks if look not in board.looks],
        "left_out": dict(board.left_out),
        "failed": scores.failed,
        "truth": _truth(scores, pairs, networks),
        "looks": {
            look: {
                row.name: _row(scores, look, row, pairs, late, networks)
                for row in rows
                if scores.rows.get((look, row.name))
            }
            for look in looks
        },
    }  # fmt: skip


def _pairs(board: Board, scores: Scores) -> Chapters:
    found = {}
    for chapter in board.chapters:
        names = [(chapter.name, target.name) for target in chapter.targets]
        found[chapter.name] = (names, same_colour([patches_of(scores.truth[name].entry) for name in names]))
    return found


def _truth(scores: Scores, pairs: Chapters, networks: Networks) -> dict[str, Any]:
    entries = {key: score.entry for key, score in scores.truth.items()}
    figures = {"n": len(entries), "colourfulness": mean(e["colourfulness"] for e in entries.values())}
    return figures | late_means(list(entries.values()), networks.keys) | consistency(pairs, entries)


def _row(scores: Scores, look: str, row: Row, pairs: Chapters, late: Late, networks: Networks) -> dict[str, Any]:
    pages = scores.rows[look, row.name]
    entries = {key: score.entry for key, score in pages.items()}
    grey = {key: score.entry for key, score in scores.rows[look, GREY].items()}
    truth = {key: score.entry for key, score in scores.truth.items()}
    figures = means(entries, grey, truth, networks.keys) | consistency(pairs, entries)
    fid = late.fid([s.pixels_sha256 for s in pages.values()], [scores.truth[key].made for key in pages])
    if fid is not None:
        figures[FID] = fid
    figures["per_chapter"] = {}
    for chapter in pairs:
        own = {key: entry for key, entry in entries.items() if key[0] == chapter}
        if own:
            figures["per_chapter"][chapter] = means(own, grey, truth, networks.keys) | consistency(
                {chapter: pairs[chapter]}, own
            )
    return figures
