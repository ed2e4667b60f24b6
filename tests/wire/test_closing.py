"""A server that is told to end does so, whatever it is in the middle of, and leaves nothing half-done."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from panelhue import errors
from tests.wire.conftest import ROOT, RunningServer
from tests.wire.pools import clients, ids_of, made, pool_of

WORK = {
    "snapshot": lambda upkeep: upkeep.create_snapshot("s", "never"),
    "check": lambda upkeep: list(upkeep.check_series("s")),
    "backup": lambda upkeep: list(upkeep.back_up("never")),
    "compaction": lambda upkeep: upkeep.compact_series("s"),
}


STOPPED = """
import os, signal, sys
if any("retrieval.inspection" in word for word in sys.orig_argv):
    os.kill(os.getpid(), signal.SIGSTOP)
"""
"""What Python runs first in every process of the server: the one that checks and copies stops before it has begun."""


def children_of(process: int) -> list[int]:
    """The processes that any of its threads has started."""
    found = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for file in found for child in file.read_text().split()]


def inspector_of(server: RunningServer) -> int:
    """The process that checks and copies for the server, once it has stopped; it would never end by itself."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for child in children_of(server.process.pid):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(child)
                if "retrieval.inspection" in " ".join(process.cmdline()) and process.status() == psutil.STATUS_STOPPED:
                    return child
        time.sleep(0.002)
    raise AssertionError("there is none")


@pytest.mark.parametrize("kind", WORK)
def test_a_server_ends_in_the_middle_of_long_work(start_retrieval, tmp_path, kind):
    flags = ("--embedder", "vectors", "--set", "drain_seconds=0.1", "--set", f"backup_dir={tmp_path / 'backups'}")
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(STOPPED)
    path = os.pathsep.join(map(str, (tmp_path / "hook", ROOT, ROOT / "clients" / "python")))
    server, told = start_retrieval(*flags, environment={"PYTHONPATH": path}), []
    with clients(server.address) as (pools, upkeep):
        ids = pool_of(pools, "s", [made(n) for n in range(3)])

        def ask() -> None:
            try:
                told.append(WORK[kind](upkeep))
            except errors.ServerError as error:
                told.append(error)

        caller = threading.Thread(target=ask)
        caller.start()
        child = inspector_of(server)
        try:
            assert server.stop() == 0
            assert not Path(f"/proc/{child}").exists()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)  # it would stay for ever
        caller.join(120)
    assert isinstance(told[0], errors.ServerError)
    assert 'File "/' not in server.log.read_text()  # no traceback; gRPC itself may tell of a call it has cancelled
    data = tmp_path / "data"
    assert not list(data.glob("trash/*"))
    assert not list(tmp_path.glob("backups/*"))
    again = start_retrieval(*flags)
    with clients(again.address) as (pools, upkeep):
        assert ids_of(pools, "s") == set(ids)
        assert not list(upkeep.list_snapshots("s"))
        assert list(upkeep.check_series("s"))[-1].findings == 0
    assert again.stop() == 0
