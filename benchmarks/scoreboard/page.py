"""The visual report: one HTML file with its pictures inside, for the eye; not for a repository, as it shows art.

Of every row the pages with the greatest and the least gain over the black-and-white page, as given page, true page and
result side by side with their figures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from benchmarks.scoreboard.chapters import Board, Target, read_rgb
from benchmarks.scoreboard.figures import Page
from benchmarks.scoreboard.game import Score, Scores
from benchmarks.scoreboard.paper import TABLES, difference
from benchmarks.scoreboard.rows import GREY, Row
from benchmarks.scoreboard.tables import Column, cells, columns, notes

WIDTH = 360  # pixels of a picture in the report
QUALITY = 76  # of its JPEGs

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #2a7d4f; --bad: #b3402f; }
@media (prefers-color-scheme: dark) { :root { --good: #6fcf97; --bad: #f0907f; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 0 auto; padding: 24px 16px 80px; }
h1 { font-size: 1.7rem; margin: 0 0 4px; } h2 { font-size: 1.3rem; margin: 48px 0 8px; } h3 { margin: 28px 0 6px; }
p, li { max-width: 78ch; } .quiet { opacity: .75; font-size: .9rem; }
nav a { margin-right: 1em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; margin: 8px 0; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom-width: 2px; } td.best { font-weight: 700; } tr.truth { opacity: .7; }
details { border: 1px solid var(--line); border-radius: 8px; margin: 10px 0; padding: 0 14px; }
summary { cursor: pointer; padding: 10px 0; font-weight: 600; }
.page { margin: 0 0 22px; }
.page header { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; margin-bottom: 6px; }
.tag { font-weight: 700; } .good { color: var(--good); } .bad { color: var(--bad); }
.three { display: grid; grid-template-columns: repeat(3, 1fr); gap: 8px; }
figure { margin: 0; } figcaption { font-size: .8rem; opacity: .75; text-align: center; }
img { width: 100%; height: auto; display: block; border-radius: 4px; background: var(--soft); }
"""


@dataclass(frozen=True)
class Shown:
    """A board with all that was measured on it."""

    board: Board
    scores: Scores


def write_page(
    path: Path, said: Mapping[str, Any], shown: Sequence[Shown], rows: Sequence[Row], *, count: int = 3
) -> Path:
    """Writes the report and gives its path; it holds no script and asks for nothing from outside.

    Args:
        path: of the HTML file.
        said: the results as they stand in scoreboard.json.
        shown: the boards, with their pages.
        rows: of the table.
        count: so many best and so many worst pages per row.
    """
    wanted = columns(said)
    parts = [_head(said, shown)]
    for one in shown:
        board = said["boards"][one.board.name]
        parts.append(
            f'<h2 id="{escape(one.board.name)}">{escape(one.board.name)}</h2><p>{escape(board["layout"])}.</p>'
        )
        parts.append(_list([f"{name} takes no part: {why}" for name, why in board["left_out"].items()]))
        for look, table in board["looks"].items():
            parts.append(f"<h3>Input: {escape(look)}</h3>{_board_table(table, board['truth'], wanted)}")
            parts += [_row_details(one, look, row, count) for row in rows if row.method != GREY and row.name in table]
    parts.append(_published(said))
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Scoreboard</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return path


def _head(said: Mapping[str, Any], shown: Sequence[Shown]) -> str:
    links = "".join(f'<a href="#{escape(s.board.name)}">{escape(s.board.name)}</a>' for s in shown)
    servers = said["servers"]
    backends = ", ".join(f"{name} {card['version']}" for name, card in servers["backends"].items()) or "none"
    return (
        f"<h1>Scoreboard</h1><p class=quiet>{datetime.now(UTC):%Y-%m-%d %H:%M} UTC · embedder "
        f"{escape(servers['embedder'])} · back-ends: {escape(backends)} · shows others' art: keep it to yourself</p>"
        f'<nav>{links}<a href="#published">published figures</a></nav>'
        "<p>Gain is PSNR over the black-and-white page; “of grey's” is the sum of CIEDE2000 over that page's sum; "
        "consistency is the difference of what should be one colour on different pages (lower is better, and grey is "
        "consistent by nature); colourfulness says whether colour was put in at all. Bold: best of its column.</p>"
        + _list([f"{name}: {text}" for name, text in said["rows"].items()])
        + _list(notes(said))
    )


def _list(lines: Sequence[str]) -> str:
    return f"<ul class=quiet>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _board_table(rows: Mapping[str, Mapping[str, Any]], truth: Mapping[str, Any], wanted: list[Column]) -> str:
    best, none = dict[str, float](), object()  # a row without the figure is never the best
    for column in wanted:
        values = [figures[column.key] for figures in rows.values() if column.key in figures]
        if values and column.higher_is_better is not None:
            best[column.key] = max(values) if column.higher_is_better else min(values)
    lines = []
    for name, figures in rows.items():
        data = "".join(
            f"<td{' class=best' if figures.get(column.key, none) == best.get(column.key) else ''}>{text}</td>"
            for column, text in zip(wanted, cells(figures, wanted), strict=True)
        )
        lines.append(f"<tr><td>{escape(name)}</td>{data}</tr>")
    data = "".join(f"<td>{text}</td>" for text in cells(truth, wanted))
    lines.append(f"<tr class=truth><td>truth</td>{data}</tr>")
    return _table(["row", *(column.title for column in wanted)], lines)


def _table(header: Sequence[str], lines: Sequence[str]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in header)
    return f"<div class=scroll><table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _row_details(shown: Shown, look: str, row: Row, count: int) -> str:
    pages, grey = shown.scores.rows[look, row.name], shown.scores.rows[look, GREY]
    gains = {key: score.entry["psnr_db"] - grey[key].entry["psnr_db"] for key, score in pages.items()}
    order = sorted(gains, key=lambda key: -gains[key])
    best = order[: min(count, -(-len(order) // 2))]
    worst = [key for key in order[: -count - 1 : -1] if key not in best]
    chosen = [("best", key) for key in best] + [("worst", key) for key in worst]
    targets = {(c.name, t.name): t for c in shown.board.chapters for t in c.targets}
    cards = [_card(tag, key, targets[key], look, pages[key], grey[key], gains[key]) for tag, key in chosen]
    said = f"{row.said}: {len(best)} best and {len(worst)} worst of {len(order)} pages"
    return f"<details><summary>{escape(said)}</summary>{''.join(cards)}</details>"


def _card(tag: str, key: Page, target: Target, look: str, score: Score, grey: Score, gain: float) -> str:
    entry = score.entry
    figures = (
        f"PSNR {entry['psnr_db']:.2f} dB ({gain:+.2f}) · SSIM {entry['ssim']:.4f} · CIEDE2000 {entry['ciede']:.2f} "
        f"(given {grey.entry['ciede']:.2f}) · colourfulness {entry['colourfulness']:.1f}"
    )
    given = np.repeat(target.grey_pixels(look)[..., None], 3, axis=2)
    result = read_rgb(score.picture) if score.picture else given
    pictures = {f"given: {look}": given, "truth": target.true_pixels(), "result": result}
    three = "".join(_figure(said, "/".join(key), pixels) for said, pixels in pictures.items())
    mark = "good" if tag == "best" else "bad"
    return (
        f'<article class=page><header><span class="tag {mark}">{tag}</span><strong>{escape("/".join(key))}</strong>'
        f"<span>{figures}</span></header><div class=three>{three}</div></article>"
    )


def _figure(said: str, name: str, pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    picture = f'<img alt="{escape(said)}, {escape(name)}" src="{_data(pixels)}">'
    return f"<figure>{picture}<figcaption>{escape(said)}</figcaption></figure>"


def _data(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((WIDTH, 4 * WIDTH), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def _published(said: Mapping[str, Any]) -> str:
    parts = [f'<h2 id="published">Published figures</h2><p>ColorFlow, arXiv 2412.11815. {escape(difference(said))}</p>']
    for table in TABLES:
        lines = [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows]
        parts.append(f"<h3>{escape(table.title)}</h3>{_table(table.header, lines)}")
    return "".join(parts)
