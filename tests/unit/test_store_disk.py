"""A disk that is full, fails or loses what was not synced: nothing acknowledged is lost, nothing half-done shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval import series as series_module
from retrieval.catalog import Catalog
from retrieval.types import Draft, Prepared, Series, Space
from serving.errors import Overloaded

ROOT = Path(__file__).resolve().parents[2]
SERIES = Series("s", "A series", "toy", Space("toy/0", "toy", "", "none", "native", 4, True))


def prepared() -> Prepared:
    return Prepared(20, 30, "image/png", np.zeros((5, 4), np.float32), np.zeros((5, 4), np.int32))


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        assert not os.environ.get("CI"), "CI needs a C compiler for this test"
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("shim") / "fault_shim.so"
    source = Path(__file__).with_name("fault_shim.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def scene(shim: Path, folder: Path, *arguments: str) -> list[str]:
    """The lines that a scene of `faults` prints; it ended well."""
    command = [sys.executable, "-m", "tests.unit.faults", str(shim), str(folder), *arguments]
    path = f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}"
    environment = {**os.environ, "PYTHONPATH": path, "LD_PRELOAD": str(shim)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("mode", "reason"),
    [(1, "DISK_FULL"), (2, "STORE_FAILED"), (3, "STORE_FAILED"), (4, "STORE_FAILED")],
    ids=["full", "writes", "sync", "meta"],
)
def test_a_failing_disk_refuses_without_losing_anything(shim, tmp_path, mode, reason):
    assert scene(shim, tmp_path, str(mode), reason) == ["done"]


def test_what_cannot_be_taken_back_is_synced_before_it_is_shown(shim, tmp_path):
    assert scene(shim, tmp_path, "stuck") == ["done"]


def test_copies_that_meet_a_full_disk_change_nothing_and_leave_nothing(shim, tmp_path):
    assert scene(shim, tmp_path, "copies") == ["done"]


@pytest.mark.parametrize("chance", ["1", "0.5"], ids=["lost", "torn"])
def test_a_kill_between_any_two_writes_loses_nothing_that_was_acknowledged(shim, tmp_path, chance):
    killed, done = scene(shim, tmp_path, "kills", chance)
    assert done == "done"
    assert int(killed.split()[1]) > 30, "there must be some writes to be killed at"


# -- the reserve


def free_of(monkeypatch, amount: list[int]) -> None:
    monkeypatch.setattr("retrieval.store.free_bytes", lambda _path: amount[0])
    monkeypatch.setattr("retrieval.shelf.free_bytes", lambda _path: amount[0])


def test_a_disk_near_its_end_is_read_only(tmp_path, monkeypatch):
    catalog = Catalog(tmp_path / "data")
    catalog.create(SERIES)
    kept, _, _ = catalog.add("s", Draft(), b"kept", prepared())
    assert not catalog.read_only
    free = [series_module.MIN_FREE_BYTES - 1]
    free_of(monkeypatch, free)
    assert (catalog.read_only, catalog.free_bytes) == (True, free[0])
    with pytest.raises(Overloaded) as caught:
        catalog.add("s", Draft(), b"more", prepared())
    assert caught.value.reason == "DISK_FULL"
    assert catalog.data("s", kept.id) == b"kept"
    free[0] = series_module.MIN_FREE_BYTES * 2
    assert catalog.add("s", Draft(), b"more", prepared())[2]
    assert not catalog.read_only
    catalog.close()


def test_a_disk_near_its_end_lets_room_be_made(tmp_path, monkeypatch):
    catalog = Catalog(tmp_path / "data")
    catalog.create(SERIES)
    first, _, _ = catalog.add("s", Draft(), b"first", prepared())
    second, _, _ = catalog.add("s", Draft(), b"second", prepared())
    catalog.remove("s", [second.id], allow_missing=False)
    free_of(monkeypatch, [1000])
    assert catalog.purge_history("s", everything=True) == 1
    assert catalog.remove("s", [first.id], allow_missing=False, purge=True)[1].references == 0
    catalog.close()
