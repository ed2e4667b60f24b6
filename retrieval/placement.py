"""Which of the pools in memory are on the GPU too, under a budget of bytes of its own."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge, Histogram

from retrieval.pool import Pool

BYTES = Gauge("panelhue_pools_bytes", "Bytes that pools take.", ["tier"])
RESIDENTS = Gauge("panelhue_pools_resident", "Pools in memory.")
LOADS = Counter("panelhue_pools_loads_total", "Pools read into memory.")
LOOKS = Counter("panelhue_pools_looks_total", "Searches by where their pool was.", ["found"])
LOAD_SECONDS = Histogram("panelhue_pools_load_seconds", "Time to read a pool.")
EVICTIONS = Counter("panelhue_pools_evictions_total", "Pools that had to go.", ["tier"])

Key = tuple[str, int]  # the series, and the generation that was asked for; 0: as it is now


@dataclass(eq=False)
class Held:
    """A pool in memory."""

    pool: Pool
    size: int  # bytes, as last counted
    gpu: int = 0  # bytes on the device, as last counted
    users: int = 0  # searches that run on it
    pinned: bool = False
    gone: bool = False  # no longer held; its bytes count until its last search ends
    placing: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while it is on its way to the device
    refused: int = 0  # what it would have taken on the device when that refused it
    last_use_ns: int = field(default_factory=time.time_ns)


@dataclass(eq=False)
class Coming:
    """A pool that is being read."""

    task: asyncio.Task[Held | None]
    waiters: int = 0  # each of them is a user once it is there
    held: Held | None = None


class Placement:
    """Puts pools on the device and takes them from it. Its methods belong to one event loop.

    Args:
        max_bytes: what pools may take there; 0 uses none.
        held: all pools in memory.
        threads: where the copying is done.
    """

    def __init__(self, max_bytes: int, held: Mapping[Key, Held], threads: Executor) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._held, self._threads = held, threads
        self._order: OrderedDict[Key, None] = OrderedDict()  # least recently used first

    def worth(self, key: Key, held: Held, before_ns: int) -> bool:
        """Whether a pool that is used, and was used `before_ns` before, should be put on the device.

        It should if there is room, or if the pool that would go was used less recently than it was before this time:
        so that one search of many pools each does not move them all.
        """
        if key in self._order:
            self._order.move_to_end(key)
        size = held.pool.expected_gpu_bytes if self.max_bytes else 0
        if held.placing.locked() or size <= max(held.gpu, held.refused) or size > self.max_bytes:
            return False
        oldest = next((other for other in self._order if other != key), None)
        fits = self.bytes + size - held.gpu <= self.max_bytes
        return fits or (oldest is not None and self._held[oldest].last_use_ns < before_ns)

    async def place(self, key: Key, held: Held) -> bool:
        """Whether the pool's full segments are on the device now; a device that refuses is no error."""
        async with held.placing:
            size = held.pool.expected_gpu_bytes
            if held.gone or not max(held.gpu, held.refused) < size <= self.max_bytes:
                return held.gpu > 0
            extra = size - held.gpu
            if not await self._make_room(key, extra):
                return False
            self.bytes += extra
            try:
                placed = await self._run(held.pool.place)
            finally:
                self.bytes -= extra
            return await self._placed(key, held, size) if placed else self._refused(held, size)

    async def _placed(self, key: Key, held: Held, size: int) -> bool:
        if held.gone:
            await self._run(held.pool.displace)
            return False
        self.count(held)
        if held.gpu < size:  # the device had room for some of it
            held.refused = size
        if held.gpu:
            self._order[key] = None
        return held.gpu > 0

    def _refused(self, held: Held, size: int) -> bool:
        held.refused = size
        self.count(held)
        return False

    async def _make_room(self, key: Key, size: int) -> bool:
        while self.bytes + size > self.max_bytes:
            oldest = next((other for other in self._order if other != key and not self._held[other].pinned), None)
            if oldest is None:
                return False
            await self._displace(oldest)
        return True

    async def _displace(self, key: Key) -> None:
        held = self._held[key]
        del self._order[key]
        EVICTIONS.labels("gpu").inc()
        await self._run(held.pool.displace)
        if not held.gone:
            self.count(held)

    async def _run(self, work: object) -> bool:
        assert callable(work)
        return bool(await asyncio.get_running_loop().run_in_executor(self._threads, work))

    def count(self, held: Held) -> None:
        """Counts a pool's bytes on the device again."""
        gpu = held.pool.gpu_bytes
        self.bytes += gpu - held.gpu
        held.gpu = gpu
        BYTES.labels("gpu").set(self.bytes)

    def forget(self, key: Key, held: Held) -> None:
        """Takes note that a pool has left the memory, and the device with it."""
        self._order.pop(key, None)
        self.bytes -= held.gpu
        BYTES.labels("gpu").set(self.bytes)
