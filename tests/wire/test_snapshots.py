"""Snapshots of series and their restore through a real server."""

from __future__ import annotations

import threading

import pytest

from panelhue import errors
from panelhue.retrieval.v1 import maintenance_pb2 as pb
from tests.wire.conftest import RunningServer
from tests.wire.pools import clients, damage, found, ids_of, imported, made, pool_of, rows, tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("snapshots")


@pytest.fixture(scope="module")
def both(place):
    """Clients of a server of these tests alone."""
    server = RunningServer("retrieval-server", place, "--data", str(place / "data"))
    with clients(server.address) as pair:
        yield pair
    server.stop()


def test_a_snapshot_holds_the_pool_of_its_moment(both):
    pools, upkeep = both
    pool_of(pools, "snapped", [made(n) for n in range(4)])
    taken = upkeep.create_snapshot("snapped", "first")
    assert (taken.series, taken.name, taken.generation, taken.references) == ("snapped", "first", 4, 4)
    assert (len(taken.sha256), taken.byte_size > 0) == (64, True)
    imported(pools, "snapped", [made(9)])
    assert upkeep.create_snapshot("snapped").references == 5
    assert next(upkeep.list_snapshots("snapped")).name == "first"
    with pytest.raises(errors.AlreadyExists):
        upkeep.create_snapshot("snapped", "first")


def test_a_series_is_put_back_as_it_was(both):
    pools, upkeep = both
    ids = pool_of(pools, "put-back", [made(n) for n in range(4)])
    upkeep.create_snapshot("put-back", "good")
    pools.delete_references("put-back", ids[:3])
    imported(pools, "put-back", [made(7)])
    before = pools.get_series("put-back")
    with pytest.raises(errors.FailedState):
        upkeep.restore_snapshot("put-back", "good")
    restored = upkeep.restore_snapshot("put-back", "good", replace=True)
    assert restored.generation > before.generation
    assert ids_of(pools, "put-back") == set(ids)
    assert found(pools, "put-back", rows(1)[0], k=1) == [ids[1]]
    assert pools.download("put-back", ids[2]).data == tiny(2)


def test_another_series_is_made_of_a_snapshot(both):
    pools, upkeep = both
    ids = pool_of(pools, "original", [made(n) for n in range(3)])
    upkeep.create_snapshot("original", "s")
    made_of_it = upkeep.restore_snapshot("original", "s", into="copy")
    assert (made_of_it.id, made_of_it.reference_count) == ("copy", 3)
    imported(pools, "copy", [made(8)])
    assert (len(ids_of(pools, "copy")), ids_of(pools, "original")) == (4, set(ids))
    with pytest.raises(errors.AlreadyExists):
        upkeep.restore_snapshot("original", "s", into="copy")


def test_a_series_that_was_removed_comes_back_from_its_snapshot(both):
    pools, upkeep = both
    ids = pool_of(pools, "gone", [made(n) for n in range(3)])
    upkeep.create_snapshot("gone", "s")
    pools.delete_series("gone", force=True)
    assert [one.name for one in upkeep.list_snapshots("gone")] == ["s"]
    upkeep.restore_snapshot("gone", "s")
    assert found(pools, "gone", rows(2)[0], k=1) == [ids[2]]


def test_searches_go_on_while_a_series_is_snapped_and_put_back(both):
    pools, upkeep = both
    ids = pool_of(pools, "busy", (made(n) for n in range(300)))
    upkeep.create_snapshot("busy", "before")
    stop, answers, failures = threading.Event(), [], []

    def search() -> None:
        while not stop.is_set():
            try:
                answers.append(found(pools, "busy", rows(5)[0], k=1))
            except errors.PanelhueError as error:
                failures.append(error)

    searching = [threading.Thread(target=search) for _ in range(2)]
    for thread in searching:
        thread.start()
    try:
        upkeep.create_snapshot("busy")
        upkeep.restore_snapshot("busy", "before", replace=True)
        upkeep.restore_snapshot("busy", "before", into="as-busy")
    finally:
        stop.set()
        for thread in searching:
            thread.join()
    assert failures == []
    assert {tuple(one) for one in answers} == {(ids[5],)}


def test_snapshots_are_listed_page_by_page(both):
    pools, upkeep = both
    pool_of(pools, "paged", [made(1)])
    names = [upkeep.create_snapshot("paged", f"s{n}").name for n in range(3)]
    listed, token = [], ""
    while True:
        request = pb.ListSnapshotsRequest(series_id="paged", page_size=1, page_token=token)
        answer = upkeep._stub.ListSnapshots(request)
        listed += [one.name for one in answer.snapshots]
        if not (token := answer.next_page_token):
            break
    assert listed == names
    assert {("paged", name) for name in names} <= {(one.series, one.name) for one in upkeep.list_snapshots()}


def test_a_snapshot_is_removed(both):
    pools, upkeep = both
    pool_of(pools, "lighter", [made(1)])
    size = upkeep.create_snapshot("lighter", "s").byte_size
    assert upkeep.delete_snapshot("lighter", "s") >= size
    assert list(upkeep.list_snapshots("lighter")) == []
    for call in (upkeep.delete_snapshot, upkeep.restore_snapshot):
        with pytest.raises(errors.NotFound) as caught:
            call("lighter", "s")
        assert caught.value.reason == "NO_SUCH_SNAPSHOT"


def test_a_damaged_snapshot_changes_nothing(both, place):
    pools, upkeep = both
    ids = pool_of(pools, "kept-well", [made(n) for n in range(3)])
    upkeep.create_snapshot("kept-well", "s")
    damage(place / "data" / "snapshots" / "kept-well" / "s" / "data.mdb", tiny(1))
    before = pools.get_series("kept-well")
    with pytest.raises(errors.CorruptData):
        upkeep.restore_snapshot("kept-well", "s", replace=True)
    assert pools.get_series("kept-well") == before
    assert ids_of(pools, "kept-well") == set(ids)
