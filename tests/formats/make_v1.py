"""Wrote `data-v1.tar.gz`: a small data folder of format 1, as the version of that time wrote it.

It was run once, when the format was made. Run today it writes the same content in a later format, and that into the
file of format 1: never do so.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from itertools import count
from pathlib import Path

import numpy as np

from retrieval.catalog import Catalog
from retrieval.types import GENERATED, Draft, Prepared, Provenance, Series, Space, Swatch

FILE = Path(__file__).with_name("data-v1.tar.gz")
SPACE = Space("toy-v1/0123456789abcdef", "toy-v1", "", "none", "native", 8, True)
SERIES = Series("kept", "Kept since format 1", "structure", SPACE, (Swatch("hair", 0xC04020),), {"shelf": "é"})


def picture(seed: int) -> bytes:
    """Bytes that stand for a picture, the same with every version of every library; the store does not look at them."""
    return hashlib.shake_256(f"picture {seed}".encode()).digest(300)


def prepared(seed: int) -> Prepared:
    """Five patches of 8 numbers."""
    vectors = np.roll(np.eye(5, 8, dtype=np.float32), seed, axis=1) * np.float32(1 - 2 * (seed % 2))
    boxes = np.array([[0, 0, 16, 16], [0, 0, 12, 12], [4, 0, 16, 12], [0, 4, 12, 16], [4, 4, 16, 16]], np.int32)
    return Prepared(16, 16, "image/png", vectors, boxes)


def fill(folder: Path) -> None:
    """Three references, one of them removed again, one made from another and changed once."""
    ticks = count(1_700_000_000_000_000_000, 1_000_000_000)
    catalog = Catalog(folder, clock=lambda: next(ticks))
    catalog.create(SERIES)
    first, _, _ = catalog.add("kept", Draft(10500, 3, ("cover", "ü")), picture(0), prepared(0))
    made = Provenance(GENERATED, 0, (first.id,), "exemplar", "page.png")
    catalog.add("kept", Draft(provenance=made), picture(1), prepared(1))
    gone, _, _ = catalog.add("kept", Draft(), picture(2), prepared(2))
    catalog.remove("kept", [gone.id], allow_missing=False)
    catalog.close()


def main() -> None:
    """Writes the file."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "data")
        with tarfile.open(FILE, "w:gz") as archive:
            for name in ("FORMAT", "series/kept/data.mdb"):
                info = archive.gettarinfo(Path(folder) / "data" / name, f"data/{name}")
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                info.mtime = 1_700_000_000
                with (Path(folder) / "data" / name).open("rb") as file:
                    archive.addfile(info, file)


if __name__ == "__main__":
    main()
