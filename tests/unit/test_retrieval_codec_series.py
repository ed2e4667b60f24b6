"""Series of the retrieval server in messages: options, quotas, limits, spaces, counts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from panelhue.retrieval.v1 import retrieval_pb2 as pb
from retrieval import codec
from retrieval.embed.space import EmbeddingSpace
from retrieval.types import (
    EXACT,
    FP16,
    FP32,
    HNSW,
    IndexOptions,
    Migration,
    PoolState,
    Quota,
    Series,
    SeriesChange,
    SeriesDraft,
    SeriesView,
    Space,
    Stats,
)
from serving.errors import InvalidInput
from serving.fields import Fields

SPACE = Space("m/1", "m", "", "", "native", 4, True)
OWN = {"model": "theirs", "dim": 8}


def wrong_fields(decode, *arguments) -> set[str]:
    f = Fields()
    decode(f, *arguments)
    with pytest.raises(InvalidInput) as caught:
        f.done()
    return {violation.field for violation in caught.value.violations}


def draft(**fields) -> SeriesDraft:
    f = Fields()
    made = codec.decode_series_draft(f, pb.Series(id="s", **fields))
    f.done()
    return made


def change(names=(), **fields) -> SeriesChange:
    f = Fields()
    request = pb.UpdateSeriesRequest(series=pb.Series(id="s", **fields), update_mask=FieldMask(paths=names))
    made = codec.decode_series_change(f, request)
    f.done()
    return made


# -- what a series is made with


def test_a_draft_without_options_is_searched_exactly_without_limits():
    assert draft() == SeriesDraft(id="s")


def test_a_draft_keeps_its_options():
    index = pb.IndexOptions(kind=pb.IndexOptions.KIND_HNSW, precision=pb.IndexOptions.PRECISION_FLOAT16)
    quota = pb.Quota(max_references=3, max_bytes=2**40)
    made = draft(index=index, quota=quota, max_reference_depth=0, default_max_depth=2)
    assert (made.index, made.quota) == (IndexOptions(HNSW, FP16, 0.95), Quota(3, 2**40))
    assert (made.max_reference_depth, made.default_max_depth) == (0, 2)


@pytest.mark.parametrize(("sent", "meant"), [(0.0, 0.95), (0.9, 0.9), (0.95, 0.95), (1.0, 1.0), (1e-6, 1e-6)])
def test_a_recall_floor_is_what_was_meant(sent, meant):
    assert draft(index=pb.IndexOptions(recall_floor=sent)).index.recall_floor == meant


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"kind": 5}, "series.index.kind"),
        ({"kind": -1}, "series.index.kind"),
        ({"precision": 3}, "series.index.precision"),
        ({"recall_floor": 1.1}, "series.index.recall_floor"),
        ({"recall_floor": -0.1}, "series.index.recall_floor"),
        ({"recall_floor": math.nan}, "series.index.recall_floor"),
        ({"recall_floor": math.inf}, "series.index.recall_floor"),
    ],
)
def test_wrong_index_options_are_named(options, field):
    series = pb.Series(id="s", index=pb.IndexOptions(**options))
    assert wrong_fields(codec.decode_series_draft, series) == {field}


# -- the space of ready-made vectors


def test_a_space_gets_its_id_from_its_fields():
    made = draft(embedder="vectors", embedding_space=pb.EmbeddingSpace(crop_recipe="fit:512x640", **OWN)).space
    expected = EmbeddingSpace("theirs", "", "", "fit:512x640", 8, False)
    assert made == Space(expected.id, "theirs", "", "", "fit:512x640", 8, False)


def test_a_space_may_be_copied_from_another_series_with_its_id():
    theirs = EmbeddingSpace("theirs", "ab" * 32, "rgb224", "native", 8, True)
    sent = codec.encode_space(Space(theirs.id, "theirs", "ab" * 32, "rgb224", "native", 8, True))
    made = draft(embedder="vectors", embedding_space=sent).space
    assert made is not None
    assert made.id == theirs.id


def test_a_space_is_not_read_with_another_embedder():
    assert draft(embedder="structure", embedding_space=pb.EmbeddingSpace(dim=99999)).space is None


@pytest.mark.parametrize(
    ("space", "fields"),
    [
        ({}, {"model", "dim"}),
        ({"model": "x" * 257, "dim": 8}, {"model"}),
        ({"model": "x", "dim": 0}, {"dim"}),
        ({"model": "x", "dim": 4097}, {"dim"}),
        ({**OWN, "weights_sha256": "AB" * 32}, {"weights_sha256"}),
        ({**OWN, "weights_sha256": "ab"}, {"weights_sha256"}),
        ({**OWN, "preprocessing": "x" * 257}, {"preprocessing"}),
        ({**OWN, "crop_recipe": "fit:0x3"}, {"crop_recipe"}),
        ({**OWN, "id": "mine"}, {"id"}),
    ],
)
def test_a_wrong_space_is_named(space, fields):
    series = pb.Series(id="s", embedder="vectors", embedding_space=pb.EmbeddingSpace(**space))
    expected = {f"series.embedding_space.{field}" for field in fields}
    assert wrong_fields(codec.decode_series_draft, series) == expected


# -- what is changed

ALL = {
    "display_name": "x",
    "index": pb.IndexOptions(kind=pb.IndexOptions.KIND_HNSW),
    "quota": pb.Quota(max_references=3),
    "max_reference_depth": 0,
    "default_max_depth": 0,
}


def test_without_a_mask_only_what_is_set_is_changed():
    assert change(quota=pb.Quota(max_references=3)) == SeriesChange(quota=Quota(3))
    assert change(max_reference_depth=0) == SeriesChange(max_reference_depth=0)
    assert change() == SeriesChange()


def test_an_empty_message_is_a_set_one():
    assert change(quota=pb.Quota(), index=pb.IndexOptions()) == SeriesChange(index=IndexOptions(), quota=Quota())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index", SeriesChange(index=IndexOptions())),
        ("quota", SeriesChange(quota=Quota())),
        ("max_reference_depth", SeriesChange(max_reference_depth=-1)),
        ("default_max_depth", SeriesChange(default_max_depth=-1)),
        ("display_name", SeriesChange(display_name="")),
    ],
)
def test_what_the_mask_names_without_a_value_is_cleared(name, expected):
    assert change([name]) == expected
    others = {key: value for key, value in ALL.items() if key != name}
    assert change([name], **others) == expected


@pytest.mark.parametrize("name", ["embedder", "embedding_space", "id", "generation", "index.kind", "etag"])
def test_the_mask_names_nothing_that_cannot_change(name):
    request = pb.UpdateSeriesRequest(series=pb.Series(id="s"), update_mask=FieldMask(paths=[name]))
    assert wrong_fields(codec.decode_series_change, request) == {"update_mask"}


# -- what is told


def view(**fields) -> SeriesView:
    series = Series("s", "S", "structure", SPACE, create_ns=1, update_ns=2)
    return SeriesView(replace(series, **fields), PoolState(7, 3, 15, 3), "e")


def test_a_series_tells_its_options_in_full():
    told = codec.encode_series(view())
    assert told.index.kind == pb.IndexOptions.KIND_EXACT
    assert told.index.precision == pb.IndexOptions.PRECISION_FLOAT32
    assert told.index.recall_floor == pytest.approx(0.95)
    assert not told.HasField("max_reference_depth")
    assert not told.HasField("default_max_depth")


def test_a_depth_limit_of_zero_is_told():
    told = codec.encode_series(view(max_reference_depth=0, default_max_depth=0))
    assert (told.HasField("max_reference_depth"), told.HasField("default_max_depth")) == (True, True)


def test_what_a_series_tells_can_be_sent_back():
    asked = view(index=IndexOptions(HNSW, FP16, 0.9), quota=Quota(1, 2), max_reference_depth=0)
    told = codec.encode_series(asked)
    again = codec.decode_series_draft(Fields(), told)
    assert (again.index, again.quota) == (asked.series.index, asked.series.quota)
    assert (again.max_reference_depth, again.default_max_depth) == (0, None)


def test_stats_tell_what_is_counted():
    pool = PoolState(9, 4, 20, 3, byte_size=100, history_from=2, removed=5, near_duplicates=1)
    stats = Stats(pool, 1000, 50, True, {1000: 3}, {0: 4}, 1, 0.25, HNSW, 0.97, "note")
    told = codec.encode_stats(stats)
    assert (told.references, told.patches, told.generation, told.picture_bytes) == (4, 20, 9, 100)
    assert (told.history_from, told.removed_references, told.near_duplicates) == (2, 5, 1)
    assert (told.dead_share, told.serving_kind, told.index_note) == (0.25, pb.IndexOptions.KIND_HNSW, "note")
    assert told.measured_recall == pytest.approx(0.97)
    assert not told.HasField("migration")


def test_stats_tell_of_a_migration():
    migration = Migration("other", SPACE, "patches2", after=3, done=2, start_ns=5, problem="no weights")
    pool = PoolState(9, 4, 20, 3)
    told = codec.encode_stats(Stats(pool, 0, 0, False, {}, {}, 0, migration=migration)).migration
    assert (told.embedder, told.embedding_space.id, told.done, told.total) == ("other", "m/1", 2, 4)
    assert (told.problem, told.start_time.ToNanoseconds()) == ("no weights", 5)


@pytest.mark.parametrize("options", [IndexOptions(EXACT, FP32, 0.95), IndexOptions(HNSW, FP16, 0.5)])
def test_index_options_come_back_as_they_went(options):
    assert codec.decode_index(Fields(), codec.encode_index(options), "index") == options
