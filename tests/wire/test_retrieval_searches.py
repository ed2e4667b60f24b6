"""Contexts of pages and searches by vectors as a caller meets them: hits, pixels, bounds, refusals."""

from __future__ import annotations

import io

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from PIL import Image

from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from tests.wire import speaking
from tests.wire.speaking import adding, answer, asking, get, grey, id_of, picture, refused, stub_of

NOWHERE = "0" * 64
Options = pb.RetrieveContextOptions


stub, series, pool = speaking.stub, speaking.series, speaking.pool  # fixtures


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
