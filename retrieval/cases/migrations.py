"""Series that get another embedding space in the background, while the present one serves.

The store knows which series migrate and how far they are, so that a restart changes nothing. Pictures are embedded one
at a time for each worker, and only while a worker is free: searches and new references always go first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from retrieval.cases.core import Core, log
from retrieval.config import VECTORS_ONLY, RetrievalSettings
from retrieval.loaded import expected_bytes, read
from retrieval.types import Migration, Reference, Series, StoredPatches
from serving.errors import FailedState, NotFound, ServiceError
from serving.workers import RemoteError

BATCH = 16  # references whose vectors are stored in one transaction
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0  # seconds after a problem; doubled each time
IDLE_PAUSE = 0.02  # seconds between looks for a free worker


class MigrationCases(Core):
    """What begins, continues and ends migrations."""

    def __init__(self, settings: RetrievalSettings) -> None:
        super().__init__(settings)
        self._migrating: dict[str, asyncio.Task[None]] = {}

    async def migrate_series(self, series_id: str, embedder: str) -> tuple[Migration, int]:
        """The migration that has begun, and how many references it has to do.

        Raises:
            NotFound: NO_SUCH_SERIES or NO_SUCH_EMBEDDER.
            FailedState: MIGRATION_UNDER_WAY, SAME_SPACE, VECTORS_ONLY; or the embedder cannot be loaded.
        """
        pool = await self._pool(series_id)
        if (await self._series_of(series_id)).embedder == VECTORS_ONLY:
            raise FailedState(f"series {series_id!r} takes ready-made vectors only", reason="VECTORS_ONLY")
        space = await self._embedding.space(embedder)
        view = await self._changing(
            pool, pool.change_series, lambda: self._catalog.begin_migration(series_id, embedder, space)
        )
        self._continue_migration(series_id)
        assert view.series.migration is not None  # it has begun
        return view.series.migration, view.pool.references

    async def cancel_migration(self, series_id: str) -> None:
        """Ends a migration and drops what it built.

        Raises:
            NotFound: NO_SUCH_SERIES.
            FailedState: NO_MIGRATION.
        """
        pool = await self._pool(series_id)
        self._end_migration(series_id)
        try:
            await self._changing(pool, pool.change_series, lambda: self._catalog.cancel_migration(series_id))
        finally:
            if (await self._series_of(series_id)).migration is not None:  # it could not be cancelled
                self._continue_migration(series_id)

    async def _series_of(self, series_id: str) -> Series:
        return (await self._view(series_id)).series

    def _continue_migration(self, series_id: str) -> None:
        if series_id not in self._migrating:
            task = self._migrating[series_id] = self._task(self._migrate(series_id))
            task.add_done_callback(lambda _: self._forget_migration(series_id, task))

    def _forget_migration(self, series_id: str, task: asyncio.Task[None]) -> None:
        if self._migrating.get(series_id) is task:
            del self._migrating[series_id]

    def _end_migration(self, series_id: str) -> None:
        task = self._migrating.pop(series_id, None)
        if task is not None:
            task.cancel()

    async def _migrate(self, series_id: str) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                if await self._migrated(series_id):
                    log.info("a series has another embedding space", series=series_id)
                    return
                pause = FIRST_PAUSE
            except (ServiceError, RemoteError) as error:
                if getattr(error, "reason", "") in ("NO_SUCH_SERIES", "NO_MIGRATION"):
                    return
                log.warning("a migration does not go on", series=series_id, why=str(error), seconds=pause)
                if not await self._told(series_id, str(error)):
                    return
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)

    async def _told(self, series_id: str, problem: str) -> bool:
        """Whether the migration is still there; its problem is noted."""
        pool = self._residency.pool(series_id)
        try:
            await self._changing(pool, pool.change_series, lambda: self._catalog.note_problem(series_id, problem))
        except ServiceError as error:  # the disk is full, perhaps; then it is in the log alone
            return error.reason not in ("NO_SUCH_SERIES", "NO_MIGRATION")
        return True

    async def _migrated(self, series_id: str) -> bool:
        """Whether the series has its new space; else there is more to do.

        Raises:
            ServiceError, RemoteError: it does not go on.
        """
        series = await self._series_of(series_id)
        migration = series.migration
        if migration is None:
            return True
        space = await self._embedding.space(migration.embedder)
        if space != migration.space:
            raise FailedState(
                f"the migration is to space {migration.space.id}, and this server's {migration.embedder} embeds in "
                f"{space.id}",
                reason="EMBEDDING_SPACE_CHANGED",
            )
        target = replace(series, embedder=migration.embedder, space=migration.space, patches=migration.database)
        await self._embed(target, await self._reading(series_id, self._catalog.lacking, series_id))
        return await self._switch(series_id, target)

    async def _embed(self, target: Series, lacking: Sequence[int]) -> None:
        """Stores the vectors of references in the new space, by sequence number; what cannot be embedded is left.

        Raises:
            ServiceError, RemoteError: the last problem that was met, when everything else is done.
        """
        problem: Exception | None = None
        for first in range(0, len(lacking), BATCH):
            some = lacking[first : first + BATCH]
            references = await self._reading(target.id, self._catalog.numbered, target.id, some)
            turn = asyncio.Semaphore(self.settings.workers)
            work = [self._embedded(target, one, turn) for one in references]
            results = await asyncio.gather(*work)
            done = [result for result in results if isinstance(result, tuple)]
            problem = next((result for result in results if isinstance(result, Exception)), problem)
            if done:
                pool = self._residency.pool(target.id)
                patches, digests = [patch for patch, _ in done], {patch.sequence: digest for patch, digest in done}
                store = partial(self._catalog.put_migrated, target.id, patches, digests)
                await self._changing(pool, pool.change_migration, target, store)
        if problem is not None:
            raise problem

    async def _embedded(
        self, target: Series, reference: Reference, turn: asyncio.Semaphore
    ) -> tuple[StoredPatches, bytes] | ServiceError | RemoteError | None:
        """A reference's patches in the new space and their digest; None if it was removed; or the problem."""
        async with turn:
            try:
                data = await self._reading(target.id, self._catalog.data, target.id, reference.id)
                while not self._embedding.idle:
                    await asyncio.sleep(IDLE_PAUSE)
                prepared, _ = await self._embedding.reference(target, data, stored=True)
            except NotFound as error:
                return None if error.reason == "NO_SUCH_REFERENCE" else error
            except (ServiceError, RemoteError) as error:
                return error
        patches = StoredPatches(reference.id, reference.generation, prepared.vectors, prepared.boxes)
        return patches, prepared.digest

    async def _switch(self, series_id: str, target: Series) -> bool:
        """Whether the series has its new space; what is in memory of it is there in the new space at once.

        The pool is read once. What is added until the switch is embedded and read alone, each time that it fails.
        """
        pool = self._residency.pool(series_id)
        known, state = await self._reading(series_id, self._catalog.known, series_id)
        prepared = None
        async with self._residency.set_aside(series_id, expected_bytes(target, state)) as room:
            if room:
                loop = asyncio.get_running_loop()
                prepared = await loop.run_in_executor(self._long, read, self._catalog, target, pool.scanner, known)
            while lacking := await self._changing(pool, pool.switch, target, prepared):
                if prepared is not None and lacking[0] < max(prepared.source.sequences, default=0):
                    return False  # a row behind later ones would come after them among equals: it is read anew
                await self._embed(target, lacking)
        self._residency.unload_past(series_id)
        if prepared is None or self._residency.published(series_id) is None:
            self._residency.unload(series_id)
            pool.unload()  # it may have left the memory before the new space came into it
        return True
