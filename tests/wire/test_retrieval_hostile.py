"""Careless and hostile callers, and folders in which somebody left something: told, survived, nothing lost."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import threading

import grpc
import numpy as np
import pytest
from grpc import StatusCode

from panelhue import errors
from panelhue import types as t
from panelhue.retrieval.v1 import maintenance_pb2, maintenance_pb2_grpc
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from panelhue.retrieval_client import RetrievalClient
from tests.wire.conftest import END_SECONDS, RunningServer
from tests.wire.pools import SPACE, clients, found, ids_of, imported, made, pool_of, rows
from tests.wire.speaking import refused, stub_of


@pytest.fixture(scope="module")
def both(retrieval_server):
    with clients(retrieval_server.address) as pair:
        yield pair


@pytest.fixture(scope="module")
def stub(retrieval_server):
    with stub_of(retrieval_server.address) as made_stub:
        yield made_stub


def forged(scope: pb.ListReferencesRequest, after: str) -> str:
    """A page token that the server did not make."""
    digest = hashlib.sha256(scope.SerializeToString(deterministic=True)).hexdigest()[:16]
    return base64.urlsafe_b64encode(json.dumps(["references", digest, after]).encode()).decode()


@pytest.mark.parametrize("after", ["zz", "\u00e9", "ff" * 140])
def test_a_forged_page_token_is_refused(both, stub, after):
    if "paged" not in {one.id for one in both[0].list_series()}:
        pool_of(both[0], "paged", [made(1)])
    request = pb.ListReferencesRequest(series_id="paged", bound={})
    request.page_token = forged(request, after)
    with refused(StatusCode.INVALID_ARGUMENT, "BAD_PAGE_TOKEN"):
        stub.ListReferences(request)


@pytest.mark.parametrize(("vectors", "k"), [(256, 63), (2, 1000)])
@pytest.mark.parametrize("choice", [{"diversity": 1.0}, {"max_hits_per_reference": 1}])
def test_a_choice_that_would_take_minutes_is_refused(stub, vectors, k, choice):
    data = rows(1, vectors).astype("<f4").tobytes()
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST") as refusal:
        stub.SearchVectors(pb.SearchVectorsRequest(series_id="any", dim=8, vectors=data, k=k, **choice))
    assert refusal.fields == ("k",)


@pytest.mark.parametrize(("vectors", "k"), [(256, 62), (1, 1000)])
def test_the_largest_choice_is_made(both, stub, vectors, k):
    name = f"chosen-{k}"
    pool_of(both[0], name, [made(n, rows(n, 8)) for n in range(20)])
    data = rows(1, vectors).astype("<f4").tobytes()
    answer = stub.SearchVectors(
        pb.SearchVectorsRequest(series_id=name, dim=8, vectors=data, k=k, diversity=1, max_hits_per_reference=1)
    )
    assert len(answer.hits) == 20 * vectors


def test_an_answer_too_large_to_be_sent_is_told_and_nothing_is_lost(both):
    pools, _ = both
    parents = tuple(hashlib.sha256(bytes([n])).hexdigest() for n in range(256))
    generated = t.Provenance(origin=t.Origin.GENERATED, depth=1, parent_ids=parents)
    ids = pool_of(pools, "many-parents", [made(n, provenance=generated) for n in range(300)])
    space_id = pools.get_series("many-parents").embedding_space.id

    def again(numbers: range) -> list[t.AddResult]:
        return list(pools.import_references("many-parents", map(made, numbers), embedding_space_id=space_id))

    with pytest.raises(errors.InvalidInput) as caught:
        again(range(310))
    assert caught.value.reason == "RESPONSE_TOO_LARGE"
    assert len(ids_of(pools, "many-parents") - set(ids)) == 10
    assert {one.status for one in again(range(100))} == {t.AddStatus.ALREADY_PRESENT}


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """The address of a server that takes ten references of a caller."""
    folder = tmp_path_factory.mktemp("limited")
    server = RunningServer("retrieval-server", folder, "--data", str(folder / "data"), "--set", "caller_references=10")
    yield server.address
    server.stop()


def test_what_is_present_already_needs_no_quota(limited):
    with RetrievalClient(limited, caller="full") as pools:
        pool_of(pools, "full", [made(n) for n in range(10)])
        space_id = pools.get_series("full").embedding_space.id
        again = list(pools.import_references("full", [made(n) for n in range(10)], embedding_space_id=space_id))
        assert {one.status for one in again} == {t.AddStatus.ALREADY_PRESENT}


def test_the_same_picture_many_times_counts_once(limited):
    with RetrievalClient(limited, caller="repeating") as pools:
        pools.create_series("repeated", embedder="vectors", embedding_space=SPACE)
        space_id = pools.get_series("repeated").embedding_space.id
        results = list(pools.import_references("repeated", [made(1)] * 1000, embedding_space_id=space_id))
        assert [one.status is t.AddStatus.ADDED for one in results].count(True) == 1
        imported(pools, "repeated", [made(n) for n in range(2, 11)])


def test_streams_side_by_side_do_not_pass_a_quota_together(limited):
    with RetrievalClient(limited, caller="several") as pools:
        pools.create_series("several", embedder="vectors", embedding_space=SPACE)
        space_id = pools.get_series("several").embedding_space.id
        refusals = []

        def stream(first: int) -> None:
            for n in range(first, first + 6):
                try:
                    list(pools.import_references("several", [made(n)], embedding_space_id=space_id))
                except errors.Overloaded as error:
                    refusals.append(error.reason)

        streams = [threading.Thread(target=stream, args=(first,)) for first in (0, 100, 200)]
        for thread in streams:
            thread.start()
        for thread in streams:
            thread.join()
        assert refusals == ["QUOTA_EXCEEDED"] * 8
        assert len(ids_of(pools, "several")) == 10


def test_vectors_that_are_none_keep_the_others_of_their_batch(both):
    pools, _ = both
    pools.create_series("odd-vectors", embedder="vectors", embedding_space=SPACE)
    space_id = pools.get_series("odd-vectors").embedding_space.id
    odd = [np.full((1, 8), value, np.float32) for value in (np.nan, np.inf, 0, 3e38, 1e-45)]
    given = [made(n, vectors) for n, vectors in enumerate([*odd, rows(9)])]
    results = list(pools.import_references("odd-vectors", given, embedding_space_id=space_id))
    assert [one.status is t.AddStatus.ADDED for one in results] == [False, False, False, True, True, True]
    assert len(found(pools, "odd-vectors", rows(9)[0], k=10)) == 3


# -- what lies about in the data folder


def test_garbage_beside_the_data_keeps_no_server_from_starting(start_retrieval, tmp_path):
    first = start_retrieval()
    with clients(first.address) as (pools, upkeep):
        ids = pool_of(pools, "sound", [made(n) for n in range(5)])
        upkeep.create_snapshot("sound", "good")
    assert first.stop() == 0
    data = tmp_path / "data"
    for name in ("snapshots/sound/empty", "snapshots/sound/bad", "series/Not A Series", "series/hollow", "swaps"):
        (data / name).mkdir()
    garbage = ("swaps/sound.json", "snapshots/junk", "series/.hidden", "series/file", "trash/file")
    for name in (*garbage, "snapshots/sound/bad/manifest.json"):
        (data / name).write_text('{"version": 1, "series_id": "../../x"' + "[" * 50_000)
    (data / "series" / os.fsdecode(b"\xff")).mkdir()
    with clients(start_retrieval("--set", f"backup_dir={tmp_path / 'backups'}").address) as (pools, upkeep):
        assert [one.id for one in pools.list_series()] == ["sound"]
        assert [one.name for one in upkeep.list_snapshots()] == ["good"]
        assert ids_of(pools, "sound") == set(ids)
        upkeep.restore_snapshot("sound", "good", replace=True)
        steps = list(upkeep.back_up("all"))
        assert {one.series: one.failure is None for one in steps if one.series} == {
            "sound": True,
            "hollow": False,
            "file": False,
        }
        pools.delete_series("hollow", force=True)
        with pytest.raises(errors.AlreadyExists):
            pools.create_series("file")


def test_a_format_file_cut_short_is_told_and_nothing_is_touched(start_retrieval, tmp_path):
    first = start_retrieval()
    with clients(first.address) as (pools, _):
        ids = pool_of(pools, "kept", [made(1)])
    assert first.stop() == 0
    file = tmp_path / "data" / "FORMAT"
    whole = file.read_bytes()
    file.write_bytes(whole[:20])
    refusing = start_retrieval()
    assert refusing.process.wait(END_SECONDS) != 0
    assert "expected a format and a version" in refusing.log.read_text()
    file.write_bytes(whole)
    with clients(start_retrieval().address) as (pools, _):
        assert ids_of(pools, "kept") == set(ids)


def test_a_server_that_is_told_to_stop_ends_a_check_under_way(start_retrieval):
    server = start_retrieval("--set", "drain_seconds=0")
    with clients(server.address) as (pools, _), grpc.insecure_channel(server.address) as channel:
        pool_of(pools, "checked", (made(n, rows(n, 8)) for n in range(2000)))
        check = maintenance_pb2_grpc.MaintenanceServiceStub(channel).CheckSeries(
            maintenance_pb2.CheckSeriesRequest(series_id="checked")
        )
        pools.get_series("checked")  # by now the check has begun; its process takes longer to start than this
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(50) == 0  # not when the patience with those who use a series ends
        check.cancel()
    assert "Traceback" not in server.log.read_text()
