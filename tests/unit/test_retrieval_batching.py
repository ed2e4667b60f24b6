"""retrieval.batching over real worker processes: who goes with whom, and what becomes of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from retrieval.batching import Batching
from retrieval.work import Work, WorkDone
from serving.errors import InvalidInput, Unavailable
from serving.workers import WorkerPool
from tests.unit.embed_handlers import build


class Bench:
    """One worker, a call that holds it up until `go()`, and the log of what came together."""

    def __init__(self, folder: Path, most: int) -> None:
        self.log, self.gate = folder / "log", folder / "go"
        self.pool = WorkerPool(build, (str(self.log),), workers=1, queue=1, name="test", cancel_grace=60)
        self.batching = Batching(self.pool, lambda name: 1 if name == "single" else most, 60.0)

    def send(self, number: int, act: str = "", embedder: str = "e", kind: str = "page") -> asyncio.Task[WorkDone]:
        work = Work(kind, embedder, act.encode(), text=str(number))
        return asyncio.create_task(self.batching.run(work))

    async def hold(self) -> asyncio.Task[WorkDone]:
        sent = self.send(0, f"wait {self.gate}")
        await until(lambda: len(self.lines) > 0)
        return sent

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


async def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def bench(folder: Path, most: int = 3) -> AsyncIterator[Bench]:
    it = Bench(folder, most)
    try:
        yield it
    finally:
        await it.batching.close()


async def test_one_that_is_alone_goes_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        assert (await it.send(5)).width == 5
        assert it.lines == ["e:5"]


async def test_what_waits_for_one_embedder_goes_together_up_to_the_limit(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        held = await it.hold()
        sent = [it.send(number) for number in range(1, 5)]
        await asyncio.sleep(0)
        it.gate.touch()
        assert [done.width for done in await asyncio.gather(held, *sent)] == [0, 1, 2, 3, 4]
        assert it.lines == ["e:0", "e:1 e:2 e:3", "e:4"]


async def test_other_embedders_kinds_and_those_that_gain_nothing_go_apart(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        held = await it.hold()
        sent = [
            it.send(1),
            it.send(2, embedder="f"),
            it.send(3, kind="reference"),
            it.send(4),
            it.send(5, embedder="single"),
            it.send(6, embedder="single"),
        ]
        await asyncio.sleep(0)
        it.gate.touch()
        await asyncio.gather(held, *sent)
        assert it.lines == ["e:0", "e:1 e:4", "f:2", "e:3", "single:5", "single:6"]


async def test_a_picture_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        held = await it.hold()
        sent = [it.send(1), it.send(2, "fail"), it.send(3)]
        await asyncio.sleep(0)
        it.gate.touch()
        _, one, failed, three = await asyncio.gather(held, *sent, return_exceptions=True)
        assert isinstance(failed, InvalidInput)
        assert (one.width, three.width) == (1, 3)


async def test_a_picture_that_kills_its_worker_fails_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        held = await it.hold()
        sent = [it.send(1), it.send(2, "die"), it.send(3)]
        await asyncio.sleep(0)
        it.gate.touch()
        _, one, dead, three = await asyncio.gather(held, *sent, return_exceptions=True)
        assert isinstance(dead, Unavailable)
        assert (one.width, three.width) == (1, 3)
        assert it.lines == ["e:0", "e:1 e:2 e:3", "e:1", "e:2", "e:3"]


async def test_one_that_is_cancelled_leaves_the_others_of_its_batch_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        held = await it.hold()
        second = tmp_path / "second"
        sent = [it.send(1, f"wait {second}"), it.send(2)]
        await asyncio.sleep(0)
        it.gate.touch()
        await until(lambda: len(it.lines) == 2)
        sent[0].cancel()
        second.touch()
        assert (await sent[1]).width == 2
        await held
        assert sent[0].cancelled()


async def test_a_batch_that_everybody_left_is_stopped(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        held = await it.hold()
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        assert (await it.send(1)).width == 1


async def test_closing_ends_what_waits(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        held = await it.hold()
        sent = it.send(1)
        await asyncio.sleep(0)
        await it.batching.close()
        for call in (held, sent):
            with pytest.raises(Unavailable):
                await call
