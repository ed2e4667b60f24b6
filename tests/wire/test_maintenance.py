"""Upkeep of pools through a real server: what every call refuses, and where series are held."""

from __future__ import annotations

import time

import grpc
import pytest
from grpc import StatusCode

from panelhue import errors
from panelhue import types as t
from panelhue.maintenance_types import Tier
from panelhue.retrieval.v1 import maintenance_pb2 as pb
from panelhue.retrieval.v1 import maintenance_pb2_grpc as pb_grpc
from tests.wire.conftest import RunningServer
from tests.wire.pools import clients, found, made, pool_of, rows
from tests.wire.speaking import refused

REQUESTS = {
    "LoadSeries": pb.LoadSeriesRequest,
    "UnloadSeries": pb.UnloadSeriesRequest,
    "CreateSnapshot": pb.CreateSnapshotRequest,
    "CheckSeries": pb.CheckSeriesRequest,
    "CompactSeries": pb.CompactSeriesRequest,
    "ReindexSeries": pb.ReindexSeriesRequest,
    "MigrateSeries": pb.MigrateSeriesRequest,
    "CancelMigration": pb.CancelMigrationRequest,
    "FindNearDuplicates": pb.FindNearDuplicatesRequest,
    "GetDrift": pb.GetDriftRequest,
}
MORE = {"MigrateSeries": {"embedder": "structure"}}


@pytest.fixture(scope="module")
def both(retrieval_server):
    with clients(retrieval_server.address) as pair:
        yield pair


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server with room for some three small pools."""
    folder = tmp_path_factory.mktemp("small")
    flags = ("--data", str(folder / "data"), "--set", "index_bytes=1000000")
    server = RunningServer("retrieval-server", folder, *flags)
    with clients(server.address) as pair:
        yield pair
    server.stop()


@pytest.fixture(scope="module")
def stub(retrieval_server):
    with grpc.insecure_channel(retrieval_server.address) as channel:
        yield pb_grpc.MaintenanceServiceStub(channel)


def ask(stub, rpc: str, request: object) -> None:
    """Sends a request and reads its answer to the end."""
    answer = getattr(stub, rpc)(request)
    if hasattr(answer, "__next__"):
        list(answer)


@pytest.mark.parametrize("rpc", REQUESTS)
def test_upkeep_of_a_series_that_is_not_there_is_not_found(stub, rpc):
    with refused(StatusCode.NOT_FOUND, "NO_SUCH_SERIES"):
        ask(stub, rpc, REQUESTS[rpc](series_id="nobody", **MORE.get(rpc, {})))


@pytest.mark.parametrize("rpc", [*REQUESTS, "DeleteSnapshot", "RestoreSnapshot", "ListSnapshots"])
def test_a_malformed_series_id_is_named(stub, rpc):
    more = {"DeleteSnapshot": pb.DeleteSnapshotRequest, "RestoreSnapshot": pb.RestoreSnapshotRequest}
    kind = {**REQUESTS, **more, "ListSnapshots": pb.ListSnapshotsRequest}[rpc]
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST") as refusal:
        ask(stub, rpc, kind(series_id="../etc"))
    assert "series_id" in refusal.fields


@pytest.mark.parametrize(
    ("rpc", "request_message", "field"),
    [
        ("LoadSeries", pb.LoadSeriesRequest(series_id="s", tier=pb.TIER_DISK), "tier"),
        ("CreateSnapshot", pb.CreateSnapshotRequest(series_id="s", name="a/b"), "name"),
        ("BackUp", pb.BackUpRequest(name=".."), "name"),
        ("RestoreSnapshot", pb.RestoreSnapshotRequest(series_id="s", name="n", into_series_id="/"), "into_series_id"),
        ("MigrateSeries", pb.MigrateSeriesRequest(series_id="s"), "embedder"),
        ("FindNearDuplicates", pb.FindNearDuplicatesRequest(series_id="s", min_score=1.5), "min_score"),
        ("GetDrift", pb.GetDriftRequest(series_id="s", min_score=float("nan")), "min_score"),
    ],
)
def test_a_malformed_field_is_named(stub, rpc, request_message, field):
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST") as refusal:
        ask(stub, rpc, request_message)
    assert field in refusal.fields


# -- where series are held


def test_a_loaded_series_is_in_memory_until_it_is_unloaded(both):
    pools, upkeep = both
    pool_of(pools, "loaded", [made(n) for n in range(20)])
    upkeep.unload_series("loaded")
    assert pools.stats("loaded").loaded is False
    resident = upkeep.load_series("loaded")
    assert (resident.series, resident.tier, resident.pinned, resident.as_of_generation) == (
        "loaded",
        Tier.MEMORY,
        False,
        0,
    )
    assert pools.stats("loaded").loaded is True
    freed = upkeep.unload_series("loaded")
    assert freed.memory_bytes == resident.memory_bytes > 0
    assert "loaded" not in {one.series for one in upkeep.residents().residents}
    assert found(pools, "loaded", rows(3)[0], k=1)
    assert "loaded" in {one.series for one in upkeep.residents().residents}


def test_residents_come_by_their_last_use(both):
    pools, upkeep = both
    for name in ("used-first", "used-second"):
        pool_of(pools, name, [made(1)])
        found(pools, name, rows(1)[0])
    found(pools, "used-first", rows(1)[0])
    listed = upkeep.residents()
    assert [one.series for one in listed.residents[:2]] == ["used-first", "used-second"]
    assert listed.total == len(listed.residents)
    times = [one.last_use_time for one in listed.residents]
    assert times == sorted(times, reverse=True)
    assert len(upkeep.residents(1).residents) == 1


def test_an_earlier_generation_is_a_resident_of_its_own(both):
    pools, upkeep = both
    pool_of(pools, "earlier", [made(1), made(2)])
    found(pools, "earlier", rows(1)[0], as_of_generation=1)
    held = {one.as_of_generation for one in upkeep.residents().residents if one.series == "earlier"}
    assert 1 in held


def test_a_prefetched_series_comes_by_itself(both):
    pools, upkeep = both
    pool_of(pools, "prefetched", [made(n) for n in range(20)])
    upkeep.unload_series("prefetched")
    upkeep.load_series("prefetched", prefetch=True)
    until = time.monotonic() + 120
    while not pools.stats("prefetched").loaded:
        assert time.monotonic() < until


def test_a_gpu_that_is_not_there_is_refused(both):
    pools, upkeep = both
    pool_of(pools, "on-gpu", [made(1)])
    with pytest.raises(errors.FailedState) as caught:
        upkeep.load_series("on-gpu", Tier.GPU)
    assert caught.value.reason == "NO_GPU"


def test_a_pinned_series_stays_when_others_come(small):
    pools, upkeep = small
    names = [f"pool-{n}" for n in range(6)]
    for name in names:
        pool_of(pools, name, [made(n, rows(n, 8)) for n in range(300)])
    assert upkeep.load_series(names[0], pin=True).pinned
    for name in names[1:]:
        assert found(pools, name, rows(1, 8)[0], k=1)
    held = {one.series: one for one in upkeep.residents().residents}
    assert held[names[0]].pinned
    assert len(held) < len(names)
    assert pools.info().index_bytes <= pools.info().max_index_bytes
    upkeep.unload_series(names[0])
    assert names[0] not in {one.series for one in upkeep.residents().residents}


def test_what_does_not_fit_beside_the_pinned_is_refused_and_searched_all_the_same(small):
    pools, upkeep = small
    pool_of(pools, "large", (made(n, rows(n, 8)) for n in range(4000)))
    with pytest.raises(errors.Overloaded) as caught:
        upkeep.load_series("large", pin=True)
    assert caught.value.reason == "INDEX_BUDGET"
    hits = pools.search("large", rows(17, 8)[5].tobytes(), 8, k=1)
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)


# -- how series are searched


@pytest.mark.parametrize("kind", [t.IndexKind.EXACT, t.IndexKind.HNSW, t.IndexKind.IVF])
def test_stats_say_what_serves(both, kind):
    pools, _ = both
    name = f"kind-{kind.name.lower()}"
    pool_of(pools, name, [made(n) for n in range(10)], index=t.IndexOptions(kind))
    found(pools, name, rows(1)[0])
    stats = pools.stats(name)
    assert stats.serving_kind is t.IndexKind.EXACT  # ten rows are never worth more
    assert bool(stats.index_note) == (kind is not t.IndexKind.EXACT)
