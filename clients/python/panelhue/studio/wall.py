"""The pool of a series as a wall of references by chapter, as HTML."""

from __future__ import annotations

import itertools
from html import escape
from urllib.parse import quote

from panelhue import types as t
from panelhue.chapters import chapter_text
from panelhue.studio.pool import Wall
from panelhue.studio.words import counted, origin_text, place_text

EMPTY = """<div class="ph-empty"><h3>{title}</h3><p>{text}</p></div>"""


def reference_url(series: str, reference_id: str, size: str) -> str:
    """Where a reference's picture is; `size` is "thumb" or "large"."""
    return f"ph-studio/series/{quote(series, safe='')}/{quote(reference_id, safe='')}/{size}"


def empty(title: str, text: str) -> str:
    """What stands where nothing is to be shown."""
    return EMPTY.format(title=escape(title), text=escape(text))


def wall_html(wall: Wall) -> str:
    """All cards, chapter by chapter."""
    if not wall.references:
        return _head(wall) + (
            empty("Nothing passes the filter", "Choose other chapters, or all references.")
            if wall.stats.references
            else empty("The pool is empty", "Drop colour pages of this series above: they teach it its colours.")
        )
    groups = itertools.groupby(wall.references, key=lambda one: one.chapter)
    sections = (_chapter(wall.series.id, chapter, list(found)) for chapter, found in groups)
    more = (
        f'<p class="ph-soft">Only {len(wall.references)} references are shown; filter by chapter to see the others.</p>'
        if wall.more
        else ""
    )
    return _head(wall) + "".join(sections) + more


def _head(wall: Wall) -> str:
    stats = wall.stats
    given = stats.references_by_depth.get(0, 0)
    facts = [counted(stats.references, "reference")]
    if stats.references:
        facts += [f"{given} given", f"{stats.references - given} generated"]
        facts += [counted(len(stats.references_by_chapter), "chapter")] if stats.references_by_chapter else []
    if (most := wall.series.quota.max_references) > 0:
        facts.append(f"room for {max(0, most - stats.references)} more")
    items = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    name = escape(wall.series.display_name or wall.series.id)
    return f'<header class="ph-facts"><h2>{name}</h2><ul data-generation="{stats.generation}">{items}</ul></header>'


def _chapter(series: str, chapter: int | None, found: list[t.Reference]) -> str:
    title = f"Chapter {chapter_text(chapter)}" if chapter is not None else "Without a chapter"
    cards = "".join(_card(series, one) for one in found)
    return (
        f'<section class="ph-chapter"><h3>{escape(title)} <small>{counted(len(found), "reference")}</small></h3>'
        f'<ul class="ph-wall">{cards}</ul></section>'
    )


def _card(series: str, one: t.Reference) -> str:
    origin, place = origin_text(one.provenance), place_text(one.chapter, one.page)
    maker = f" · {one.provenance.backend}" if one.provenance.backend else ""
    twin = " · repeats another" if one.near_duplicate_of else ""
    facts = [
        place,
        origin + maker,
        f"{one.width} × {one.height} pixels",
        f"from {one.provenance.source}" if one.provenance.source else "",
        f"made of {counted(len(one.provenance.parent_ids), 'reference')}" if one.provenance.parent_ids else "",
        f"tags: {', '.join(one.tags)}" if one.tags else "",
        f"added {one.create_time:%Y-%m-%d %H:%M}, generation {one.generation}",
        f"id {one.id[:16]}…",
    ]
    kind = "given" if one.provenance.origin is t.Origin.OFFICIAL else "made"
    return (
        f'<li><button type="button" class="ph-card" data-show="{reference_url(series, one.id, "large")}"'
        f' data-facts="{escape(chr(10).join(fact for fact in facts if fact))}" data-reference="{escape(one.id)}">'
        f'<img loading="lazy" decoding="async" src="{reference_url(series, one.id, "thumb")}" alt="Reference, {place}"'
        f' width="{one.width}" height="{one.height}"><span><b>{escape(place)}</b>'
        f'<em class="ph-{kind}">{escape(origin + maker + twin)}</em></span></button></li>'
    )
