"""Hits that are chosen among candidates: in parts where there are many, with the same answer."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval import view as viewing
from retrieval.catalog import Catalog
from retrieval.index import CpuScanner
from retrieval.loaded import Loaded
from retrieval.references import block_of
from retrieval.types import OFFICIAL, Prepared, Provenance, Reference, SearchOptions, Series, Space

DIM, REFERENCES, PATCHES = 8, 40, 30


def rows(seed: int, count: int) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.fixture
def loaded(tmp_path):
    """A pool in memory whose rows belong to few references."""
    catalog = Catalog(tmp_path)
    series = Series("s", "s", "vectors", Space("i", "m", "", "", "native", DIM, False))
    given = Provenance(OFFICIAL, 0, (), "", "")
    references = [
        Reference(f"{n:064x}", n, n, (), given, 8, 8, "image/png", 5, n + 1, n, "", b"") for n in range(REFERENCES)
    ]
    boxes = np.zeros((PATCHES, 4), np.int32)
    made = Loaded(catalog, series, CpuScanner())
    made.append(block_of([(r, Prepared(8, 8, "image/png", rows(r.generation, PATCHES), boxes)) for r in references]))
    yield made
    catalog.close()


@pytest.mark.parametrize("options", [SearchOptions(8, per_reference=1), SearchOptions(REFERENCES + 5, per_reference=2)])
def test_candidates_of_many_queries_are_looked_at_in_parts(loaded, monkeypatch, options):
    queries = rows(1000, 16)
    whole = loaded.view(1).find(queries, options, None)
    asked = []
    real = type(loaded.index.snapshot()).search

    def search(self, part, k, *args, **kwargs):
        asked.append((len(part), k))
        return real(self, part, k, *args, **kwargs)

    monkeypatch.setattr(viewing, "MOST_CANDIDATES", 100)
    monkeypatch.setattr(type(loaded.index.snapshot()), "search", search)
    ranked, candidates = loaded.view(1).find(queries, options, None)
    assert (ranked, candidates) == (whole[0], whole[1])
    assert all(count == 1 or count * k <= 100 for count, k in asked)
    assert max(k for _, k in asked) <= REFERENCES * PATCHES + 1


def test_what_one_reference_may_answer_is_all_that_comes_back(loaded):
    ranked, _ = loaded.view(1).find(rows(1000, 2), SearchOptions(1000, per_reference=1), None)
    assert [len(hits) for hits in ranked] == [REFERENCES, REFERENCES]
