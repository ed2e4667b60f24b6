"""Many series in one data folder: few are open at a time; one is copied, replaced or removed while others use it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest

from retrieval.catalog import Catalog
from retrieval.inspector import Inspector
from serving.errors import AlreadyExists, NotFound, Unavailable
from tests.unit.store_items import SERIES, id_of, item

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def catalog(tmp_path):
    made = Catalog(tmp_path / "data", min_free_bytes=0)
    made.create(SERIES)
    yield made
    made.close()


# -- opened


def test_series_are_looked_at_when_they_are_asked_for(tmp_path, monkeypatch):
    catalog = Catalog(tmp_path / "data")
    for n in range(3):
        catalog.create(replace(SERIES, id=f"s{n}"))
    catalog.close()
    opened = []
    real = lmdb.open
    monkeypatch.setattr(lmdb, "open", lambda path, **settings: opened.append(path) or real(path, **settings))
    again = Catalog(tmp_path / "data")
    assert (again.ids(), opened) == (["s0", "s1", "s2"], [])
    again.view("s1")
    again.view("s1")
    assert [path.rpartition("/")[2] for path in opened] == ["s1"]
    again.close()


def test_the_least_recently_used_environment_is_closed(tmp_path, monkeypatch):
    catalog = Catalog(tmp_path / "data", max_open=2)
    for n in range(3):
        catalog.create(replace(SERIES, id=f"s{n}"))
    opened = []
    real = lmdb.open
    monkeypatch.setattr(lmdb, "open", lambda path, **settings: opened.append(path[-2:]) or real(path, **settings))
    for series_id in ("s1", "s2", "s1", "s0", "s1", "s2"):
        catalog.known(series_id)
    assert opened == ["s0", "s2"]
    catalog.close()


def test_threads_that_share_few_environments_get_their_answers(tmp_path):
    catalog = Catalog(tmp_path / "data", max_open=1)
    for n in range(4):
        catalog.create(replace(SERIES, id=f"s{n}"))
    wrong = []

    def use(worker: int) -> None:
        for turn in range(12):
            series_id = f"s{(worker + turn) % 4}"
            data = b"%d %d" % (worker, turn)
            try:
                catalog.add_many(series_id, [item(data)])
                assert catalog.data(series_id, id_of(data)) == data
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=use, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(catalog.view(f"s{n}").pool.references for n in range(4)) == 48
    catalog.close()


OPEN_MANY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from retrieval.catalog import Catalog
from tests.unit.store_items import SERIES

def memory():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024

catalog = Catalog(Path(sys.argv[1]), min_free_bytes=0)
before = memory()
for n in range(80):
    catalog.create(replace(SERIES, id=f"s{n}"))
print(memory() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what the process takes from /proc")
def test_an_open_environment_takes_little_memory(tmp_path):
    command = [sys.executable, "-c", OPEN_MANY, str(tmp_path / "data")]
    path = f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}"
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 80 << 20  # LMDB's own lists would be twice that


# -- held, copied, replaced


def copy(catalog: Catalog, target: Path) -> None:
    with Inspector() as inspector, catalog.holding("s") as live:
        inspector.copy(live, target)


def test_a_copy_is_a_series_as_it_was_at_one_moment(catalog, tmp_path):
    catalog.add_many("s", [item(b"a"), item(b"b")])
    draft = catalog.folder.draft()
    pool = catalog.view("s").pool
    copy(catalog, draft)
    catalog.add_many("s", [item(b"c")])
    assert pool == replace(
        catalog.view("s").pool, generation=2, references=2, patches=10, byte_size=2, update_ns=pool.update_ns
    )
    with catalog.replacing("s") as folder:
        (draft / "data.mdb").replace(folder / "data.mdb")
    assert catalog.view("s").pool == pool
    assert catalog.data("s", id_of(b"b")) == b"b"
    assert catalog.add_many("s", [item(b"c")])[1].generation == 3


def test_others_wait_while_a_folder_is_held(catalog):
    catalog.add_many("s", [item(b"a")])
    started, found = threading.Event(), []

    def read() -> None:
        started.set()
        found.append(catalog.data("s", id_of(b"a")))

    reader = threading.Thread(target=read)
    with catalog.replacing("s"):
        reader.start()
        started.wait(120)
        assert found == []
    reader.join(120)
    assert found == [b"a"]


def test_a_folder_is_held_once_its_users_have_left(catalog):
    catalog.add_many("s", [item(b"a")])
    inside, leave, order = threading.Event(), threading.Event(), []

    def use() -> None:
        def work(reference):
            inside.set()
            leave.wait(120)
            order.append("user")
            return reference

        catalog.change_reference("s", id_of(b"a"), work)

    user = threading.Thread(target=use)
    user.start()
    inside.wait(120)
    threading.Timer(0.05, leave.set).start()
    with catalog.replacing("s"):
        order.append("holder")
    user.join(120)
    assert order == ["user", "holder"]


def test_a_busy_series_is_told_in_time(catalog, monkeypatch):
    monkeypatch.setattr("retrieval.shelf.PATIENCE", 0.05)
    with catalog.replacing("s"), pytest.raises(Unavailable) as caught:
        catalog.known("s")
    assert caught.value.reason == "SERIES_BUSY"


def test_a_damaged_series_can_be_replaced(catalog, tmp_path):
    catalog.add_many("s", [item(b"a")])
    draft = catalog.folder.draft()
    copy(catalog, draft)
    with catalog.replacing("s") as folder:
        (folder / "data.mdb").write_bytes(b"?" * 10_000)
    assert "s" in catalog.ids()
    with pytest.raises(Exception, match="LMDB environment"):
        catalog.view("s")
    assert "s" in catalog.damaged()
    with catalog.replacing("s") as folder:
        (draft / "data.mdb").replace(folder / "data.mdb")
    assert catalog.data("s", id_of(b"a")) == b"a"
    assert catalog.damaged() == {}


def test_a_copy_becomes_a_series_of_its_own(catalog):
    catalog.add_many("s", [item(b"a")])
    draft = catalog.folder.draft()
    copy(catalog, draft)
    with pytest.raises(AlreadyExists):
        catalog.adopt(draft, "s")
    assert catalog.adopt(draft, "t").pool.references == 1
    assert catalog.data("t", id_of(b"a")) == b"a"


def waiting(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once somebody waits for those who use a series."""
    begun, guard = threading.Event(), catalog._shelf._guard
    real = guard.wait_for

    def wait_for(predicate, timeout=None):
        if not predicate():
            begun.set()
        return real(predicate, timeout)

    monkeypatch.setattr(guard, "wait_for", wait_for)
    return begun


def replace_it(catalog: Catalog) -> None:
    with catalog.replacing("s"):
        pass


def remove_it(catalog: Catalog) -> None:
    catalog.delete("s", lambda view: None)


@pytest.mark.parametrize("change", [replace_it, remove_it])
def test_a_series_that_is_checked_serves_while_somebody_waits_to_change_it(catalog, monkeypatch, change):
    monkeypatch.setattr("retrieval.shelf.SHORT_PATIENCE", 60.0)
    begun = waiting(catalog, monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        with catalog.holding("s"):
            changing = threads.submit(change, catalog)
            assert begun.wait(120)
            begun.clear()
            assert threads.submit(catalog.references, "s").result(120) is not None
            assert not begun.is_set()  # nobody was made to wait
        changing.result(120)


def test_a_series_that_was_removed_while_somebody_waited_to_replace_it_is_gone(catalog, monkeypatch):
    begun = waiting(catalog, monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        with catalog.replacing("s"):
            replacing = threads.submit(replace_it, catalog)
            assert begun.wait(120)
            begun.clear()
            removing = threads.submit(remove_it, catalog)
            assert begun.wait(120)
        removing.result(120)
        error = replacing.exception(120)
    assert error is None or isinstance(error, NotFound)
    assert not catalog.taken("s")
    assert not (catalog.folder.series / "s").exists()
