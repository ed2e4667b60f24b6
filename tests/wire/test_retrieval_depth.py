"""What the retrieval server does beyond a plain pool: imports, earlier generations, variety, quotas, depth limits."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import grpc
import numpy as np
import pytest

from panelhue import errors
from panelhue import types as t
from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from panelhue.retrieval_client import RetrievalClient
from tests.wire.conftest import RunningServer
from tests.wire.pools import BOX, DIM, SPACE, clients, files, found, imported, made, pool_of, rows, tiny
from tests.wire.speaking import picture, stub_of

TOLERANCE = {np.float32: 1e-5}
GENERATED = t.Provenance(t.Origin.GENERATED, depth=1)


@pytest.fixture(scope="module")
def pools(retrieval_server):
    with clients(retrieval_server.address) as (client, _):
        yield client


@pytest.fixture
def series(request):
    """A name for a series of this test alone."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-")


# -- ready-made vectors


def test_an_imported_reference_is_found_by_its_vectors(pools, series):
    ids = pool_of(pools, series, [made(n, rows(n, 3)) for n in range(6)])
    for n, reference_id in enumerate(ids):
        for row in rows(n, 3):
            assert found(pools, series, row, k=1) == [reference_id]
    stats = pools.stats(series)
    assert (stats.references, stats.patches, stats.generation) == (6, 18, 6)
    assert stats.picture_bytes == 6 * len(tiny(0))


def test_a_search_of_imported_vectors_scores_as_numpy_does(pools, series):
    stored = rows(1, 40)
    ids = pool_of(pools, series, [made(n, stored[n : n + 1] * (n + 1)) for n in range(40)])
    query = rows(2)[0]
    hits = pools.search(series, query.tobytes(), DIM, k=40)
    best = np.argsort(-(stored @ query))
    assert [hit.reference_id for hit in hits] == [ids[n] for n in best]
    assert [hit.score for hit in hits] == pytest.approx(list((stored @ query)[best]), abs=TOLERANCE[np.float32])


def test_an_imported_reference_is_kept_as_it_was_given(pools, series):
    given = made(1, data=picture(1), chapter=1500, page=3, tags=("a",), media_type="image/png", provenance=GENERATED)
    [reference_id] = pool_of(pools, series, [given])
    assert reference_id == hashlib.sha256(picture(1)).hexdigest()
    kept = pools.get_reference(series, reference_id)
    assert (kept.chapter, kept.page, kept.tags, kept.provenance.depth) == (1500, 3, ("a",), 1)
    assert (kept.width, kept.height, kept.media_type) == (64, 96, "image/png")
    assert pools.download(series, reference_id).data == picture(1)


def test_an_import_again_changes_nothing(pools, series):
    pool_of(pools, series, [made(1)])
    space_id = pools.get_series(series).embedding_space.id
    [again] = pools.import_references(series, [made(1)], embedding_space_id=space_id)
    assert (again.status, again.generation) == (t.AddStatus.ALREADY_PRESENT, 1)


def test_a_wrong_reference_keeps_no_other_of_its_batch_out(pools, series):
    pool_of(pools, series)
    zero = made(2, np.zeros((1, DIM), np.float32))
    nan = made(3, np.full((1, DIM), np.nan, np.float32))
    short = made(4, rows(4, 1, DIM - 1))
    space_id = pools.get_series(series).embedding_space.id
    results = list(pools.import_references(series, [made(1), zero, nan, short, made(5)], embedding_space_id=space_id))
    assert [one.name for one in results] == ["n1", "n2", "n3", "n4", "n5"]
    rejected = {one.name: one.failure.reason for one in results if one.failure is not None}
    assert rejected == dict.fromkeys(["n2", "n3", "n4"], "INVALID_REFERENCE")
    assert pools.stats(series).references == 2


@pytest.mark.parametrize(
    "box", [(0, 0, 65, 96), (0, 0, 64, 97), (64, 0, 64, 96), (9, 9, 8, 96), (0, 0, 2**31, 96), (2**31, 0, 2**32 - 1, 1)]
)
def test_a_box_outside_of_its_picture_is_refused_by_its_field(pools, series, box):
    pool_of(pools, series)
    space_id = pools.get_series(series).embedding_space.id
    wrong = replace(made(1, rows(1, 2)), boxes=(BOX, t.Box(*box)))
    [refused, taken] = pools.import_references(series, [wrong, made(2)], embedding_space_id=space_id)
    assert (refused.failure.status, refused.failure.reason) == ("INVALID_ARGUMENT", "INVALID_REFERENCE")
    assert "boxes[1]" in refused.failure.message
    assert taken.status is t.AddStatus.ADDED


@pytest.mark.parametrize(
    ("data", "reason"),
    [(tiny(1), "REFERENCE_UNREADABLE"), (picture(1, 32, 32), "REFERENCE_SIZE_WRONG")],
    ids=["no picture", "another size"],
)
def test_an_imported_reference_that_cannot_be_shown_is_told_and_ends_nothing(pools, series, data, reason):
    pools.create_series(series)
    space = pools.get_series(series).embedding_space
    wrong = made(1, rows(1, 1, space.dim), data=data)
    list(pools.import_references(series, [wrong], embedding_space_id=space.id))
    with pytest.raises(errors.FailedState) as caught:
        pools.retrieve_context(series, picture(2))
    assert caught.value.reason == reason
    assert hashlib.sha256(data).hexdigest() in str(caught.value)
    assert pools.download(series, hashlib.sha256(data).hexdigest()).data == data


def test_vectors_of_another_space_are_not_imported(pools, series):
    pool_of(pools, series)
    with pytest.raises(errors.FailedState) as caught:
        list(pools.import_references(series, [made(1)], embedding_space_id="made-up/0123456789abcdef"))
    assert caught.value.reason == "EMBEDDING_SPACE_CHANGED"


def test_a_series_of_ready_made_vectors_embeds_nothing(pools, series):
    pool_of(pools, series)
    with pytest.raises(errors.FailedState):
        list(pools.add_references(series, files([1])))
    with pytest.raises(errors.FailedState):
        pools.retrieve_context(series, picture(1))


def test_a_series_of_pictures_takes_vectors_of_its_space(pools, series):
    space = pools.create_series(series, embedder="structure").embedding_space
    one = made(1, rows(1, 5, space.dim), data=picture(1))
    [reference_id] = imported(pools, series, [one])
    assert found(pools, series, rows(1, 5, space.dim)[3], k=1) == [reference_id]
    assert [result.status for result in pools.add_references(series, files([1, 2]))] == [
        t.AddStatus.ALREADY_PRESENT,
        t.AddStatus.ADDED,
    ]


def test_a_space_of_the_same_fields_is_the_same_space(pools, series):
    ids = [
        pools.create_series(f"{series[:50]}-{n}", embedder="vectors", embedding_space=SPACE).embedding_space.id
        for n in range(2)
    ]
    assert ids[0] == ids[1] != ""


def test_a_long_import_goes_in_batches(pools, series):
    ids = pool_of(pools, series, (made(n) for n in range(2500)))
    assert len(set(ids)) == 2500
    assert found(pools, series, rows(2499)[0], k=1) == [ids[2499]]


def test_a_reference_that_fits_in_no_message_is_told_apart(pools, series, tmp_path):
    pool_of(pools, series)
    large = made(2, data=tiny(2) + bytes(4_500_000))
    lost = t.ImportedReference("lost", tmp_path / "no such file", rows(3), (BOX,), 64, 96)
    space_id = pools.get_series(series).embedding_space.id
    results = list(pools.import_references(series, [made(1), large, lost, made(4)], embedding_space_id=space_id))
    outcomes = {one.name: one.failure.reason if one.failure else one.status.name for one in results}
    assert outcomes == {"n1": "ADDED", "n2": "REFERENCE_TOO_LARGE", "lost": "FILE_UNREADABLE", "n4": "ADDED"}


def test_a_message_over_the_limit_is_refused(pools, series):
    pool_of(pools, series)
    space_id = pools.get_series(series).embedding_space.id
    one = pb.ImportedReference(key="a", data=bytes(4 * 1024 * 1024))
    with grpc.insecure_channel(pools.target, [("grpc.max_send_message_length", -1)]) as channel:
        call = channel.stream_stream(
            "/panelhue.retrieval.v1.RetrievalService/ImportReferences",
            pb.ImportReferencesRequest.SerializeToString,
            pb.ImportReferencesResponse.FromString,
        )
        options = pb.ImportReferencesOptions(series_id=series, embedding_space_id=space_id)
        requests = [
            pb.ImportReferencesRequest(options=options),
            pb.ImportReferencesRequest(batch=pb.ImportBatch(references=[one])),
        ]
        with pytest.raises(grpc.RpcError) as caught:
            list(call(iter(requests)))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_import_that_is_left_early_keeps_what_it_told(pools, series):
    pool_of(pools, series)
    space_id = pools.get_series(series).embedding_space.id
    results = pools.import_references(series, (made(n) for n in range(5000)), embedding_space_id=space_id)
    first = next(results)
    results.close()
    assert first.reference is not None
    assert pools.get_reference(series, first.reference.id) == first.reference


# -- earlier generations


def test_a_pool_is_searched_as_it_was(pools, series):
    ids = pool_of(pools, series, [made(n, chapter=1000) for n in range(4)])
    before = pools.get_series(series).generation
    pools.delete_references(series, ids[:1])
    pools.update_reference(series, ids[1], mask=["chapter"], chapter=9000)
    imported(pools, series, [made(7)])
    query, bound = rows(0)[0], t.Bound(max_chapter=1000)
    assert found(pools, series, query, k=1) != ids[:1]
    assert sorted(found(pools, series, query, bound=bound)) != sorted(ids)
    assert sorted(found(pools, series, query, bound=bound, as_of_generation=before)) == sorted(ids)
    assert found(pools, series, query, k=1, as_of_generation=before) == ids[:1]
    now = pools.get_series(series).generation
    assert found(pools, series, query, as_of_generation=now) == found(pools, series, query)


def test_each_generation_holds_what_was_there_then(pools, series):
    ids = pool_of(pools, series, [made(n) for n in range(5)])
    for generation in range(1, 6):
        assert sorted(found(pools, series, rows(9)[0], as_of_generation=generation)) == sorted(ids[:generation])


def test_an_earlier_generation_gives_contexts(pools, series):
    pools.create_series(series)
    added = [one.reference.id for one in pools.add_references(series, files([1, 2]))]
    before = pools.get_series(series).generation
    pools.delete_references(series, added[:1])
    context = pools.retrieve_context(series, picture(1), as_of_generation=before, pixels=t.Pixels.NONE)
    assert added[0] in {hit.reference_id for hit in context.hits}
    assert context.generation == before
    now = pools.retrieve_context(series, picture(1), pixels=t.Pixels.NONE)
    assert {hit.reference_id for hit in now.hits} == {added[1]}


def test_a_generation_that_is_not_there_yet_is_refused(pools, series):
    pool_of(pools, series, [made(1)])
    with pytest.raises(errors.FailedState) as caught:
        found(pools, series, rows(1)[0], as_of_generation=2)
    assert caught.value.reason == "GENERATION_NOT_REACHED"


def test_what_is_purged_leaves_the_history(pools, series):
    ids = pool_of(pools, series, [made(n) for n in range(3)])
    pools.delete_references(series, ids[:1], purge=True)
    stats = pools.stats(series)
    assert (stats.references, stats.removed_references) == (2, 0)
    with pytest.raises(errors.FailedState) as caught:
        found(pools, series, rows(0)[0], as_of_generation=3)
    assert caught.value.reason == "HISTORY_NOT_KEPT"
    assert stats.history_from == pools.get_series(series).generation


def test_what_is_removed_is_kept_for_the_history(pools, series):
    ids = pool_of(pools, series, [made(n) for n in range(3)])
    pools.delete_references(series, ids[:2])
    stats = pools.stats(series)
    assert (stats.references, stats.removed_references) == (1, 2)
    assert {one.id for one in pools.list_references(series)} == set(ids[2:])
    with pytest.raises(errors.NotFound):
        pools.get_reference(series, ids[0])


@pytest.mark.parametrize("kind", ["vectors", "page"])
def test_a_search_waits_for_no_generation(pools, series, kind):
    pools.create_series(series)
    list(pools.add_references(series, files([1])))
    dim = pools.get_series(series).embedding_space.dim

    def ask(generation: int) -> None:
        if kind == "vectors":
            found(pools, series, rows(1, 1, dim)[0], min_generation=generation)
        else:
            pools.retrieve_context(series, picture(1), min_generation=generation, pixels=t.Pixels.NONE)

    ask(1)
    with pytest.raises(errors.FailedState) as caught:
        ask(2)
    assert caught.value.reason == "GENERATION_NOT_REACHED"


# -- variety


def test_no_reference_gives_more_hits_than_asked_for(pools, series):
    ids = pool_of(pools, series, [made(n, rows(n) + 0.01 * rows(100 + n, 4)) for n in range(5)])
    query = rows(0)[0]
    assert found(pools, series, query, k=4) == [ids[0]] * 4
    for most in (1, 2):
        answers = found(pools, series, query, k=10, max_hits_per_reference=most)
        assert {one: answers.count(one) for one in ids} == dict.fromkeys(ids, most)
        assert len(answers) == 5 * most


def greedy(stored: np.ndarray, query: np.ndarray, k: int, diversity: float) -> list[int]:
    """The contract's rule in numpy."""
    scores = stored @ query
    candidates, chosen = list(np.argsort(-scores)[: 16 * k]), []
    while candidates and len(chosen) < k:
        near = [max((float(stored[n] @ stored[m]) for m in chosen), default=0.0) for n in candidates]
        worth = [(1 - diversity) * scores[n] - diversity * a for n, a in zip(candidates, near, strict=True)]
        chosen.append(candidates.pop(int(np.argmax(worth))))
    return chosen


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.7, 1.0])
def test_diverse_hits_are_those_of_the_rule(pools, series, diversity):
    stored = rows(5, 30)
    ids = pool_of(pools, series, [made(n, stored[n : n + 1]) for n in range(30)])
    for seed in range(5):
        query = rows(50 + seed)[0]
        expected = [ids[n] for n in greedy(stored, query, 4, diversity)]
        assert found(pools, series, query, k=4, diversity=diversity) == expected


@pytest.mark.parametrize("diversity", [-0.5, 1.5, float("nan")])
def test_a_diversity_out_of_range_is_refused(pools, series, diversity):
    pool_of(pools, series, [made(1)])
    with pytest.raises(errors.InvalidInput) as caught:
        found(pools, series, rows(1)[0], diversity=diversity)
    assert [one.field for one in caught.value.violations] == ["diversity"]


# -- quotas


def test_a_series_takes_no_more_references_than_its_quota(pools, series):
    pool_of(pools, series, [made(n) for n in range(2)], quota=t.Quota(max_references=3))
    space_id = pools.get_series(series).embedding_space.id
    results = []

    def take() -> None:
        for one in pools.import_references(series, [made(2), made(3), made(4)], embedding_space_id=space_id):
            results.append(one)  # noqa: PERF402 - what came before the error counts

    with pytest.raises(errors.Overloaded) as caught:
        take()
    assert caught.value.reason == "QUOTA_EXCEEDED"
    assert [one.subject for one in caught.value.quota] == [f"series:{series}"]
    assert [one.status.name for one in results] == ["ADDED"]  # those that may pass later have no answer yet
    assert pools.stats(series).references == 3
    pools.update_series(series, quota=t.Quota(max_references=4))
    imported(pools, series, [made(3)])


def test_a_series_takes_no_more_bytes_than_its_quota(pools, series):
    sizes = [len(picture(n)) for n in range(3)]
    pools.create_series(series, quota=t.Quota(max_bytes=sum(sizes) - 1))
    results = pools.add_references(series, files(range(3)))
    assert [next(results).status for _ in range(2)] == [t.AddStatus.ADDED] * 2
    with pytest.raises(errors.Overloaded) as caught:
        next(results)
    assert caught.value.quota
    assert pools.stats(series).picture_bytes == sum(sizes[:2])


def test_what_is_removed_makes_room_in_a_quota(pools, series):
    ids = pool_of(pools, series, [made(n) for n in range(2)], quota=t.Quota(max_references=2))
    pools.delete_references(series, ids[:1])
    imported(pools, series, [made(5)])


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """The address of a server that takes two references of a caller."""
    folder = tmp_path_factory.mktemp("limited")
    flags = ("--data", str(folder / "data"), "--set", "caller_references=2")
    server = RunningServer("retrieval-server", folder, *flags)
    yield server.address
    server.stop()


def test_a_callers_quota_is_its_own(limited):
    with RetrievalClient(limited, caller="one") as one, RetrievalClient(limited, caller="two") as two:
        pool_of(one, "shared", [made(1), made(2)])
        space_id = one.get_series("shared").embedding_space.id
        with pytest.raises(errors.Overloaded) as caught:
            list(one.import_references("shared", [made(3)], embedding_space_id=space_id))
        assert [violation.subject for violation in caught.value.quota] == ["caller:one"]
        [again] = two.import_references("shared", [made(2)], embedding_space_id=space_id)
        assert again.status is t.AddStatus.ALREADY_PRESENT
        imported(two, "shared", [made(4), made(5)])
        one.create_series("pictures")
        with pytest.raises(errors.Overloaded):
            list(one.add_references("pictures", files([1])))


def test_a_caller_without_a_name_is_its_host(limited):
    with RetrievalClient(limited) as client:
        pool_of(client, "of-a-host", [made(1), made(2)])
        with pytest.raises(errors.Overloaded) as caught:
            imported(client, "of-a-host", [made(3)])
    assert [violation.subject for violation in caught.value.quota] == ["caller:127.0.0.1"]


# -- depth


def depth(number: int) -> t.Provenance:
    return t.Provenance(t.Origin.GENERATED if number else t.Origin.OFFICIAL, depth=number)


def test_a_reference_beyond_the_depth_of_its_series_is_rejected(pools, series):
    pool_of(pools, series, max_reference_depth=1)
    space_id = pools.get_series(series).embedding_space.id
    given = [made(n, provenance=depth(n)) for n in (0, 1, 2, 1000)]
    results = list(pools.import_references(series, given, embedding_space_id=space_id))
    assert [one.failure.reason if one.failure else "" for one in results] == ["", "", *["DEPTH_EXCEEDED"] * 2]


def test_a_picture_beyond_the_depth_of_its_series_is_rejected_alone(pools, series):
    pools.create_series(series, max_reference_depth=0)
    given = [*files([1], provenance=depth(1)), *files([2])]
    results = list(pools.add_references(series, given))
    assert [one.status.name for one in results] == ["REJECTED", "ADDED"]


def test_searches_keep_to_the_depth_of_their_series_unless_told_otherwise(pools, series):
    ids = pool_of(pools, series, [made(n, provenance=depth(n)) for n in range(3)], default_max_depth=0)
    query = rows(9)[0]
    assert found(pools, series, query) == ids[:1]
    assert sorted(found(pools, series, query, bound=t.Bound(max_depth=1))) == sorted(ids[:2])
    pools.update_series(series, clear=["default_max_depth"])
    assert sorted(found(pools, series, query)) == sorted(ids)


# -- options of a series


def test_the_options_of_a_series_are_changed_and_cleared(pools, series):
    pool_of(pools, series)
    floats = t.IndexOptions(precision=t.Precision.FLOAT16)
    changed = pools.update_series(series, index=floats, quota=t.Quota(3, 4), max_reference_depth=0, default_max_depth=2)
    assert (changed.index.precision, changed.quota) == (t.Precision.FLOAT16, t.Quota(3, 4))
    assert (changed.max_reference_depth, changed.default_max_depth) == (0, 2)
    names = ["index", "quota", "max_reference_depth", "default_max_depth"]
    cleared = pools.update_series(series, clear=names)
    assert (cleared.index.precision, cleared.quota) == (t.Precision.FLOAT32, t.Quota())
    assert (cleared.max_reference_depth, cleared.default_max_depth) == (None, None)
    assert cleared == pools.get_series(series)


def test_half_precision_answers_as_full_precision(pools, series):
    stored = rows(3, 200)
    pool_of(pools, series, [made(n, stored[n : n + 1]) for n in range(200)])
    answers = []
    for precision in t.Precision:
        pools.update_series(series, index=t.IndexOptions(precision=precision))
        answers.append([found(pools, series, rows(1000 + n)[0], k=5) for n in range(10)])
    assert answers[0] == answers[1]


def test_the_client_sets_or_clears_a_field_not_both(pools):
    for wrong in ({"quota": t.Quota(1), "clear": ["quota"]}, {"clear": ["embedder"]}, {}):
        with pytest.raises(errors.UsageError):
            pools.update_series("whatever", **wrong)


# -- text


def test_an_embedder_without_a_text_tower_finds_no_text(pools, series):
    pools.create_series(series, embedder="structure")
    with pytest.raises(errors.FailedState):
        pools.search_text(series, "a girl with red hair")


@pytest.mark.parametrize("text", ["", "x" * 1025])
def test_a_text_has_a_length(pools, series, text):
    pools.create_series(series)
    with pytest.raises(errors.InvalidInput) as caught:
        pools.search_text(series, text)
    assert [one.field for one in caught.value.violations] == ["text"]


# -- limits


def test_the_server_tells_its_room(pools):
    info = pools.info()
    assert info.free_bytes > 0
    assert info.max_index_bytes > info.index_bytes >= 0
    assert not info.read_only


def test_an_answer_larger_than_clients_take_is_refused(pools, series):
    long = t.Provenance(source="x" * 1024)
    pool_of(pools, series, [made(n, rows(n, 64), provenance=long) for n in range(16)])
    query = rows(1, 8).astype("<f4").tobytes()
    with pytest.raises(errors.InvalidInput) as caught:
        pools.search(series, query, DIM, k=1000)
    assert caught.value.reason == "RESPONSE_TOO_LARGE"


def test_an_unknown_kind_of_index_is_refused(pools, series):
    with stub_of(pools.target) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id=series, index=pb.IndexOptions(kind=9))))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("first", ["batch", "empty"])
def test_an_import_begins_with_its_options(pools, first):
    requests = {"batch": pb.ImportReferencesRequest(batch=pb.ImportBatch()), "empty": pb.ImportReferencesRequest()}
    with stub_of(pools.target) as stub, pytest.raises(grpc.RpcError) as caught:
        list(stub.ImportReferences(iter([requests[first]])))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_hits_of_vectors_have_no_corner(pools, series):
    pool_of(pools, series, [made(1)])
    with stub_of(pools.target) as stub:
        request = pb.SearchVectorsRequest(series_id=series, dim=DIM, vectors=rows(1).tobytes())
        [hit] = stub.SearchVectors(request).hits
    assert (hit.corner, hit.box) == (common.CORNER_UNSPECIFIED, common.Box(x1=64, y1=96))
