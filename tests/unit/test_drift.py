"""The drift report against a naive one, and on pages whose colours were changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import drift as module
from retrieval.digest import mean_colours, read_digest
from retrieval.drift import WORST, drift
from retrieval.types import GENERATED, Provenance
from serving.colour import ciede2000, lab_of
from tests.unit.pool_drawings import embedded, page, turned
from tests.unit.test_duplicates import Members, made, reference

TOLERANCE = 1e-5


def in_chapters(members: Members, rng: np.random.Generator) -> Members:
    """The same with chapters and depths, some without a chapter; vectors of eighths, whose products are exact."""
    return [
        (
            reference(
                one.generation,
                digest=one.digest,
                chapter=None if rng.random() < 0.1 else int(rng.integers(1, 5)) * 500,
                provenance=Provenance(GENERATED, int(rng.integers(1, 4))),
            ),
            replace(stored, vectors=np.round(stored.vectors * 8) / np.float32(8)),
        )
        for one, stored in members
    ]


def naive(members: Members, min_score: float) -> list[tuple[int, float, float]]:
    """Chapter, score and difference of every pair."""
    found = []
    for one, stored in members:
        mine = read_digest(one.digest)
        for patch in range(len(stored.vectors) if mine is not None and one.chapter is not None else 0):
            best = None
            for other, before in sorted(members, key=lambda m: (m[0].chapter or 0, m[0].generation)):
                theirs = read_digest(other.digest)
                if theirs is None or other.chapter is None or other.chapter >= one.chapter:
                    continue
                for place, vector in enumerate(before.vectors):
                    score = float(stored.vectors[patch] @ vector)
                    if best is None or score > best[0]:
                        best = score, mean_colours(theirs)[place]
            if best and best[0] >= min_score:
                lab = lab_of(mean_colours(mine)[patch]), lab_of(best[1])
                found.append((one.chapter, best[0], float(ciede2000(*lab))))
    return found


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(0, 16), st.integers(1, 9))
def test_the_report_is_the_naive_one(seed: int, count: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    members = in_chapters(made(rng, count), rng)
    expected = naive(members, 0.9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        report = drift(members)
    assert report.pairs == len(expected)
    assert report.mean == pytest.approx(np.mean([d for _, _, d in expected]) if expected else 0, abs=TOLERANCE)
    assert [c.chapter for c in report.chapters] == sorted({chapter for chapter, _, _ in expected})
    for found in report.chapters:
        own = [difference for chapter, _, difference in expected if chapter == found.chapter]
        depths = [one.provenance.depth for one, _ in members if one.chapter == found.chapter]
        assert (found.pairs, found.mean_depth) == (len(own), pytest.approx(np.mean(depths)))
        assert found.mean == pytest.approx(np.mean(own), abs=TOLERANCE)
        assert found.p95 == pytest.approx(np.percentile(own, 95), abs=TOLERANCE)
    worst = sorted((difference for _, _, difference in expected), reverse=True)[:WORST]
    assert [pair.colour_difference for pair in report.worst] == pytest.approx(worst, abs=TOLERANCE)
    assert report.skipped == sum(not one.digest and one.chapter is not None for one, _ in members)


def test_a_page_in_other_colours_is_the_worst_pair() -> None:
    members = [
        embedded(page(1, 1), 1, chapter=1000),
        embedded(page(1, 2), 2, chapter=1000),
        embedded(page(1, 1), 3, chapter=2000),
        embedded(turned(page(1, 2), 120), 4, chapter=2000),
    ]
    report = drift(members, min_score=0.95)
    assert report.worst[0].reference_id == members[3][0].id
    assert report.worst[0].earlier_reference_id == members[1][0].id
    assert report.worst[0].box == report.worst[0].earlier_box
    assert report.worst[0].colour_difference > 5
    assert [pair.colour_difference for pair in report.worst if pair.reference_id == members[2][0].id] == [0] * 5


def test_a_chapter_is_not_compared_with_itself() -> None:
    members = [embedded(page(1, 1), 1, chapter=1000), embedded(page(1, 1), 2, chapter=1000)]
    assert drift(members).pairs == 0


def test_a_later_addition_to_an_early_chapter_counts_as_early() -> None:
    members = [embedded(page(1, 1), 1, chapter=2000), embedded(page(1, 1), 2, chapter=1000)]
    report = drift(members)
    assert [c.chapter for c in report.chapters] == [2000]
    assert report.worst[0].earlier_reference_id == members[1][0].id


def test_a_missing_digest_can_be_completed() -> None:
    first, second = embedded(page(1, 1), 1, chapter=1000), embedded(page(1, 1), 2, chapter=2000)
    bare = reference(1, chapter=1000), first[1]
    assert drift([bare, second]).skipped == 1
    report = drift([bare, second], digest_of=lambda one, stored: first[0].digest)
    assert (report.skipped, report.pairs, report.mean) == (0, 5, 0)
