"""Checks, compaction and new indexes through a real server."""

from __future__ import annotations

import signal

import pytest

from panelhue import errors
from tests.wire.conftest import RunningServer
from tests.wire.pools import clients, damage, found, ids_of, made, pool_of, rows, tiny


@pytest.fixture(scope="module")
def both(retrieval_server):
    with clients(retrieval_server.address) as pair:
        yield pair


def test_a_sound_series_has_no_findings(both):
    pools, upkeep = both
    ids = pool_of(pools, "sound", [made(n) for n in range(10)])
    pools.delete_references("sound", ids[:3])
    steps = list(upkeep.check_series("sound"))
    assert [step.finding for step in steps] == [""]
    assert (steps[-1].done, steps[-1].findings, steps[-1].references) == (True, 0, 7)
    assert steps[-1].byte_size > 0


def test_a_damaged_byte_is_found(tmp_path):
    data = tmp_path / "data"
    flags = ("--data", str(data))
    server = RunningServer("retrieval-server", tmp_path / "one", *flags)
    with clients(server.address) as (pools, _):
        ids = pool_of(pools, "hurt", [made(n) for n in range(5)])
    server.stop()
    [path] = data.glob("series/hurt/data.mdb")
    damage(path, tiny(3))
    server = RunningServer("retrieval-server", tmp_path / "two", *flags)
    try:
        with clients(server.address) as (pools, upkeep):
            steps = list(upkeep.check_series("hurt"))
            assert ids[3] in {step.reference_id for step in steps if step.finding}
            assert steps[-1].findings == len(steps) - 1 > 0
            with pytest.raises(errors.CorruptData):
                pools.download("hurt", ids[3])
            assert pools.download("hurt", ids[2]).data == tiny(2)
    finally:
        server.stop(signal.SIGKILL)


def test_compaction_makes_a_series_small(both):
    pools, upkeep = both
    ids = pool_of(pools, "shrunk", (made(n, data=tiny(n) + bytes(20_000)) for n in range(100)))
    pools.delete_references("shrunk", ids[10:])
    kept = upkeep.compact_series("shrunk")
    assert kept.references_dropped == 0
    done = upkeep.compact_series("shrunk", drop_history=True)
    assert done.references_dropped == 90
    assert done.disk_bytes_after < done.disk_bytes_before / 2
    assert ids_of(pools, "shrunk") == set(ids[:10])
    assert found(pools, "shrunk", rows(4)[0], k=1) == [ids[4]]
    assert pools.stats("shrunk").removed_references == 0
    with pytest.raises(errors.FailedState) as caught:
        found(pools, "shrunk", rows(4)[0], as_of_generation=50)
    assert caught.value.reason == "HISTORY_NOT_KEPT"


def test_reindexing_changes_no_answer(both):
    pools, upkeep = both
    pool_of(pools, "reindexed", (made(n) for n in range(200)))
    before = [found(pools, "reindexed", rows(n)[0], k=5) for n in range(10)]
    done = upkeep.reindex_series("reindexed")
    assert done.rows == 200
    assert [found(pools, "reindexed", rows(n)[0], k=5) for n in range(10)] == before
