"""Upkeep of the retrieval server in messages, and the options that every search has."""

from __future__ import annotations

import math

import pytest

from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import maintenance_pb2 as pb
from panelhue.retrieval.v1 import retrieval_pb2
from retrieval import codec
from retrieval.codec.searches import Owners
from retrieval.types import EXACT, Bound, Found, Hit, Provenance, Reference, SearchOptions, SnapshotInfo, Timing
from retrieval.upkeep_types import (
    BackUpStep,
    ChapterDrift,
    CheckStep,
    Compacted,
    Drift,
    DriftPair,
    NearDuplicate,
    NearDuplicates,
    Reindexed,
    Resident,
)
from serving.errors import CorruptData, InvalidInput
from serving.fields import Fields
from serving.geometry import Box

ASKED = [
    retrieval_pb2.SearchVectorsRequest,
    retrieval_pb2.SearchTextRequest,
    retrieval_pb2.RetrieveContextOptions,
]


def wrong_fields(decode, *arguments) -> set[str]:
    f = Fields()
    decode(f, *arguments)
    with pytest.raises(InvalidInput) as caught:
        f.done()
    return {violation.field for violation in caught.value.violations}


# -- searches


@pytest.mark.parametrize("kind", ASKED)
def test_a_search_without_options_asks_for_the_best_as_it_is_now(kind):
    f = Fields()
    assert codec.decode_options(f, kind(), 3) == SearchOptions(3)
    f.done()


@pytest.mark.parametrize("kind", ASKED)
def test_every_search_has_the_same_options(kind):
    asked = kind(
        bound=common.Bound(max_depth=0, exclude_near_duplicates=True),
        min_generation=2**63,
        as_of_generation=4,
        max_hits_per_reference=1,
        diversity=0.25,
    )
    bound = Bound(max_depth=0, exclude_near_duplicates=True)
    assert codec.decode_options(Fields(), asked, 3) == SearchOptions(3, bound, 2**63, 4, 1, 0.25)


@pytest.mark.parametrize("diversity", [-0.1, 1.1, math.nan, math.inf, -math.inf])
def test_a_diversity_out_of_range_is_refused(diversity):
    asked = retrieval_pb2.RetrieveContextOptions(diversity=diversity)
    assert wrong_fields(codec.decode_options, asked, 3, "options.") == {"options.diversity"}


@pytest.mark.parametrize("diversity", [0.0, 1.0])
def test_the_ends_of_the_range_of_diversity_are_taken(diversity):
    f = Fields()
    assert codec.decode_options(f, retrieval_pb2.SearchTextRequest(diversity=diversity), 1).diversity == diversity
    f.done()


def reference(number: int, chapter: int | None = None) -> Reference:
    return Reference(f"{number:064x}", chapter, None, (), Provenance(), 20, 30, "image/png", 9, number, 1)


def test_hits_of_one_reference_differ_where_they_differ():
    one, other = reference(1, 1000), reference(2)
    hits = [
        Hit(0, 0, 0.9, one, Box(0, 0, 5, 6)),
        Hit(0, 1, 0.8, other, Box(0, 0, 0, 0)),
        Hit(1, 0, 0.7, one, Box(1, 2, 3, 4)),
    ]
    told = codec.encode_found(Found(tuple(hits), 5, 9, Timing()), retrieval_pb2.SearchVectorsResponse()).hits
    assert [(hit.query, hit.rank, hit.reference_id) for hit in told] == [
        (0, 0, one.id),
        (0, 1, other.id),
        (1, 0, one.id),
    ]
    assert [hit.score for hit in told] == pytest.approx([0.9, 0.8, 0.7])
    assert [hit.box for hit in told] == [common.Box(x1=5, y1=6), common.Box(), common.Box(x0=1, y0=2, x1=3, y1=4)]
    assert all(hit.HasField("box") for hit in told)
    assert [hit.HasField("chapter") for hit in told] == [True, False, True]


def test_a_changed_reference_is_told_as_it_is_now():
    owners = Owners(2)
    before, after = reference(1, 1000), reference(1, 2000)
    assert [owners.of(one).chapter for one in (before, after, before)] == [1000, 2000, 1000]


def test_no_more_owners_are_kept_than_allowed():
    owners, references = Owners(2), [reference(n) for n in range(5)]
    for one in references * 2:
        assert owners.of(one).reference_id == one.id
    assert owners.of(references[-1]) is owners.of(references[-1])
    assert len(owners._kept) == 2


# -- what is asked of upkeep


@pytest.mark.parametrize(("tier", "meant"), [(0, "memory"), (2, "memory"), (3, "gpu")])
def test_a_tier_is_memory_unless_told_otherwise(tier, meant):
    f = Fields()
    assert codec.decode_tier(f, tier) == meant
    f.done()


@pytest.mark.parametrize("tier", [1, 4, -1])
def test_a_series_is_not_loaded_onto_the_disk_or_nowhere(tier):
    assert wrong_fields(codec.decode_tier, tier) == {"tier"}


def test_a_name_may_be_left_to_the_server():
    f = Fields()
    assert (codec.decode_name(f, ""), codec.decode_name(f, "before-2.0")) == ("", "before-2.0")
    f.done()


@pytest.mark.parametrize("bad", ["..", "a/b", "UPPER", "x" * 65, "a\0"])
def test_a_bad_name_is_refused(bad):
    assert wrong_fields(codec.decode_name, bad) == {"name"}


def test_a_name_may_be_required():
    f = Fields()
    codec.decode_name(f, "", required=True)
    with pytest.raises(InvalidInput):
        f.done()


@pytest.mark.parametrize(
    ("request_fields", "fields"),
    [
        ({"series_id": "s"}, {"name"}),
        ({"name": "n"}, {"series_id"}),
        ({"series_id": "s", "name": "n", "into_series_id": "A"}, {"into_series_id"}),
        ({"series_id": "s", "name": "n", "into_series_id": "a", "replace": True}, {"replace"}),
    ],
)
def test_a_wrong_restore_is_named(request_fields, fields):
    assert wrong_fields(codec.decode_restore, pb.RestoreSnapshotRequest(**request_fields)) == fields


@pytest.mark.parametrize("score", [-1.01, 1.01, math.nan, math.inf])
def test_a_score_out_of_range_is_refused(score):
    assert wrong_fields(codec.decode_score, score, "min_score", 0.9) == {"min_score"}


@pytest.mark.parametrize(("score", "meant"), [(0.0, 0.98), (-1.0, -1.0), (1.0, 1.0), (0.5, 0.5)])
def test_a_score_of_zero_is_the_default(score, meant):
    assert codec.decode_score(Fields(), score, "min_score", 0.98) == meant


@pytest.mark.parametrize("difference", [-1.0, math.nan, math.inf])
def test_a_difference_out_of_range_is_refused(difference):
    assert wrong_fields(codec.decode_difference, difference, "d", 3.0) == {"d"}


# -- what upkeep tells


def test_a_resident_tells_where_it_is():
    told = codec.encode_resident(Resident("s", "gpu", 5, 6, True, 7, 8))
    assert (told.series_id, told.tier, told.memory_bytes, told.gpu_bytes) == ("s", pb.TIER_GPU, 5, 6)
    assert (told.pinned, told.as_of_generation, told.last_use_time.ToNanoseconds()) == (True, 7, 8)


def test_a_snapshot_tells_what_it_holds():
    told = codec.encode_snapshot(SnapshotInfo("s", "n", 3, 4, 5, "ab" * 32, 6))
    assert (told.series_id, told.name, told.generation, told.references) == ("s", "n", 3, 4)
    assert (told.byte_size, told.sha256, told.create_time.ToNanoseconds()) == (5, "ab" * 32, 6)


def test_a_backup_tells_of_a_series_that_could_not_be_copied():
    told = codec.encode_back_up(BackUpStep("b", "s", 1, 2, 3, CorruptData("damaged", reason="CHECKSUM")))
    assert (told.name, told.series_id, told.done, told.total, told.byte_size) == ("b", "s", 1, 2, 3)
    assert told.failure.reason == "CHECKSUM"
    assert not codec.encode_back_up(BackUpStep("b", "s", 1, 2, 3)).HasField("failure")


def test_a_check_tells_its_findings():
    told = codec.encode_check(CheckStep("bad", "ab", 1, 2, 3, False))
    assert told == pb.CheckSeriesResponse(finding="bad", reference_id="ab", references=1, byte_size=2, findings=3)


def test_a_compaction_tells_what_it_freed():
    told = codec.encode_compacted(Compacted(9, 5, 3, 1))
    assert (told.disk_bytes_before, told.disk_bytes_after, told.rows_dropped, told.references_dropped) == (9, 5, 3, 1)


def test_a_reindexing_tells_what_serves():
    told = codec.encode_reindexed(Reindexed(9, EXACT, 0.0, "too few rows"))
    assert (told.rows, told.serving_kind) == (9, retrieval_pb2.IndexOptions.KIND_EXACT)
    assert told.index_note == "too few rows"


def test_near_duplicates_are_counted_beyond_those_told():
    told = codec.encode_near_duplicates(NearDuplicates([NearDuplicate("a", "b", 0.99, 1.5)] * 1001, 7))
    assert (len(told.duplicates), told.total, told.generation) == (1000, 1001, 7)
    assert (told.duplicates[0].reference_id, told.duplicates[0].original_id) == ("a", "b")
    assert told.duplicates[0].colour_difference == 1.5


def test_drift_tells_chapters_and_the_worst_pairs():
    pair = DriftPair("a", Box(0, 0, 1, 1), "b", Box(0, 0, 2, 2), 0.95, 12.5)
    told = codec.encode_drift(Drift([ChapterDrift(2000, 3, 4.5, 8.0, 0.5)], [pair] * 101, 3, 4.5, 9))
    assert (told.chapters[0].chapter, told.chapters[0].p95, told.chapters[0].mean_depth) == (2000, 8.0, 0.5)
    assert (len(told.worst), told.worst[0].earlier_box.x1, told.worst[0].colour_difference) == (100, 2, 12.5)
    assert (told.pairs, told.mean, told.generation) == (3, 4.5, 9)
