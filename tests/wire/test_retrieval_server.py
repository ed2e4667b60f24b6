"""The retrieval server as a caller meets it: every RPC, every refusal."""

from __future__ import annotations

import io
import signal
import threading
import time

import grpc
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from tests.wire.speaking import (
    adding,
    answer,
    asking,
    chunks,
    grey,
    header,
    id_of,
    picture,
    refused,
    stub_of,
)

NOWHERE = "0" * 64
SERVICES = ["panelhue.retrieval.v1.RetrievalService", "panelhue.retrieval.v1.MaintenanceService"]
Status = pb.AddReferencesResponse
Options = pb.RetrieveContextOptions


@pytest.fixture
def stub(retrieval_server):
    with stub_of(retrieval_server.address) as made:
        yield made


@pytest.fixture
def series(stub, request):
    """The id of a new, empty series."""
    name = request.node.name.lower().replace("_", "-")[-50:].strip("-.[]")
    made: str = stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(display_name=name))).series.id
    return made


@pytest.fixture
def pool(stub, series):
    """The id of a series of eight references that a test may change: see `fill`."""
    return fill(stub, series)


@pytest.fixture(scope="module")
def kept(retrieval_server):
    """As `pool`, for tests that only look."""
    with stub_of(retrieval_server.address) as stub:
        return fill(stub, stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="kept"))).series.id)


def fill(stub, series):
    """Eight references: chapters 1000 to 7000 and one without, tags by parity, two of them made."""
    items = []
    for n in range(8):
        reference = pb.Reference(page=n, tags=["even" if n % 2 == 0 else "odd", f"n{n}"])
        if n:
            reference.chapter = n * 1000
        if n >= 6:
            reference.provenance.origin = common.ORIGIN_GENERATED
            reference.provenance.backend = "exemplar"
        items.append((picture(n), reference))
    statuses = [response.status for response in stub.AddReferences(adding(series, items))]
    assert statuses == [Status.STATUS_ADDED] * 8
    return series


def get(stub, series):
    return stub.GetSeries(pb.GetSeriesRequest(series_id=series)).series


# -- series


def test_a_new_series_has_what_was_asked_for(stub):
    asked = pb.Series(
        id="asked-for",
        display_name="Asked for",
        embedder="structure",
        palette=[common.Swatch(name="hair", rgb=0xFF8800)],
        labels={"publisher": "nobody"},
    )
    made = stub.CreateSeries(pb.CreateSeriesRequest(series=asked)).series
    assert (made.id, made.display_name, made.embedder) == ("asked-for", "Asked for", "structure")
    assert (list(made.palette), dict(made.labels)) == (list(asked.palette), dict(asked.labels))
    assert made.embedding_space.dim > 0
    assert made.embedding_space.grey_twin
    assert (made.generation, made.reference_count) == (0, 0)
    assert made.create_time == made.update_time != Timestamp()
    assert get(stub, "asked-for") == made


def test_an_id_is_made_from_the_display_name(stub):
    ids = [
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(display_name="Été à Paris!"))).series.id
        for _ in range(2)
    ]
    assert ids == ["ete-a-paris", "ete-a-paris-2"]


def test_a_taken_id_is_refused(stub, series):
    with refused(StatusCode.ALREADY_EXISTS, "SERIES_EXISTS"):
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id=series)))


def test_the_same_request_id_answers_as_the_first_time(stub):
    request = pb.CreateSeriesRequest(series=pb.Series(id="once-only"), request_id="r-1")
    assert stub.CreateSeries(request) == stub.CreateSeries(request)


def test_a_request_id_of_another_request_is_refused(stub):
    stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="first-use"), request_id="r-2"))
    with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED"):
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="other-use"), request_id="r-2"))


def test_an_unknown_embedder_is_not_found(stub):
    with refused(StatusCode.NOT_FOUND, "NO_SUCH_EMBEDDER"):
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="x", embedder="crystal-ball")))


def test_an_embedder_that_cannot_be_loaded_is_a_failed_precondition(stub):
    with pytest.raises(grpc.RpcError) as caught:  # no extra, or no weights named: it depends on what is installed
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="x", embedder="open_clip")))
    assert caught.value.code() == StatusCode.FAILED_PRECONDITION


def test_every_wrong_field_is_named_at_once(stub):
    wrong = pb.Series(id="UPPER", display_name="x" * 257, palette=[common.Swatch(rgb=1 << 24)], labels={"k" * 129: ""})
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST") as refusal:
        stub.CreateSeries(pb.CreateSeriesRequest(series=wrong, request_id="x" * 129))
    expected = {"series.id", "series.display_name", "series.palette[0].name", "series.palette[0].rgb"}
    assert {*expected, "series.labels key", "request_id"} <= set(refusal.fields)


def test_two_colours_of_one_name_are_refused(stub):
    palette = [common.Swatch(name="hair", rgb=rgb) for rgb in (1, 2)]
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST") as refusal:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="twice", palette=palette)))
    assert refusal.fields == ("series.palette[1].name",)


def test_too_many_series_are_refused(start_retrieval):
    with stub_of(start_retrieval("--set", "max_series=1").address) as stub:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="one")))
        with refused(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_SERIES"):
            stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="two")))


def test_a_listing_continues_where_its_page_ended(stub):
    for name in "cab":
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id=f"listed-{name}")))
    ids, token = [], ""
    while True:
        page = stub.ListSeries(pb.ListSeriesRequest(page_size=2, page_token=token))
        assert len(page.series) <= 2
        ids += [s.id for s in page.series]
        token = page.next_page_token
        if not token:
            break
    assert ids == sorted(set(ids))
    assert {"listed-a", "listed-b", "listed-c"} <= set(ids)


def test_a_token_of_another_listing_is_refused(stub, kept):
    token = stub.ListReferences(pb.ListReferencesRequest(series_id=kept, page_size=1)).next_page_token
    with refused(StatusCode.INVALID_ARGUMENT, "BAD_PAGE_TOKEN"):
        stub.ListSeries(pb.ListSeriesRequest(page_token=token))
    other = pb.ListReferencesRequest(series_id=kept, page_token=token, bound=common.Bound(max_depth=0))
    with refused(StatusCode.INVALID_ARGUMENT, "BAD_PAGE_TOKEN"):
        stub.ListReferences(other)


def test_only_what_the_mask_names_is_changed(stub, series):
    before = get(stub, series)
    change = pb.Series(id=series, display_name="New", labels={"a": "b"})
    mask = FieldMask(paths=["labels"])
    after = stub.UpdateSeries(pb.UpdateSeriesRequest(series=change, update_mask=mask)).series
    assert (after.display_name, dict(after.labels)) == (before.display_name, {"a": "b"})
    assert after.etag != before.etag
    assert after == get(stub, series)


def test_without_a_mask_what_is_set_is_changed(stub, series):
    change = pb.Series(id=series, palette=[common.Swatch(name="sky", rgb=0x0000FF)])
    after = stub.UpdateSeries(pb.UpdateSeriesRequest(series=change)).series
    assert (after.display_name, after.palette[0].name) == (series, "sky")


def test_a_mask_cannot_name_what_is_fixed(stub, series):
    mask = FieldMask(paths=["embedder"])
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST") as refusal:
        stub.UpdateSeries(pb.UpdateSeriesRequest(series=pb.Series(id=series), update_mask=mask))
    assert refusal.fields == ("update_mask",)


def test_a_stale_etag_changes_nothing(stub, series):
    stale = get(stub, series).etag
    stub.UpdateSeries(pb.UpdateSeriesRequest(series=pb.Series(id=series, display_name="One", etag=stale)))
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        stub.UpdateSeries(pb.UpdateSeriesRequest(series=pb.Series(id=series, display_name="Two", etag=stale)))
    with refused(StatusCode.ABORTED, "ETAG_STALE"):
        stub.DeleteSeries(pb.DeleteSeriesRequest(series_id=series, etag=stale))
    assert get(stub, series).display_name == "One"


def test_a_series_with_references_is_deleted_only_by_force(stub, pool):
    with refused(StatusCode.FAILED_PRECONDITION, "SERIES_NOT_EMPTY"):
        stub.DeleteSeries(pb.DeleteSeriesRequest(series_id=pool))
    assert stub.DeleteSeries(pb.DeleteSeriesRequest(series_id=pool, force=True)).references_deleted == 8
    with refused(StatusCode.NOT_FOUND, "NO_SUCH_SERIES"):
        get(stub, pool)


def test_a_series_made_again_is_empty(stub, pool):
    answer(stub.RetrieveContext(asking(pool, picture(0))))  # it is loaded
    stub.DeleteSeries(pb.DeleteSeriesRequest(series_id=pool, force=True))
    stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id=pool)))
    summary, _ = answer(stub.RetrieveContext(asking(pool, picture(0))))
    assert (len(summary.hits), summary.candidates, summary.generation) == (0, 0, 0)


CALLS_OF_A_SERIES = {
    "GetSeries": lambda: pb.GetSeriesRequest(series_id="nobody"),
    "UpdateSeries": lambda: pb.UpdateSeriesRequest(series=pb.Series(id="nobody", display_name="x")),
    "DeleteSeries": lambda: pb.DeleteSeriesRequest(series_id="nobody"),
    "ListReferences": lambda: pb.ListReferencesRequest(series_id="nobody"),
    "GetReference": lambda: pb.GetReferenceRequest(series_id="nobody", reference_id=NOWHERE),
    "DownloadReference": lambda: pb.DownloadReferenceRequest(series_id="nobody", reference_id=NOWHERE),
    "UpdateReference": lambda: pb.UpdateReferenceRequest(
        series_id="nobody", reference=pb.Reference(id=NOWHERE), update_mask=FieldMask(paths=["page"])
    ),
    "DeleteReferences": lambda: pb.DeleteReferencesRequest(series_id="nobody", reference_ids=[NOWHERE]),
    "AddReferences": lambda: adding("nobody", []),
    "RetrieveContext": lambda: asking("nobody", picture(0)),
    "SearchVectors": lambda: pb.SearchVectorsRequest(series_id="nobody", dim=1, vectors=b"\0\0\x80\x3f"),
    "GetSeriesStats": lambda: pb.GetSeriesStatsRequest(series_id="nobody"),
}


@pytest.mark.parametrize("rpc", CALLS_OF_A_SERIES)
def test_a_series_that_is_not_there_is_not_found(stub, rpc):
    with refused(StatusCode.NOT_FOUND, "NO_SUCH_SERIES"):
        result = getattr(stub, rpc)(CALLS_OF_A_SERIES[rpc]())
        if hasattr(result, "__next__"):
            list(result)


MALFORMED = {
    "GetSeries": lambda: pb.GetSeriesRequest(series_id="../up"),
    "UpdateSeries": lambda: pb.UpdateSeriesRequest(series=pb.Series(id="", display_name="x")),
    "DeleteSeries": lambda: pb.DeleteSeriesRequest(),
    "ListReferences": lambda: pb.ListReferencesRequest(series_id="a", bound=common.Bound(all_tags=[""])),
    "GetReference": lambda: pb.GetReferenceRequest(series_id="a", reference_id="short"),
    "DownloadReference": lambda: pb.DownloadReferenceRequest(series_id="a", reference_id="short"),
    "UpdateReference": lambda: pb.UpdateReferenceRequest(series_id="a", reference=pb.Reference(id=NOWHERE)),
    "DeleteReferences": lambda: pb.DeleteReferencesRequest(series_id="a"),
    "AddReferences": lambda: adding("A", []),
    "RetrieveContext": lambda: asking("a", picture(0), hits_per_corner=65),
    "SearchVectors": lambda: pb.SearchVectorsRequest(series_id="a", dim=2, vectors=b"\0" * 9, k=1001),
    "GetSeriesStats": lambda: pb.GetSeriesStatsRequest(series_id="a" * 65),
}


@pytest.mark.parametrize("rpc", MALFORMED)
def test_a_malformed_field_is_named(stub, rpc):
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST") as refusal:
        result = getattr(stub, rpc)(MALFORMED[rpc]())
        if hasattr(result, "__next__"):
            list(result)
    assert refusal.fields


# -- references


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
            over.wait(20)

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


# -- searches


def test_a_grey_page_finds_its_own_colour_first(stub, kept):
    summary, pictures = answer(stub.RetrieveContext(asking(kept, grey(picture(3)))))
    assert [(h.corner, h.rank) for h in summary.hits] == [(corner, rank) for corner in range(1, 5) for rank in range(3)]
    best = [h for h in summary.hits if h.rank == 0]
    assert {h.reference_id for h in best} == {id_of(picture(3))}
    assert [(h.box.x0, h.box.y0) for h in best] == [(0, 0), (16, 0), (0, 24), (16, 24)]
    assert (summary.candidates, summary.generation) == (40, 8)
    assert (summary.page_width, summary.page_height) == (64, 96)
    assert summary.embedding_space == get(stub, kept).embedding_space
    assert {h.picture_key for h in summary.hits} == set(pictures)


def test_patches_are_cut_from_the_stored_reference(stub, kept):
    summary, pictures = answer(stub.RetrieveContext(asking(kept, picture(3), pixels=Options.PIXELS_PATCHES)))
    whole = {id_of(picture(n)): np.asarray(Image.open(io.BytesIO(picture(n)))) for n in range(8)}
    for hit in summary.hits:
        expected = whole[hit.reference_id][hit.box.y0 : hit.box.y1, hit.box.x0 : hit.box.x1]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(pictures[hit.picture_key]))), expected)
        assert not hit.HasField("picture_box")


def test_whole_references_come_once_each(stub, kept):
    summary, pictures = answer(stub.RetrieveContext(asking(kept, picture(3), pixels=Options.PIXELS_REFERENCES)))
    for hit in summary.hits:
        assert pictures[hit.picture_key] == next(d for d in map(picture, range(8)) if id_of(d) == hit.reference_id)
        assert hit.picture_box == hit.box
    assert len(pictures) == len({hit.reference_id for hit in summary.hits})


def test_no_pixels_come_where_none_are_asked_for(stub, kept):
    summary, pictures = answer(stub.RetrieveContext(asking(kept, picture(3), pixels=Options.PIXELS_NONE)))
    assert not pictures
    assert {hit.picture_key for hit in summary.hits} == {""}


def test_patches_are_shrunk_to_the_side_asked_for(stub, kept):
    _, pictures = answer(stub.RetrieveContext(asking(kept, picture(3), max_patch_side=20)))
    assert {max(Image.open(io.BytesIO(data)).size) for data in pictures.values()} == {20}


def test_a_stored_reference_does_not_find_itself(stub, kept):
    options = Options(series_id=kept, reference_id=id_of(picture(3)), hits_per_corner=64)
    summary, _ = answer(stub.RetrieveContext(iter([pb.RetrieveContextRequest(options=options)])))
    assert {hit.reference_id for hit in summary.hits} == {id_of(picture(n)) for n in range(8)} - {id_of(picture(3))}


@pytest.mark.parametrize(
    ("bound", "allowed"),
    [
        (common.Bound(max_chapter=2000), {0, 1, 2}),
        (common.Bound(min_chapter=5000), {0, 5, 6, 7}),
        (common.Bound(max_depth=0), {0, 1, 2, 3, 4, 5}),
        (common.Bound(all_tags=["odd", "n3"]), {3}),
        (common.Bound(any_tags=["n1", "n2", "unheard of"]), {1, 2}),
        (common.Bound(none_tags=["odd"]), {0, 2, 4, 6}),
        (common.Bound(exclude_reference_ids=[id_of(picture(0)), NOWHERE]), {1, 2, 3, 4, 5, 6, 7}),
        (common.Bound(max_chapter=3000, none_tags=["even"]), {1, 3}),
        (common.Bound(all_tags=["unheard of"]), set()),
    ],
)
def test_only_what_passes_the_bound_answers(stub, kept, bound, allowed):
    summary, _ = answer(stub.RetrieveContext(asking(kept, picture(3), bound=bound, hits_per_corner=64)))
    assert {hit.page for hit in summary.hits} == allowed
    assert summary.candidates == 5 * len(allowed)
    assert len(summary.hits) == 4 * 5 * len(allowed)


def test_an_added_reference_is_in_the_next_search(stub, pool):
    answer(stub.RetrieveContext(asking(pool, picture(99))))
    (added,) = stub.AddReferences(adding(pool, [picture(99)]))
    summary, _ = answer(stub.RetrieveContext(asking(pool, picture(99), min_generation=added.generation)))
    assert summary.hits[0].reference_id == id_of(picture(99))


def test_a_generation_not_reached_is_refused(stub, kept):
    with refused(StatusCode.FAILED_PRECONDITION, "GENERATION_NOT_REACHED"):
        list(stub.RetrieveContext(asking(kept, picture(3), min_generation=9)))
    with refused(StatusCode.FAILED_PRECONDITION, "GENERATION_NOT_REACHED"):
        stub.SearchVectors(search(stub, kept, min_generation=9))


def test_an_unreadable_page_is_refused(stub, kept):
    with refused(StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE"):
        list(stub.RetrieveContext(asking(kept, b"no picture")))


def test_a_page_larger_than_the_limit_is_refused(start_retrieval):
    with stub_of(start_retrieval("--set", "max_picture_bytes=2000").address) as stub:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s")))
        assert len(picture(0)) > 2000
        with refused(StatusCode.INVALID_ARGUMENT, "IMAGE_TOO_LARGE"):
            list(stub.RetrieveContext(asking("s", picture(0))))
        (response,) = stub.AddReferences(adding("s", [picture(0)]))
        assert response.failure.reason == "IMAGE_TOO_LARGE"


CONTEXT_STREAMS = {
    "nothing": lambda s: [],
    "a chunk first": lambda s: list(asking(s, picture(0)))[1:],
    "no query": lambda s: [pb.RetrieveContextRequest(options=Options(series_id=s))],
    "options twice": lambda s: [next(asking(s, picture(0)))] * 2,
    "an end in the page": lambda s: [next(asking(s, picture(0)))],
    "an empty message": lambda s: [next(asking(s, picture(0))), pb.RetrieveContextRequest()],
    "sides with whole references": lambda s: asking(s, picture(0), pixels=Options.PIXELS_REFERENCES, max_patch_side=9),
    "unknown pixels": lambda s: asking(s, picture(0), pixels=9),
}


@pytest.mark.parametrize("name", CONTEXT_STREAMS)
def test_a_broken_stream_of_a_page_is_refused(stub, series, name):
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.RetrieveContext(iter(CONTEXT_STREAMS[name](series))))
    assert caught.value.code() == StatusCode.INVALID_ARGUMENT, caught.value


def search(stub, series, vectors=None, **fields):
    dim = get(stub, series).embedding_space.dim
    rows = np.eye(2, dim, dtype="<f4") * 7 if vectors is None else vectors
    return pb.SearchVectorsRequest(series_id=series, **{"dim": rows.shape[1], "vectors": rows.tobytes(), **fields})


def test_vectors_find_their_nearest_by_query(stub, kept):
    response = stub.SearchVectors(search(stub, kept, k=4, bound=common.Bound(max_chapter=3000)))
    assert [(h.query, h.rank) for h in response.hits] == [(q, r) for q in range(2) for r in range(4)]
    for query in range(2):
        scores = [h.score for h in response.hits if h.query == query]
        assert scores == sorted(scores, reverse=True)
        assert max(map(abs, scores)) <= 1
    assert {h.corner for h in response.hits} == {common.CORNER_UNSPECIFIED}
    assert response.generation == 8


def test_ten_hits_come_where_no_number_is_asked_for(stub, kept):
    assert len(stub.SearchVectors(search(stub, kept)).hits) == 20


def test_vectors_of_another_space_are_refused(stub, kept):
    with refused(StatusCode.FAILED_PRECONDITION, "EMBEDDING_SPACE_CHANGED"):
        stub.SearchVectors(search(stub, kept, embedding_space_id="other"))
    own = get(stub, kept).embedding_space.id
    assert stub.SearchVectors(search(stub, kept, embedding_space_id=own)).hits


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_vector_without_a_direction_is_refused(stub, kept, bad):
    rows = np.full((1, get(stub, kept).embedding_space.dim), bad, "<f4")
    with refused(StatusCode.INVALID_ARGUMENT, "VECTOR_NOT_USABLE"):
        stub.SearchVectors(search(stub, kept, rows))


def test_vectors_of_another_length_are_refused(stub, kept):
    with refused(StatusCode.INVALID_ARGUMENT, "SHAPE_MISMATCH"):
        stub.SearchVectors(search(stub, kept, np.ones((1, 3), "<f4")))


def test_stats_count_what_is_there(stub, pool):
    stats = stub.GetSeriesStats(pb.GetSeriesStatsRequest(series_id=pool))
    assert (stats.references, stats.patches, stats.generation) == (8, 40, 8)
    assert (stats.loaded, stats.index_bytes) == (False, 0)
    assert dict(stats.references_by_chapter) == {n * 1000: 1 for n in range(1, 8)}
    assert dict(stats.references_by_depth) == {0: 6, 1: 2}
    assert stats.references_without_chapter == 1
    assert stats.disk_bytes > sum(len(picture(n)) for n in range(8))
    answer(stub.RetrieveContext(asking(pool, picture(3))))
    stats = stub.GetSeriesStats(pb.GetSeriesStatsRequest(series_id=pool))
    assert stats.loaded
    assert stats.index_bytes >= 40 * 512 * 4


# -- the server


def test_the_server_tells_its_limits(stub):
    info = stub.GetServerInfo(pb.GetServerInfoRequest())
    assert info.default_embedder in info.embedders
    assert info.max_picture_bytes == 64 << 20
    assert info.version
    assert info.faiss.endswith("pu)")


@pytest.mark.parametrize("service", SERVICES)
def test_health_of_a_service_says_serving(retrieval_server, service):
    with grpc.insecure_channel(retrieval_server.address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        assert health_pb2_grpc.HealthStub(channel).Check(request).status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_the_server_says_serving_once_the_embedder_is_there(retrieval_server):
    with grpc.insecure_channel(retrieval_server.address) as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""), timeout=90)
        assert any(state.status == health_pb2.HealthCheckResponse.SERVING for state in states)


def test_reflection_lists_every_service(retrieval_server):
    with grpc.insecure_channel(retrieval_server.address) as channel:
        assert set(SERVICES) <= set(ProtoReflectionDescriptorDatabase(channel).get_services())


def test_a_second_server_on_one_folder_names_the_first(start_retrieval):
    first = start_retrieval()
    first.address  # noqa: B018 - waits
    second = start_retrieval()
    assert second.process.wait(60) == 1
    assert "DATA_FOLDER_IN_USE" in second.log.read_text()
    assert str(first.process.pid) in second.log.read_text()
    assert "Traceback" not in second.log.read_text()


def test_everything_is_there_after_a_restart(start_retrieval):
    first = start_retrieval()
    with stub_of(first.address) as stub:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s", labels={"a": "b"})))
        items = [(picture(n), pb.Reference(chapter=n, tags=[f"n{n}"])) for n in range(5)]
        assert len(list(stub.AddReferences(adding("s", items)))) == 5
        before, hits = get(stub, "s"), answer(stub.RetrieveContext(asking("s", picture(2))))[0].hits
    assert first.stop() == 0
    with stub_of(start_retrieval().address) as stub:
        assert get(stub, "s") == before
        assert list(answer(stub.RetrieveContext(asking("s", picture(2))))[0].hits) == list(hits)


def test_a_changed_embedder_is_refused_by_both_names(start_retrieval):
    first = start_retrieval()
    with stub_of(first.address) as stub:
        made = stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s"))).series.embedding_space.id
    first.stop()
    with stub_of(start_retrieval("--set", "grey_twin=false").address) as stub:
        other = stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="t"))).series.embedding_space.id
        assert other != made
        for call in (
            lambda: stub.AddReferences(adding("s", [])),
            lambda: stub.RetrieveContext(asking("s", picture(0))),
        ):
            with refused(StatusCode.FAILED_PRECONDITION, "EMBEDDING_SPACE_CHANGED") as refusal:
                list(call())
            assert made in refusal.message
            assert other in refusal.message


def test_sigterm_lets_a_stream_finish(start_retrieval):
    server = start_retrieval()
    with stub_of(server.address) as stub:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s")))
        told = threading.Event()

        def requests():
            yield from adding("s", [picture(0)])
            told.wait(20)
            yield header("late")
            yield from chunks("late", picture(1))

        responses = stub.AddReferences(requests())
        assert next(responses).status == Status.STATUS_ADDED
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        while "draining" not in server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        told.set()
        assert [r.status for r in responses] == [Status.STATUS_ADDED]
    assert server.process.wait(60) == 0


def test_a_full_series_is_refused_while_reading_goes_on(start_retrieval):
    flags = ("--set", "map_bytes=1048576", "--set", "max_map_bytes=4194304")
    with stub_of(start_retrieval(*flags).address) as stub:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s")))
        rng = np.random.default_rng(0)
        noise = []
        for _ in range(8):
            out = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (512, 512, 3), dtype=np.uint8)).save(out, "PNG")
            noise.append(picture(1) + out.getvalue())
        added = []
        with refused(StatusCode.RESOURCE_EXHAUSTED, "MAP_FULL"):
            added.extend(response.reference.id for response in stub.AddReferences(adding("s", noise)))
        assert 1 <= len(added) < 8
        listed = stub.ListReferences(pb.ListReferencesRequest(series_id="s")).references
        assert {r.id for r in listed} == set(added)
        assert answer(stub.RetrieveContext(asking("s", picture(1))))[0].hits


def test_a_caller_that_goes_leaves_the_server_well(stub, series):
    call = stub.AddReferences(adding(series, [picture(n) for n in range(20)]))
    next(call)
    call.cancel()
    (response,) = stub.AddReferences(adding(series, [picture(50)]))
    assert response.status == Status.STATUS_ADDED
    stats = stub.GetSeriesStats(pb.GetSeriesStatsRequest(series_id=series))
    assert stats.patches == 5 * stats.references == 5 * stats.generation


def test_wrong_settings_are_all_named(start_retrieval):
    server = start_retrieval("--set", "workers=0", "--set", "nonsense=1", "--set", "idle_seconds=never")
    assert server.process.wait(60) == 2
    text = server.log.read_text()
    assert all(name in text for name in ("workers", "nonsense", "idle_seconds"))
