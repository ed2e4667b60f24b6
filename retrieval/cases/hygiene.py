"""Hygiene of the pools: near duplicates and drift of colour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Int32

from retrieval import drift as drifting
from retrieval import duplicates
from retrieval.bounds import passes
from retrieval.cases.core import Core
from retrieval.loaded import REFERENCE_BYTES, batches
from retrieval.references import PatchBlock
from retrieval.types import Bound, PoolState, Reference, StoredPatches
from retrieval.upkeep_types import ChapterDrift, Drift, DriftPair, NearDuplicate, NearDuplicates
from serving.errors import InvalidInput, NotFound, Timeout, Unavailable


class HygieneCases(Core):
    """What looks for trouble in the contents of a pool."""

    async def find_near_duplicates(
        self, series_id: str, min_score: float, max_difference: float, dry_run: bool = False
    ) -> NearDuplicates:
        """The references that nearly repeat an earlier one; they are marked unless `dry_run`.

        Args:
            series_id: the series.
            min_score: least cosine similarity of each patch and the same patch of the other.
            max_difference: greatest mean CIEDE2000 of their colours.
            dry_run: whether nothing is marked.

        Raises:
            NotFound: NO_SUCH_SERIES.
            Overloaded: INDEX_BUDGET, there is no room for a vector of each reference, twice: as read, and in order.

        Cost: as `duplicates.find_near_duplicates`; references without a digest are decoded for it, by the workers.
        """
        pool = await self._pool(series_id)

        async with self._room(series_id, lambda state: 2 * state.references):
            members, generation = await self._long_run(partial(self._members, series_id, Bound(), _wholes))
            digests = await self._digests(series_id, members)
            references = [reference for reference, _ in members]
            dim = members[0][1].vectors.shape[1] if members else 1

            def work(check: Callable[[], None]) -> duplicates.NearDuplicates:
                wholes = np.concatenate([np.zeros((0, dim), np.float32), *(p.vectors for _, p in members)])
                members.clear()
                return duplicates.find_near_duplicates(
                    references,
                    wholes,
                    lambda sequences: self._catalog.vectors(series_id, sequences),
                    min_score=min_score,
                    max_colour_difference=max_difference,
                    digests=digests,
                    check=check,
                )

            found = await self._long_run(work)
        if not dry_run and (marks := found.marks(references)):
            generation = (await self._changing(pool, pool.mark, marks)).generation
        return NearDuplicates(
            [NearDuplicate(one.reference_id, one.original_id, one.score, one.colour_difference) for one in found.found],
            generation,
        )

    async def drift(self, series_id: str, min_score: float, bound: Bound) -> Drift:
        """How far the colours of the references that pass have drifted across chapters.

        Raises:
            NotFound: NO_SUCH_SERIES.
            Overloaded: INDEX_BUDGET, there is no room for the pool's vectors.

        Cost: as `drift.drift`; references without a digest are decoded for it, by the workers.
        """
        async with self._room(series_id, lambda state: state.patches):
            members, generation = await self._long_run(partial(self._members, series_id, bound, PatchBlock.split))
            digests = await self._digests(series_id, members)
            found = await self._long_run(
                lambda check: drifting.drift(
                    members, min_score=min_score, digest_of=lambda one, _: digests.get(one.id, b""), check=check
                )
            )
        return Drift(
            [ChapterDrift(c.chapter, c.pairs, c.mean, c.p95, c.mean_depth) for c in found.chapters],
            [
                DriftPair(p.reference_id, p.box, p.earlier_reference_id, p.earlier_box, p.score, p.colour_difference)
                for p in found.worst
            ],
            found.pairs,
            found.mean,
            generation,
        )

    @asynccontextmanager
    async def _room(self, series_id: str, rows: Callable[[PoolState], int]) -> AsyncIterator[None]:
        """Room in the budget for so many vectors of a pool and for its references, until the block ends."""
        view = await self._view(series_id)
        size = view.pool.references * REFERENCE_BYTES + 4 * view.series.space.dim * rows(view.pool)
        async with self._residency.beside(size):
            yield

    def _members(
        self, series_id: str, bound: Bound, taken: Callable[[PatchBlock], Iterable[StoredPatches]],
        check: Callable[[], None],
    ) -> tuple[list[tuple[Reference, StoredPatches]], int]:  # fmt: skip
        """The references that pass with what is taken of their patches, and the pool's generation."""
        known, state = self._catalog.known(series_id)
        ids = {one.id for one in known.values()}
        wanted = {sequence: one for sequence, one in known.items() if passes(bound, one, ids.__contains__)}
        members: list[tuple[Reference, StoredPatches]] = []
        for block in batches(self._catalog, self._catalog.view(series_id).series, wanted):
            check()
            members += zip(block.references, taken(block), strict=True)
        return members, state.generation

    async def _digests(self, series_id: str, members: Sequence[tuple[Reference, StoredPatches]]) -> dict[str, bytes]:
        """By id, the digests of the references that have none in the store, as far as their pictures can be read.

        The workers decode them: what is in them comes from strangers.
        """
        without = [(one, patches.boxes) for one, patches in members if not one.digest]
        digests: dict[str, bytes] = {}
        for first in range(0, len(without), self.settings.workers):
            some = without[first : first + self.settings.workers]
            made = await asyncio.gather(*(self._digest(series_id, one, boxes) for one, boxes in some))
            digests.update((one.id, digest) for (one, _), digest in zip(some, made, strict=True))
        return digests

    async def _digest(self, series_id: str, reference: Reference, boxes: Int32[np.ndarray, "n 4"]) -> bytes:
        """The digest of a reference's patches, b"" where its picture cannot be read."""
        try:
            data = await self._reading(series_id, self._catalog.data, series_id, reference.id)
            return await self._embedding.digest(data, boxes)
        except (InvalidInput, NotFound, Timeout):
            return b""
        except Unavailable as error:
            if error.reason != "WORKER_DIED":
                raise
            return b""


def _wholes(block: PatchBlock) -> list[StoredPatches]:
    """The first vector of each reference, of the whole picture, and all its boxes: copies, not views of the block."""
    return [replace(one, vectors=one.vectors[:1].copy(), boxes=one.boxes.copy()) for one in block.split()]
