"""Many references at once, each with an answer of its own; quotas and depth limits; migrations; many series."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pytest

from retrieval.catalog import Catalog
from retrieval.inspector import Inspector
from retrieval.types import (
    GENERATED,
    Draft,
    IndexOptions,
    NewReference,
    Prepared,
    Provenance,
    Quota,
    Series,
    Space,
    StoredPatches,
)
from serving.errors import (
    AlreadyExists,
    Conflict,
    FailedState,
    InvalidInput,
    NotFound,
    Overloaded,
    ShapeMismatch,
    Unavailable,
)

ROOT = Path(__file__).resolve().parents[2]
SPACE = Space("toy/0", "toy", "", "none", "native", 4, True)
OTHER = Space("toy/1", "toy", "", "other", "native", 2, True)
SERIES = Series("s", "A series", "toy", SPACE)


def prepared(seed: int = 0, space_id: str = "") -> Prepared:
    vectors = np.random.default_rng(seed).standard_normal((5, 4)).astype(np.float32)
    return Prepared(20, 30, "image/png", vectors, np.zeros((5, 4), np.int32), b"\x01\xff", space_id)


def item(data: bytes, draft: Draft | None = None, space_id: str = "") -> NewReference:
    return NewReference(draft or Draft(), data, prepared(len(data), space_id))


def id_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def catalog(tmp_path):
    made = Catalog(tmp_path / "data", min_free_bytes=0)
    made.create(SERIES)
    yield made
    made.close()


# -- many at once


def test_each_new_reference_of_a_batch_has_a_generation_of_its_own(catalog):
    stored, pool = catalog.add_many("s", [item(b"a"), item(b"b"), item(b"c")])
    assert [(what.new, what.generation, what.reference.generation) for what in stored] == [
        (True, 1, 1),
        (True, 2, 2),
        (True, 3, 3),
    ]
    assert (pool.generation, pool.references, pool.patches, pool.byte_size) == (3, 3, 15, 3)
    assert catalog.view("s").pool == pool
    assert [patches.sequence for patches in catalog.patches("s")] == [1, 2, 3]
    assert stored[0].reference.digest == catalog.get("s", id_of(b"a")).digest == b"\x01\xff"


def test_the_same_bytes_within_a_batch_are_already_present(catalog):
    catalog.add("s", Draft(), b"a", prepared())
    stored, pool = catalog.add_many("s", [item(b"b"), item(b"a"), item(b"b")])
    assert [(what.new, what.generation) for what in stored] == [(True, 2), (False, 2), (False, 2)]
    assert stored[2].reference == stored[0].reference
    assert pool.references == 2


def test_a_batch_of_nothing_new_leaves_the_pool_as_it_is(catalog):
    _, before = catalog.add_many("s", [item(b"a")])
    assert catalog.add_many("s", [item(b"a")])[1] == before
    assert catalog.add_many("s", [])[1] == before


def test_a_parent_earlier_in_the_batch_counts_for_the_depth(catalog):
    made = Provenance(GENERATED, 0, (id_of(b"a"),))
    stored, _ = catalog.add_many(
        "s", [item(b"a", Draft(provenance=Provenance(GENERATED, 4))), item(b"b", Draft(provenance=made))]
    )
    assert stored[1].reference.provenance.depth == 5


def test_a_quota_of_references_refuses_the_surplus_alone(catalog):
    catalog.change("s", lambda series, _: replace(series, quota=Quota(max_references=2)))
    stored, pool = catalog.add_many("s", [item(b"a"), item(b"b"), item(b"c"), item(b"a")])
    assert [what.new for what in stored] == [True, True, False, False]
    assert stored[3].reference == stored[0].reference
    assert isinstance(stored[2].error, Overloaded)
    assert stored[2].error.reason == "QUOTA_EXCEEDED"
    (quota,) = stored[2].error.quota
    assert quota.subject == "series:s"
    assert quota.description == "may hold 2 references, would hold 3"
    assert pool.references == 2
    catalog.remove("s", [id_of(b"a")], allow_missing=False)
    assert catalog.add_many("s", [item(b"c")])[0][0].new


def test_a_quota_of_bytes_takes_what_still_fits(catalog):
    catalog.change("s", lambda series, _: replace(series, quota=Quota(max_bytes=10)))
    stored, pool = catalog.add_many("s", [item(b"12345678"), item(b"123"), item(b"12")])
    assert [what.new for what in stored] == [True, False, True]
    assert pool.byte_size == 10


def test_a_reference_made_too_deep_is_refused_alone(catalog):
    catalog.change("s", lambda series, _: replace(series, max_reference_depth=1))
    deep = Provenance(GENERATED, 0, (id_of(b"b"),))
    stored, pool = catalog.add_many(
        "s",
        [
            item(b"a"),
            item(b"b", Draft(provenance=Provenance(GENERATED, 1))),
            item(b"c", Draft(provenance=deep)),
            item(b"d"),
        ],
    )
    assert [what.new for what in stored] == [True, True, False, True]
    assert isinstance(stored[2].error, InvalidInput)
    assert stored[2].error.reason == "DEPTH_EXCEEDED"
    assert pool.references == 3


def test_vectors_of_another_space_are_refused_alone(catalog):
    stored, _ = catalog.add_many("s", [item(b"a", space_id=OTHER.id), item(b"b", space_id=SPACE.id)])
    assert isinstance(stored[0].error, Conflict)
    assert (stored[0].error.reason, stored[1].new) == ("SPACE_SWITCHED", True)


def test_vectors_of_another_length_are_refused(catalog):
    wrong = replace(prepared(), vectors=np.zeros((5, 3), np.float32))
    with pytest.raises(ShapeMismatch):
        catalog.add("s", Draft(), b"a", wrong)
    assert catalog.view("s").pool.references == 0


def test_threads_that_add_batches_leave_no_gap(catalog):
    def add(worker: int) -> None:
        for batch in range(5):
            catalog.add_many("s", [item(b"%d" % ((worker * 3 + batch * 5 + n) % 40)) for n in range(10)])

    threads = [threading.Thread(target=add, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known, pool = catalog.known("s")
    assert list(known) == list(range(1, pool.references + 1))
    assert pool == catalog.view("s").pool


# -- options


def test_the_options_of_a_series_come_back(catalog, tmp_path):
    options = {
        "index": IndexOptions("hnsw", "fp16", 0.9),
        "quota": Quota(3, 4),
        "max_reference_depth": 2,
        "default_max_depth": 0,
    }
    made = catalog.create(replace(SERIES, id="t", **options)).series
    catalog.close()
    again = Catalog(tmp_path / "data")
    assert again.view("t").series == made == replace(made, **options)
    again.close()


# -- migration


def moved(catalog: Catalog, sequences: list[int]) -> list[StoredPatches]:
    known, _ = catalog.known("s")
    boxes = np.zeros((3, 4), np.int32)
    return [StoredPatches(known[n].id, n, np.full((3, 2), n, np.float32), boxes) for n in sequences]


def databases(tmp_path) -> set[bytes]:
    with lmdb.open(str(tmp_path / "data" / "series" / "s"), max_dbs=32) as env, env.begin() as txn:
        return {bytes(name) for name, _ in txn.cursor()}


def test_a_migration_serves_the_old_space_until_nothing_is_missing(catalog, tmp_path):
    catalog.add_many("s", [item(b"a"), item(b"b"), item(b"c")])
    catalog.remove("s", [id_of(b"b")], allow_missing=False)
    catalog.begin_migration("s", "other", OTHER)
    catalog.add_many("s", [item(b"d", space_id=SPACE.id)])
    assert catalog.switch("s") == [1, 3, 5]
    view = catalog.put_migrated("s", moved(catalog, [1, 3]))
    assert (view.series.migration.done, view.series.migration.after) == (2, 3)
    assert catalog.switch("s") == [5]
    assert catalog.view("s").series.space == SPACE
    assert catalog.patches("s")[0].vectors.shape == (5, 4)
    catalog.put_migrated("s", moved(catalog, [5]))
    before = catalog.view("s")
    assert catalog.switch("s") == []
    view = catalog.view("s")
    assert (view.series.space, view.series.embedder, view.series.migration) == (OTHER, "other", None)
    assert view.series.patches == before.series.migration.database
    assert view.etag != before.etag
    assert (view.pool.generation, view.pool.patches) == (before.pool.generation + 1, 9)
    assert view.pool.history_from == view.pool.generation
    assert [rows.tolist() for rows in catalog.vectors("s", [3, 5])] == [[[3, 3]] * 3, [[5, 5]] * 3]
    with pytest.raises(Conflict) as caught:
        catalog.patches("s", database="patches")
    assert caught.value.reason == "SPACE_SWITCHED"
    catalog.close()
    assert b"patches" not in databases(tmp_path)
    again = Catalog(tmp_path / "data")
    assert again.view("s") == view
    assert again.purge_history("s", everything=True) == 1
    with pytest.raises(NotFound):
        again.data("s", id_of(b"b"))
    again.close()


def test_a_reference_removed_during_a_migration_does_not_hold_it_up(catalog):
    catalog.add_many("s", [item(b"a"), item(b"b"), item(b"c")])
    catalog.begin_migration("s", "other", OTHER)
    late = moved(catalog, [2])
    catalog.put_migrated("s", moved(catalog, [1]))
    catalog.remove("s", [id_of(b"a")], allow_missing=False)
    catalog.remove("s", [id_of(b"b")], allow_missing=False, purge=True)
    assert catalog.put_migrated("s", [*late, *moved(catalog, [3])]).series.migration.done == 2
    assert catalog.switch("s") == []
    assert (catalog.view("s").pool.references, catalog.view("s").pool.patches) == (1, 3)
    assert catalog.purge_history("s", everything=True) == 1
    assert [patches.sequence for patches in catalog.patches("s")] == [3]


def test_a_cancelled_migration_leaves_nothing(catalog, tmp_path):
    catalog.add_many("s", [item(b"a")])
    before = catalog.view("s")
    catalog.begin_migration("s", "other", OTHER)
    catalog.put_migrated("s", moved(catalog, [1]))
    catalog.cancel_migration("s")
    assert catalog.view("s") == before
    with pytest.raises(FailedState) as caught:
        catalog.put_migrated("s", [])
    assert caught.value.reason == "NO_MIGRATION"
    catalog.close()
    assert {name for name in databases(tmp_path) if name.startswith(b"patches")} == {b"patches"}


def test_one_migration_runs_at_a_time(catalog):
    catalog.begin_migration("s", "other", OTHER)
    with pytest.raises(FailedState) as caught:
        catalog.begin_migration("s", "other", OTHER)
    assert caught.value.reason == "MIGRATION_UNDER_WAY"


def test_a_migration_to_the_same_space_is_refused(catalog):
    with pytest.raises(FailedState) as caught:
        catalog.begin_migration("s", "toy", SPACE)
    assert caught.value.reason == "SAME_SPACE"


def test_a_migration_keeps_why_it_does_not_go_on(catalog, tmp_path):
    catalog.add_many("s", [item(b"a")])
    catalog.begin_migration("s", "other", OTHER)
    etag = catalog.view("s").etag
    assert catalog.note_problem("s", "no weights").series.migration.problem == "no weights"
    assert catalog.view("s").etag == etag
    assert catalog.put_migrated("s", moved(catalog, [1])).series.migration.problem == ""


def test_vectors_of_a_wrong_length_do_not_migrate(catalog):
    catalog.add_many("s", [item(b"a")])
    catalog.begin_migration("s", "other", OTHER)
    wrong = [replace(patches, vectors=np.zeros((3, 5), np.float32)) for patches in moved(catalog, [1])]
    with pytest.raises(ShapeMismatch):
        catalog.put_migrated("s", wrong)


def test_vectors_that_are_gone_come_as_none(catalog):
    catalog.add_many("s", [item(b"a"), item(b"bb")])
    catalog.remove("s", [id_of(b"a")], allow_missing=False, purge=True)
    gone, there = catalog.vectors("s", [1, 2])
    assert gone.shape == (0, 4)
    assert np.array_equal(there, prepared(2).vectors)


# -- folders


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
        started.wait(10)
        assert found == []
    reader.join(10)
    assert found == [b"a"]


def test_a_folder_is_held_once_its_users_have_left(catalog):
    catalog.add_many("s", [item(b"a")])
    inside, leave, order = threading.Event(), threading.Event(), []

    def use() -> None:
        def work(reference):
            inside.set()
            leave.wait(10)
            order.append("user")
            return reference

        catalog.change_reference("s", id_of(b"a"), work)

    user = threading.Thread(target=use)
    user.start()
    inside.wait(10)
    threading.Timer(0.05, leave.set).start()
    with catalog.replacing("s"):
        order.append("holder")
    user.join(10)
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


OPEN_MANY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from retrieval.catalog import Catalog
from tests.unit.test_store_bulk import SERIES

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
    begun = waiting(catalog, monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        with catalog.holding("s"):
            changing = threads.submit(change, catalog)
            assert begun.wait(30)
            begun.clear()
            assert threads.submit(catalog.references, "s").result(30) is not None
            assert not begun.is_set()  # nobody was made to wait
        changing.result(30)


def test_a_series_that_was_removed_while_somebody_waited_to_replace_it_is_gone(catalog, monkeypatch):
    begun = waiting(catalog, monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        with catalog.replacing("s"):
            replacing = threads.submit(replace_it, catalog)
            assert begun.wait(30)
            begun.clear()
            removing = threads.submit(remove_it, catalog)
            assert begun.wait(30)
        removing.result(30)
        error = replacing.exception(30)
    assert error is None or isinstance(error, NotFound)
    assert not catalog.taken("s")
    assert not (catalog.folder.series / "s").exists()
