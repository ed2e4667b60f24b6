"""A pool as plain Python and numpy know it: the oracle of the engine's tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from retrieval.types import Bound, Draft, Found, ImportItem, SearchOptions


@dataclass(frozen=True)
class Item:
    """A reference of the model."""

    id: str
    sequence: int  # order of insertion
    draft: Draft
    vectors: np.ndarray  # unit rows
    near_duplicate_of: str = ""

    def box(self, part: int) -> tuple[int, int, int, int]:
        return part, 0, part + 5, 7


def import_item(data: bytes, draft: Draft, vectors: np.ndarray) -> ImportItem:
    """What is imported as `data`; its boxes tell its parts."""
    boxes = np.asarray([(part, 0, part + 5, 7) for part in range(len(vectors))], np.int32)
    return ImportItem(draft, data, vectors, boxes, 30, 20, "image/png")


def id_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def unit(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    return (wide / np.sqrt((wide**2).sum(axis=1, keepdims=True))).astype(np.float32)


def passes(bound: Bound, item: Item) -> bool:
    chapter, tags, depth = item.draft.chapter, set(item.draft.tags), item.draft.provenance.depth
    rules = [
        bound.max_chapter is None or chapter is None or chapter <= bound.max_chapter,
        bound.min_chapter is None or chapter is None or chapter >= bound.min_chapter,
        bound.max_depth is None or depth <= bound.max_depth,
        tags >= set(bound.all_tags),
        not bound.any_tags or bool(tags & set(bound.any_tags)),
        not tags & set(bound.none_tags),
        item.id not in bound.exclude,
        not (bound.exclude_near_duplicates and item.near_duplicate_of),
    ]
    return all(rules)


Row = tuple[float, str, int, np.ndarray, str]  # score, reference, part, vector, group


def ranked(items: dict[str, Item], query: np.ndarray, bound: Bound) -> list[Row]:
    """All rows that pass, best first, equal ones in order of insertion."""
    rows: list[tuple[float, int, Row]] = []
    for item in items.values():
        if passes(bound, item):
            scores = np.vecdot(item.vectors.astype(np.float64), query.astype(np.float64)).astype(np.float32)
            for part, score in enumerate(scores.tolist()):
                row = score, item.id, part, item.vectors[part], item.near_duplicate_of or item.id
                rows.append((-score, item.sequence * 100 + part, row))
    return [row for _, _, row in sorted(rows, key=lambda entry: entry[:2])]


def limited(rows: list[Row], most: int) -> list[Row]:
    """At most so many rows of one group, 0: any number."""
    kept, counts = [], dict[str, int]()
    for row in rows:
        counts[row[4]] = counts.get(row[4], 0) + 1
        if not most or counts[row[4]] <= most:
            kept.append(row)
    return kept


def check(found: Found, items: dict[str, Item], queries: np.ndarray, options: SearchOptions) -> None:
    """Fails unless the answer is what the options ask for of these items."""
    for number, query in enumerate(unit(queries)):
        hits = [hit for hit in found.hits if hit.query == number]
        assert [hit.rank for hit in hits] == list(range(len(hits)))
        rows = ranked(items, query, options.bound)
        assert found.candidates == len(rows)
        if options.diversity:
            check_variety([hit_key(hit) for hit in hits], rows, options)
            continue
        expected = limited(rows, options.per_reference)[: options.k]
        assert [(hit.score, *hit_key(hit)) for hit in hits] == [row[:3] for row in expected]
        for hit in hits:
            draft = items[hit.reference.id].draft
            assert (hit.reference.chapter, hit.reference.tags) == (draft.chapter, draft.tags)


def hit_key(hit) -> tuple[str, int]:
    return hit.reference.id, hit.box.x0


def check_variety(
    keys: list[tuple[str, int]], rows: list[Row], options: SearchOptions, tolerance: float = 1e-5
) -> None:
    """Fails unless each hit is, but for rounding, the best choice beside those before it."""
    window = rows[: 16 * options.k]
    assert len(keys) == min(options.k, len(window))
    by_key = {row[1:3]: row for row in window}
    chosen: list[Row] = []
    for key in keys:
        left = [row for row in window if row[1:3] not in {one[1:3] for one in chosen}]
        assert worth(by_key[key], chosen, options) >= max(worth(row, chosen, options) for row in left) - tolerance
        chosen.append(by_key[key])


def worth(row: Row, chosen: list[Row], options: SearchOptions) -> float:
    share = options.diversity
    return row[0] if not chosen else (1 - share) * row[0] - share * max(float(row[3] @ one[3]) for one in chosen)


def changed(item: Item, **changes) -> Item:
    return replace(item, **changes)
