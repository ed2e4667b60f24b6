"""Upkeep of the pools: where they are held, snapshots, checks, compaction, hygiene; what runs in the background."""

from __future__ import annotations

from retrieval.cases.core import Core
from retrieval.upkeep_types import Resident, Tier
from serving.errors import FailedState, InvalidInput


class ResidencyCases(Core):
    """What brings pools into memory and lets them go on demand."""

    async def load_series(self, series_id: str, tier: Tier, *, pin: bool = False, prefetch: bool = False) -> Resident:
        """Where the series is after it was brought in; with `prefetch` where it is while that goes on.

        Args:
            series_id: the series.
            tier: "memory" or "gpu"; a GPU that is full or refuses leaves it in memory.
            pin: whether it stays there until it is unloaded, or loaded again without a pin.
            prefetch: whether the answer comes at once.

        Raises:
            NotFound: NO_SUCH_SERIES.
            InvalidInput: INVALID_TIER.
            FailedState: NO_GPU.
            Overloaded: INDEX_BUDGET, it does not fit beside what is pinned.
        """
        if tier == "disk":
            raise InvalidInput("tier must be memory or gpu, got disk", reason="INVALID_TIER")
        if tier == "gpu" and not self._residency.has_gpu:
            raise FailedState("tier gpu needs a GPU that FAISS can use, and a budget for it", reason="NO_GPU")
        await self._off(self._catalog.view, series_id)
        if prefetch:
            return self._residency.prefetch(series_id, gpu=tier == "gpu", pin=pin)
        return await self._residency.load(series_id, gpu=tier == "gpu", pin=pin)

    async def unload_series(self, series_id: str) -> tuple[int, int]:
        """Bytes that were freed in memory and on the GPU; the next search loads the series again.

        Raises:
            NotFound: NO_SUCH_SERIES.
        """
        await self._off(self._catalog.view, series_id)
        return self._residency.unload(series_id)

    async def residents(self, limit: int) -> tuple[list[Resident], int]:
        """The series in memory, the most recently used first, and how many there are."""
        return self._residency.residents(limit)
