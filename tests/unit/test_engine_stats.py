"""Counts of a series: the same whether its pool is in memory or not."""

from __future__ import annotations

import asyncio

import numpy as np

from retrieval.types import GENERATED, Draft, ImportItem, Provenance, ReferenceChange, SearchOptions
from tests.unit.test_engine_upkeep import DIM, hits, made, opened


def test_counts_are_the_same_in_memory_and_in_the_store(tmp_path, monkeypatch):
    async def work():
        async with opened(tmp_path) as engine:
            ids = await made(engine, "s", 35)
            items = [
                ImportItem(Draft(None, provenance=Provenance(GENERATED, depth)), b"g%d" % depth, row,
                           np.asarray([[0, 0, 4, 4]], np.int32), 8, 8, "image/png")
                for depth, row in ((1, np.ones((1, DIM), np.float32)), (2, np.eye(1, DIM, dtype=np.float32)))
            ]  # fmt: skip
            await engine.import_references("s", "", items)
            assert not (await engine.stats("s")).loaded
            await hits(engine, "s", SearchOptions(1))
            await engine.delete_references("s", ids[10:14], allow_missing=False)
            await engine.update_reference("s", ids[0], ReferenceChange(frozenset({"chapter"}), 9500))
            monkeypatch.setattr(engine, "_counted", None)  # the store is not asked
            loaded = await engine.stats("s")
            monkeypatch.undo()
            engine._residency.unload("s")
            stored = await engine.stats("s")
            assert loaded.loaded
            assert not stored.loaded
            assert loaded.by_chapter == stored.by_chapter == {0: 9, 1000: 6, 2000: 10, 3000: 5, 9500: 1}
            assert loaded.by_depth == stored.by_depth == {0: 31, 1: 1, 2: 1}
            assert loaded.without_chapter == stored.without_chapter == 2
            assert loaded.pool == stored.pool

    asyncio.run(work())
