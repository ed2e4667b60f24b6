"""The drift report: a plot, a table, and the pairs whose colours differ most, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from panelhue import maintenance_types as m
from panelhue import types as t
from panelhue.chapters import chapter_text
from panelhue.studio.wall import empty, reference_url

MOST_PAIRS = 12
LEFT, TOP, HIGH = 40, 12, 190  # of the plot's frame, pixels
LETTER = 8  # of a chapter's number, at most, pixels
NOTICEABLE = 5.0  # CIEDE2000 that a reader sees beside each other without looking for it


def plot_svg(chapters: Sequence[m.ChapterDrift]) -> str:
    """A column per chapter: its height is the mean, the whisker above it ends at the 95th percentile; never scaled.

    A broken line is drawn where a reader begins to see it. Columns stand as far apart as the chapters' numbers need.
    """
    longest = max((len(chapter_text(one.chapter)) for one in chapters), default=0)
    step = max(56 if len(chapters) <= 20 else 34, LETTER * longest + 10)
    width, floor = LEFT + step * len(chapters) + 12, TOP + HIGH
    top = max(NOTICEABLE, *(one.p95 for one in chapters)) * 1.05
    columns = "".join(_column(one, LEFT + step * place, step, top) for place, one in enumerate(chapters))
    marks = "".join(
        f'<g class="ph-grid"><line x1="{LEFT}" x2="{width}" y1="{_y(value, top):.1f}" y2="{_y(value, top):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{_y(value, top) + 4:.1f}" text-anchor="end">{value:g}</text></g>'
        for value in _marks(top)
    )
    limit = f'<path class="ph-limit" d="M{LEFT} {_y(NOTICEABLE, top):.1f}H{width}"/>'
    return (
        f'<figure class="ph-plot"><div tabindex="0" role="group" aria-label="Plot; the table below has its figures">'
        f'<svg width="{width}" height="{floor + 44}" role="img" aria-label="CIEDE2000 by chapter">{marks}{columns}'
        f'{limit}<text x="{LEFT}" y="{floor + 38}">chapter</text></svg></div><figcaption><span><b></b> mean CIEDE2000'
        "</span> <span><i></i> 95th percentile</span> "
        f"<span><s></s> from {NOTICEABLE:g} on, a reader sees it</span></figcaption></figure>"
    )


def _column(one: m.ChapterDrift, left: float, step: float, top: float) -> str:
    middle, wide = left + step / 2, step * 0.5
    low, high = _y(one.mean, top), _y(one.p95, top)
    name = chapter_text(one.chapter)
    return (
        f"<g><title>chapter {name}: mean {one.mean:.2f}, 95th percentile {one.p95:.2f}, {one.pairs} pairs</title>"
        f'<rect x="{middle - wide / 2:.1f}" y="{low:.1f}" width="{wide:.1f}" height="{TOP + HIGH - low:.1f}" rx="3"/>'
        f'<path d="M{middle:.1f} {low:.1f}V{high:.1f}M{middle - 6:.1f} {high:.1f}h12"/>'
        f'<text x="{middle:.1f}" y="{TOP + HIGH + 18}" text-anchor="middle">{name}</text></g>'
    )


def _y(value: float, top: float) -> float:
    return TOP + HIGH * (1 - min(value, top) / top)


def _marks(top: float) -> list[float]:
    step = next(step for step in (1, 2, 5, 10, 20, 50) if top / step <= 6)
    return [float(step * count) for count in range(int(top / step) + 1)]


def drift_html(drift: m.Drift, references: dict[str, t.Reference], series: str) -> str:
    """The report in words, as a table, and its worst pairs.

    Args:
        drift: as the server found it.
        references: of the pairs, by id; those that are gone meanwhile may lack.
        series: its id.
    """
    if not drift.chapters:
        return empty("Nothing to compare", "No two chapters of the pool show the same thing yet.")
    verdict = "a reader would see it" if drift.mean >= NOTICEABLE else "a reader would hardly see it"
    rows = "".join(
        f"<tr><th scope='row'>{chapter_text(one.chapter)}</th><td>{one.pairs}</td><td>{one.mean:.2f}</td>"
        f"<td>{one.p95:.2f}</td><td>{one.mean_depth:.1f}</td></tr>"
        for one in drift.chapters
    )
    pairs = "".join(_pair(pair, references, series) for pair in drift.worst[:MOST_PAIRS])
    return (
        f"<p>{drift.pairs} pairs of patches show the same thing in two chapters; their colours differ by CIEDE2000 "
        f"<b>{drift.mean:.2f}</b> on average: {verdict}.</p>{plot_svg(drift.chapters)}"
        "<table class='ph-table'><thead><tr><th scope='col'>Chapter"
        "</th><th scope='col'>Pairs</th><th scope='col'>Mean</th><th scope='col'>95th percentile</th><th scope='col'>"
        f"Mean depth</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<h3>Worst pairs</h3><ul class='ph-pairs'>{pairs}</ul>"
    )


def _pair(pair: m.DriftPair, references: dict[str, t.Reference], series: str) -> str:
    two = (
        ("earlier", pair.earlier_reference_id, pair.earlier_box),
        ("later", pair.reference_id, pair.box),
    )
    shown = "".join(_half(word, references.get(one), one, box, series) for word, one, box in two)
    return f"<li><div>{shown}</div><p><b>{pair.colour_difference:.1f}</b> at similarity {pair.score:.3f}</p></li>"


def _half(word: str, reference: t.Reference | None, reference_id: str, box: t.Box, series: str) -> str:
    if reference is None:
        return f"<p class='ph-soft'>{word}: {reference_id[:12]}… is gone</p>"
    across, down = 100 / max(1, reference.width), 100 / max(1, reference.height)
    left, top, width, height = (
        box.x0 * across,
        box.y0 * down,
        (box.x1 - box.x0) * across,
        (box.y1 - box.y0) * down,
    )
    facts = escape(f"{word}: chapter {chapter_text(reference.chapter)}, page {reference.page or '–'}")
    return (
        f"<button type='button' data-show='{reference_url(series, reference_id, 'large')}' data-facts='{facts}'"
        f" data-box='{left:.2f},{top:.2f},{width:.2f},{height:.2f}'><span class='ph-thumb'><img loading='lazy'"
        f" src='{reference_url(series, reference_id, 'thumb')}' width='{reference.width}' height='{reference.height}'"
        f" alt='{facts}'><i style='left:{left:.2f}%;top:{top:.2f}%;width:{width:.2f}%;height:{height:.2f}%'></i></span>"
        f"<small>{word}, ch {chapter_text(reference.chapter)}</small></button>"
    )
