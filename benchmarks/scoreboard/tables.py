"""The board in the terminal, and the columns that every rendering of it shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.scoreboard.paper import TABLES, difference


@dataclass(frozen=True)
class Column:
    """One figure of a row."""

    key: str
    title: str
    form: str
    higher_is_better: bool | None  # None: neither


COLUMNS = (
    Column("n", "n", "{:d}", None),
    Column("psnr_db", "PSNR, dB", "{:.2f}", True),
    Column("psnr_gain_db", "gain, dB", "{:+.2f}", True),
    Column("ssim", "SSIM", "{:.4f}", True),
    Column("ciede", "CIEDE2000", "{:.2f}", False),
    Column("ciede_ratio_to_grey", "of grey's", "{:.3f}", False),
    Column("colourfulness", "colourfulness", "{:.1f}", None),
    Column("colourfulness_ratio", "of the truth's", "{:.2f}", None),
    Column("consistency_ciede", "consistency", "{:.2f}", False),
    Column("clip_is", "CLIP-IS", "{:.4f}", True),
    Column("fid", "FID", "{:.2f}", False),
    Column("aesthetic", "aesthetic", "{:.3f}", True),
)
METRICS = {
    "clip_is": "CLIP-IS",
    "fid": "FID",
    "aesthetic": "aesthetic score",
}
CLIP_NOTE = (
    "Which CLIP measured the published CLIP-IS is not known here; an INT8 file's figures differ a little from those "
    "of the unrounded weights."
)
FID_NOTE = (
    "FID compares 2048 features by their covariance: below some thousands of pages it is far above what more pages "
    "would give, so it ranks rows of one n and says nothing else."
)
NOTES = {"clip_is": CLIP_NOTE, "fid": FID_NOTE}


def columns(results: Mapping[str, Any]) -> list[Column]:
    """The columns that some row of some board has a figure for."""
    have = {
        key
        for board in results["boards"].values()
        for rows in [{"truth": board["truth"]}, *board["looks"].values()]
        for figures in rows.values()
        for key in figures
    }
    return [column for column in COLUMNS if column.key in have]


def cells(figures: Mapping[str, Any], wanted: list[Column]) -> list[str]:
    """A row's figures as text; empty where it has none."""
    return [column.form.format(figures[column.key]) if column.key in figures else "" for column in wanted]


def notes(results: Mapping[str, Any]) -> list[str]:
    """What a reader must know beside the figures: with which weights, and what was left out and why."""
    lines = []
    for key, name in METRICS.items():
        said = results["metrics"][key]
        lines.append(
            f"{name}: left out: {said['left_out'].rstrip('.')}."
            if "left_out" in said
            else f"{name}: by {said['weights']} (sha256 {', '.join(s[:12] for s in said['sha256'].split(', '))})."
        )
        if key in NOTES and "left_out" not in said:
            lines.append(NOTES[key])
    lines += [f"{name}: left out: {reason.rstrip('.')}." for name, reason in results["left_out_rows"].items()]
    for name, board in results["boards"].items():
        if board["failed"]:
            lines.append(
                f"{name}: {len(board['failed'])} pages failed and are in no mean: {', '.join(board['failed'])}."
            )
    return lines


def show(console: Console, results: Mapping[str, Any]) -> None:
    """Prints every board, then the published tables and how they differ."""
    wanted = columns(results)
    for name, board in results["boards"].items():
        for look, rows in board["looks"].items():
            table = Table(title=f"{name}, {look}: {board['layout']}")
            table.add_column("row", no_wrap=True)
            for column in wanted:
                table.add_column(column.title, justify="right", no_wrap=True)
            for row, figures in rows.items():
                table.add_row(row, *cells(figures, wanted))
            table.add_row("truth", *cells(board["truth"], wanted), style="dim")
            console.print(table)
    for line in notes(results):
        console.print(line, highlight=False)
    for paper in TABLES:
        table = Table(*paper.header, title=f"published: {paper.title}", style="dim")
        for cell in paper.rows:
            table.add_row(*cell)
        console.print(table)
    console.print(difference(results), highlight=False)
