"""Renders the scoreboard's Markdown from benchmarks/results/scoreboard.json; called by a cog block of the docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.render import NAMES, load, provenance, table
from benchmarks.scoreboard.paper import TABLES, difference
from benchmarks.scoreboard.tables import cells, columns, notes

PRINTED = 3  # of the published tables: the methods under both inputs, and retrieval on and off


def scoreboard() -> str:
    """Every board with its inputs, what was left out and why, then the published figures and how they differ."""
    results = load("scoreboard")["results"]
    return "\n\n".join([ours(results), provenance("scoreboard"), published(results)])


def ours(results: Mapping[str, Any]) -> str:
    """The boards and the notes on them.

    Args:
        results: as they stand in scoreboard.json.
    """
    wanted = columns(results)
    parts = []
    for name, board in results["boards"].items():
        chapters = board["chapters"].values()
        pages, references = (sum(c[key] for c in chapters) for key in ("pages", "references"))
        for look, rows in board["looks"].items():
            title = f"**{NAMES.get(name, name)}, {look} input** ({board['layout']}; {len(chapters)} chapters, {pages} "
            lines = [[row, *cells(figures, wanted)] for row, figures in rows.items()]
            lines.append(["truth", *cells(board["truth"], wanted)])
            parts.append(
                f"{title}pages, {references} references)\n\n{table(['row', *(c.title for c in wanted)], lines)}"
            )
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in notes(results))])


def published(results: Mapping[str, Any]) -> str:
    """The paper's tables on methods and on retrieval, with the difference in data and setting.

    Args:
        results: as they stand in scoreboard.json.
    """
    parts = [f"Published figures (ColorFlow, arXiv 2412.11815). {difference(results)}"]
    parts += [f"**{t.title}**\n\n{table(list(t.header), [list(row) for row in t.rows])}" for t in TABLES[:PRINTED]]
    return "\n\n".join(parts)
