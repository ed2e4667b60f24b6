"""The whole engine against the oracle, through any history of imports, changes, removals, compactions and switches."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import retrieval.loaded
from retrieval.config import RetrievalSettings
from retrieval.engine import Engine
from retrieval.types import (
    FP16,
    FP32,
    GENERATED,
    Added,
    Bound,
    Draft,
    IndexOptions,
    Provenance,
    ReferenceChange,
    SearchOptions,
    SeriesChange,
    SeriesDraft,
    Space,
    StoredPatches,
)
from serving.errors import FailedState
from tests.unit.engine_model import Item, changed, check, id_of, import_item, unit

DIM, SERIES = 4, "s"
TAGS = ("a", "b", "c")
NAMES = st.integers(0, 11)
CHAPTERS = st.sampled_from([None, 0, 1000, 2000])
SOME_TAGS = st.lists(st.sampled_from(TAGS), max_size=2, unique=True).map(tuple)
BOUNDS = st.builds(
    Bound,
    max_chapter=st.sampled_from([None, None, 0, 1000]),
    min_chapter=st.sampled_from([None, None, None, 1000]),
    max_depth=st.sampled_from([None, None, 0, 1]),
    any_tags=st.sampled_from([(), (), (), ("a", "b")]),
    none_tags=st.sampled_from([(), (), ("c",)]),
    exclude_near_duplicates=st.sampled_from([False, False, True]),
)
BUDGETS = st.sampled_from([0, 60_000, 1 << 30])  # nothing fits, the present pool alone fits, all fits


def coarse(rng: np.random.Generator, count: int) -> np.ndarray:
    """Vectors with many equal scores."""
    rows = rng.integers(-1, 2, (count, DIM)).astype(np.float32)
    rows[(rows == 0).all(axis=1), 0] = 1
    return rows


class EngineAsModel(RuleBasedStateMachine):
    """One series in an engine and in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.items: dict[str, Item] = {}
        self.history: dict[int, dict[str, Item]] = {0: {}}
        self.oldest = 0
        self.generation = 0
        self.default_depth: int | None = None
        self.spaces = 0

    def run(self, work):
        return self.runner.run(work)

    @initialize(budget=BUDGETS)
    def begin(self, budget):
        self.settings = RetrievalSettings(data_dir=self.folder / "data", embedder="vectors", index_bytes=budget)
        self.open()
        space = Space("", "m", "", "", "native", DIM, False)
        self.run(self.engine.create_series(SeriesDraft(id=SERIES, embedder="vectors", space=space)))

    def open(self):
        self.engine = Engine(self.settings)
        self.run(self.engine.start())

    def teardown(self):
        if hasattr(self, "engine"):
            self.run(self.engine.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def changed_to(self, generation: int) -> None:
        self.generation = generation
        self.history[generation] = dict(self.items)

    @rule(names=st.lists(NAMES, min_size=1, max_size=5), chapter=CHAPTERS, tags=SOME_TAGS, depth=st.integers(0, 2),
          parts=st.integers(1, 3), seed=st.integers(0, 999))  # fmt: skip
    def add(self, names, chapter, tags, depth, parts, seed):
        rng = np.random.default_rng(seed)
        provenance = Provenance(GENERATED, depth) if depth else Provenance()
        draft = Draft(chapter, None, tags, provenance)
        datas = [f"picture {name}".encode() for name in names]
        vectors = [coarse(rng, parts) for _ in names]
        items = [import_item(data, draft, rows) for data, rows in zip(datas, vectors, strict=True)]
        results, generation = self.run(self.engine.import_references(SERIES, "", items))
        for data, rows, result in zip(datas, vectors, results, strict=True):
            assert isinstance(result, Added)
            assert result.new == (id_of(data) not in self.items)
            if result.new:
                self.items[id_of(data)] = Item(id_of(data), result.reference.generation, draft, unit(rows))
                self.changed_to(result.reference.generation)
        assert generation == self.generation

    def some(self, place: int) -> str:
        return sorted(self.items)[place % len(self.items)]

    @precondition(lambda self: self.items)
    @rule(place=st.integers(0, 99), chapter=CHAPTERS, tags=SOME_TAGS)
    def change(self, place, chapter, tags):
        one = self.some(place)
        change = ReferenceChange(frozenset({"chapter", "tags"}), chapter, None, tags)
        _, generation = self.run(self.engine.update_reference(SERIES, one, change))
        draft = replace(self.items[one].draft, chapter=chapter, tags=tags)
        self.items[one] = changed(self.items[one], draft=draft)
        self.changed_to(generation)

    @precondition(lambda self: self.items)
    @rule(places=st.lists(st.integers(0, 99), min_size=1, max_size=4), purge=st.sampled_from([False, False, True]))
    def remove(self, places, purge):
        gone = {self.some(place) for place in places}
        count, generation = self.run(
            self.engine.delete_references(SERIES, sorted(gone), allow_missing=False, purge=purge)
        )
        assert count == len(gone)
        self.items = {key: item for key, item in self.items.items() if key not in gone}
        self.changed_to(generation)
        if purge:
            self.oldest = generation

    @precondition(lambda self: len(self.items) > 1)
    @rule(place=st.integers(0, 99), other=st.integers(0, 99))
    def mark(self, place, other):
        one, original = self.some(place), self.some(other)
        if one == original or self.items[one].near_duplicate_of == original:
            return
        state = self.run(self.engine._off(self.engine._residency.pool(SERIES).mark, {one: original}))
        self.items[one] = changed(self.items[one], near_duplicate_of=original)
        self.changed_to(state.generation)

    @rule()
    def compact(self):
        self.run(self.engine._compact(self.engine._residency.pool(SERIES)))

    @rule()
    def unload(self):
        self.run(self.engine.unload_series(SERIES))

    @rule(precision=st.sampled_from([FP32, FP16]), depth=st.sampled_from([None, 1]))
    def update(self, precision, depth):
        change = SeriesChange(index=IndexOptions(precision=precision), default_max_depth=-1 if depth is None else depth)
        self.run(self.engine.update_series(SERIES, change))
        self.default_depth = depth

    @rule()
    def reopen(self):
        self.run(self.engine.close())
        self.open()

    @precondition(lambda self: self.items)
    @rule(seed=st.integers(0, 999))
    def switch(self, seed):
        rng = np.random.default_rng(seed)
        self.spaces += 1
        space = Space(f"m{self.spaces}/x", f"m{self.spaces}", "", "", "native", DIM, False)
        series = self.engine._catalog.begin_migration(SERIES, "vectors", space).series
        for key, item in self.items.items():
            vectors = unit(coarse(rng, len(item.vectors)))
            boxes = np.asarray([item.box(part) for part in range(len(vectors))], np.int32)
            self.engine._catalog.put_migrated(SERIES, [StoredPatches(key, item.sequence, vectors, boxes)])
            self.items[key] = changed(item, vectors=vectors)
        target = replace(series, space=space, patches=series.migration.database)
        assert self.run(self.engine._switch(SERIES, target))
        self.changed_to(self.run(self.engine.get_series(SERIES)).pool.generation)
        self.oldest = self.generation

    @rule(seed=st.integers(0, 999), count=st.integers(1, 3), k=st.integers(1, 9), bound=BOUNDS,
          per_reference=st.sampled_from([0, 0, 1, 2]), diversity=st.sampled_from([0, 0, 0, 0.5]))  # fmt: skip
    def search(self, seed, count, k, bound, per_reference, diversity):
        queries = coarse(np.random.default_rng(seed), count)
        options = SearchOptions(k, bound, self.generation, 0, 0 if diversity else per_reference, float(diversity))
        found = self.run(self.engine.search(SERIES, queries, options))
        assert found.generation == self.generation
        check(found, self.items, queries, self.bounded(options))

    @precondition(lambda self: self.generation)
    @rule(seed=st.integers(0, 999), back=st.integers(0, 12), k=st.integers(1, 9), bound=BOUNDS)
    def search_the_past(self, seed, back, k, bound):
        as_of = max(1, self.generation - back)
        queries = coarse(np.random.default_rng(seed), 2)
        options = SearchOptions(k, bound, as_of=as_of)
        if as_of < self.oldest:
            with pytest.raises(FailedState) as caught:
                self.run(self.engine.search(SERIES, queries, options))
            assert caught.value.reason == "HISTORY_NOT_KEPT"
            return
        found = self.run(self.engine.search(SERIES, queries, options))
        assert found.generation == as_of
        check(found, self.history[as_of], queries, self.bounded(options))

    def bounded(self, options: SearchOptions) -> SearchOptions:
        if options.bound.max_depth is None and self.default_depth is not None:
            return replace(options, bound=replace(options.bound, max_depth=self.default_depth))
        return options

    @invariant()
    def within_budget(self):
        if hasattr(self, "engine"):
            assert self.engine.index_bytes <= self.settings.index_bytes


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    monkeypatch.setattr(retrieval.loaded, "SEGMENT_ROWS", 6)


TestTheEngineIsItsModel = EngineAsModel.TestCase
TestTheEngineIsItsModel.settings = settings(
    max_examples=10,
    stateful_step_count=25,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking would open thousands of data folders
)
