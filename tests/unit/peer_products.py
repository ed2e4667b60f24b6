"""Products for the tests of the comparison's driver: one that works, and some that end badly."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.product import Product, Search


class Files(Product):
    """Exact search in numpy over one file a batch."""

    packages = ("numpy",)
    batch = 100

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = sorted(self.folder.glob("*.npz"))
        self._vectors = np.concatenate([np.load(part)["vectors"] for part in parts]) if parts else None
        self._chapters = np.concatenate([np.load(part)["chapters"] for part in parts]) if parts else None

    def create(self) -> None:
        pass

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        np.savez(self.folder / f"{first:08d}.npz", vectors=vectors, chapters=chapters)

    def settle(self) -> str:
        self.start()
        return "files read"

    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        stored: Any = self._vectors
        passing = np.ones(len(stored), dtype=bool) if bound is None else self._chapters <= bound

        def search(queries: NDArray[np.float32]) -> NDArray[np.int64]:
            scores = np.where(passing, queries @ stored.T, -np.inf)
            return np.argsort(-scores, axis=1)[:, :k]

        return search

    def count(self) -> int:
        return len(self._vectors) if self._vectors is not None else 0


class Sleeper(Files):
    """Takes for ever over its first batch."""

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        time.sleep(600)


class Aborts(Files):
    """Ends its process as a fault in native code does."""

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        os.abort()


class Raises(Files):
    """Refuses every insert."""

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        raise ValueError("no room for rows")


def take_memory() -> None:
    """Holds 400 MB until it is killed."""
    taken = np.ones(50_000_000)
    time.sleep(600)
    del taken


class Greedy(Files):
    """Takes too much memory in its second batch, and has started a process that would outlive it."""

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        super().insert(first, vectors, chapters)
        if first:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
            (self.folder.parent / "child.txt").write_text(str(child.pid))
            take_memory()


class GreedyUnderABound(Files):
    """Answers without a bound; with one it takes too much memory."""

    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        if bound is not None:
            take_memory()
        return super().searcher(k, bound, setting)


class Boundless(Files):
    """Has no filter."""

    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        if bound is not None:
            raise NotImplementedError("no filter here")
        return super().searcher(k, bound, setting)


class Forgets(Files):
    """Loses its first batch at a restart."""

    def start(self) -> None:
        super().start()
        if self._vectors is not None and self._chapters is not None:
            self._vectors, self._chapters = self._vectors[100:], self._chapters[100:]

    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        found = super().searcher(k, bound, setting)
        return lambda queries: found(queries) + 100
