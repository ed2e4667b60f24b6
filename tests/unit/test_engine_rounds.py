"""The rounds over all series: old history goes in time, and what needs nothing is left alone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

import retrieval.series
from retrieval.cases import background
from retrieval.store import Environment
from tests.unit.test_engine_upkeep import made, opened

NAMES = [f"s{n}" for n in range(6)]


@pytest.fixture(autouse=True)
def no_other_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's own rounds would wake as the clock jumps, and look at the same series meanwhile."""

    async def none(self: background.BackgroundCases) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(background.BackgroundCases, "_rounds", none)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead, real = 0.0, time.monotonic
        monkeypatch.setattr(background.time, "monotonic", lambda: real() + self.ahead)

    def now_ns(self) -> int:
        return time.time_ns() + int(self.ahead * 1e9)


async def looked_at(engine) -> None:
    for name in NAMES:
        await engine._look_at(name)


def test_later_rounds_open_no_series_that_needs_nothing(tmp_path, monkeypatch):
    opens = []

    class Counted(Environment):
        def __init__(self, path, **options):
            opens.append(path.name)
            super().__init__(path, **options)

    monkeypatch.setattr(retrieval.series, "Environment", Counted)
    clock = Clock(monkeypatch)

    async def work():
        async with opened(tmp_path, max_open=2, history_seconds=3600) as engine:
            engine._catalog._clock = clock.now_ns
            ids = {name: await made(engine, name, 3) for name in NAMES}
            await looked_at(engine)
            opens.clear()
            await looked_at(engine)
            assert not opens
            await engine.delete_references("s3", ids["s3"][:1], allow_missing=False)
            opens.clear()
            await looked_at(engine)
            assert not opens
            assert (await engine.get_series("s3")).pool.removed == 1
            clock.ahead = 2 * 3600
            await looked_at(engine)
            assert (await engine.get_series("s3")).pool.removed == 0
            assert set(opens) <= set(NAMES)
            await looked_at(engine)
            opens.clear()
            await looked_at(engine)
            assert not opens

    asyncio.run(work())


def test_a_removal_goes_when_its_own_time_has_come(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)

    async def work():
        async with opened(tmp_path, history_seconds=3600) as engine:
            engine._catalog._clock = clock.now_ns
            ids = await made(engine, "s0", 3)
            for n, (ahead, kept) in enumerate([(0, 1), (1800, 2), (3700, 1), (5500, 0)]):
                clock.ahead = ahead
                if n < 2:
                    await engine.delete_references("s0", [ids[n]], allow_missing=False)
                await engine._look_at("s0")
                assert (await engine.get_series("s0")).pool.removed == kept

    asyncio.run(work())


def test_a_look_that_takes_long_does_not_put_off_the_next_one(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)

    async def work():
        async with opened(tmp_path, history_seconds=3600) as engine:
            catalog, ids = engine._catalog, await made(engine, "s0", 3)
            catalog._clock, wait = clock.now_ns, catalog.history_wait

            def slow(series_id: str) -> float:
                left = wait(series_id)
                clock.ahead += 3000
                return left

            await engine.delete_references("s0", ids[:1], allow_missing=False)
            monkeypatch.setattr(catalog, "history_wait", slow)
            await engine._look_at("s0")
            monkeypatch.setattr(catalog, "history_wait", wait)
            assert (await engine.get_series("s0")).pool.removed == 1
            clock.ahead = 3700
            await engine._look_at("s0")
            assert (await engine.get_series("s0")).pool.removed == 0

    asyncio.run(work())


def test_what_a_switch_leaves_does_not_wait_for_its_time(tmp_path):
    async def work():
        async with opened(tmp_path, history_seconds=3600) as engine:
            ids = await made(engine, "s", 3)
            await engine.delete_references("s", ids[:1], allow_missing=False)
            await engine._look_at("s")
            catalog = engine._catalog
            assert catalog.view("s").pool.removed == 1
            catalog.begin_migration("s", "vectors", replace(catalog.view("s").series.space, id="other"))
            known, _ = catalog.known("s")
            catalog.put_migrated("s", [one for one in catalog.patches("s") if one.sequence in known])
            assert catalog.switch("s") == []
            await engine._look_at("s")
            assert catalog.view("s").pool.removed == 0

    asyncio.run(work())
