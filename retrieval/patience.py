"""Waiting for a series that somebody has alone, in the event loop: in a thread it would keep other series waiting."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from retrieval.catalog import Catalog
from retrieval.shelf import PATIENCE, busy


async def until_free(catalog: Catalog, series_id: str) -> None:
    """Returns when nobody has the series' folder alone; at once where there is no such series.

    Raises:
        Unavailable: SERIES_BUSY, that takes longer than `PATIENCE`.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                freed = asyncio.Event()
                if not catalog.waiters.add(series_id, partial(_tell, loop, freed.set)):
                    return
                await freed.wait()
    except TimeoutError:
        raise busy(series_id) from None


def _tell(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """From any thread: `act` in the loop, if there is still one."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(act)
