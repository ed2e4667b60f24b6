"""Small series with everything in them, for tests of what happens to stored pools."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from retrieval.catalog import Catalog
from retrieval.inspector import Inspector
from retrieval.types import Draft, Finding, Prepared, Series, Space

DIM = 32
SPACE = Space("toy/0", "toy", "", "none", "native", DIM, True)


def series(series_id: str = "s") -> Series:
    """A series without references."""
    return Series(series_id, "A series", "toy", SPACE)


def picture(number: int) -> bytes:
    """Bytes that stand for a picture: some fit into a page of the tree, some do not."""
    return hashlib.shake_256(f"picture {number}".encode()).digest(50 + number * 997 % 9000)


def id_of(number: int) -> str:
    """The id of `picture(number)` as a reference."""
    return hashlib.sha256(picture(number)).hexdigest()


def prepared(number: int) -> Prepared:
    """Five unit vectors and boxes."""
    rng = np.random.default_rng(number)
    vectors = rng.standard_normal((5, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    boxes = np.array([[0, 0, 40, 60], [0, 0, 30, 45], [10, 0, 40, 45], [0, 15, 30, 60], [10, 15, 40, 60]], np.int32)
    return Prepared(40, 60, "image/png", vectors, boxes)


def add(catalog: Catalog, number: int, series_id: str = "s") -> str:
    """Adds a picture; its id."""
    return catalog.add(series_id, Draft(chapter=number), picture(number), prepared(number))[0].id


def filled(folder: Path, references: int = 20, series_id: str = "s") -> Catalog:
    """An open data folder with a series in which some references were removed and some changed."""
    catalog = Catalog(folder)
    catalog.create(series(series_id))
    for number in range(references):
        add(catalog, number, series_id)
    for number in range(0, references, 7):
        catalog.remove(series_id, [id_of(number)], allow_missing=False)
    if references > 1:
        catalog.mark(series_id, {id_of(references - 1): id_of(1)})
    return catalog


def ids(catalog: Catalog, series_id: str = "s") -> set[str]:
    """Ids of all references of a series, each of whose pictures comes back as it was added."""
    found = {reference.id for reference in catalog.references(series_id, limit=1 << 20)[0]}
    for reference_id in found:
        assert hashlib.sha256(catalog.data(series_id, reference_id)).hexdigest() == reference_id
    return found


def findings(inspector: Inspector, folder: Path) -> list[Finding]:
    """What a check of an environment finds."""
    return [found for found in inspector.check(folder) if isinstance(found, Finding)]
