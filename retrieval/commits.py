"""Group commit: references of one series that are ready while a transaction runs share the next one.

A transaction costs two waits for the disk, whatever is in it. Nobody waits for company: a lone reference is stored at
once, and what comes meanwhile goes together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import Histogram

from retrieval.types import NewReference, Stored

MAX_ITEMS = 256  # references of one transaction
MAX_BYTES = 64 << 20  # of their pictures
SIZES = Histogram("panelhue_commit_references", "References in one transaction.", buckets=(1, 2, 4, 8, 16, 64, 256))


Store = Callable[[str, Sequence[NewReference]], Awaitable[Sequence[Stored]]]  # one transaction of a series


class Commits:
    """Puts references together by series. Its methods belong to one event loop.

    Args:
        store: one transaction.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, list[tuple[NewReference, asyncio.Future[Stored]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, series_id: str, item: NewReference) -> Stored:
        """What became of the reference, which is on the disk when this returns.

        A caller that goes leaves its reference to be stored or not; it was not told.

        Raises:
            ServiceError: as `store`, when the whole transaction failed; nothing of it was stored.
        """
        future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(series_id)
        if waiting is None:
            self._waiting[series_id] = [(item, future)]
            task = asyncio.get_running_loop().create_task(self._run(series_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            waiting.append((item, future))
        return await future

    async def close(self) -> None:
        """Returns when nothing is being stored."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, series_id: str) -> None:
        waiting = self._waiting[series_id]
        try:
            while waiting:
                batch = _first(waiting)
                del waiting[: len(batch)]
                await self._commit(series_id, batch)
        finally:
            del self._waiting[series_id]  # at once after the last look: whoever comes now begins anew

    async def _commit(self, series_id: str, batch: Sequence[tuple[NewReference, asyncio.Future[Stored]]]) -> None:
        SIZES.observe(len(batch))
        try:
            stored: Sequence[Stored | Exception] = await self._store(series_id, [item for item, _ in batch])
        except Exception as error:  # every caller of the batch is told
            stored = [error] * len(batch)
        for (_, future), result in zip(batch, stored, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def _first(
    waiting: Sequence[tuple[NewReference, asyncio.Future[Stored]]],
) -> list[tuple[NewReference, asyncio.Future[Stored]]]:
    """As many as one transaction takes, at least one."""
    size, count = 0, 0
    while count < min(len(waiting), MAX_ITEMS) and (not count or size + len(waiting[count][0].data) <= MAX_BYTES):
        size += len(waiting[count][0].data)
        count += 1
    return list(waiting[:count])
