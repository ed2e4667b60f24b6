"""serving.workers with real processes and real signals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from serving.errors import Cancelled, FailedState, NotFound, Overloaded, Timeout, Unavailable, Violation
from serving.workers import RemoteError, WorkerPool
from tests.unit.worker_handlers import (
    PickyError,
    an_unpicklable_result,
    build_dying,
    build_echo,
    build_failing,
    build_killed,
    build_slow,
    build_unless,
    leave,
    obey,
    raise_picky,
    run_out_of_memory,
)

ROOT = Path(__file__).resolve().parents[2]
TICK = 0.01  # seconds by which a timer may come before its time


@asynccontextmanager
async def pool(
    build: Callable[..., Any] = build_echo, args: tuple[Any, ...] = (), **how: Any
) -> AsyncIterator[WorkerPool]:
    settings: dict[str, Any] = {"workers": 1, "queue": 4, "name": "test", "cancel_grace": 60.0} | how
    it = WorkerPool(build, args, **settings)
    try:
        yield it
    finally:
        await it.close()


async def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.002)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_request_comes_back_from_another_process() -> None:
    async with pool() as it:
        assert await it.run(("call", os.getpid)) in it.pids
        assert os.getpid() not in it.pids


async def test_start_returns_when_every_worker_is_there() -> None:
    async with pool(workers=2) as it:
        assert it.pids == ()
        await it.start()
        assert len(it.pids) == it.workers == 2


async def test_two_workers_compute_at_the_same_time(tmp_path: Path) -> None:
    async with pool(workers=2) as it:
        calls = [asyncio.ensure_future(it.run(("wait", str(tmp_path / "go")))) for _ in range(2)]
        await until(lambda: it.running == 2)
        (tmp_path / "go").touch()
        await asyncio.gather(*calls)
        assert it.running == 0


async def test_events_arrive_in_order_before_the_result() -> None:
    seen: list[Any] = []
    async with pool() as it:
        await it.run(("emit", 1, "two", [3]), on_event=seen.append)
        assert seen == [1, "two", [3]]


async def test_megabytes_travel_in_both_directions() -> None:
    data = os.urandom(1 << 20) * 24
    async with pool() as it:
        assert await it.run(("echo", data)) == ("echo", data)


async def test_a_kill_in_mid_request_fails_that_request_as_worker_died() -> None:
    async with pool() as it:
        call = asyncio.ensure_future(it.run(("wait",)))
        await until(lambda: it.running == 1)
        os.kill(it.pids[0], signal.SIGKILL)
        with pytest.raises(Unavailable, match="killed by signal 9") as caught:
            await call
        assert caught.value.reason == "WORKER_DIED"


async def test_the_next_request_after_a_kill_works() -> None:
    async with pool() as it:
        call = asyncio.ensure_future(it.run("die"))
        waiting = asyncio.ensure_future(it.run("after"))
        with pytest.raises(Unavailable):
            await call
        assert await waiting == "after"


async def test_a_kill_does_not_touch_the_other_worker(tmp_path: Path) -> None:
    async with pool(workers=2) as it:
        other = asyncio.ensure_future(it.run(("wait", str(tmp_path / "go"))))
        with pytest.raises(Unavailable):
            await it.run("die")
        (tmp_path / "go").touch()
        assert await other == ("wait", str(tmp_path / "go"))


async def test_a_worker_killed_while_idle_is_replaced() -> None:
    async with pool() as it:
        await it.start()
        (before,) = it.pids
        os.kill(before, signal.SIGKILL)
        await until(lambda: it.pids not in ((before,), ()))
        assert await it.run("next") == "next"


async def test_a_full_queue_refuses_at_once_with_a_time_to_retry() -> None:
    async with pool(queue=1) as it:
        calls = [asyncio.ensure_future(it.run(("wait",))) for _ in range(2)]
        await until(lambda: it.running == 1)
        assert (it.queued, it.capacity) == (1, 1)
        with pytest.raises(Overloaded) as caught:
            await it.run("one too many")
        assert caught.value.reason == "QUEUE_FULL"
        assert caught.value.retry_after is not None
        assert 1 <= caught.value.retry_after <= 60
        for call in calls:
            call.cancel()


async def test_queue_positions_are_reported_at_every_change(tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {"b": [], "c": [], "d": []}
    async with pool() as it:
        first = asyncio.ensure_future(it.run(("wait", str(tmp_path / "go"))))
        await until(lambda: it.running == 1)
        calls = {name: asyncio.ensure_future(it.run(name, on_position=at.append)) for name, at in seen.items()}
        await until(lambda: it.queued == 3)
        calls["c"].cancel()
        await until(lambda: it.queued == 2)
        (tmp_path / "go").touch()
        await asyncio.gather(first, calls["b"], calls["d"])
        assert seen == {"b": [0], "c": [1], "d": [2, 1, 0]}


async def test_a_request_cancelled_in_the_queue_never_reaches_a_worker(tmp_path: Path) -> None:
    async with pool() as it:
        first = asyncio.ensure_future(it.run(("wait", str(tmp_path / "go"))))
        await until(lambda: it.running == 1)
        second = asyncio.ensure_future(it.run(("call", (tmp_path / "reached").touch)))
        await until(lambda: it.queued == 1)
        second.cancel()
        await asyncio.wait([second])
        (tmp_path / "go").touch()
        await first
        await it.run("a later one")
        assert not (tmp_path / "reached").exists()


async def test_cancelling_the_caller_stops_the_handler_in_the_same_process() -> None:
    async with pool() as it:
        await it.start()
        before = it.pids
        call = asyncio.ensure_future(it.run(("wait",)))
        await until(lambda: it.running == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: it.running == 0)
        assert await it.run("next") == "next"
        assert it.pids == before


async def test_a_handler_that_ignores_the_cancel_is_killed_after_the_grace() -> None:
    began = asyncio.Event()
    async with pool(cancel_grace=0.1) as it:
        call = asyncio.ensure_future(it.run("deaf", on_event=lambda _: began.set()))
        await asyncio.wait_for(began.wait(), 120)
        (before,) = it.pids
        call.cancel()
        await until(lambda: before not in it.pids)
        assert await it.run("next") == "next"


async def test_a_page_over_its_time_is_a_timeout() -> None:
    async with pool() as it:
        with pytest.raises(Timeout, match=r"within 0\.05 s") as caught:
            await it.run(("wait",), timeout=0.05)
        assert caught.value.reason == "PAGE_TIMEOUT"
        assert await it.run("next") == "next"


async def test_the_time_in_the_queue_does_not_count(tmp_path: Path) -> None:
    async with pool() as it:
        first = asyncio.ensure_future(it.run(("wait", str(tmp_path / "go"))))
        await until(lambda: it.running == 1)
        second = asyncio.ensure_future(it.run(("wait",), timeout=0.5))
        await asyncio.sleep(0.7)
        assert (it.queued, second.done()) == (1, False)
        begun = time.monotonic()
        (tmp_path / "go").touch()
        with pytest.raises(Timeout):
            await second
        assert time.monotonic() - begun >= 0.5 - TICK  # it had all of its time, though it had waited for longer
        await first


async def test_a_service_error_arrives_with_all_its_fields() -> None:
    error = NotFound(
        "no such page", reason="NO_PAGE", violations=[Violation("page", "is 3")], retry_after=2.5, metadata={"a": "b"}
    )
    async with pool() as it:
        with pytest.raises(NotFound, match="no such page") as caught:
            await it.run(("raise", error))
        assert type(caught.value) is NotFound
        assert vars(caught.value) == vars(error)


async def test_another_exception_arrives_as_remote_error_with_its_trace() -> None:
    async with pool() as it:
        with pytest.raises(RemoteError, match="KeyError: 'lost'") as caught:
            await it.run(("raise", KeyError("lost")))
        assert "in obey" in caught.value.trace
        assert await it.run("next") == "next"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (("call", an_unpicklable_result), "the worker's result must be picklable, got function"),
        (("call", lambda: None), "the request must be picklable, got tuple"),
        (("raise", RuntimeError(threading.Lock)), "RuntimeError"),
        (("call", leave), "SystemExit: 3"),
        (("call", raise_picky), "PickyError: onetwo"),
        (("call", PickyError, "a", "b"), "can't be read"),
    ],
)
async def test_what_cannot_travel_is_a_clear_error_on_a_living_worker(request_: tuple[Any, ...], says: str) -> None:
    async with pool() as it:
        await it.start()
        before = it.pids
        with pytest.raises(RemoteError, match=says):
            await it.run(request_)
        assert await it.run("next") == "next"
        assert it.pids == before


async def test_an_unpicklable_event_is_an_error_of_the_handler() -> None:
    async with pool() as it:
        with pytest.raises(RemoteError, match="the event must be picklable"):
            await it.run("emit a lambda")


async def test_memory_that_runs_out_is_overloaded() -> None:
    async with pool() as it:
        with pytest.raises(Overloaded) as caught:
            await it.run(("call", run_out_of_memory))
        assert caught.value.reason == "OUT_OF_MEMORY"


async def test_an_exception_of_on_event_ends_its_own_request() -> None:
    def bad(_event: object) -> None:
        raise ZeroDivisionError("in the callback")

    async with pool() as it:
        with pytest.raises(ZeroDivisionError, match="in the callback"):
            await it.run(("emit", 1), on_event=bad)
        assert await it.run("next") == "next"


@pytest.mark.parametrize(
    ("build", "args", "says"),
    [(build_failing, ("no weights here",), "LookupError: no weights here"), (build_dying, (), "exit code 7")],
)
async def test_a_build_that_fails_tells_every_caller_why(
    build: Callable[..., Any], args: tuple[Any, ...], says: str
) -> None:
    async with pool(build, args, workers=2) as it:
        calls = [asyncio.ensure_future(it.run(i)) for i in range(3)]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, FailedState)
            assert error.reason == "WORKER_START_FAILED"
            assert says in error.message
        with pytest.raises(FailedState, match=says):
            await it.start()


async def test_a_worker_that_is_killed_while_it_starts_is_started_again(tmp_path: Path) -> None:
    async with pool(build_killed, (str(tmp_path / "asked"), 2)) as it:
        assert await asyncio.gather(it.run("a"), it.run("b")) == ["a", "b"]
    async with pool(build_killed, (str(tmp_path / "started"), 2)) as it:
        await it.start()
        assert await it.run("a") == "a"


async def test_workers_that_are_killed_again_and_again_are_given_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with pool(build_killed, (str(log), 99)) as it:
        with pytest.raises(FailedState, match="killed by signal 9"):
            await it.run("a")
        assert log.read_text().count("attempt") == 3  # now: once the pause is over, whoever asks begins anew
        with pytest.raises(FailedState, match="killed by signal 9"):
            await it.start()


async def test_a_build_that_takes_too_long_is_given_up() -> None:
    async with pool(build_slow, start_timeout=0.3) as it:
        with pytest.raises(FailedState, match=r"was not ready within 0\.3 s"):
            await it.start()


async def test_a_failed_build_is_tried_again_only_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag, log, now = tmp_path / "broken", tmp_path / "log", [100.0]
    flag.touch()
    monkeypatch.setattr("serving.workers.time", SimpleNamespace(monotonic=lambda: now[0]))
    async with pool(build_unless, (str(flag), str(log))) as it:
        with pytest.raises(FailedState, match="the weights are missing"):
            await it.start()
        for _ in range(20):  # within the pause
            with pytest.raises(FailedState, match="the weights are missing"):
                await it.run("early")
        assert log.read_text().count("attempt") == 1
        now[0] += 60  # the pause is over
        await asyncio.sleep(0.7)  # longer than it is by any other clock: nothing may start by itself
        assert (log.read_text().count("attempt"), it.pids) == (1, ())
        flag.unlink()
        assert await it.run("late") == "late"


async def test_a_build_that_cannot_be_imported_in_the_child_is_told() -> None:
    with pytest.raises(AttributeError):
        WorkerPool(lambda: obey, workers=1, queue=1, name="test")


async def test_close_lets_nobody_hang() -> None:
    async with pool(cancel_grace=0.2) as it:
        calls = [asyncio.ensure_future(it.run("deaf")) for _ in range(3)]
        await until(lambda: it.running == 1)
        pids = it.pids
        await it.close()
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, Unavailable)
            assert error.reason == "DRAINING"
        assert all(map(gone, pids))


async def test_close_while_workers_start_ends_them() -> None:
    async with pool(build_slow, cancel_grace=0.1) as it:
        call = asyncio.ensure_future(it.run("never"))
        await until(lambda: len(it.pids) == 1)
        pids = it.pids
        await it.close()
        with pytest.raises(Unavailable):
            await call
        assert all(map(gone, pids))


async def test_a_closed_pool_takes_nothing() -> None:
    async with pool() as it:
        await it.run("one")
        await it.close()
        await it.close()
        with pytest.raises(Unavailable) as caught:
            await it.run("two")
        assert caught.value.reason == "DRAINING"
        assert it.pids == ()


async def test_close_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    async with pool(workers=2) as it:
        await it.start()
    await until(lambda: set(threading.enumerate()) <= before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_the_whole_group_leaves_the_worker_at_work(number: signal.Signals, tmp_path: Path) -> None:
    async with pool() as it:
        call = asyncio.ensure_future(it.run(("wait", str(tmp_path / "go"))))
        await until(lambda: it.running == 1)
        os.kill(it.pids[0], number)
        (tmp_path / "go").touch()
        await call
        assert len(it.pids) == 1


PROGRAM = textwrap.dedent(
    """
    import asyncio, os, sys
    from serving.workers import WorkerPool
    from tests.unit.worker_handlers import build_echo

    async def main():
        pool = WorkerPool(build_echo, workers=2, queue=1, name="orphan")
        await pool.start()
        print(*pool.pids, flush=True)
        if sys.argv[1] == "busy":
            asyncio.ensure_future(pool.run("deaf"))
        if sys.argv[1] == "leave":
            return
        await asyncio.sleep(600)

    if __name__ == "__main__":
        asyncio.run(main())
    """
)


def program(tmp_path: Path, how: str, *, as_module: bool = False) -> tuple[subprocess.Popen[str], list[int]]:
    (tmp_path / "orphan_program.py").write_text(PROGRAM)
    start = ["-m", "orphan_program"] if as_module else [str(tmp_path / "orphan_program.py")]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    parent = subprocess.Popen(
        [sys.executable, *start, how], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    return parent, [int(pid) for pid in parent.stdout.readline().split()]


@pytest.mark.parametrize(("how", "as_module"), [("idle", False), ("busy", True)])
async def test_workers_die_with_a_parent_that_is_killed(tmp_path: Path, how: str, as_module: bool) -> None:
    parent, pids = program(tmp_path, how, as_module=as_module)
    with parent:
        assert len(pids) == 2
        parent.kill()
    await until(lambda: all(map(gone, pids)))


async def test_a_parent_that_forgets_to_close_still_ends(tmp_path: Path) -> None:
    parent, pids = program(tmp_path, "leave")
    with parent:
        assert parent.wait(120) == 0
    await until(lambda: all(map(gone, pids)))


async def test_check_raises_cancelled_in_the_child() -> None:
    async with pool() as it:
        with pytest.raises(Cancelled):
            await it.run(("raise", Cancelled("the caller has gone")))
