"""What becomes of pages when the children of a server are late, misbehave or die, and of the children when it ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from tests.wire.colorizer_live import Live, busy_with, connected, lines_of, wait_until
from tests.wire.colorizer_talk import colorize, page
from tests.wire.conftest import END_SECONDS, RunningServer, probe_settings
from tests.wire.remote_servers import FOREIGN, REMOTES, child_of, family_of, foreign, is_there, one, refused, says


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with back-ends out of process of all kinds, which are started when a page asks for them."""
    server = RunningServer("colorizer-server", tmp_path_factory.mktemp("apart"), *probe_settings(remotes=REMOTES))
    server.address  # noqa: B018 - waits
    yield server
    server.stop()


# --- cancel and time --------------------------------------------------------------------------------------------------


def test_cancelling_a_stream_stops_the_child_within_a_step(start_colorizer, tmp_path):
    server = start_colorizer(remotes={"probe": {}}, cancel_seconds=240)
    trace = tmp_path / "trace"
    live = busy_with(connected(server), trace)
    live.call.cancel()
    live.join()
    wait_until(lambda: load_of(server) == 0, "the place")
    assert colorize(connected(server), page("next")).pages["next"].result  # its one worker is free again
    steps = len(lines_of(trace))
    assert colorize(connected(server), page("last")).pages["last"].result
    assert len(lines_of(trace)) == steps
    assert len(says(server, "backend.up")) == 1


def load_of(server: RunningServer) -> int:
    return int(connected(server).GetServerInfo(pb.GetServerInfoRequest()).queue_length)


def test_a_page_out_of_time_is_told_so_and_the_next_is_done(apart):
    parameters = {"seconds": "0.02"}
    limits = {"page_timeout": Duration(nanos=300_000_000), "parameters": parameters}
    assert one(apart).pages["p"].result  # up and warm: loading is no page's time
    assert one(apart, steps=1000, **limits).pages["p"].reason == "PAGE_TIMEOUT"
    assert one(apart).pages["p"].result


@pytest.mark.parametrize("mode", ["deaf", "hung"])
def test_a_child_that_does_not_stop_when_cancelled_is_killed(start_colorizer, mode):
    server = start_colorizer(
        remotes={"foreign": {"command": FOREIGN, "env": {"MODE": mode}}}, default_backend="foreign", cancel_seconds=0.1
    )
    answer = one(server, page_timeout=Duration(seconds=1)).pages["p"]
    assert answer.reason == "PAGE_TIMEOUT"
    first = int(str(says(server, "backend.up")[0]["pid"]))
    wait_until(lambda: bool(says(server, "backend.condemned")), "the verdict")
    wait_until(lambda: len(says(server, "backend.up")) == 2, "the next child")
    assert not is_there(first)


# --- children that die ------------------------------------------------------------------------------------------------


def test_a_killed_child_fails_its_page_alone(start_colorizer, tmp_path):
    server = start_colorizer(remotes={"probe": {}})
    trace, go = tmp_path / "trace", tmp_path / "go"
    live = Live(connected(server), parameters={"trace": str(trace), "go": str(go)})
    live.send(page("busy"))
    wait_until(lambda: bool(lines_of(trace)), "the page to be worked on")
    live.send(page("next"))
    os.kill(child_of(server), signal.SIGKILL)
    wait_until(lambda: live.answers.ended == ["busy"], "the end of the page")
    go.touch()
    answers = live.finish()
    assert answers.status is None
    error = answers.pages["busy"].error
    assert (error.reason, error.retryable) == ("WORKER_DIED", True)
    assert "killed by signal 9" in error.message
    assert answers.pages["next"].result
    assert len(says(server, "backend.up")) == 2


def test_a_killed_worker_of_the_child_fails_its_page_alone(start_colorizer, tmp_path):
    server = start_colorizer(remotes={"probe": {}})
    trace = tmp_path / "trace"
    live = busy_with(connected(server), trace)
    os.kill(int(lines_of(trace)[0].split()[0]), signal.SIGKILL)
    answers = live.finish()
    assert answers.pages["busy"].reason == "WORKER_DIED"
    assert one(server).pages["p"].result
    assert len(says(server, "backend.up")) == 1


def test_a_child_that_dies_idle_is_started_again(start_colorizer):
    server = foreign(start_colorizer)
    assert one(server).pages["p"].result
    os.kill(child_of(server), signal.SIGKILL)
    wait_until(lambda: len(says(server, "backend.up")) == 2, "the next child")
    assert one(server).pages["p"].result


def test_a_child_whose_gpu_is_lost_is_replaced(apart):
    before = len(says(apart, "backend.up", "lost"))
    assert one(apart, backend="lost").pages["p"].reason == "GPU_LOST"
    wait_until(lambda: len(says(apart, "backend.up", "lost")) >= before + 1 + (before == 0), "the next child")
    assert "GPU is lost" in str(says(apart, "backend.condemned", "lost")[0]["why"])


def test_the_next_page_of_the_stream_goes_to_the_next_child(apart):
    answers = colorize(connected(apart), page("a"), page("b"), backend="lost")
    assert [answers.pages[key].reason for key in "ab"] == ["GPU_LOST", "GPU_LOST"]  # not WORKER_DIED


def test_a_worker_with_a_sticky_cuda_error_ends_itself(start_colorizer):
    server = start_colorizer()
    error = one(server, parameters={"fault": "sticky"}).pages["p"].error
    assert (error.reason, error.retryable) == ("WORKER_DIED", True)
    assert "exit code 75" in error.message
    assert one(server).pages["p"].result


def test_a_child_that_exits_at_once_is_not_started_over_and_over(apart):
    for _ in range(20):
        status = refused(apart, backend="exits")
        assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE")
        assert "exit status 3" in status.message
        assert status.retry_seconds >= 1
    assert len(says(apart, "backend.not_started", "exits")) < 20
    assert "no weights in /nowhere" in [line["line"] for line in says(apart, "backend.says", "exits")]
    card = connected(apart).GetBackend(pb.GetBackendRequest(name="exits")).backend
    assert not card.available
    assert "exit status 3" in card.unavailable_reason
    assert one(apart).pages["p"].result


def test_the_pauses_between_starts_grow(start_colorizer):
    server = start_colorizer(remotes={"broken": {"command": "false", "start": "eager"}})
    wait_until(lambda: len(says(server, "backend.not_started")) >= 4, "four attempts")
    pauses = [float(str(line["pause"])) for line in says(server, "backend.not_started")]
    assert pauses == sorted(pauses)
    assert pauses[3] > 2 * pauses[0]
    assert one(server).pages["p"].result


def test_a_command_that_is_not_there_is_said_so(apart):
    assert "its command cannot be run" in refused(apart, backend="absent").message


def test_a_child_that_never_becomes_healthy_is_given_up(apart):
    status = refused(apart, backend="mute")
    assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE")
    assert "not SERVING within 0.5 s" in status.message
    assert "time.sleep(600)" not in " ".join(map(line_of, psutil.Process(apart.process.pid).children()))
    assert one(apart).pages["p"].result


def line_of(process: psutil.Process) -> str:
    """What it was started with; nothing of one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_a_page_waits_for_a_restart_as_long_as_it_may(start_colorizer, tmp_path):
    marker = tmp_path / "ready"
    command = ["sh", "-c", f"test -e {marker} || {{ touch {marker}; exit 1; }}; exec {' '.join(FOREIGN)}"]
    server = start_colorizer(remotes={"foreign": {"command": command}}, default_backend="foreign")
    assert "exit status 1" in refused(server).message
    assert one(server).pages["p"].result


@pytest.mark.parametrize(
    ("backend", "says"),
    [("silent", "without an answer"), ("liar", "sha256"), ("small", "20 x 20"), ("broken-stream", "something")],
)
def test_a_child_that_breaks_the_contract_fails_its_page(apart, backend, says):
    error = one(apart, backend=backend).pages["p"].error
    assert error.reason == "BACKEND_FAILED"
    assert says in error.message


# --- the end ----------------------------------------------------------------------------------------------------------


def test_sigterm_lets_the_page_end_and_leaves_no_process_behind(start_colorizer, tmp_path):
    server = start_colorizer(remotes={"probe": {}})
    live = busy_with(connected(server), tmp_path / "trace", steps=20)
    family = family_of(server)
    assert child_of(server) in family
    server.process.terminate()
    assert live.join().pages["busy"].result
    assert server.process.wait(END_SECONDS) == 0
    wait_until(lambda: not [pid for pid in family if is_there(pid)], "the end of what its processes had started")


def test_a_killed_server_leaves_no_process_behind(start_colorizer, tmp_path):
    server = start_colorizer(remotes={"probe": {}, "foreign": {"command": FOREIGN, "start": "eager"}})
    live = busy_with(connected(server), tmp_path / "trace")
    wait_until(lambda: len(says(server, "backend.up")) == 2, "both children")
    family = family_of(server)
    assert len(family) >= 4
    server.process.kill()
    live.join()
    wait_until(lambda: not [pid for pid in family if is_there(pid)], "their end")


def test_a_stubborn_child_is_killed_at_the_end(start_colorizer):
    command = [sys.executable, "-c", _STUBBORN]
    server = start_colorizer(remotes={"foreign": {"command": command, "start": "eager", "stop_seconds": 0.3}})
    wait_until(lambda: bool(says(server, "backend.up")), "the child")
    child = child_of(server)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 60  # of the minutes that the child would take
    assert not is_there(child)


_STUBBORN = """
import signal
from tests.wire import foreign_backend
handle, signal.signal = signal.signal, lambda *_: None
handle(signal.SIGTERM, signal.SIG_IGN)
foreign_backend.main()
"""


def test_the_sockets_folder_is_private_and_goes_with_the_server(start_colorizer):
    server = foreign(start_colorizer)
    assert one(server).pages["p"].result
    address = psutil.Process(child_of(server)).environ()["PANELHUE_BACKEND_SOCKET"]
    folder = Path(address.removeprefix("unix:")).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert server.stop() == 0
    assert not folder.exists()
