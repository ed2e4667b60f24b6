"""Series as a caller meets them: made, listed, changed, counted, deleted; and what is said of one that is not there."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from tests.wire import speaking
from tests.wire.speaking import adding, answer, asking, get, picture, refused, stub_of

NOWHERE = "0" * 64

stub, series, pool = speaking.stub, speaking.series, speaking.pool  # fixtures


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
