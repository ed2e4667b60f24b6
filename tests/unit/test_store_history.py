"""A pool is known exactly at every generation that its history reaches, whatever happened in between."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval import catalog as catalog_module
from retrieval.catalog import Catalog
from retrieval.types import Draft, NewReference, Prepared, Reference, Series, Space, StoredPatches
from serving.errors import FailedState, NotFound
from tests.unit import pools

SPACE = Space("toy/0", "toy", "", "none", "native", 4, True)
SERIES = Series("s", "A series", "toy", SPACE)
SECOND = 1_000_000_000
PICTURES = 6


def bytes_of(picture: int) -> bytes:
    return b"picture %d" % picture * (1 + picture)


def id_of(picture: int) -> str:
    return hashlib.sha256(bytes_of(picture)).hexdigest()


def prepared(picture: int, dim: int) -> Prepared:
    vectors = np.full((1 + picture % 3, dim), picture, np.float32)
    return Prepared(20, 30, "image/png", vectors, np.zeros((len(vectors), 4), np.int32), b"\1\2", "")


def item(picture: int, dim: int) -> NewReference:
    return NewReference(Draft(chapter=picture * 1000), bytes_of(picture), prepared(picture, dim))


def migrated(reference: Reference, dim: int) -> StoredPatches:
    vectors = np.full((2, dim), reference.generation, np.float32)
    return StoredPatches(reference.id, reference.generation, vectors, np.zeros((2, 4), np.int32))


@dataclass
class Entry:
    """What one change replaced or removed."""

    generation: int
    time: int
    removed: list[Reference]


@dataclass
class Model:
    """The same pool in plain Python, with every generation that it had."""

    live: dict[int, Reference] = field(default_factory=dict)
    states: list[dict[int, Reference]] = field(default_factory=lambda: [{}])
    history: list[Entry] = field(default_factory=list)
    kept: dict[int, Reference] = field(default_factory=dict)
    history_from: int = 0

    @property
    def generation(self) -> int:
        return len(self.states) - 1

    def by_id(self) -> dict[str, Reference]:
        return {reference.id: reference for reference in self.live.values()}

    def next(self) -> None:
        self.states.append(dict(self.live))

    def remove(self, gone: list[Reference], time: int, *, keep: bool) -> None:
        for reference in gone:
            del self.live[reference.generation]
        self.next()
        if keep:
            self.kept.update((reference.generation, reference) for reference in gone)
            self.history.append(Entry(self.generation, time, gone))
        else:
            self.history_from = self.generation

    def purge_kept(self, reference_id: str) -> None:
        for entry in self.history:
            for reference in entry.removed:
                if reference.id == reference_id and self.kept.pop(reference.generation, None):
                    self.history_from = max(self.history_from, entry.generation)

    def purge(self, before: int | None) -> int:
        dropped = 0
        while self.history:
            first = self.history[0]
            if before is not None and first.time >= before and first.generation > self.history_from:
                break
            self.history.pop(0)
            self.history_from = max(self.history_from, first.generation)
            dropped += sum(self.kept.pop(reference.generation, None) is not None for reference in first.removed)
        return dropped


class Both:
    """A catalogue and the model, driven side by side."""

    def __init__(self, folder: Path, history_seconds: float) -> None:
        self.folder, self.history_seconds = folder, history_seconds
        self.ticks = count(SECOND, SECOND)
        self.now = 0
        self.model = Model()
        self.spaces, self.dim = 0, SPACE.dim
        self.open()
        self.catalog.create(SERIES)

    def open(self) -> None:
        self.catalog = Catalog(self.folder, clock=self.clock, history_seconds=self.history_seconds, min_free_bytes=0)

    def clock(self) -> int:
        self.now = next(self.ticks)
        return self.now

    def add(self, pictures: list[int]) -> None:
        stored, pool = self.catalog.add_many("s", [item(n, self.dim) for n in pictures])
        for picture, what in zip(pictures, stored, strict=True):
            known = self.model.by_id().get(id_of(picture))
            assert what.reference is not None
            assert what.new is (known is None)
            if known is None:
                self.model.live[self.model.generation + 1] = what.reference
                self.model.next()
            assert what.reference == self.model.by_id()[id_of(picture)]
            assert what.generation == self.model.generation
        assert pool == self.catalog.view("s").pool

    def change(self, picture: int) -> None:
        old = self.model.by_id().get(id_of(picture))
        if old is None:
            with pytest.raises(NotFound):
                self.catalog.change_reference("s", id_of(picture), lambda r: r)
            return
        new, _ = self.catalog.change_reference("s", old.id, lambda r: replace(r, page=(r.page or 0) + 1))
        assert new == replace(old, page=(old.page or 0) + 1)
        self.replaced([(old, new)])

    def replaced(self, changed: list[tuple[Reference, Reference]]) -> None:
        for old, new in changed:
            self.model.live[old.generation] = new
        self.model.next()
        if self.history_seconds:
            self.model.history.append(Entry(self.model.generation, self.now, []))
        else:
            self.model.history_from = self.model.generation

    def mark(self, picture: int, original: int | None) -> None:
        target = "" if original is None else id_of(original)
        old = self.model.by_id().get(id_of(picture))
        before = self.model.generation
        pool = self.catalog.mark("s", {id_of(picture): target, "00" * 32: target})
        if old is None or old.near_duplicate_of == target:
            assert pool.generation == before
        else:
            self.replaced([(old, replace(old, near_duplicate_of=target))])

    def remove(self, pictures: list[int], purge: bool) -> None:
        ids = [id_of(n) for n in pictures]
        keep = bool(self.history_seconds) and not purge
        if not keep:
            for reference_id in ids:
                self.model.purge_kept(reference_id)
        there = self.model.by_id()
        gone = [there[reference_id] for reference_id in dict.fromkeys(ids) if reference_id in there]
        assert self.catalog.remove("s", ids, allow_missing=True, purge=purge)[0] == gone
        if gone:
            self.model.remove(gone, self.now, keep=keep)

    def purge(self, seconds_ago: int | None) -> None:
        before = None if seconds_ago is None else self.now - seconds_ago * SECOND
        dropped = self.catalog.purge_history("s", before or 0, everything=before is None)
        assert dropped == self.model.purge(before)

    def migrate(self, cancel: bool) -> None:
        self.spaces += 1
        dim = 2 + self.spaces % 2
        self.catalog.begin_migration("s", "toy", replace(SPACE, id=f"toy/{self.spaces}", dim=dim))
        if cancel:
            self.catalog.cancel_migration("s")
            return
        self.catalog.put_migrated("s", [migrated(reference, dim) for reference in self.model.live.values()])
        assert self.catalog.switch("s") == []
        self.dim = dim
        self.model.next()
        self.model.history_from = self.model.generation

    def reopen(self) -> None:
        self.check()
        self.catalog.close()
        self.open()
        self.check()

    def check(self) -> None:
        """Everything that can be asked, at every generation."""
        model, pool = self.model, self.catalog.view("s").pool
        assert (pool.generation, pool.history_from) == (model.generation, model.history_from)
        assert (pool.references, pool.removed) == (len(model.live), len(model.kept))
        assert self.catalog.known("s") == (model.live, pool)
        for generation in range(1, model.generation + 1):
            if generation < model.history_from:
                with pytest.raises(FailedState, match="history reaches back") as caught:
                    self.catalog.known("s", generation)
                assert caught.value.reason == "HISTORY_NOT_KEPT"
            else:
                self.check_at(generation)
        with pytest.raises(FailedState, match="must have reached"):
            self.catalog.known("s", model.generation + 1)
        self.check_files()

    def check_at(self, generation: int) -> None:
        known, pool = self.catalog.known("s", generation)
        expected = self.model.states[generation]
        assert known == expected
        assert list(known) == sorted(known)
        assert (pool.generation, pool.references) == (generation, len(expected))
        assert pool.byte_size == sum(reference.byte_size for reference in expected.values())
        assert pool.near_duplicates == sum(bool(reference.near_duplicate_of) for reference in expected.values())
        rows = self.catalog.vectors("s", list(expected))
        assert pool.patches == sum(len(vectors) for vectors in rows)

    def check_files(self) -> None:
        """Pictures and vectors of what is live or kept are there, and no others."""
        there = {reference.id for reference in (*self.model.live.values(), *self.model.kept.values())}
        for picture in range(PICTURES):
            if id_of(picture) in there:
                assert self.catalog.data("s", id_of(picture)) == bytes_of(picture)
            else:
                with pytest.raises(NotFound):
                    self.catalog.data("s", id_of(picture))
        found = {patches.sequence for patches in self.catalog.patches("s", limit=10_000)}
        assert set(self.model.live) <= found <= set(self.model.live) | set(self.model.kept)
        if not self.spaces:
            assert found == set(self.model.live) | set(self.model.kept)


PICTURE = st.integers(0, PICTURES - 1)
SOME = st.lists(PICTURE, min_size=1, max_size=5)
STEP = st.one_of(
    st.tuples(st.just(Both.add), SOME),
    st.tuples(st.just(Both.add), SOME),
    st.tuples(st.just(Both.change), PICTURE),
    st.tuples(st.just(Both.mark), PICTURE, st.none() | PICTURE),
    st.tuples(st.just(Both.remove), SOME, st.just(False)),
    st.tuples(st.just(Both.remove), SOME, st.booleans()),
    st.tuples(st.just(Both.purge), st.none() | st.integers(0, 20)),
    st.tuples(st.just(Both.reopen)),
    st.tuples(st.just(Both.migrate), st.booleans()),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEP, min_size=5, max_size=25), history_seconds=st.sampled_from([1000.0, 1000.0, 0.0]))
def test_a_pool_is_known_exactly_at_every_generation_that_its_history_reaches(steps, history_seconds):
    with tempfile.TemporaryDirectory() as folder:
        both = Both(Path(folder) / "data", history_seconds)
        try:
            for work, *arguments in steps:
                work(both, *arguments)
            both.check()
        finally:
            both.catalog.close()


@pytest.fixture
def both(tmp_path):
    made = Both(tmp_path / "data", 1000.0)
    yield made
    made.catalog.close()


def test_a_purge_in_small_transactions_drops_the_same(both, monkeypatch):
    monkeypatch.setattr(catalog_module, "PURGED_AT_ONCE", 2)
    both.add(list(range(PICTURES)))
    both.remove(list(range(5)), purge=False)
    both.add([0, 1])
    both.change(0)
    both.remove([0], purge=False)
    both.check()
    both.purge(None)
    both.check()


def test_a_picture_that_was_removed_and_added_again_survives_the_purge_of_its_first_life(both):
    both.add([3])
    both.remove([3], purge=False)
    both.add([3])
    both.purge(None)
    both.check()
    assert both.catalog.data("s", id_of(3)) == bytes_of(3)


def test_a_purge_of_what_was_removed_before_takes_its_picture(both):
    both.add([3])
    both.remove([3], purge=False)
    assert both.catalog.data("s", id_of(3)) == bytes_of(3)
    gone, pool = both.catalog.remove("s", [id_of(3)], allow_missing=False, purge=True)
    assert (gone, pool.removed, pool.history_from) == ([], 0, 2)
    with pytest.raises(NotFound):
        both.catalog.data("s", id_of(3))


def test_the_history_before_its_time_is_dropped_by_default(tmp_path):
    both = Both(tmp_path / "data", 10.0)
    both.add([1, 2])
    both.remove([1], purge=False)
    assert both.catalog.purge_history("s") == 0
    for _ in range(20):
        both.clock()
    assert both.catalog.purge_history("s") == 1
    both.catalog.close()


def test_references_are_found_by_their_numbers_while_they_are_in_the_pool(tmp_path):
    catalog = pools.filled(tmp_path / "data", 3)
    first = catalog.get("s", pools.id_of(1)).generation
    catalog.remove("s", [pools.id_of(1)], allow_missing=False)
    pools.add(catalog, 1)  # again: its vectors lie under the old number too
    known, _ = catalog.known("s")
    assert catalog.numbered("s", [first, *known, 10_000]) == list(known.values())
    catalog.close()
