"""Hygiene of the pools: near duplicates and drift of colour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retrieval import drift as drifting
from retrieval import duplicates
from retrieval.bounds import passes
from retrieval.cases.core import Core
from retrieval.digest import digest_of
from retrieval.loaded import batches
from retrieval.types import Bound, Reference, StoredPatches
from retrieval.upkeep_types import ChapterDrift, Drift, DriftPair, NearDuplicate, NearDuplicates
from serving.errors import InvalidInput, NotFound
from serving.images import decode_picture


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

        Cost: as `duplicates.find_near_duplicates`; references without a digest are decoded for it.
        """
        pool = await self._pool(series_id)

        def work(check: Callable[[], None]) -> tuple[duplicates.NearDuplicates, list[Reference], int]:
            members, generation = self._members(series_id, Bound(), check)
            references = [reference for reference, _ in members]
            dim = members[0][1].vectors.shape[1] if members else 1
            wholes = np.stack([p.vectors[0] for _, p in members]) if members else np.zeros((0, dim), np.float32)
            found = duplicates.find_near_duplicates(
                references,
                wholes,
                lambda sequences: self._catalog.vectors(series_id, sequences),
                min_score=min_score,
                max_colour_difference=max_difference,
                digests={one.id: self._digest(series_id, one, p) for one, p in members if not one.digest},
                check=check,
            )
            return found, references, generation

        found, references, generation = await self._long_run(work)
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

        Cost: as `drift.drift`; references without a digest are decoded for it.
        """

        def work(check: Callable[[], None]) -> tuple[drifting.Drift, int]:
            members, generation = self._members(series_id, bound, check)
            found = drifting.drift(
                members,
                min_score=min_score,
                digest_of=lambda one, patches: self._digest(series_id, one, patches),
                check=check,
            )
            return found, generation

        found, generation = await self._long_run(work)
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

    def _members(
        self, series_id: str, bound: Bound, check: Callable[[], None]
    ) -> tuple[list[tuple[Reference, StoredPatches]], int]:
        """The references that pass with their patches, and the pool's generation."""
        known, state = self._catalog.known(series_id)
        ids = {one.id for one in known.values()}
        wanted = {sequence: one for sequence, one in known.items() if passes(bound, one, ids.__contains__)}
        members: list[tuple[Reference, StoredPatches]] = []
        for block in batches(self._catalog, self._catalog.view(series_id).series, wanted):
            check()
            members += zip(block.references, block.split(), strict=True)
        return members, state.generation

    def _digest(self, series_id: str, reference: Reference, patches: StoredPatches) -> bytes:
        """The digest of a reference that has none, b"" where its picture cannot be read."""
        try:
            pixels = decode_picture(self._catalog.data(series_id, reference.id), self._embedding.limits).pixels
        except (InvalidInput, NotFound):
            return b""
        return digest_of(pixels, patches.boxes)
