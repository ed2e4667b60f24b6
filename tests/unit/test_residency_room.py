"""Pools whose index is made anew under a tight budget, and pools whose memory went while they were held."""

from __future__ import annotations

import asyncio

from retrieval.types import SearchOptions
from tests.unit.test_residency import made, opened, query, size_of


def test_an_index_is_made_anew_where_there_is_no_room_for_two(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "s", 300)
            await made(engine, "other", 10)
            size = await size_of(engine, "s")
        async with opened(tmp_path, index_bytes=size * 3 // 2) as engine:
            async with asyncio.timeout(120):  # it waited for itself for ever, and so did every load behind it
                assert (await engine.reindex_series("s")).rows == 300
                await engine.load_series("other", "memory")

    asyncio.run(work())


def test_pools_that_are_made_anew_at_once_do_not_wait_for_each_other(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            for name in "ab":
                await made(engine, name, 300)
            size = await size_of(engine, "a")
        async with opened(tmp_path, index_bytes=size * 5 // 2) as engine:
            async with asyncio.timeout(120):
                found = await asyncio.gather(*(engine.reindex_series(name) for name in "abab"))
            assert [one.rows for one in found] == [300] * 4

    asyncio.run(work())


def test_a_pool_whose_memory_has_gone_is_read_again(tmp_path):
    async def work():
        async with opened(tmp_path) as engine:
            await made(engine, "s", 30)
            await engine.load_series("s", "memory")
            engine._residency.pool("s").unload()  # as a switch does whose migration was cancelled in that moment
            assert len((await engine.search("s", query(), SearchOptions(40))).hits) == 30
            assert engine._residency.published("s") is not None
            assert engine.index_bytes == engine._residency.pool("s").bytes

    asyncio.run(work())
