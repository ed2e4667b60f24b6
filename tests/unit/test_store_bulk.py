"""Many references at once, each with an answer of its own; quotas and depth limits; the options of a series."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from retrieval.catalog import Catalog
from retrieval.types import GENERATED, Draft, IndexOptions, Provenance, Quota
from serving.errors import Conflict, InvalidInput, Overloaded, ShapeMismatch
from tests.unit.store_items import OTHER, SERIES, SPACE, id_of, item, prepared


@pytest.fixture
def catalog(tmp_path):
    made = Catalog(tmp_path / "data", min_free_bytes=0)
    made.create(SERIES)
    yield made
    made.close()


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
