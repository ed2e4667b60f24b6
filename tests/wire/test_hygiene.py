"""Near duplicates and drift of a pool through a real server."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from examples.made_up_series import draw_page
from panelhue import types as t
from tests.wire.pools import clients

SIZE = {"width": 200, "height": 282}


@pytest.fixture(scope="module")
def both(retrieval_server):
    with clients(retrieval_server.address) as pair:
        yield pair


def page(number: int, kind: str = "PNG", *, turn: int = 0) -> bytes:
    """A page of the made-up series as a file; `turn` moves its hues, of 256."""
    image = Image.fromarray(draw_page(1, number, **SIZE).colour)
    if turn:
        hsv = np.asarray(image.convert("HSV")).copy()
        hsv[..., 0] += np.uint8(turn)
        image = Image.fromarray(hsv, "HSV").convert("RGB")
    out = io.BytesIO()
    image.save(out, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return out.getvalue()


@pytest.fixture(scope="module")
def pool(both):
    """Two pages, and the first of them again as JPEG and in other colours; ids by name."""
    pools, _ = both
    pools.create_series("alike")
    given = [
        t.ReferenceFile("one", page(1), chapter=1000),
        t.ReferenceFile("two", page(2), chapter=1000),
        t.ReferenceFile("again", page(1, "JPEG"), chapter=2000),
        t.ReferenceFile("recoloured", page(1, turn=90), chapter=3000),
    ]
    return {one.name: one.reference.id for one in pools.add_references("alike", given)}


def test_the_same_drawing_in_another_file_is_a_near_duplicate(both, pool):
    pools, upkeep = both
    tried = upkeep.find_near_duplicates("alike", dry_run=True)
    assert [(one.reference_id, one.original_id) for one in tried.duplicates] == [(pool["again"], pool["one"])]
    assert pools.stats("alike").near_duplicates == 0
    done = upkeep.find_near_duplicates("alike")
    assert (done.duplicates, done.total) == (tried.duplicates, 1)
    assert done.duplicates[0].score > 0.98
    assert done.duplicates[0].colour_difference < 3
    assert done.generation == pools.get_series("alike").generation
    assert pools.get_reference("alike", pool["again"]).near_duplicate_of == pool["one"]
    assert pools.stats("alike").near_duplicates == 1


def test_near_duplicates_are_left_out_where_that_is_asked(both, pool):
    pools, upkeep = both
    upkeep.find_near_duplicates("alike")
    bound = t.Bound(exclude_near_duplicates=True)
    listed = {one.id for one in pools.list_references("alike", bound=bound)}
    assert listed == set(pool.values()) - {pool["again"]}
    context = pools.retrieve_context("alike", page(1), hits_per_corner=8, bound=bound, pixels=t.Pixels.NONE)
    assert pool["again"] not in {hit.reference_id for hit in context.hits}


def test_near_duplicates_count_as_one_reference(both, pool):
    pools, upkeep = both
    upkeep.find_near_duplicates("alike")
    context = pools.retrieve_context(
        "alike", page(1), hits_per_corner=8, max_hits_per_reference=1, pixels=t.Pixels.NONE
    )
    for corner in list(t.Corner)[1:]:
        there = {hit.reference_id for hit in context.hits if hit.corner is corner}
        assert len(there & {pool["one"], pool["again"]}) == 1


def test_drift_is_what_chapters_differ_in(both, pool):
    _, upkeep = both
    drift = upkeep.drift("alike")
    by_chapter = {one.chapter: one for one in drift.chapters}
    assert by_chapter[2000].mean < 3 < by_chapter[3000].mean
    assert drift.pairs == sum(one.pairs for one in drift.chapters)
    assert drift.worst[0].reference_id == pool["recoloured"]
    differences = [one.colour_difference for one in drift.worst]
    assert differences == sorted(differences, reverse=True)


def test_drift_keeps_to_its_bound(both, pool):
    _, upkeep = both
    drift = upkeep.drift("alike", bound=t.Bound(max_chapter=2000))
    assert [one.chapter for one in drift.chapters] == [2000]
