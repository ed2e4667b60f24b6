"""A series, and what is put into it, for tests of the data folder."""

from __future__ import annotations

import hashlib

import numpy as np

from retrieval.types import Draft, NewReference, Prepared, Series, Space

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
