"""Backups through a real server, and a server that starts on one."""

from __future__ import annotations

import os

import pytest

from panelhue import errors
from tests.wire.conftest import ROOT, RunningServer
from tests.wire.pools import clients, found, ids_of, imported, made, pool_of, rows


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("backups")


@pytest.fixture(scope="module")
def both(place):
    """Clients of a server that may make backups."""
    flags = ("--data", str(place / "data"), "--set", f"backup_dir={place / 'backups'}")
    server = RunningServer("retrieval-server", place, *flags)
    with clients(server.address) as pair:
        yield pair
    server.stop()


def test_a_server_starts_on_a_backup(both, place, start_retrieval):
    pools, upkeep = both
    ids = pool_of(pools, "backed-up", [made(n) for n in range(5)])
    steps = list(upkeep.back_up("first"))
    assert [step.failure for step in steps] == [None] * len(steps)
    assert "backed-up" in {step.series for step in steps}
    end = steps[-1]
    assert (end.name, end.series, end.done, end.total) == ("first", "", len(steps) - 1, len(steps) - 1)
    imported(pools, "backed-up", [made(9)])
    with pytest.raises(errors.AlreadyExists):
        list(upkeep.back_up("first"))
    with clients(start_retrieval(data=place / "backups" / "first").address) as (copies, _):
        assert found(copies, "backed-up", rows(3)[0], k=1) == [ids[3]]
        assert ids_of(copies, "backed-up") == set(ids)
        imported(copies, "backed-up", [made(20)])


HELD = """
import json, os, sys, time
if any("retrieval.inspection" in word for word in sys.orig_argv):
    sys.path[:] = json.loads(sys.orig_argv[-1])
    from retrieval import inspection
    copy = inspection._copy
    def held(command):
        while command["copy"].endswith("last") and os.path.exists({hold!r}):
            time.sleep(0.01)
        return copy(command)
    inspection._copy = held
"""
"""What Python runs first in the process that copies: it does not go on to the series "last" while there is a file."""


def test_a_backup_that_is_left_early_leaves_nothing(start_retrieval, tmp_path):
    hold = tmp_path / "hold"
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HELD.format(hold=str(hold)))
    path = os.pathsep.join(map(str, (tmp_path / "hook", ROOT, ROOT / "clients" / "python")))
    server = start_retrieval("--set", f"backup_dir={tmp_path / 'backups'}", environment={"PYTHONPATH": path})
    with clients(server.address) as (pools, upkeep):
        for name in ("first", "last"):
            pool_of(pools, name, [made(1)])
        hold.touch()
        steps = upkeep.back_up("left")
        assert next(steps).series == "first"
        steps.close()
        list(upkeep.list_snapshots())  # on the same connection: once it is answered, the server has heard of the end
        hold.unlink()
        list(upkeep.back_up("after"))  # which waits for the end of the one before, or goes beside it
    assert (tmp_path / "backups" / "after").exists()
    assert not (tmp_path / "backups" / "left").exists()


def test_a_server_without_a_backup_folder_makes_none(retrieval_server):
    with clients(retrieval_server.address) as (_, upkeep), pytest.raises(errors.FailedState):
        list(upkeep.back_up())
