"""What an adapter gives: the few calls that every product is measured by."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Search = Callable[[NDArray[np.float32]], NDArray[np.int64]]  # queries (q, dim) → row numbers (q, k), -1 where none


class Product(ABC):
    """One product with one collection, whose rows are a number, a unit vector and a chapter in thousandths.

    The order of calls is `start`, `create`, `insert` …, `settle`, then an end without warning; and, in another process,
    `start`, `searcher` …, `close`. `reach` is what `connect` needs in a client's own thread or process.

    Args:
        folder: the product's own; everything that it keeps lies there.
        dim: length of a vector.
        options: what makes this kind of the product another one.
    """

    batch = 1000  # rows of one insert, of a size natural to the product
    server = False  # whether it runs in a process of its own; then clients are processes, otherwise threads
    packages: Sequence[str] = ()  # distributions whose versions are reported
    ground = "."  # the part of the folder whose bytes are what the product keeps

    def __init__(self, folder: Path, dim: int, options: Mapping[str, Any]) -> None:
        self.folder, self.dim, self.options = folder, dim, options

    @abstractmethod
    def start(self) -> None:
        """Opens what lies in the folder, or starts the server on it; does not wait until it can answer."""

    @abstractmethod
    def create(self) -> None:
        """Makes the empty collection; waits for the server if need be."""

    @abstractmethod
    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        """Adds rows `first`, `first + 1` …; returns once they are acknowledged, or `acknowledged` waits for that."""

    def acknowledged(self) -> None:
        """Returns once every insert is acknowledged."""
        return

    def warm(self) -> None:
        """Returns once what the product builds anew after a restart is there; its first answer came before."""
        return

    def settle(self) -> str:
        """What the product wants between the last insert and the first search, done, and said in a few words."""
        return ""

    @abstractmethod
    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        """A search for the `k` nearest rows, of chapters up to `bound` if one is given; made where it is used.

        Raises:
            NotImplementedError: the product has no bounds.
        """

    @abstractmethod
    def count(self) -> int:
        """Rows that the product says it has."""

    def settings(self) -> list[str]:
        """Settings to be tried for each figure, of which the fastest is reported."""
        return [""]

    def reach(self) -> Any:
        """What `connect` needs; can be pickled where the product is a server."""
        return self

    @classmethod
    def connect(cls, reach: Any) -> Product:
        """The product as another client sees it."""
        product: Product = reach
        return product

    def family(self) -> list[int]:
        """Process ids whose memory is the product's; empty: this process's."""
        return []

    def kill(self) -> None:
        """Ends the server without warning; the process of a product without one ends itself."""
        return

    def close(self) -> None:
        """Ends all that was started."""
        self.kill()

    def versions(self) -> str:
        """Names and versions of the product's packages."""
        return ", ".join(f"{name} {version(name)}" for name in self.packages)


def adapter(name: str) -> type[Product]:
    """The adapter `module:class`, loaded; a module without a package is one of this package."""
    module, _, kind = name.partition(":")
    place = module if "." in module else f"benchmarks.peers.{module}"
    found: type[Product] = getattr(importlib.import_module(place), kind)
    return found


def padded(ids: Sequence[Sequence[int]], k: int) -> NDArray[np.int64]:
    """Answers of at most `k` rows each, as one array filled with -1."""
    out = np.full((len(ids), k), -1, dtype=np.int64)
    for row, found in zip(out, ids, strict=True):
        row[: len(found)] = found
    return out
