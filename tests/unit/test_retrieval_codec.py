"""Messages of the retrieval server to types and back, and the streams they come in."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from retrieval import codec
from retrieval.gallery import plan
from retrieval.streams import ahead
from retrieval.types import GENERATED, Bound, Draft, Found, Hit, Provenance, Reference, Timing
from retrieval.vectors import normalised
from serving.errors import InvalidInput
from serving.fields import Fields
from serving.geometry import Box

ID = "ab" * 32


def fields_of(decode, *arguments) -> set[str]:
    f = Fields()
    decode(f, *arguments)
    with pytest.raises(InvalidInput) as caught:
        f.done()
    return {violation.field for violation in caught.value.violations}


def test_an_empty_bound_bounds_nothing():
    f = Fields()
    assert codec.decode_bound(f, common.Bound()) == Bound()
    f.done()


def test_a_bound_of_zero_is_not_an_unset_one():
    bound = codec.decode_bound(Fields(), common.Bound(max_chapter=0, min_chapter=0, max_depth=0))
    assert (bound.max_chapter, bound.min_chapter, bound.max_depth) == (0, 0, 0)


def test_every_wrong_part_of_a_bound_is_named():
    wrong = common.Bound(all_tags=["x"] * 33, any_tags=["y" * 65], none_tags=[""], exclude_reference_ids=["z"])
    expected = {"bound.all_tags", "bound.any_tags[0]", "bound.none_tags[0]", "bound.exclude_reference_ids[0]"}
    assert fields_of(codec.decode_bound, wrong) == expected


def test_a_draft_without_anything_is_given_colour():
    assert codec.decode_draft(pb.Reference()) == Draft()


def test_a_draft_keeps_what_was_said():
    said = pb.Reference(
        chapter=0,
        page=0,
        tags=["b", "a", "b"],
        provenance=common.Provenance(origin=common.ORIGIN_GENERATED, depth=3, parent_ids=[ID], backend="x", source="y"),
    )
    made = Provenance(GENERATED, 3, (ID,), "x", "y")
    assert codec.decode_draft(said) == Draft(0, 0, ("b", "a"), made)


@pytest.mark.parametrize(
    "wrong",
    [
        pb.Reference(chapter=-1),
        pb.Reference(tags=["x"] * 33),
        pb.Reference(tags=["ü" * 33]),
        pb.Reference(provenance=common.Provenance(depth=1)),
        pb.Reference(provenance=common.Provenance(origin=common.ORIGIN_GENERATED, depth=1001)),
        pb.Reference(provenance=common.Provenance(origin=7)),
        pb.Reference(provenance=common.Provenance(parent_ids=["AB" * 32])),
        pb.Reference(provenance=common.Provenance(parent_ids=[ID] * 257)),
        pb.Reference(provenance=common.Provenance(backend="x" * 257)),
        pb.Reference(provenance=common.Provenance(source="x" * 1025)),
    ],
)
def test_a_wrong_draft_is_an_invalid_reference(wrong):
    with pytest.raises(InvalidInput) as caught:
        codec.decode_draft(wrong)
    assert caught.value.reason == "INVALID_REFERENCE"
    assert caught.value.violations


@pytest.mark.parametrize("good", ["a", "0", "a-b_c.d", "x" * 64])
def test_good_series_ids_pass(good):
    f = Fields()
    assert codec.decode_series_id(f, good) == good
    f.done()


@pytest.mark.parametrize("bad", ["", ".", "..", "-a", "A", "a/b", "a\n", "x" * 65, "ä", "a b"])
def test_bad_series_ids_are_refused(bad):
    assert fields_of(codec.decode_series_id, bad) == {"series_id"}


def test_a_mask_decides_over_what_is_set():
    request = pb.UpdateSeriesRequest(
        series=pb.Series(id="s", display_name="new"), update_mask=FieldMask(paths=["palette"])
    )
    change = codec.decode_series_change(Fields(), request)
    assert (change.display_name, change.palette, change.labels) == (None, (), None)


def test_without_a_mask_only_what_is_set_counts():
    change = codec.decode_series_change(Fields(), pb.UpdateSeriesRequest(series=pb.Series(display_name="new")))
    assert (change.display_name, change.palette, change.labels) == ("new", None, None)


def test_a_reference_change_needs_a_mask():
    assert fields_of(codec.decode_reference_change, pb.UpdateReferenceRequest()) == {"update_mask"}
    other = pb.UpdateReferenceRequest(update_mask=FieldMask(paths=["provenance"]))
    assert fields_of(codec.decode_reference_change, other) == {"update_mask"}


@given(st.lists(st.lists(st.floats(-(2**60), 2**60, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_vectors_are_little_endian_rows(rows):
    sent = np.array(rows, "<f4")
    request = pb.SearchVectorsRequest(dim=3, vectors=sent.tobytes())
    f = Fields()
    assert np.array_equal(codec.decode_vectors(f, request), sent)
    f.done()


@pytest.mark.parametrize(("dim", "size"), [(0, 4), (3, 0), (3, 11), (3, 13), (1, 4 * 257), (2**32 - 1, 4)])
def test_vectors_of_a_wrong_length_are_refused(dim, size):
    request = pb.SearchVectorsRequest(dim=dim, vectors=b"\0" * size)
    assert fields_of(codec.decode_vectors, request) <= {"dim", "vectors"}


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_vectors_are_normalised_whatever_their_length(scale):
    rows = np.array([[3.0, 4.0]], np.float32) * np.float32(scale)
    assert np.allclose(normalised(rows), [[0.6, 0.8]], atol=1e-6)


@pytest.mark.parametrize("after", ["zz", "\u00e9", "\ud800", "ff" * 140, ID.upper()])
def test_a_token_that_names_no_reference_is_refused(after):
    token = codec.encode_token("references", common.Bound(), after)
    with pytest.raises(InvalidInput) as caught:
        codec.decode_token(token, "references", common.Bound(), codec.REFERENCE_ID)
    assert caught.value.reason == "BAD_PAGE_TOKEN"


def test_a_token_goes_back_to_where_it_came_from():
    scope = pb.ListReferencesRequest(series_id="s", bound=common.Bound(max_depth=1))
    assert codec.decode_token(codec.encode_token("references", scope, ID), "references", scope) == ID
    assert codec.decode_token("", "references", scope) == ""


@given(st.text(max_size=40))
def test_any_other_text_is_no_token(text):
    if text:
        with pytest.raises(InvalidInput) as caught:
            codec.decode_token(text, "series", "")
        assert caught.value.reason == "BAD_PAGE_TOKEN"


@pytest.mark.parametrize("fields", ["null", "[]", '["series", 1, 2]', '["series", "x", "y"]', "{}", "[" * 4000])
def test_a_forged_token_is_refused(fields):
    token = base64.urlsafe_b64encode(fields.encode()).decode()
    with pytest.raises(InvalidInput):
        codec.decode_token(token, "series", "")


def reference(**changes) -> Reference:
    fields = {
        "id": ID,
        "chapter": None,
        "page": None,
        "tags": (),
        "provenance": Provenance(),
        "width": 20,
        "height": 30,
        "media_type": "image/png",
        "byte_size": 9,
        "generation": 4,
        "create_ns": 1_500_000_000_000_000_001,
    }
    return Reference(**{**fields, **changes})


def test_a_reference_keeps_zero_and_unset_apart():
    assert not codec.encode_reference(reference()).HasField("chapter")
    encoded = codec.encode_reference(reference(chapter=0, page=0))
    assert (encoded.HasField("chapter"), encoded.HasField("page")) == (True, True)
    assert encoded.create_time.ToNanoseconds() == 1_500_000_000_000_000_001


def test_a_score_stays_within_its_range():
    hit = Hit(0, 0, 1.0000001, reference(), Box(0, 0, 1, 1))
    assert codec.encode_found(Found((hit,), 0, 0, Timing()), pb.SearchVectorsResponse()).hits[0].score == 1.0


def test_a_listing_stops_before_it_is_too_large():
    big = codec.encode_reference(reference(provenance=Provenance(GENERATED, 1, (ID,) * 256)))
    count = codec.fitting([big] * 1000)
    assert 1 < count < 1000
    assert count * big.ByteSize() <= codec.MAX_LIST_BYTES


def test_one_entry_is_listed_however_large():
    huge = pb.Reference(media_type="x" * (codec.MAX_LIST_BYTES + 1))
    assert codec.fitting([huge, huge]) == 1


def test_an_answer_too_large_for_clients_is_refused():
    response = pb.SearchVectorsResponse(hits=[common.Hit(reference_id="x" * 5_000_000)])
    with pytest.raises(InvalidInput) as caught:
        codec.check_size(response)
    assert caught.value.reason == "RESPONSE_TOO_LARGE"


def hits() -> tuple[Hit, ...]:
    boxes = (Box(0, 0, 9, 9), Box(0, 0, 9, 9), Box(1, 1, 9, 9))
    return tuple(Hit(0, rank, 0.5, reference(), box) for rank, box in enumerate(boxes))


def test_each_patch_is_shown_once():
    shown = plan(hits(), "patches")
    assert len(shown.wanted) == 2
    assert shown.keys[0] == shown.keys[1] != shown.keys[2]
    assert shown.boxes == (None, None, None)


def test_each_reference_is_shown_once():
    shown = plan(hits(), "references")
    assert [wanted.key for wanted in shown.wanted] == [ID]
    assert shown.boxes == tuple(hit.box for hit in hits())


def test_nothing_found_is_nothing_shown():
    assert plan(Found((), 0, 0, Timing()).hits, "patches").wanted == ()


# -- work that runs ahead


async def test_results_come_in_order_whatever_is_done_first():
    async def work(n: int) -> int:
        await asyncio.sleep(0.02 if n % 2 else 0)
        return n

    async def source():
        for n in range(10):
            yield work(n)

    assert [n async for n in ahead(source(), 3)] == list(range(10))


async def test_no_more_is_taken_than_the_window_holds():
    taken, most = 0, []

    async def work() -> None:
        await asyncio.sleep(0)

    async def source():
        nonlocal taken
        for _ in range(10):
            taken += 1
            yield work()

    done = 0
    async for _ in ahead(source(), 3):
        await asyncio.sleep(0.005)
        most.append(taken - done)
        done += 1
    assert max(most) <= 3
    assert taken == 10


async def test_an_error_of_the_source_comes_after_what_went_before():
    async def work(n: int) -> int:
        await asyncio.sleep(0.01)
        return n

    async def source():
        yield work(1)
        yield work(2)
        raise InvalidInput("broken")

    got = []

    async def read() -> None:
        async for n in ahead(source(), 5):
            got.append(n)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(InvalidInput):
        await read()
    assert got == [1, 2]


async def test_work_is_cancelled_with_its_reader():
    cancelled = []

    async def work(n: int) -> int:
        try:
            await asyncio.sleep(60 if n else 0)
        except asyncio.CancelledError:
            cancelled.append(n)
            raise
        return n

    async def source():
        for n in range(4):
            yield work(n)

    results = ahead(source(), 4)
    assert await anext(results) == 0
    await asyncio.sleep(0)
    await results.aclose()
    assert sorted(cancelled) == [1, 2, 3]
