"""What the server does by itself: it looks at every series now and then."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from retrieval.cases.core import log
from retrieval.cases.upkeep import UpkeepCases
from retrieval.config import RetrievalSettings
from retrieval.types import SeriesView
from serving.errors import ServiceError

ROUND_SECONDS = 3600.0  # between two rounds over all series
LONGEST_SECONDS = 24 * 3600.0  # without a look at a series' history: the clock may have been set meanwhile
STEP_SECONDS = 0.01  # between two series: ten thousand take some minutes, and nobody notices


@dataclass(frozen=True)
class _Seen:
    """What was found out of a series' history."""

    of: tuple[int, int]  # when the series was made, and where its history began
    until: float  # there is nothing to do before; monotonic seconds


class BackgroundCases(UpkeepCases):
    """Goes round all series: continues migrations that a restart has interrupted, lets old history go.

    Only the first round opens all series; later ones those whose history has come to its time, so that the
    environments of series in use stay open.
    """

    def __init__(self, settings: RetrievalSettings) -> None:
        super().__init__(settings)
        self._seen: dict[str, _Seen] = {}

    async def _rounds(self) -> None:
        while True:
            ids = await self._off(self._catalog.ids)
            for series_id in ids:
                await self._look_at(series_id)
                await asyncio.sleep(STEP_SECONDS)
            self._seen = {series_id: self._seen[series_id] for series_id in ids if series_id in self._seen}
            await asyncio.sleep(ROUND_SECONDS)

    async def _look_at(self, series_id: str) -> None:
        try:
            view = await self._view(series_id)
            if view.series.migration is not None:
                self._continue_migration(series_id)
            if view.pool.removed or view.pool.history_from < view.pool.generation:  # a switch leaves removed ones
                await self._let_go(view)
        except ServiceError as error:  # damaged, of a newer version, just removed, or the disk is full
            log.info("a series was passed over", series=series_id, why=str(error))
        except Exception:  # of a fault of ours too: the rounds must go on, for the other series
            log.exception("a series could not be looked at", series=series_id)

    async def _let_go(self, view: SeriesView) -> None:
        """Drops the history whose time is over, if there may be some."""
        series_id, seen = view.series.id, self._seen.get(view.series.id)
        if seen is not None and seen.of == _of(view) and time.monotonic() < seen.until:
            return
        asked = time.monotonic()  # before: what takes its time is looked at again too early, not too late
        wait = await self._reading(series_id, self._catalog.history_wait, series_id)
        if not wait:
            await self._reading(series_id, self._catalog.purge_history, series_id)
            view = await self._view(series_id)  # first: if the beginning moves after this, that shows next time
            asked = time.monotonic()
            wait = await self._reading(series_id, self._catalog.history_wait, series_id)
        self._seen[series_id] = _Seen(_of(view), asked + min(wait, LONGEST_SECONDS))


def _of(view: SeriesView) -> tuple[int, int]:
    return view.series.create_ns, view.pool.history_from
