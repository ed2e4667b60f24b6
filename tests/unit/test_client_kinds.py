"""What holds for blocking clients alone and for asyncio clients alone; and that the two are twins otherwise."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator

import pytest

from panelhue import errors
from panelhue import types as t
from panelhue._aio import AsyncConnection
from panelhue._sync import Connection
from panelhue.colorizer_client import AsyncColorizerClient, ColorizerClient
from panelhue.maintenance_client import AsyncMaintenanceClient, MaintenanceClient
from panelhue.retries import Retry
from panelhue.retrieval_client import AsyncRetrievalClient, RetrievalClient
from tests.unit import client_faults
from tests.unit.client_faults import (
    DEADLINES,
    PATIENCE,
    QUICK,
    Asyncio,
    Blocking,
    Kind,
    Script,
    ends,
    pages,
    status,
)

script, target = client_faults.script, client_faults.target  # fixtures


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param()
    return made


# -- blocking clients alone


def test_closing_a_client_ends_its_pause(script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE", retry_after=500.0)]
    waiting = threading.Event()
    client = RetrievalClient(target, retry=Retry(on_retry=lambda _: waiting.set(), within=None))
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            client.get_series("x", timeout=1000.0)
        except errors.PanelhueError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert waiting.wait(PATIENCE)
    client.close()
    thread.join(PATIENCE)
    assert [error.reason for error in caught if isinstance(error, errors.Cancelled)] == ["CLIENT_CLOSED"]


def test_a_closed_client_says_so(kind: Kind, target: str) -> None:
    if isinstance(kind, Blocking):
        client = RetrievalClient(target)
        client.close()
        with pytest.raises(errors.UsageError, match="closed"):
            client.get_series("x")
        return

    async def ask() -> None:
        client = AsyncRetrievalClient(target)
        await client.close()
        with pytest.raises(errors.UsageError, match="closed"):
            await client.get_series("x")

    asyncio.run(ask())


def test_other_settings_go_through_the_same_channel(script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE")]
    with RetrievalClient(target, retry=QUICK) as client:
        with pytest.raises(errors.Unavailable):
            client.using(retry=Retry.none()).get_series("x")
        script.failures = [status("UNAVAILABLE")]
        assert client.get_series("x").id == "x"  # whose own settings are as they were


def test_a_blocking_client_takes_no_async_iterator(target: str) -> None:
    async def given() -> AsyncIterator[t.PageFile]:
        yield t.PageFile("a", b"x")

    with ColorizerClient(target) as client, pytest.raises(errors.UsageError, match="iterable"):
        client.colorize(given())


# -- asyncio clients alone


async def test_cancelling_a_task_cancels_its_call(script: Script, target: str) -> None:
    script.hold = True
    async with AsyncRetrievalClient(target) as client:
        task = asyncio.create_task(client.get_series("x"))
        assert await asyncio.to_thread(script.begun.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(script.ended.wait, PATIENCE)


async def test_cancelling_a_task_cancels_its_stream(script: Script, target: str) -> None:
    script.hold = True

    async def colour() -> list[t.Event]:
        async with AsyncColorizerClient(target) as client:
            return [event async for event in client.colorize(pages("a"))]

    task = asyncio.create_task(colour())
    assert await asyncio.to_thread(script.begun.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(script.ended.wait, PATIENCE)


async def test_cancelling_a_task_ends_its_pause(script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE", retry_after=500.0)]
    waiting = asyncio.Event()
    async with AsyncRetrievalClient(target, retry=Retry(on_retry=lambda _: waiting.set(), within=None)) as client:
        task = asyncio.create_task(client.get_series("x", timeout=1000.0))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_timeout_of_asyncio_ends_a_call(script: Script, target: str) -> None:
    script.hold = True
    async with AsyncRetrievalClient(target) as client:
        for seconds in DEADLINES:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    await client.get_series("x")
            if script.begun.is_set():
                break
        assert await asyncio.to_thread(script.ended.wait, PATIENCE)


async def test_closing_a_client_ends_the_calls_of_other_tasks(script: Script, target: str) -> None:
    script.hold = True
    client = AsyncRetrievalClient(target)
    task = asyncio.create_task(client.get_series("x"))
    assert await asyncio.to_thread(script.begun.wait, PATIENCE)
    await client.close()
    with pytest.raises(errors.Cancelled):
        await task


async def test_an_async_generator_survives_a_stream_that_breaks_off(script: Script, target: str) -> None:
    script.breaks = [1, 1]
    broken = asyncio.Event()

    async def given() -> AsyncIterator[t.PageFile]:
        for page in pages(*"abc"):
            yield page
        await broken.wait()  # the stream breaks off while this generator is being waited for
        for page in pages(*"de"):
            yield page

    retry = Retry(attempts=3, first=0.01, on_retry=lambda _: broken.set())
    async with AsyncColorizerClient(target, retry=retry) as client:
        made = [event async for event in client.colorize(given(), window=9)]
    assert ends(made) == [(key, "Finished") for key in "abcde"]


async def test_a_context_may_be_awaited(script: Script, target: str) -> None:
    async def context(data: bytes) -> t.Context:
        await asyncio.sleep(0)
        return t.Context(hits=(), pictures={}, generation=len(data))

    async with AsyncColorizerClient(target) as client:
        given = [t.PageFile("a", b"x", context=context)]
        assert ends([event async for event in client.colorize(given)]) == [("a", "Finished")]


async def test_many_tasks_share_a_client(script: Script, target: str) -> None:
    async with AsyncRetrievalClient(target) as client:
        found = await asyncio.gather(*(client.get_series(str(n)) for n in range(20)))
    assert [one.id for one in found] == [str(n) for n in range(20)]


# -- twins

TWINS = [
    (RetrievalClient, AsyncRetrievalClient),
    (ColorizerClient, AsyncColorizerClient),
    (MaintenanceClient, AsyncMaintenanceClient),
]


@pytest.mark.parametrize(("blocking", "twin"), TWINS)
def test_twins_have_the_same_methods(blocking: type[Connection], twin: type[AsyncConnection]) -> None:
    def public(kind: type) -> dict[str, str]:
        return {name: str(inspect.signature(getattr(kind, name))) for name in dir(kind) if callable_(kind, name)}

    def callable_(kind: type, name: str) -> bool:
        return not name.startswith("_") and hasattr(getattr(kind, name), "__wrapped__")

    assert public(blocking) == public(twin)
    assert len(public(blocking)) >= 4


def test_help_shows_what_a_method_takes_and_gives() -> None:
    assert str(inspect.signature(RetrievalClient.get_series)) == (
        "(self, series: 'str', *, timeout: 'float | None' = None) -> 't.Series'"
    )
    with ColorizerClient("127.0.0.1:1") as client:
        shown = str(inspect.signature(client.colorize))
    assert shown.startswith("(pages: 'Items[t.PageFile]', ")
    assert shown.endswith("-> 'Iterator[t.Event]'")


def test_a_method_can_be_called_through_its_class(target: str) -> None:
    with RetrievalClient(target) as client:
        assert RetrievalClient.get_series(client, "x").id == "x"


@pytest.mark.parametrize("kind", [one for twins in TWINS for one in twins])
def test_every_method_has_a_docstring(kind: type) -> None:
    for name in dir(kind):
        if not name.startswith("_"):
            assert inspect.getdoc(getattr(kind, name)), name
