"""One page of the chapter, large: grey and colour, hints, and the patches that gave it colour. As HTML.

What changes with a click alone (the slider, the corner that is looked at, the tool) is studio.js's; it is no part of
this HTML, which only says what the studio knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from panelhue import types as t
from panelhue.errors import BookError
from panelhue.studio.desk import Desk, DeskPage, PageState, Verdict
from panelhue.studio.strip import page_url
from panelhue.studio.wall import empty, reference_url
from panelhue.studio.words import CORNERS, counted, origin_text, place_text

MOST_PATCHES = 24  # shown of one page
SIZES = (("small", 0.004), ("middle", 0.012), ("large", 0.03))  # a hint's radius over the page's longer side


@dataclass(frozen=True)
class Patch:
    """A reference's patch and the corners of the page for which it was found."""

    best: t.Hit  # with the highest score
    corners: tuple[t.Corner, ...]
    used: bool | None


def patches_of(hits: Iterable[t.Hit]) -> list[Patch]:
    """Each patch once: those that gave colour first, the best first."""
    found: dict[tuple[str, t.Box], list[t.Hit]] = {}
    for hit in hits:
        found.setdefault((hit.reference_id, hit.box), []).append(hit)
    patches = []
    for same in found.values():
        told = [hit.used for hit in same if hit.used is not None]
        corners = tuple(dict.fromkeys(hit.corner for hit in same if hit.corner in CORNERS))
        patches.append(Patch(max(same, key=lambda hit: hit.score), corners, any(told) if told else None))
    return sorted(patches, key=lambda patch: (patch.used is False, -patch.best.score))


def viewer_html(desk: Desk, palette: Sequence[t.Swatch] = (), series: str = "") -> str:
    """The selected page; empty while there is no chapter."""
    if not desk.pages:
        return ""
    page = desk.pages[min(desk.selected, len(desk.pages) - 1)]
    try:
        width, height = desk.measured(page)
    except (BookError, OSError) as error:
        return _bar(desk, page) + empty(f"{page.label} cannot be shown", str(error))
    return (
        f'<article class="ph-viewer" data-place="{page.place}" data-version="{page.version}"'
        f' data-state="{page.state.value}" data-verdict="{page.verdict.value}">{_bar(desk, page)}'
        f'<div class="ph-split"><div class="ph-left">{_tools(page, palette)}{_stage(desk, page, width, height)}</div>'
        f'<div class="ph-right">{_said(page)}{_hints(page)}{_sources(page, series)}</div></div></article>'
    )


def _button(act: str, words: str, key: str, kind: str = "", off: bool = False) -> str:
    return (
        f'<button type="button" class="ph-button {kind}" data-act="{act}"{" disabled" if off else ""}'
        f' aria-keyshortcuts="{key}">{words}<kbd aria-hidden="true">{key}</kbd></button>'
    )


def _bar(desk: Desk, page: DeskPage) -> str:
    ready = page.result is not None and desk.run is None
    buttons = (
        _button("previous", "Previous", "k", off=page.place == 0),
        _button("next", "Next", "j", off=page.place + 1 == len(desk.pages)),
        _button("approve", "Approve", "a", "ph-main", off=page.result is None),
        _button("reject", "Reject", "x", off=page.result is None),
        _button("recolour", "Recolour", "r", off=desk.run is not None),
    )
    where = f"Page {page.place + 1} of {len(desk.pages)}"
    verdict = f' <em class="ph-{page.verdict.value}">{page.verdict.value}</em>' if page.verdict else ""
    return (
        f'<header class="ph-bar" data-ready="{int(ready)}">'
        f"<h3>{where} <small>{escape(page.label)}</small>{verdict}</h3>"
        f'<div class="ph-buttons" role="group" aria-label="This page">{"".join(buttons)}</div></header>'
    )


def _tools(page: DeskPage, palette: Sequence[t.Swatch]) -> str:
    swatches = "".join(
        f'<button type="button" class="ph-swatch" data-colour="#{one.rgb:06x}" style="--rgb:#{one.rgb:06x}"'
        f' title="{escape(one.name)}" aria-label="Hint colour {escape(one.name)}"></button>'
        for one in palette
    )
    sizes = "".join(f'<option value="{share}">{name}</option>' for name, share in SIZES)
    slider = (
        '<label class="ph-cut"><span>Grey</span><input type="range" min="0" max="100" value="50" step="1"'
        ' data-cut aria-label="Slider between grey and colour"><span>Colour</span></label>'
        if page.result is not None
        else '<p class="ph-cut ph-soft">The page is grey until it is coloured.</p>'
    )
    return (
        f'<div class="ph-tools">{slider}<div class="ph-hinting" role="group" aria-label="Hints">'
        '<button type="button" class="ph-button" data-mode aria-pressed="false" aria-keyshortcuts="h">Place hints'
        '<kbd aria-hidden="true">h</kbd></button>'
        '<label>Colour <input type="color" value="#cc3322" data-rgb></label>'
        f"<label>Size <select data-size>{sizes}</select></label>{swatches}</div></div>"
    )


def _stage(desk: Desk, page: DeskPage, width: int, height: int) -> str:
    colour = (
        f'<img class="ph-colour" src="{page_url(desk, page, "colour")}" alt="Page {page.place + 1} in colour">'
        if page.result is not None
        else ""
    )
    corners = "".join(f'<i class="ph-corner" data-corner="{key}"></i>' for key, _ in CORNERS.values())
    dots = "".join(
        f'<i class="ph-dot" style="left:{hint.x / width:.4%};top:{hint.y / height:.4%};--rgb:#{hint.rgb:06x};'
        f'width:{max(2 * hint.radius, 8) / width:.4%}"></i>'
        for hint in page.hints
    )
    return (
        f'<div class="ph-stage" tabindex="0" role="application" style="--wide:{width};--high:{height}"'
        f' aria-label="Page {page.place + 1}. Click a place to see where its colour comes from. With Place hints on,'
        ' click to set a hint; with the keyboard, arrows move the cross and Enter sets it.">'
        f'<img class="ph-grey" src="{page_url(desk, page, "grey")}" alt="Page {page.place + 1} in grey">'
        f'{colour}<i class="ph-line" aria-hidden="true"></i>{corners}{dots}<i class="ph-cross"></i></div>'
    )


def _said(page: DeskPage) -> str:
    if page.state is PageState.FAILED:
        return f'<p class="ph-failure" role="alert">{escape(page.problem)}</p>'
    result = page.result
    if result is None:
        return ""
    if result.already_colour:
        return '<p class="ph-soft">The page came in colour and was kept as it is.</p>'
    facts = [f"{result.backend} {result.backend_version}", f"{result.timing.total_ns / 1e9:.1f} s"]
    facts += [f"confidence {result.confidence:.2f}"] if result.confidence is not None else []
    facts += [f"would be depth {result.depth}"] if page.verdict is not Verdict.APPROVED else [f"depth {result.depth}"]
    facts += [f"weights under {result.weights_licence}"] if result.weights_licence else []
    return f'<p class="ph-soft">{escape(" · ".join(facts))}</p>'


def _hints(page: DeskPage) -> str:
    if not page.hints:
        return ""
    items = "".join(
        f'<li><i style="--rgb:#{hint.rgb:06x}"></i>#{hint.rgb:06x} at {hint.x:.0f}, {hint.y:.0f}'
        f'<button type="button" class="ph-link" data-act="unhint" data-hint="{place}"'
        f' aria-label="Remove hint {place + 1}">remove</button></li>'
        for place, hint in enumerate(page.hints)
    )
    return (
        f"<section><h4>{counted(len(page.hints), 'hint')}</h4>"
        f'<ul class="ph-hints">{items}</ul><p class="ph-soft">Recolour takes them into account.</p></section>'
    )


def _sources(page: DeskPage, series: str) -> str:
    if page.result is None or page.result.already_colour:
        return ""
    patches = patches_of(page.result.references)
    if not patches:
        return empty("No references", "The page was coloured without any; choose a series whose pool has some.")
    corners = "".join(
        f'<button type="button" class="ph-button" data-corner="{key}" aria-pressed="false">{word}</button>'
        for key, word in (("", "all"), *CORNERS.values())
    )
    items = "".join(_patch(patch, series) for patch in patches[:MOST_PATCHES])
    used = sum(patch.used is True for patch in patches)
    told = f"{used} of {len(patches)} gave colour" if any(p.used is not None for p in patches) else f"{len(patches)}"
    return (
        f'<section class="ph-sources"><h4>Where the colour comes from <small>{told}</small></h4>'
        f'<div class="ph-corners" role="group" aria-label="Corner of the page">{corners}</div>'
        f'<ul class="ph-patches">{items}</ul></section>'
    )


def _patch(patch: Patch, series: str) -> str:
    hit = patch.best
    left, top, width, height = box_shares(hit)
    keys = " ".join(CORNERS[corner][0] for corner in patch.corners)
    words = ", ".join(CORNERS[corner][1] for corner in patch.corners)
    place = place_text(hit.chapter, hit.page)
    used = {True: "gave colour", False: "not used", None: ""}[patch.used]
    facts = "\n".join(
        part for part in (place, origin_text(hit.provenance), f"score {hit.score:.3f}", used, words) if part
    )
    return (
        f'<li data-corners="{keys}" class="{"ph-unused" if patch.used is False else ""}"><button type="button"'
        f' data-show="{reference_url(series, hit.reference_id, "large")}" data-facts="{escape(facts)}"'
        f' data-box="{left:.2f},{top:.2f},{width:.2f},{height:.2f}">'
        f'<span class="ph-thumb"><img loading="lazy" decoding="async" alt="Reference, {escape(place)}"'
        f' width="{hit.reference_width}" height="{hit.reference_height}"'
        f' src="{reference_url(series, hit.reference_id, "thumb")}"><i style="left:{left:.2f}%;top:{top:.2f}%;'
        f'width:{width:.2f}%;height:{height:.2f}%"></i></span>'
        f'<b>{hit.score:.3f}</b><span class="ph-score"><i style="width:{max(0.0, hit.score):.1%}"></i></span>'
        f"<small>{escape(place)} · {origin_text(hit.provenance)}<br>{escape(' · '.join(p for p in (used, words) if p))}"
        "</small></button></li>"
    )


def box_shares(hit: t.Hit) -> tuple[float, float, float, float]:
    """Left, top, width and height of a patch in its reference, per cent; the whole where it is not told."""
    width, height, box = hit.reference_width, hit.reference_height, hit.box
    if not width or not height:
        return 0.0, 0.0, 100.0, 100.0
    across, down = 100 / width, 100 / height
    return box.x0 * across, box.y0 * down, (box.x1 - box.x0) * across, (box.y1 - box.y0) * down
