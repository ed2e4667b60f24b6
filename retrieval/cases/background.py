"""What the server does by itself: it looks at every series now and then."""

from __future__ import annotations

import asyncio

from retrieval.cases.core import log
from retrieval.cases.upkeep import UpkeepCases
from serving.errors import ServiceError

ROUND_SECONDS = 3600.0  # between two rounds over all series
STEP_SECONDS = 0.01  # between two series: ten thousand take some minutes, and nobody notices


class BackgroundCases(UpkeepCases):
    """Goes round all series: continues migrations that a restart has interrupted, lets old history go."""

    async def _rounds(self) -> None:
        while True:
            for series_id in await self._off(self._catalog.ids):
                await self._look_at(series_id)
                await asyncio.sleep(STEP_SECONDS)
            await asyncio.sleep(ROUND_SECONDS)

    async def _look_at(self, series_id: str) -> None:
        try:
            view = await self._view(series_id)
            if view.series.migration is not None:
                self._continue_migration(series_id)
            if view.pool.removed or view.pool.history_from < view.pool.generation:  # a switch leaves removed ones
                await self._reading(series_id, self._catalog.purge_history, series_id)
        except ServiceError as error:  # damaged, of a newer version, just removed, or the disk is full
            log.info("a series was passed over", series=series_id, why=str(error))
        except Exception:  # of a fault of ours too: the rounds must go on, for the other series
            log.exception("a series could not be looked at", series=series_id)
