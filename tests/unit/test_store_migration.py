"""A series moves to another embedding space: the old one serves until nothing is missing in the new one."""

from __future__ import annotations

from dataclasses import replace

import lmdb
import numpy as np
import pytest

from retrieval.catalog import Catalog
from retrieval.types import StoredPatches
from serving.errors import Conflict, FailedState, NotFound, ShapeMismatch
from tests.unit.store_items import OTHER, SERIES, SPACE, id_of, item, prepared


@pytest.fixture
def catalog(tmp_path):
    made = Catalog(tmp_path / "data", min_free_bytes=0)
    made.create(SERIES)
    yield made
    made.close()


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
