"""What the rooms of the engine share: settings, threads, the store, the workers, the pools in memory."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import structlog

from retrieval.catalog import Catalog
from retrieval.commits import Commits
from retrieval.config import RetrievalSettings
from retrieval.embedding import Embedding
from retrieval.gallery import Gallery, cutters
from retrieval.index import best_scanner, faiss_version
from retrieval.inspector import Office
from retrieval.loaded import REFERENCE_BYTES, ROW_BYTES
from retrieval.patience import until_free
from retrieval.pool import COMPACTION_SHARE, Pool
from retrieval.quotas import CallerQuotas
from retrieval.residency import Residency
from retrieval.scans import Batcher
from retrieval.stopping import Stop
from retrieval.types import NewReference, SeriesView, Stored
from serving.errors import Cancelled, ServiceError

IO_THREADS = 8
READERS = 3  # of them that reading one series may take
LONG_THREADS = 4  # upkeep that runs for minutes must not take the threads that requests need

Gates = WeakValueDictionary[str, asyncio.Semaphore]  # by series; one that nobody waits at or holds is gone

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger("panelhue.retrieval")


class Core:
    """Lives in one event loop, which it never blocks.

    Args:
        settings: the server's.
    """

    def __init__(self, settings: RetrievalSettings) -> None:
        self.settings = settings
        self._io = ThreadPoolExecutor(IO_THREADS, "retrieval-io")
        self._long = ThreadPoolExecutor(LONG_THREADS, "retrieval-long")
        self._readers, self._changers = Gates(), Gates()
        self._embedding = Embedding(settings)
        self._catalog_opened: Catalog | None = None
        self._batcher = Batcher(settings.search_threads)
        self._commits = Commits(self._store)
        self._quotas = CallerQuotas(settings.caller_references, settings.caller_bytes, clock=time.monotonic)
        self._stop, self._inspectors = Stop(), Office()
        self._background: set[asyncio.Task[Any]] = set()
        self._compacting: set[str] = set()
        self._building: set[str] = set()  # approximate searches

    async def _open(self) -> None:
        self.faiss = await self._off(faiss_version)
        scanner = await self._off(best_scanner)
        self._catalog_opened = await self._off(
            Catalog,
            self.settings.data_dir,
            map_bytes=self.settings.map_bytes,
            max_map_bytes=self.settings.max_map_bytes,
            min_free_bytes=self.settings.min_free_bytes,
            max_open=self.settings.max_open,
            history_seconds=self.settings.history_seconds,
        )
        self._gallery = Gallery(
            self._picture,
            cutters(self._embedding.limits, self.settings.workers),
            cache_bytes=self.settings.cache_bytes,
            seconds=self.settings.picture_seconds,
        )
        self._residency = Residency(
            self._catalog, scanner, index_bytes=self.settings.index_bytes, gpu_bytes=self.settings.gpu_bytes
        )
        self._residency.on_load = self._improve

    async def _close(self) -> None:
        await self._cut_short()
        await self._embedding.close()
        await self._commits.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._catalog_opened is not None:
            await self._gallery.close()
            await self._residency.close()
        await asyncio.to_thread(self._long.shutdown)
        self._batcher.close()
        if self._catalog_opened is not None:
            await self._off(self._catalog_opened.close)
        self._io.shutdown()

    async def _cut_short(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._inspectors.close)
        if self._catalog_opened is not None:
            await asyncio.to_thread(self._catalog_opened.stop)

    @property
    def _catalog(self) -> Catalog:
        assert self._catalog_opened is not None  # start() comes first
        return self._catalog_opened

    async def _picture(self, series_id: str, reference_id: str) -> bytes:
        """The bytes of a reference as they were added."""
        return await self._reading(series_id, self._catalog.data, series_id, reference_id)

    async def _off(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` gives, run in a thread. A caller that goes leaves the work to end by itself."""
        return await asyncio.get_running_loop().run_in_executor(self._io, lambda: work(*args, **kwargs))

    async def _reading(self, series_id: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `_off`, for what one series may hold up: so that it leaves threads for the others."""
        return await self._bounded(self._readers, READERS, series_id, partial(work, *args, **kwargs))

    async def _view(self, series_id: str) -> SeriesView:
        """A series with its pool's counts; at once where it was looked at, also while somebody has its folder alone.

        Raises:
            NotFound: NO_SUCH_SERIES.
            CorruptData, FailedState: it cannot be read.
        """
        if self._catalog.looked_at(series_id):
            return await self._off(self._catalog.view, series_id)
        return await self._reading(series_id, self._catalog.view, series_id)

    async def _changing(self, pool: Pool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `_off`, for changes of one pool, of which all but one would only wait in their threads."""
        return await self._bounded(self._changers, 1, pool.series_id, partial(work, *args, **kwargs))

    async def _bounded(self, gates: Gates, most: int, series_id: str, work: Callable[[], T]) -> T:
        gate = gates.get(series_id)
        if gate is None:
            gate = gates[series_id] = asyncio.Semaphore(most)
        await self._through(gate, series_id)
        try:
            future = asyncio.get_running_loop().run_in_executor(self._io, work)
        except BaseException:
            gate.release()
            raise
        future.add_done_callback(partial(_free, gate))
        return await asyncio.shield(future)  # a caller that goes does not free the thread

    async def _through(self, gate: asyncio.Semaphore, series_id: str) -> None:
        """Passes the gate at a time when nobody has the series' folder alone: no thread is to wait for that.

        Raises:
            Unavailable: SERIES_BUSY.
        """
        while True:
            await until_free(self._catalog, series_id)
            await gate.acquire()
            if not self._catalog.waiters.held(series_id):
                return
            gate.release()

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Work that nobody waits for; it ends with the server."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _pool(self, series_id: str) -> Pool:
        """The pool of a series that is there.

        Raises:
            NotFound: NO_SUCH_SERIES.
            CorruptData, FailedState: it cannot be read.
        """
        if self._residency.published(series_id) is None:
            await self._view(series_id)
        return self._residency.pool(series_id)

    async def _store(self, series_id: str, items: Sequence[NewReference]) -> Sequence[Stored]:
        """Stores references in one transaction and in memory, within the budget."""
        pool = self._residency.pool(series_id)
        room = sum(
            REFERENCE_BYTES + item.prepared.vectors.nbytes + ROW_BYTES * len(item.prepared.boxes) for item in items
        )
        with self._residency.growing(series_id, room):
            stored, _ = await self._changing(pool, pool.add_many, items)
        self._improve(pool)
        return stored

    async def _long_run(self, work: Callable[[Callable[[], None]], T]) -> T:
        """What `work` gives, run in a thread of its own.

        It is given a check that raises once the caller has gone, or the server ends.
        """
        gone = threading.Event()

        def check() -> None:
            self._stop.check()
            if gone.is_set():
                raise Cancelled("the caller has gone")

        future = asyncio.get_running_loop().run_in_executor(self._long, work, check)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            gone.set()
            future.add_done_callback(lambda done: done.exception())  # nobody else asks
            raise

    async def _steps(self, steps: Generator[T, None, None]) -> AsyncGenerator[T, None]:
        """What a generator gives, run in threads; it is closed when the caller goes, after the step at hand."""
        loop = asyncio.get_running_loop()
        end = object()
        step: asyncio.Future[Any] | None = None
        try:
            while True:
                step = loop.run_in_executor(self._long, next, steps, end)
                item = await asyncio.shield(step)
                if item is end:
                    return
                yield item
        finally:
            if step is not None:
                await asyncio.wait([step])
                step.exception()  # nobody else asks, where the caller has gone
            # Not in `_long`, which may be closed by now: what is left open keeps its series, and so the whole server.
            await asyncio.to_thread(steps.close)

    def _tidy(self, pool: Pool) -> None:
        """Rewrites segments of removed rows in the background, where it is worth it."""
        if pool.series_id not in self._compacting and pool.dead_share > COMPACTION_SHARE:
            self._compacting.add(pool.series_id)
            self._task(self._compact(pool))

    async def _compact(self, pool: Pool) -> int:
        try:
            dropped = await asyncio.get_running_loop().run_in_executor(self._long, pool.compact)
            self._residency.counted(pool.series_id)
            return dropped
        finally:
            self._compacting.discard(pool.series_id)

    def _improve(self, pool: Pool) -> None:
        """Builds an approximate search in the background, where the series asks for one and it is worth it."""
        if pool.series_id not in self._building and pool.wants_approximate:
            self._building.add(pool.series_id)
            self._task(self._build(pool))

    async def _build(self, pool: Pool) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._long, pool.approximate, self._stop.check)
            self._residency.counted(pool.series_id)
        except ServiceError as error:  # the note in the series' stats says the same
            log.warning("an approximate search is not to be had", series=pool.series_id, why=str(error))
        finally:
            self._building.discard(pool.series_id)


def _free(gate: asyncio.Semaphore, done: asyncio.Future[Any]) -> None:
    gate.release()
    if not done.cancelled():
        done.exception()  # its caller may have gone
