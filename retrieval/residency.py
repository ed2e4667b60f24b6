"""Which pools are in memory and which of them on a GPU, under budgets of bytes.

A budget is kept before a load, not after it: what a pool will take is known from its counts, room is made for that and
set aside, and only then is it read. The least recently used pools go first; one that is being searched or that is
pinned stays. No step looks at all series: pools in memory are kept in order of use, the others are not kept at all.

A pool that does not fit, even into an empty budget or beside what is pinned, is not brought in; the caller is told and
searches it in the store (see `streamed`).
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import structlog

from retrieval.catalog import Catalog
from retrieval.index import GpuScanner, Scanner
from retrieval.patience import until_free
from retrieval.placement import BYTES, EVICTIONS, LOAD_SECONDS, LOADS, LOOKS, RESIDENTS, Coming, Held, Key, Placement
from retrieval.pool import Pool
from retrieval.upkeep_types import Resident, Tier
from retrieval.view import View
from serving.errors import Overloaded, ServiceError

PATIENCE = 5.0  # seconds that a load waits for room; then the pool is searched in the store
MOMENT = 1.0  # seconds that what is to replace a pool waits for room
LOADERS = 2  # pools read at once: one waits for the disk while the other one's vectors are checked

T = TypeVar("T")

log = structlog.get_logger("panelhue.retrieval")


class Residency:
    """Brings pools into memory and lets them go. Its methods belong to one event loop.

    Args:
        catalog: where the pools are read from.
        scanner: what searches them.
        index_bytes: what pools may take in memory.
        gpu_bytes: what pools may take on the GPU; 0 uses none.
    """

    def __init__(self, catalog: Catalog, scanner: Scanner, *, index_bytes: int, gpu_bytes: int = 0) -> None:
        self._catalog, self._scanner = catalog, scanner
        self.max_bytes = index_bytes
        self.bytes = 0  # in memory now, with what is set aside for loads and growth
        self._pinned_bytes = 0
        self._held: dict[Key, Held] = {}
        self._order: OrderedDict[Key, None] = OrderedDict()  # those not pinned, least recently used first
        self._generations: dict[str, set[int]] = {}  # by series: which of its keys are held
        self._coming: dict[Key, Coming] = {}
        # A pool that nobody holds and nobody uses is forgotten: ten thousand series at rest take no memory.
        self._pools: WeakValueDictionary[Key, Pool] = WeakValueDictionary()
        self._admitting = asyncio.Lock()
        self._freed = asyncio.Event()
        self._loaders = ThreadPoolExecutor(LOADERS, "retrieval-load")
        self.device = Placement(gpu_bytes, self._held, self._loaders)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.on_load: Callable[[Pool], None] = lambda _: None  # called in the loop when a pool has been brought in

    async def close(self) -> None:
        """Waits for the loads that run."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._loaders.shutdown()

    # -- pools

    @property
    def has_gpu(self) -> bool:
        """Whether pools can be put on a GPU."""
        return isinstance(self._scanner, GpuScanner) and self.device.max_bytes > 0

    def pool(self, series_id: str, as_of: int = 0) -> Pool:
        """The pool of a series, the same one for all who use it at the same time."""
        pool = self._pools.get((series_id, as_of))
        if pool is None or pool.retired:
            pool = self._pools[series_id, as_of] = Pool(self._catalog, series_id, self._scanner, as_of)
        return pool

    def published(self, series_id: str) -> View | None:
        """The pool as it is now, None while it is not in memory."""
        held = self._held.get((series_id, 0))
        return None if held is None else held.pool.published()

    @asynccontextmanager
    async def using(self, series_id: str, as_of: int = 0) -> AsyncIterator[View | None]:
        """The pool, kept in memory until the block ends; None if it does not fit.

        Raises:
            NotFound, FailedState, CorruptData: it cannot be read.
        """
        key = series_id, as_of
        held = await self._acquire(key)
        if held is None:
            yield None
            return
        try:
            yield held.pool.published()
        finally:
            self._release(held)

    async def _acquire(self, key: Key) -> Held | None:
        held = self._held.get(key)
        if held is not None and held.pool.published() is None:  # the series was replaced or switched
            self._drop(key)
            held = None
        if held is not None:
            LOOKS.labels("memory").inc()
            self._touch(key, held)
            held.users += 1
            return held
        LOOKS.labels("disk").inc()
        coming = self._coming.get(key) or self._begin(key)
        coming.waiters += 1
        try:
            return await asyncio.shield(coming.task)
        except BaseException:
            if self._coming.get(key) is coming:
                coming.waiters -= 1
            elif coming.held is not None:
                self._release(coming.held)
            raise

    def _release(self, held: Held) -> None:
        held.users -= 1
        if not held.users:
            if held.gone:
                self.bytes -= held.size
                self._show()
            self._freed.set()
            self._make_room(0)

    def _touch(self, key: Key, held: Held) -> None:
        before, held.last_use_ns = held.last_use_ns, time.time_ns()
        if not held.pinned:
            self._order[key] = None
            self._order.move_to_end(key)
        if self.has_gpu and self.device.worth(key, held, before):
            self._task(self.device.place(key, held))

    # -- loads

    def _begin(self, key: Key) -> Coming:
        coming = self._coming[key] = Coming(self._task(self._load(key)))
        coming.task.add_done_callback(partial(self._loaded, key))
        return coming

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _loaded(self, key: Key, task: asyncio.Task[Held | None]) -> None:
        coming = self._coming.get(key)
        if coming is not None and coming.task is task:  # it failed before it arrived
            del self._coming[key]
        if not task.cancelled():
            task.exception()  # told to whoever waits; with nobody left it is of no interest

    async def _load(self, key: Key) -> Held | None:
        loop = asyncio.get_running_loop()
        pool = self.pool(*key)
        await until_free(self._catalog, key[0])  # here: there are few threads that load
        size = await loop.run_in_executor(self._loaders, pool.expected_bytes)
        if not await self._admit(size):
            return self._arrived(key, None)
        try:
            start = time.perf_counter()
            await loop.run_in_executor(self._loaders, pool.load)
            LOAD_SECONDS.observe(time.perf_counter() - start)
        finally:
            self.bytes -= size
            self._freed.set()
        LOADS.inc()
        held = Held(pool, 0)
        self._held[key] = held
        self._generations.setdefault(key[0], set()).add(key[1])
        self._touch(key, held)
        self._count(held)
        self._arrived(key, held)
        self._make_room(0)  # it may have grown since it was measured
        self.on_load(pool)
        return held

    def _arrived(self, key: Key, held: Held | None) -> Held | None:
        """Everybody who waits becomes a user at once, so that nobody finds it gone again."""
        coming = self._coming.pop(key)
        coming.held = held
        if held is not None:
            held.users += coming.waiters
        return held

    async def _admit(self, size: int) -> bool:
        """Whether `size` bytes could be set aside; waits for searches and loads to end, not for long upkeep."""
        until = time.monotonic() + PATIENCE
        async with self._admitting:
            return await self._reserved(size, until)

    async def _reserved(self, size: int, until: float, own: int = 0) -> bool:
        """Whether `size` bytes were set aside beside `own` that do not go, at the time `until` (monotonic) at last."""
        while not self._make_room(size):
            left = until - time.monotonic()
            if left <= 0 or size + own + self._pinned_bytes > self.max_bytes:
                return False
            self._freed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), left)
        self.bytes += size
        self._show()
        return True

    @asynccontextmanager
    async def beside(self, size: int) -> AsyncIterator[None]:
        """Sets `size` bytes aside for work beside the pools until the block ends; waits for room as a load does.

        Raises:
            Overloaded: INDEX_BUDGET, there is none.
        """
        if not await self._admit(size):
            raise Overloaded(f"this needs {size} of {self.max_bytes} bytes for indexes", reason="INDEX_BUDGET")
        try:
            yield
        finally:
            self.bytes -= size
            self._freed.set()
            self._show()

    @contextmanager
    def growing(self, series_id: str, size: int) -> Iterator[None]:
        """Sets `size` bytes aside for what is added to a series, if it is in memory, until the block ends.

        Where there is no room for them the pool leaves the memory; the next search decides where it is searched.
        """
        held = self._held.get((series_id, 0))
        if held is not None and not self._make_room(size) and not held.gone:
            self._drop((series_id, 0))
            EVICTIONS.labels("memory").inc()
        if held is None or held.gone:
            yield
            return
        self.bytes += size
        try:
            yield
        finally:
            self.bytes -= size
            self.counted(series_id)

    @asynccontextmanager
    async def set_aside(self, series_id: str, size: int) -> AsyncIterator[bool]:
        """Whether the series is in memory and `size` more bytes are set aside for it until the block ends.

        The series stays in memory meanwhile. Whoever asks may use a pool, for which others wait in turn: so this waits
        a moment only, for searches that end.
        """
        held = self._held.get((series_id, 0))
        if held is None:
            yield False
            return
        held.users, room = held.users + 1, False
        try:
            room = await self._reserved(size, time.monotonic() + MOMENT, 0 if held.pinned else held.size)
            yield room
        finally:
            self.bytes -= size if room else 0
            self._release(held)
            self.counted(series_id)

    def counted(self, series_id: str) -> None:
        """Counts a pool's bytes again, after a change of it."""
        held = self._held.get((series_id, 0))
        if held is not None:
            self._count(held)
        self._freed.set()
        self._make_room(0)

    def _count(self, held: Held) -> None:
        size = held.pool.bytes
        self.bytes += size - held.size
        if held.pinned:
            self._pinned_bytes += size - held.size
        held.size = size
        self.device.count(held)
        self._show()

    def _make_room(self, size: int) -> bool:
        """Whether `size` bytes are free, pools that nobody uses having gone for it."""
        while self.bytes + size > self.max_bytes:
            key = next((key for key in self._order if not self._held[key].users), None)
            if key is None:
                return False
            self._drop(key)
            EVICTIONS.labels("memory").inc()
        return True

    def _drop(self, key: Key) -> tuple[int, int]:
        """Bytes that are freed in memory and on the device."""
        held = self._held.pop(key)
        self._order.pop(key, None)
        generations = self._generations[key[0]]
        generations.discard(key[1])
        if not generations:
            del self._generations[key[0]]
        loaded = held.pool.unload()
        if loaded is not None and held.gpu:
            self._loaders.submit(loaded.index.drop_from_device)
        held.gone = True
        if held.pinned:
            self._pinned_bytes -= held.size
        if not held.users:
            self.bytes -= held.size
        self.device.forget(key, held)
        self._freed.set()
        self._show()
        return held.size, held.gpu

    def _show(self) -> None:
        RESIDENTS.set(len(self._held))
        BYTES.labels("memory").set(self.bytes)

    # -- on demand

    async def load(self, series_id: str, *, gpu: bool, pin: bool) -> Resident:
        """Brings a series in, and onto the device if that is wanted; pins it or ends its pin.

        Raises:
            Overloaded: INDEX_BUDGET, it does not fit beside what is pinned.
            NotFound, FailedState, CorruptData: it cannot be read.
        """
        key = series_id, 0
        held = await self._acquire(key)
        if held is None:
            raise self._too_big(series_id)
        try:
            self._pin(key, held, pin)
            if gpu and held.pool.expected_gpu_bytes and not await self.device.place(key, held):
                log.warning("a pool stays in memory: the GPU refuses it or is full", series=series_id)
        finally:
            self._release(held)
        return self._resident(key, held)

    def prefetch(self, series_id: str, *, gpu: bool, pin: bool) -> Resident:
        """Begins what `load` does, and says where the series is now."""
        self._task(self._quietly(series_id, gpu=gpu, pin=pin))
        return self.resident(series_id)

    async def _quietly(self, series_id: str, *, gpu: bool, pin: bool) -> None:
        try:
            await self.load(series_id, gpu=gpu, pin=pin)
        except ServiceError as error:
            log.warning("a pool could not be brought in", series=series_id, why=str(error))

    def _pin(self, key: Key, held: Held, pin: bool) -> None:
        if held.pinned == pin or held.gone:
            return
        held.pinned = pin
        self._pinned_bytes += held.size if pin else -held.size
        if pin:
            self._order.pop(key, None)
        else:
            self._touch(key, held)

    def _too_big(self, series_id: str) -> Overloaded:
        return Overloaded(
            f"series {series_id!r} does not fit into {self.max_bytes} bytes, {self._pinned_bytes} of them pinned",
            reason="INDEX_BUDGET",
        )

    def unload(self, series_id: str) -> tuple[int, int]:
        """Drops a series, in all generations; bytes that were freed in memory and on the device."""
        freed = [self._drop((series_id, as_of)) for as_of in tuple(self._generations.get(series_id, ()))]
        return sum(size for size, _ in freed), sum(gpu for _, gpu in freed)

    def unload_past(self, series_id: str) -> None:
        """Drops a series in all generations but the present one."""
        for as_of in tuple(self._generations.get(series_id, ())):
            if as_of:
                self._drop((series_id, as_of))

    def resident(self, series_id: str) -> Resident:
        """Where the pool of a series is as it is now."""
        held = self._held.get((series_id, 0))
        return Resident(series_id, "disk", 0, 0, False, 0, 0) if held is None else self._resident((series_id, 0), held)

    def residents(self, limit: int) -> tuple[list[Resident], int]:
        """The pools that were used last, the latest first, and how many there are. Cost: sorts them all."""
        latest = heapq.nlargest(limit, self._held.items(), key=lambda entry: entry[1].last_use_ns)
        return [self._resident(key, held) for key, held in latest], len(self._held)

    def _resident(self, key: Key, held: Held) -> Resident:
        tier: Tier = "gpu" if held.gpu else "memory"
        return Resident(key[0], tier, held.size, held.gpu, held.pinned, key[1], held.last_use_ns)
