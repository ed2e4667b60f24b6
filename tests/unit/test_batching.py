"""colorizer.batching over real worker processes: who goes with whom, and what becomes of the others."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from colorizer.backend import discover
from colorizer.batching import BatchPool
from colorizer.lanes import Pool
from colorizer.tasks import Options, PageOutcome, PageTask, Started, Stepped
from colorizer.types import Swatch
from serving.errors import FailedState, NotFound, Unavailable
from serving.workers import WorkerPool
from tests.unit.batch_handlers import build, build_failing


class Bench:
    """A pool of one worker, a page that holds it up until `go()`, and the log of what came together."""

    def __init__(self, folder: Path, most: int, build: Callable[..., Any]) -> None:
        self.log, self.gate = folder / "log", folder / "go"
        self.workers = WorkerPool(build, (str(self.log),), workers=1, queue=1, name="test", cancel_grace=60)
        self.pool = BatchPool(self.workers, lambda name: most)

    def send(self, seed: int, act: str = "", **how: Any) -> asyncio.Task[PageOutcome]:
        return asyncio.create_task(self.pool.run(task(seed, act, **how.pop("of", {})), **how))

    async def hold(self, seed: int = 0) -> asyncio.Task[PageOutcome]:
        """Sends a page that keeps the worker until `go`."""
        lines = len(self.lines)
        sent = self.send(seed, f"wait {self.gate}")
        await until(lambda: len(self.lines) > lines)
        return sent

    def go(self) -> None:
        self.gate.touch()

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def task(seed: int, act: str = "", backend: str = "b", **options: Any) -> PageTask:
    palette = options.pop("palette", ())
    return PageTask(backend, act.encode(), (), {}, (), palette, seed, Options(seed=seed, palette=palette, **options))


async def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def bench(folder: Path, most: int = 4, build: Callable[..., Any] = build) -> AsyncIterator[Bench]:
    it = Bench(folder, most, build)
    try:
        yield it
    finally:
        await it.pool.close()


def seeds(outcomes: list[PageOutcome]) -> list[int]:
    return [int(outcome.data) for outcome in outcomes]


async def test_it_is_a_pool_as_lanes_want_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        assert isinstance(it.pool, Pool)
        assert it.pool.workers == 1


async def test_a_page_that_is_alone_goes_alone_and_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        events: list[object] = []
        assert int((await it.send(7, on_event=events.append)).data) == 7
        assert it.lines == ["b7"]
        assert events == [Started()]


async def test_pages_that_wait_go_together_in_their_order_up_to_the_most(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        first = await it.hold()
        pages = [it.send(seed) for seed in range(1, 7)]
        await asyncio.sleep(0)
        it.go()
        assert seeds(await asyncio.gather(first, *pages)) == list(range(7))
        assert it.lines == ["b0", "b1 b2 b3 b4", "b5 b6"]


async def test_events_reach_their_own_page(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        seen: dict[int, list[object]] = {1: [], 2: [], 3: []}
        first = await it.hold()
        pages = [it.send(seed, on_event=events.append) for seed, events in seen.items()]
        await asyncio.sleep(0)
        it.go()
        await asyncio.gather(first, *pages)
        assert seen == {seed: [Stepped(seed, 99)] for seed in (1, 2, 3)}


async def test_with_a_most_of_one_each_goes_alone(tmp_path: Path) -> None:
    async with bench(tmp_path, most=1) as it:
        first = await it.hold()
        pages = [it.send(seed) for seed in (1, 2)]
        await asyncio.sleep(0)
        it.go()
        await asyncio.gather(first, *pages)
        assert it.lines == ["b0", "b1", "b2"]


async def test_other_options_and_other_backends_go_apart_and_no_page_is_passed_over(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        first = await it.hold()
        of = [{}, {"steps": 3}, {"backend": "c"}, {"steps": 3}, {}, {"parameters": {"x": "1"}}]
        pages = [it.send(seed, of=how) for seed, how in enumerate(of, 1)]
        await asyncio.sleep(0)
        it.go()
        await asyncio.gather(first, *pages)
        assert it.lines == ["b0", "b1 b5", "b2 b4", "c3", "b6"]


async def test_what_is_a_pages_own_does_not_part_pages(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        first = await it.hold()
        of = [{"request_id": "a"}, {"palette": (Swatch("hair", (1, 2, 3)),)}, {"page_timeout": 3.0}]
        pages = [it.send(seed, of=how) for seed, how in enumerate(of, 1)]
        await asyncio.sleep(0)
        it.go()
        await asyncio.gather(first, *pages)
        assert it.lines == ["b0", "b1 b2 b3"]


async def test_positions_are_told_at_every_change(tmp_path: Path) -> None:
    async with bench(tmp_path, most=2) as it:
        seen: dict[int, list[int]] = {seed: [] for seed in range(1, 6)}
        first = await it.hold()
        of = {3: {"steps": 9}}
        pages = {seed: it.send(seed, of=of.get(seed, {}), on_position=at.append) for seed, at in seen.items()}
        await until(lambda: all(seen.values()))
        pages[2].cancel()
        await until(lambda: seen[5][-1] == 3)
        it.go()
        await asyncio.gather(first, *(page for seed, page in pages.items() if seed != 2))
        assert it.lines == ["b0", "b1 b4", "b3", "b5"]
        assert seen == {1: [0], 2: [1], 3: [2, 1, 0], 4: [3, 2], 5: [4, 3, 1, 0]}


async def test_pages_behind_one_that_waits_for_a_worker_to_start_are_told_so(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        seen: dict[int, list[int]] = {seed: [] for seed in (1, 2, 3)}
        pages = [it.send(seed, on_position=at.append) for seed, at in seen.items()]
        await asyncio.gather(*pages)
        assert [at[0] for at in seen.values()] == [0, 1, 2]
        assert it.lines == ["b1", "b2 b3"]


async def test_a_page_cancelled_in_the_queue_never_reaches_a_worker(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        first = await it.hold()
        pages = [it.send(seed) for seed in (1, 2, 3)]
        await asyncio.sleep(0)
        pages[1].cancel()
        await asyncio.wait([pages[1]])
        it.go()
        await asyncio.gather(first, pages[0], pages[2])
        assert it.lines == ["b0", "b1 b3"]


async def test_one_that_is_cancelled_leaves_its_batch_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        first = await it.hold()
        gate = tmp_path / "second"
        pages = [it.send(seed, f"wait {gate}") for seed in (1, 2, 3)]
        await asyncio.sleep(0)
        it.go()
        await first
        await until(lambda: len(it.lines) == 2)
        pages[0].cancel()
        await asyncio.wait([pages[0]])
        gate.touch()
        assert seeds(await asyncio.gather(*pages[1:])) == [2, 3]


async def test_when_all_of_a_batch_are_gone_the_worker_stops_and_lives_on(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        first = await it.hold()
        pages = [it.send(seed, "wait /never/there") for seed in (1, 2)]
        await asyncio.sleep(0)
        it.go()
        await first
        await until(lambda: len(it.lines) == 2)
        (before,) = it.workers.pids
        for page in pages:
            page.cancel()
        assert int((await it.send(3)).data) == 3
        assert it.workers.pids == (before,)


async def test_a_page_that_fails_fails_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        first = await it.hold()
        pages = [it.send(seed, act) for seed, act in ((1, ""), (2, "fail"), (3, ""))]
        await asyncio.sleep(0)
        it.go()
        await first
        with pytest.raises(NotFound, match="nothing there"):
            await pages[1]
        assert seeds(await asyncio.gather(pages[0], pages[2])) == [1, 3]


async def test_an_early_page_does_not_wait_for_the_last(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        first = await it.hold()
        gate = tmp_path / "second"
        early, late = it.send(1), it.send(2, f"wait {gate}")
        await asyncio.sleep(0)
        it.go()
        await first
        assert int((await early).data) == 1
        assert not late.done()
        gate.touch()
        assert int((await late).data) == 2


async def test_a_dead_worker_fails_the_pages_without_an_answer_and_no_others(tmp_path: Path) -> None:
    async with bench(tmp_path, most=3) as it:
        first = await it.hold()
        pages = [it.send(seed, "die" if seed == 2 else "") for seed in range(1, 6)]
        await asyncio.sleep(0)
        it.go()
        ends = await asyncio.gather(first, *pages, return_exceptions=True)
        assert [getattr(end, "reason", None) for end in ends] == [None, None, "WORKER_DIED", "WORKER_DIED", None, None]
        assert it.lines == ["b0", "b1 b2 b3", "b4 b5"]


async def test_a_worker_killed_while_idle_is_replaced_for_those_who_come(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.pool.start()
        (before,) = it.workers.pids
        os.kill(before, signal.SIGKILL)
        await until(lambda: before not in it.workers.pids)
        assert seeds(await asyncio.gather(it.send(1), it.send(2))) == [1, 2]


async def test_where_no_worker_starts_every_page_is_told_why(tmp_path: Path) -> None:
    async with bench(tmp_path, build=build_failing) as it:
        ends = await asyncio.gather(*(it.send(seed) for seed in (1, 2, 3)), return_exceptions=True)
        assert all(isinstance(end, FailedState) and end.reason == "WORKER_START_FAILED" for end in ends), ends
        assert all("no weights" in str(end) for end in ends)


async def test_a_callback_that_raises_fails_its_own_page(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        first = await it.hold()
        pages = [it.send(1, on_event=lambda event: 1 // 0), it.send(2)]
        await asyncio.sleep(0)
        it.go()
        await first
        with pytest.raises(ZeroDivisionError):
            await pages[0]
        assert int((await pages[1]).data) == 2


async def test_closing_tells_those_who_wait_and_those_who_run(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        pages = [await it.hold(), it.send(1), it.send(2)]
        await asyncio.sleep(0)
        await it.pool.close()
        ends = await asyncio.gather(*pages, it.send(3), return_exceptions=True)
        assert [(type(end), getattr(end, "reason", "")) for end in ends] == [(Unavailable, "DRAINING")] * 4


@pytest.mark.parametrize(
    ("settings", "batch"), [({}, 4), ({"batch": "7"}, 7), ({"batch": "1"}, 1), ({"batch": "x"}, 4)]
)
def test_colorflows_card_has_the_batch_of_its_settings(settings: dict[str, str], batch: int) -> None:
    assert discover((), ("colorflow",), {"colorflow": settings}).spec("colorflow").card.batch == batch
