"""References as a caller meets them: added, refused, listed, downloaded, changed, deleted."""

from __future__ import annotations

import io
import threading

import grpc
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode
from PIL import Image

from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from tests.wire import speaking
from tests.wire.speaking import (
    adding,
    answer,
    asking,
    chunks,
    get,
    grey,
    header,
    id_of,
    picture,
    refused,
    stub_of,
)

NOWHERE = "0" * 64
Status = pb.AddReferencesResponse
Options = pb.RetrieveContextOptions


stub, series, pool = speaking.stub, speaking.series, speaking.pool  # fixtures


def test_an_added_reference_is_answered_whole(stub, series):
    said = pb.Reference(chapter=10500, page=0, tags=["cover"], provenance=common.Provenance(source="a.png"))
    (response,) = stub.AddReferences(adding(series, [(picture(1), said)]))
    got = response.reference
    assert (response.key, response.status, response.generation) == ("0", Status.STATUS_ADDED, 1)
    assert (got.id, got.chapter, got.page, list(got.tags)) == (id_of(picture(1)), 10500, 0, ["cover"])
    assert (got.provenance.origin, got.provenance.source) == (common.ORIGIN_OFFICIAL, "a.png")
    assert (got.width, got.height, got.media_type, got.byte_size) == (64, 96, "image/png", len(picture(1)))
    assert got.generation == 1
    assert min(response.timing.decode_ns, response.timing.embed_ns, response.timing.store_ns) > 0
    asked = pb.GetReferenceRequest(series_id=series, reference_id=got.id)
    assert stub.GetReference(asked).reference == got


def test_unset_chapter_stays_unset(stub, series):
    (response,) = stub.AddReferences(adding(series, [picture(1)]))
    assert not response.reference.HasField("chapter")
    assert not response.reference.HasField("page")


def test_the_same_bytes_again_change_nothing(stub, series):
    list(stub.AddReferences(adding(series, [(picture(1), pb.Reference(chapter=1))])))
    (again,) = stub.AddReferences(adding(series, [(picture(1), pb.Reference(chapter=2))]))
    assert (again.status, again.generation) == (Status.STATUS_ALREADY_PRESENT, 1)
    assert again.reference.chapter == 1


def test_the_same_bytes_at_the_same_time_are_added_once(stub, series):
    statuses = []

    def add():
        statuses.extend(r.status for r in stub.AddReferences(adding(series, [picture(1)])))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [Status.STATUS_ADDED, *[Status.STATUS_ALREADY_PRESENT] * 3]
    assert (get(stub, series).reference_count, get(stub, series).generation) == (1, 1)


def muted(data: bytes) -> bytes:
    """The picture in one pale brown tint, as a careful back-end leaves it."""
    luma = np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.float32)
    out = io.BytesIO()
    tinted = np.stack([luma, 0.93 * luma, 0.85 * luma], axis=-1)
    Image.fromarray(tinted.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("origin", "status"),
    [(common.ORIGIN_OFFICIAL, Status.STATUS_REJECTED), (common.ORIGIN_GENERATED, Status.STATUS_ADDED)],
)
def test_a_muted_page_is_taken_from_a_back_end_alone(stub, series, origin, status):
    said = pb.Reference(provenance=common.Provenance(origin=origin))
    (response,) = stub.AddReferences(adding(series, [(muted(picture(1)), said)]))
    assert response.status == status


def test_a_generated_page_without_any_colour_is_rejected(stub, series):
    said = pb.Reference(provenance=common.Provenance(origin=common.ORIGIN_GENERATED))
    (response,) = stub.AddReferences(adding(series, [(grey(picture(1)), said)]))
    assert response.failure.reason == "IMAGE_NOT_COLOUR"


def test_a_bad_picture_is_rejected_among_good_ones(stub, series):
    items = [picture(1), b"no picture", grey(picture(2)), picture(3, 8, 8), (picture(4), pb.Reference(chapter=-1))]
    responses = list(stub.AddReferences(adding(series, [*items, picture(5)])))
    assert [r.key for r in responses] == list("012345")
    reasons = [r.failure.reason for r in responses]
    assert reasons == ["", "IMAGE_UNREADABLE", "IMAGE_NOT_COLOUR", "IMAGE_TOO_SMALL", "INVALID_REFERENCE", ""]
    assert [r.status for r in responses if r.failure.reason] == [Status.STATUS_REJECTED] * 4
    assert get(stub, series).reference_count == 2


def test_a_picture_of_another_size_than_announced_is_rejected(stub, series):
    def requests():
        yield pb.AddReferencesRequest(options=pb.AddReferencesOptions(series_id=series))
        yield header("short", size=10**6)
        yield from chunks("short", picture(1))
        yield header("huge", size=10**12)
        yield from chunks("huge", picture(1))
        yield header("right", size=len(picture(2)))
        yield from chunks("right", picture(2))

    reasons = {r.key: r.failure.reason for r in stub.AddReferences(requests())}
    assert reasons == {"short": "SIZE_MISMATCH", "huge": "IMAGE_TOO_LARGE", "right": ""}


def options_of(series):
    return pb.AddReferencesRequest(options=pb.AddReferencesOptions(series_id=series))


BROKEN = {
    "nothing": lambda s: [],
    "a chunk first": lambda s: chunks("k", picture(0)),
    "a header first": lambda s: [header("k")],
    "options twice": lambda s: [options_of(s), options_of(s)],
    "an empty message": lambda s: [options_of(s), pb.AddReferencesRequest()],
    "a header in a picture": lambda s: [options_of(s), header("a"), header("b")],
    "an end in a picture": lambda s: [options_of(s), header("a")],
    "a chunk of nobody": lambda s: [options_of(s), header("a"), *chunks("b", picture(0))],
    "no key": lambda s: [options_of(s), header("")],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_stream_of_pictures_is_refused(stub, series, name):
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.AddReferences(iter(BROKEN[name](series))))
    assert caught.value.code() == StatusCode.INVALID_ARGUMENT, caught.value


def test_what_came_before_the_break_is_kept_and_answered(stub, series):
    call = stub.AddReferences(iter([*adding(series, [picture(1), picture(2)]), *chunks("x", b"")]))
    responses = [next(call).status, next(call).status]
    with pytest.raises(grpc.RpcError):
        next(call)
    assert responses == [Status.STATUS_ADDED] * 2
    assert get(stub, series).reference_count == 2


def test_a_silent_client_is_told_so(start_retrieval):
    with stub_of(start_retrieval("--set", "idle_seconds=0.3").address) as stub:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s")))
        over = threading.Event()

        def requests():
            yield options_of("s")
            over.wait(120)

        try:
            with refused(StatusCode.DEADLINE_EXCEEDED, "IDLE_TIMEOUT"):
                list(stub.AddReferences(requests()))
        finally:
            over.set()


def test_the_depth_of_a_made_page_follows_from_its_parents(stub, series):
    def made(*parents):
        return pb.Reference(provenance=common.Provenance(origin=common.ORIGIN_GENERATED, parent_ids=parents))

    given, first, second = (id_of(picture(n)) for n in range(3))
    items = [picture(0), (picture(1), made(given)), (picture(2), made(given, first)), (picture(3), made(NOWHERE))]
    for item in items:
        list(stub.AddReferences(adding(series, [item])))
    listed = {
        r.id: r.provenance.depth for r in stub.ListReferences(pb.ListReferencesRequest(series_id=series)).references
    }
    assert listed == {given: 0, first: 1, second: 2, id_of(picture(3)): 1}


def test_given_colour_has_no_depth(stub, series):
    wrong = pb.Reference(provenance=common.Provenance(origin=common.ORIGIN_OFFICIAL, depth=2))
    (response,) = stub.AddReferences(adding(series, [(picture(1), wrong)]))
    assert response.failure.reason == "INVALID_REFERENCE"


def test_references_are_listed_by_id_under_the_bound(stub, kept):
    everything = [id_of(picture(n)) for n in range(8)]
    bound = common.Bound(max_chapter=5000, all_tags=["odd"])
    ids, token = [], ""
    for _ in range(5):
        request = pb.ListReferencesRequest(series_id=kept, bound=bound, page_size=2, page_token=token)
        page = stub.ListReferences(request)
        ids += [r.id for r in page.references]
        token = page.next_page_token
        if not token:
            break
    assert ids == sorted(everything[n] for n in (1, 3, 5))
    assert page.generation == 8


def test_a_download_gives_the_bytes_that_were_added(stub, series):
    data = picture(1, 600, 400) + b"\0" * 300_000  # what follows a PNG is kept too; more than one chunk
    list(stub.AddReferences(adding(series, [data])))
    messages = list(stub.DownloadReference(pb.DownloadReferenceRequest(series_id=series, reference_id=id_of(data))))
    announced = messages[0].picture
    assert (announced.key, announced.byte_size, announced.width) == (id_of(data), len(data), 600)
    assert b"".join(m.chunk.data for m in messages[1:]) == data
    assert [m.chunk.last for m in messages[1:]] == [False] * (len(messages) - 2) + [True]
    assert len(messages) > 2


def test_a_masked_field_that_is_not_set_is_cleared(stub, pool):
    reference_id = id_of(picture(3))
    change = pb.Reference(id=reference_id, tags=["new"])
    mask = FieldMask(paths=["chapter", "tags"])
    response = stub.UpdateReference(pb.UpdateReferenceRequest(series_id=pool, reference=change, update_mask=mask))
    assert not response.reference.HasField("chapter")
    assert (list(response.reference.tags), response.reference.page) == (["new"], 3)
    assert (response.generation, response.reference.generation) == (9, 4)


def test_a_changed_tag_counts_in_the_next_search(stub, pool):
    assert not answer(stub.RetrieveContext(asking(pool, picture(3), bound=common.Bound(all_tags=["new"]))))[0].hits
    change = pb.Reference(id=id_of(picture(3)), tags=["new"])
    mask = FieldMask(paths=["tags"])
    stub.UpdateReference(pb.UpdateReferenceRequest(series_id=pool, reference=change, update_mask=mask))
    summary, _ = answer(stub.RetrieveContext(asking(pool, picture(3), bound=common.Bound(all_tags=["new"]))))
    assert {hit.reference_id for hit in summary.hits} == {id_of(picture(3))}
    assert summary.candidates == 5


def test_references_are_deleted_all_or_none(stub, pool):
    known = id_of(picture(0))
    with refused(StatusCode.NOT_FOUND, "NO_SUCH_REFERENCE"):
        stub.DeleteReferences(pb.DeleteReferencesRequest(series_id=pool, reference_ids=[known, NOWHERE]))
    assert get(stub, pool).reference_count == 8
    request = pb.DeleteReferencesRequest(series_id=pool, reference_ids=[known, NOWHERE, known], allow_missing=True)
    response = stub.DeleteReferences(request)
    assert (response.deleted, response.generation) == (1, 9)


def test_a_deleted_reference_answers_no_more(stub, pool):
    answer(stub.RetrieveContext(asking(pool, picture(3))))
    stub.DeleteReferences(pb.DeleteReferencesRequest(series_id=pool, reference_ids=[id_of(picture(3))]))
    summary, _ = answer(stub.RetrieveContext(asking(pool, picture(3), hits_per_corner=64)))
    assert id_of(picture(3)) not in {hit.reference_id for hit in summary.hits}
    assert summary.candidates == 35


@pytest.mark.parametrize("rpc", ["GetReference", "DownloadReference", "UpdateReference", "RetrieveContext"])
def test_a_reference_that_is_not_there_is_not_found(stub, series, rpc):
    change = pb.UpdateReferenceRequest(
        series_id=series, reference=pb.Reference(id=NOWHERE), update_mask=FieldMask(paths=["page"])
    )
    asked = pb.RetrieveContextRequest(options=Options(series_id=series, reference_id=NOWHERE))
    requests = {
        "GetReference": pb.GetReferenceRequest(series_id=series, reference_id=NOWHERE),
        "DownloadReference": pb.DownloadReferenceRequest(series_id=series, reference_id=NOWHERE),
        "UpdateReference": change,
        "RetrieveContext": iter([asked]),
    }
    with refused(StatusCode.NOT_FOUND, "NO_SUCH_REFERENCE"):
        result = getattr(stub, rpc)(requests[rpc])
        if hasattr(result, "__next__"):
            list(result)
