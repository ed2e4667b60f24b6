"""Upkeep of the pools: where they are held, what is searched, snapshots, checks, backups, compaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from functools import partial

from retrieval.backup import BackedUp, back_up
from retrieval.cases.migrations import MigrationCases
from retrieval.check import CheckProgress
from retrieval.compaction import compact_file
from retrieval.loaded import expected_bytes
from retrieval.names import check_name, name_of_time
from retrieval.pool import Pool
from retrieval.series_check import check_series
from retrieval.snapshots import Snapshots
from retrieval.types import Finding, SeriesView, SnapshotInfo
from retrieval.upkeep_types import BackUpStep, CheckStep, Compacted, Reindexed, Resident, Tier
from serving.errors import FailedState, InvalidInput, Overloaded


class UpkeepCases(MigrationCases):
    """What keeps pools in order. All of it goes on beside searches and additions."""

    @property
    def _snapshots(self) -> Snapshots:
        return Snapshots(
            self._catalog,
            keep=self.settings.snapshots_kept,
            seconds=self.settings.snapshot_seconds,
            inspectors=self._inspectors,
            check=self._stop.check,
        )

    # -- memory

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
        await self._view(series_id)
        if prefetch:
            return self._residency.prefetch(series_id, gpu=tier == "gpu", pin=pin)
        return await self._residency.load(series_id, gpu=tier == "gpu", pin=pin)

    async def unload_series(self, series_id: str) -> tuple[int, int]:
        """Bytes that were freed in memory and on the GPU; the next search loads the series again.

        Raises:
            NotFound: NO_SUCH_SERIES.
        """
        await self._view(series_id)
        return self._residency.unload(series_id)

    async def residents(self, limit: int) -> tuple[list[Resident], int]:
        """The series in memory, the most recently used first, and how many there are."""
        return self._residency.residents(limit)

    async def reindex_series(self, series_id: str) -> Reindexed:
        """What is searched after the index was made anew from the store; the old one serves until then.

        Raises:
            NotFound: NO_SUCH_SERIES.
            FailedState: INDEX_KIND_UNAVAILABLE.
        """
        async with self._residency.using(series_id):  # in memory, if it fits at all
            pool = self._residency.pool(series_id)
        await self._renewed(pool)  # not while it is used: who waits for room must not be in the way of others
        async with self._residency.using(series_id):
            await self._long_run(lambda _: pool.approximate(self._stop.check))
            kind, recall, note = pool.serving
        self._residency.counted(series_id)
        view = await self._view(series_id)
        return Reindexed(view.pool.patches, kind, recall, note)

    async def _renewed(self, pool: Pool) -> int:
        """Rows of removed references that left the memory with an index made anew; 0 where there is no room for two."""
        view = await self._view(pool.series_id)
        async with self._residency.set_aside(pool.series_id, expected_bytes(view.series, view.pool)) as room:
            if not room:
                return 0
            prepared = await self._long_run(lambda _: pool.prepare())
            return await self._changing(pool, pool.exchange, prepared)

    async def compact_series(self, series_id: str, *, drop_history: bool = False) -> Compacted:
        """What was freed: removed rows leave the index, old history goes, and the file is written anew without holes.

        Args:
            series_id: the series.
            drop_history: whether all history goes, whatever its age.

        Raises:
            NotFound: NO_SUCH_SERIES.
            Overloaded: DISK_FULL, there is no room for the copy.
            CorruptData: the series is damaged.
        """
        pool = await self._pool(series_id)
        before = await self._reading(series_id, self._catalog.disk_bytes, series_id)
        dropped = await self._long_run(lambda _: self._catalog.purge_history(series_id, everything=drop_history))
        if drop_history:
            self._residency.unload_past(series_id)
        rows = await self._compact(pool) + await self._renewed(pool)
        await self._long_run(lambda _: compact_file(self._catalog, series_id, self._inspectors))
        after = await self._reading(series_id, self._catalog.disk_bytes, series_id)
        return Compacted(before, after, rows, dropped)

    # -- copies

    async def create_snapshot(self, series_id: str, name: str = "") -> SnapshotInfo:
        """A verified copy of the series as it is at one moment.

        Raises:
            NotFound, AlreadyExists, CorruptData, Overloaded: as `Snapshots.create`.
        """
        return await self._long_run(lambda _: self._snapshots.create(series_id, name))

    async def list_snapshots(
        self, series_id: str = "", after: str = "", limit: int = 100
    ) -> tuple[list[SnapshotInfo], bool]:
        """At most `limit` snapshots of a series or of all ("") by series and time; whether there are more.

        Args:
            series_id: the series.
            after: "series/name" of the last one of the page before; if it is gone, its series begins again.
            limit: entries.
        """
        found = await self._off(self._snapshots.known, series_id)
        names = [f"{info.series_id}/{info.name}" for info in found]
        if after in names:
            found = found[names.index(after) + 1 :]
        elif after:
            found = [info for info in found if info.series_id >= after.partition("/")[0]]
        return found[:limit], len(found) > limit

    async def delete_snapshot(self, series_id: str, name: str) -> int:
        """Bytes that were freed.

        Raises:
            NotFound: NO_SUCH_SNAPSHOT.
        """
        return await self._off(self._snapshots.delete, series_id, name)

    async def restore_snapshot(self, series_id: str, name: str, *, into: str = "", replace: bool = False) -> SeriesView:
        """The series that a snapshot was put in the place of, or that was made of it.

        Raises:
            NotFound, AlreadyExists, FailedState, CorruptData, Overloaded, Unavailable: as `Snapshots.restore`.
        """
        target, loop = into or series_id, asyncio.get_running_loop()
        taken, ids = await self._off(self._catalog.taken, target), await self._off(self._catalog.ids)
        if not taken and len(ids) >= self.settings.max_series:
            raise Overloaded(
                f"the server holds at most {self.settings.max_series} series, got one more", reason="TOO_MANY_SERIES"
            )
        pool = self._residency.pool(target)

        def swapped() -> None:
            pool.replaced()
            loop.call_soon_threadsafe(self._residency.unload, target)

        work = partial(self._snapshots.restore, series_id, name, into=into, replacing=replace, on_swap=swapped)
        view = await self._long_run(lambda _: work())
        self._end_migration(target)  # of the series that was there
        if view.series.migration is not None:
            self._continue_migration(target)
        return view

    async def back_up(self, name: str = "") -> AsyncGenerator[BackUpStep, None]:
        """Copies every series into a new folder within the server's backup folder; says so after each, and at the end.

        Raises:
            FailedState: NO_BACKUP_FOLDER.
            AlreadyExists, Overloaded: as `backup.back_up`.
        """
        folder = self.settings.backup_dir
        if folder is None:
            raise FailedState(
                "the server needs a backup folder (setting backup_dir), got none", reason="NO_BACKUP_FOLDER"
            )
        target = folder / check_name(name or name_of_time(time.time_ns()), "a backup's name")

        def steps() -> Generator[BackedUp, None, None]:
            yield from back_up(self._catalog, target, self._inspectors)

        async with aclosing(self._steps(steps())) as told:
            async for step in told:
                yield BackUpStep(step.name, step.series_id, step.done, step.total, step.byte_size, step.error)

    async def check_series(self, series_id: str) -> AsyncGenerator[CheckStep, None]:
        """What is wrong with what is stored of a series, one thing at a time, and how much was read at the end.

        Raises:
            NotFound: NO_SUCH_SERIES.
        """

        def steps() -> Generator[Finding | CheckProgress, None, None]:
            yield from check_series(self._catalog, series_id, self._inspectors)

        progress, findings = CheckProgress(), 0
        async with aclosing(self._steps(steps())) as told:
            async for step in told:
                if isinstance(step, CheckProgress):
                    progress = step
                    continue
                findings += 1
                yield CheckStep(
                    step.text, step.reference_id, progress.references, progress.byte_size, findings, done=False
                )
        yield CheckStep("", "", progress.references, progress.byte_size, findings, done=True)
