"""Both kinds of clients against servers that fail for the moment, hang, or break off in the middle of a stream."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panelhue import errors
from panelhue import types as t
from panelhue._aio import AsyncConnection
from panelhue._sync import Connection
from panelhue.colorizer_client import AsyncColorizerClient, ColorizerClient
from panelhue.maintenance_client import AsyncMaintenanceClient, MaintenanceClient
from panelhue.retries import Retry, Retrying
from panelhue.retrieval_client import AsyncRetrievalClient, RetrievalClient
from tests.unit.client_faults import Asyncio, Blocking, Script, serve, status

Kind: TypeAlias = Blocking | Asyncio
QUICK = Retry(attempts=3, first=0.01)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def target(script: Script) -> Iterator[str]:
    server, address = serve(script)
    yield address
    script.ended.set()
    server.stop(None).wait()


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param()
    return made


def hooked(**numbers: Any) -> tuple[Retry, list[Retrying]]:
    told: list[Retrying] = []
    return Retry(**{"attempts": 3, "first": 0.01, **numbers}, on_retry=told.append), told


# -- short calls


@pytest.mark.parametrize("name", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
def test_a_server_that_says_when_to_come_back_is_asked_again_then(
    kind: Kind, script: Script, target: str, name: str
) -> None:
    script.failures = [status(name, retry_after=0.08)]
    retry, told = hooked()
    found = kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=retry)
    assert found.id == "x"
    assert len(script.calls) == 2
    assert [(one.method, one.target, one.attempt) for one in told] == [("GetSeries", target, 1)]
    assert told[0].seconds >= 0.08
    assert told[0].error.retry_after == 0.08


def test_a_full_quota_is_told_at_once(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("RESOURCE_EXHAUSTED")]
    with pytest.raises(errors.Overloaded):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=QUICK)
    assert len(script.calls) == 1


def test_a_failure_that_stays_is_told_after_the_last_attempt(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE")] * 5
    with pytest.raises(errors.Unavailable, match="it is UNAVAILABLE"):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=QUICK)
    assert len(script.calls) == 3


def test_without_retries_the_first_failure_is_told(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE", retry_after=0.0)]
    with pytest.raises(errors.Unavailable):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=Retry.none())
    assert len(script.calls) == 1


def test_what_may_have_been_done_is_not_done_again(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE")]
    with pytest.raises(errors.Unavailable):
        kind.one(kind.retrieval, target, lambda client: client.delete_series("x"), retry=QUICK)
    assert len(script.calls) == 1


def test_what_the_server_has_refused_to_do_is_asked_again(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE", retry_after=0.0, reason="DRAINING")]
    assert kind.one(kind.retrieval, target, lambda client: client.delete_series("x"), retry=QUICK) == 3
    assert len(script.calls) == 2


def test_a_series_is_made_again_under_the_same_request_id(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE")] * 2
    kind.one(kind.retrieval, target, lambda client: client.create_series("x"), retry=QUICK)
    ids = [request.request_id for request in script.calls]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert ids[0]


def test_a_series_without_a_request_id_is_not_made_again(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE")]
    with pytest.raises(errors.Unavailable):
        kind.one(kind.retrieval, target, lambda client: client.create_series("x", request_id=""), retry=QUICK)
    assert len(script.calls) == 1


def test_a_list_goes_on_where_it_failed(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE")]
    found = kind.all(kind.retrieval, target, lambda client: client.list_series(), retry=QUICK)
    assert [one.id for one in found] == ["s", "s2", "s3"]
    assert [request.page_token for request in script.calls] == ["", "", "2", "3"]


def test_a_download_that_breaks_off_is_made_again_whole(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [1]
    picture = kind.one(kind.retrieval, target, lambda client: client.download("s", "r"), retry=QUICK)
    assert picture.data == b"abcdef"
    assert len(script.streams) == 2


# -- deadlines


def test_a_call_ends_at_its_deadline(kind: Kind, script: Script, target: str) -> None:
    script.hold = True
    with pytest.raises(errors.Timeout):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x", timeout=0.2))
    assert script.ended.wait(10)


def test_the_clients_deadline_holds_where_a_call_names_none(kind: Kind, script: Script, target: str) -> None:
    script.hold = True
    with pytest.raises(errors.Timeout):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), timeout=0.2)


def test_nobody_waits_in_vain_for_a_moment_behind_the_deadline(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE", retry_after=500.0)]
    retry, told = hooked(within=None)
    with pytest.raises(errors.Unavailable):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=retry)
    assert told == []


def test_a_stream_ends_at_its_deadline(kind: Kind, script: Script, target: str) -> None:
    script.hold = True
    pages = [t.PageFile("a", b"x")]
    with pytest.raises(errors.Timeout):
        kind.all(kind.colorizer, target, lambda client: client.colorize(pages, timeout=0.2))


# -- streams


def pages(*keys: str) -> list[t.PageFile]:
    return [t.PageFile(key, f"data of {key}".encode()) for key in keys]


def ends(events: list[t.Event]) -> list[tuple[str, str]]:
    return [(event.key, type(event).__name__) for event in events if isinstance(event, t.Finished | t.Failed)]


def test_a_stream_that_breaks_off_goes_on_with_the_pages_that_wait(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [2, 1]
    retry, told = hooked()
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(pages(*"abcd"), window=1), retry=retry)
    assert ends(made) == [(key, "Finished") for key in "abcd"]
    assert script.streams == [["a", "b", "c"], ["c", "d"], ["d"]]
    assert [(one.method, one.attempt) for one in told] == [("ColorizePages", 1)] * 2
    assert all(1 <= one.waiting <= 2 for one in told)  # one under way, and perhaps one that waits for its place
    assert [event.picture.data for event in made if isinstance(event, t.Finished)] == [
        f"data of {key}".encode() for key in "abcd"
    ]


def test_each_step_forward_gives_all_attempts_again(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [1] * 7  # more than there are attempts, but each stream finishes a page
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(pages(*"abcdefgh")), retry=QUICK)
    assert ends(made) == [(key, "Finished") for key in "abcdefgh"]


def test_a_stream_that_gets_nowhere_is_given_up(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [0] * 5
    with pytest.raises(errors.Unavailable):
        kind.all(kind.colorizer, target, lambda client: client.colorize(pages("a")), retry=QUICK)
    assert len(script.streams) == 3


def test_a_stream_that_is_refused_while_it_is_written_to_tells_why(kind: Kind, script: Script, target: str) -> None:
    files = [t.ReferenceFile(str(n), bytes(1_000_000)) for n in range(3)]
    for _ in range(25):  # whichever comes first, the refusal or the end of a write
        script.failures = [status("NOT_FOUND", reason="SERIES_NOT_FOUND")]
        with pytest.raises(errors.NotFound) as caught:
            kind.all(kind.retrieval, target, lambda client: client.add_references("s", files), retry=QUICK)
        assert caught.value.reason == "SERIES_NOT_FOUND"


def test_a_full_queue_at_the_beginning_is_waited_for(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("RESOURCE_EXHAUSTED", retry_after=0.05, reason="QUEUE_FULL")]
    retry, told = hooked()
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(pages("a")), retry=retry)
    assert ends(made) == [("a", "Finished")]
    assert [one.seconds >= 0.05 for one in told] == [True]


def test_a_page_that_fails_for_the_moment_is_sent_again_behind_the_others(
    kind: Kind, script: Script, target: str
) -> None:
    script.page_failures = {"a": 1}
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(pages(*"abc")), retry=QUICK)
    assert ends(made) == [("b", "Finished"), ("c", "Finished"), ("a", "Finished")]
    assert script.streams == [["a", "b", "c"], ["a"]]


def test_a_page_that_fails_each_time_is_told_as_failed(kind: Kind, script: Script, target: str) -> None:
    script.page_failures = {"a": 99}
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(pages(*"ab")), retry=QUICK)
    assert ends(made) == [("b", "Finished"), ("a", "Failed")]
    assert script.streams == [["a", "b"], ["a"], ["a"]]


@pytest.fixture(scope="module")
def lasting() -> Iterator[tuple[Script, str]]:
    script = Script()
    server, address = serve(script)
    yield script, address
    server.stop(None).wait()


@pytest.mark.parametrize("kind", [Blocking(), Asyncio()], ids=["blocking", "asyncio"])
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 5), max_size=6),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 2)),
    st.integers(1, 7),
)
def test_wherever_a_stream_breaks_each_page_is_told_once(
    lasting: tuple[Script, str], kind: Kind, breaks: list[int], failures: dict[str, int], window: int
) -> None:
    script, target = lasting
    script.breaks, script.page_failures = list(breaks), dict(failures)
    retry = Retry(attempts=20, first=0.0)
    made = kind.all(
        kind.colorizer, target, lambda client: client.colorize(pages(*"abcdef"), window=window), retry=retry
    )
    assert sorted(ends(made)) == [(key, "Finished") for key in "abcdef"]


def test_a_page_whose_context_cannot_be_had_fails_alone(kind: Kind, script: Script, target: str) -> None:
    def context(_: bytes) -> t.Context:
        raise errors.NotFound("no such series")

    given = [t.PageFile("a", b"x", context=context), *pages("b")]
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(given), retry=QUICK)
    assert sorted(ends(made)) == [("a", "Failed"), ("b", "Finished")]
    assert script.streams == [["b"]]


def test_references_without_an_answer_are_sent_again(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [2]
    files = [t.ReferenceFile(f"name {n}", str(n).encode()) for n in range(4)]
    made = kind.all(kind.retrieval, target, lambda client: client.add_references("s", files), retry=QUICK)
    assert [(one.name, one.status) for one in made] == [(file.name, t.AddStatus.ADDED) for file in files]
    assert script.streams[1] == ["2", "3"]


def test_a_stream_whose_end_alone_is_lost_is_not_made_again(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [3]  # behind the last answer
    files = [t.ReferenceFile(f"name {n}", str(n).encode()) for n in range(3)]
    made = kind.all(kind.retrieval, target, lambda client: client.add_references("s", files), retry=QUICK)
    assert len(made) == 3
    assert len(script.streams) == 1


def test_imported_references_without_an_answer_are_sent_again(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [1000]
    rows, boxes = np.ones((1, 4)), (t.Box(0, 0, 1, 1),)
    given = (t.ImportedReference(f"name {n}", str(n).encode(), rows, boxes, 5, 6) for n in range(1500))
    made = kind.all(
        kind.retrieval,
        target,
        lambda client: client.import_references("s", given, embedding_space_id="e"),
        most=2000,
        retry=QUICK,
    )
    assert [one.name for one in made] == [f"name {n}" for n in range(1500)]
    assert [len(seen) for seen in script.streams] == [1000, 500]


def test_a_file_is_read_again_for_another_attempt(kind: Kind, script: Script, target: str, tmp_path: Path) -> None:
    script.breaks = [0]
    (tmp_path / "a").write_bytes(b"from a file")
    files = [t.ReferenceFile("a", tmp_path / "a")]
    made = kind.all(kind.retrieval, target, lambda client: client.add_references("s", files), retry=QUICK)
    assert [one.status for one in made] == [t.AddStatus.ADDED]
    assert script.streams == [["from a file"]] * 2


@pytest.mark.parametrize("error", [KeyError("mine"), errors.Unavailable("of another server")], ids=["any", "ours"])
def test_what_the_callers_iterator_raises_is_raised_as_it_is(
    kind: Kind, script: Script, target: str, error: Exception
) -> None:
    def given() -> Iterator[t.PageFile]:
        yield from pages("a")
        raise error

    again: list[Retrying] = []
    retry = dataclasses.replace(QUICK, on_retry=again.append)
    with pytest.raises(type(error)) as caught:
        kind.all(kind.colorizer, target, lambda client: client.colorize(given()), retry=retry)
    assert caught.value is error
    assert not again
    assert len(script.streams) <= 1  # none where the call was cancelled before it reached the server


def test_leaving_a_stream_early_cancels_it(kind: Kind, script: Script, target: str) -> None:
    def given() -> Iterator[t.PageFile]:
        yield from pages("a")
        script.ended.wait(10)  # so that this side stays open

    found = kind.all(kind.colorizer, target, lambda client: client.colorize(given()), most=1)
    assert [type(one) for one in found] == [t.Accepted]
    assert script.ended.wait(10)


def test_a_hook_may_give_up(kind: Kind, script: Script, target: str) -> None:
    def hook(told: Retrying) -> None:
        raise InterruptedError(told.method)

    script.failures = [status("UNAVAILABLE")]
    with pytest.raises(InterruptedError, match="GetSeries"):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=Retry(on_retry=hook))


def test_a_token_and_a_callers_name_go_along(kind: Kind, script: Script, target: str) -> None:
    kind.one(kind.retrieval, target, lambda client: client.get_series("x"), token="secret", caller="me")
    assert script.metadata[0]["authorization"] == "Bearer secret"
    assert script.metadata[0]["panelhue-caller"] == "me"


# -- blocking clients alone


def test_closing_a_client_ends_its_pause(script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE", retry_after=25.0)]
    waiting = threading.Event()
    client = RetrievalClient(target, retry=Retry(on_retry=lambda _: waiting.set()))
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            client.get_series("x")
        except errors.PanelhueError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert waiting.wait(10)
    client.close()
    thread.join(10)
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
        assert await asyncio.to_thread(script.begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(script.ended.wait, 10)


async def test_cancelling_a_task_cancels_its_stream(script: Script, target: str) -> None:
    script.hold = True

    async def colour() -> list[t.Event]:
        async with AsyncColorizerClient(target) as client:
            return [event async for event in client.colorize(pages("a"))]

    task = asyncio.create_task(colour())
    assert await asyncio.to_thread(script.begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(script.ended.wait, 10)


async def test_cancelling_a_task_ends_its_pause(script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE", retry_after=25.0)]
    waiting = asyncio.Event()
    async with AsyncRetrievalClient(target, retry=Retry(on_retry=lambda _: waiting.set())) as client:
        task = asyncio.create_task(client.get_series("x"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_timeout_of_asyncio_ends_a_call(script: Script, target: str) -> None:
    script.hold = True
    async with AsyncRetrievalClient(target) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.get_series("x")
        assert await asyncio.to_thread(script.ended.wait, 10)


async def test_closing_a_client_ends_the_calls_of_other_tasks(script: Script, target: str) -> None:
    script.hold = True
    client = AsyncRetrievalClient(target)
    task = asyncio.create_task(client.get_series("x"))
    assert await asyncio.to_thread(script.begun.wait, 10)
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
