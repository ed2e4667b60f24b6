"""Writes `data-v2.tar.gz`: a small data folder of format 2, as this version writes it.

Run once, when the format was made: `python -m tests.formats.make_v2`. Never run it again for format 2; a later format
gets a script and a file of its own.
"""

from __future__ import annotations

import tarfile
import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np

from retrieval.catalog import Catalog
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
    Swatch,
)
from tests.formats.make_v1 import picture, prepared

FILE = Path(__file__).with_name("data-v2.tar.gz")
SPACE = Space("toy-v1/0123456789abcdef", "toy-v1", "", "none", "native", 8, True)
NEXT = Space("toy-v2/fedcba9876543210", "toy-v2", "ab" * 32, "none", "fit:64x96", 4, False)
SERIES = Series(
    "kept",
    "Kept since format 2",
    "structure",
    SPACE,
    (Swatch("hair", 0xC04020),),
    {"shelf": "é"},
    index=IndexOptions("hnsw", "fp16", 0.9),
    quota=Quota(1000, 10_000_000),
    max_reference_depth=3,
    default_max_depth=0,
)


def new(seed: int, draft: Draft) -> NewReference:
    """A picture with a digest and the space of its vectors."""
    made: Prepared = replace(prepared(seed), digest=bytes(range(15)), space_id=SPACE.id)
    return NewReference(draft, picture(seed), made)


def moved(reference_id: str, sequence: int) -> StoredPatches:
    """Vectors of the space `NEXT`."""
    vectors = np.roll(np.eye(5, 4, dtype=np.float32), sequence, axis=1)
    return StoredPatches(reference_id, sequence, vectors, prepared(sequence).boxes)


def fill(folder: Path) -> None:
    """`kept` has a history of every kind, `moved` another space than at first, `moving` is on its way there."""
    ticks = count(1_700_000_000_000_000_000, 1_000_000_000)
    catalog = Catalog(folder, clock=lambda: next(ticks))
    catalog.create(SERIES)
    stored, _ = catalog.add_many("kept", [new(0, Draft(10500, 3, ("cover", "ü"))), new(1, Draft()), new(2, Draft())])
    first, second, third = (what.reference.id for what in stored if what.reference)
    made = Provenance(GENERATED, 0, (first,), "exemplar", "page.png")
    catalog.add_many("kept", [new(3, Draft(provenance=made))])
    catalog.change_reference("kept", first, lambda reference: replace(reference, page=4))
    catalog.mark("kept", {second: first})
    catalog.remove("kept", [third], allow_missing=False)
    for series_id in ("moved", "moving"):
        catalog.create(replace(SERIES, id=series_id))
        catalog.add_many(series_id, [new(0, Draft()), new(1, Draft())])
        catalog.begin_migration(series_id, "open_clip", NEXT)
        catalog.put_migrated(series_id, [moved(first, 1)])
    catalog.put_migrated("moved", [moved(second, 2)])
    catalog.switch("moved")
    catalog.note_problem("moving", "the weights are missing")
    catalog.close()


def main() -> None:
    """Writes the file."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "data")
        with tarfile.open(FILE, "w:gz") as archive:
            for name in ("FORMAT", *(f"series/{series_id}/data.mdb" for series_id in ("kept", "moved", "moving"))):
                info = archive.gettarinfo(Path(folder) / "data" / name, f"data/{name}")
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                info.mtime = 1_700_000_000
                with (Path(folder) / "data" / name).open("rb") as file:
                    archive.addfile(info, file)


if __name__ == "__main__":
    main()
