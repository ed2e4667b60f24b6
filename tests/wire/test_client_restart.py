"""Both kinds of clients against a real colouriser server that dies under them, and one whose worker they leave."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from panelhue import types as t
from panelhue.colorizer_client import AsyncColorizerClient, ColorizerClient
from panelhue.retries import Retry, Retrying
from tests.wire.conftest import RunningServer, probe_settings
from tests.wire.speaking import grey, picture

PAGES = [t.PageFile(f"page {n}", grey(picture(n)), seed=n) for n in range(4)]


class Phoenix:
    """A server that can be killed and started anew at the same address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = RunningServer("colorizer-server", folder, *probe_settings())
        self.address = self._server.address

    def rise(self) -> None:
        """Kills the server as the kernel would, and starts another one, which is not ready for a while."""
        self._server.stop(signal.SIGKILL)
        self._server = RunningServer("colorizer-server", self._folder, *probe_settings(), "--listen", self.address)

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    server = Phoenix(tmp_path_factory.mktemp("phoenix"))
    yield server
    server.stop()


def patient() -> tuple[Retry, list[Retrying]]:
    told: list[Retrying] = []
    return Retry(attempts=500, first=0.1, most=0.5, within=400, on_retry=told.append), told


def check(made: list[t.Event], told: list[Retrying]) -> None:
    finished = [event for event in made if isinstance(event, t.Finished)]
    assert [event.key for event in finished] == [page.key for page in PAGES]  # each once
    assert [event.result.seed for event in finished] == [page.seed for page in PAGES]
    assert told
    assert {one.method for one in told} == {"ColorizePages"}


def test_a_blocking_stream_outlives_its_server(phoenix: Phoenix) -> None:
    retry, told = patient()
    made: list[t.Event] = []
    with ColorizerClient(phoenix.address, retry=retry) as client:
        for event in client.colorize(PAGES, window=1):
            made.append(event)
            if isinstance(event, t.Finished) and event.key == PAGES[0].key:
                phoenix.rise()
    check(made, told)


async def test_an_asyncio_stream_outlives_its_server(phoenix: Phoenix) -> None:
    retry, told = patient()
    made: list[t.Event] = []
    async with AsyncColorizerClient(phoenix.address, retry=retry) as client:
        async for event in client.colorize(PAGES, window=1):
            made.append(event)
            if isinstance(event, t.Finished) and event.key == PAGES[0].key:
                await asyncio.to_thread(phoenix.rise)
    check(made, told)


async def test_cancelling_a_task_frees_the_worker(colorizer_server: RunningServer) -> None:
    slow = t.ColorizeOptions(steps=1000, parameters={"seconds": "0.2"})  # minutes, on the server's only worker
    begun = asyncio.Event()

    async def colour() -> None:
        async with AsyncColorizerClient(colorizer_server.address) as client:
            async for event in client.colorize(PAGES[:1], slow):
                if isinstance(event, t.Progress):
                    begun.set()

    task = asyncio.create_task(colour())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with AsyncColorizerClient(colorizer_server.address) as client:
        made = [event async for event in client.colorize(PAGES[1:2], timeout=400)]
    assert isinstance(made[-1], t.Finished)
