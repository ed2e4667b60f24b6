"""A tiny server in a process of its own: ready file, one port each, health, drain on SIGTERM."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio, sys, grpc
from pathlib import Path
from serving.errors import ServiceError
from serving.lifecycle import ServeSettings, Service, configure_logs, serve

async def slow(request, context):
    Path(sys.argv[2]).with_suffix(".began").touch()
    await asyncio.sleep(float(request))
    return b"done"

handler = grpc.method_handlers_generic_handler("t.T", {"Slow": grpc.unary_unary_rpc_method_handler(slow)})
async def nothing(): pass
async def start():
    if sys.argv[3] == "fails": raise ServiceError("cannot start")
    if sys.argv[3] == "hangs": await asyncio.sleep(600)
async def more():
    while not Path(sys.argv[2]).with_suffix(".go").exists(): await asyncio.sleep(0.01)
    if sys.argv[3] == "fails late": raise ServiceError("cannot go on")
async def close(): Path(sys.argv[2]).with_suffix(".closed").touch()
configure_logs("json", "info")
settings = ServeSettings(listen=sys.argv[1], ready_file=sys.argv[2], drain_seconds=float(sys.argv[4]))
asyncio.run(serve(services=[Service("t.T", lambda s: s.add_generic_rpc_handlers([handler]))], settings=settings,
                  on_start=start, on_close=close, on_serving=more if "late" in sys.argv[3] else None))
"""


class Served:
    def __init__(self, folder: Path, listen: str = "127.0.0.1:0", mode: str = "starts", drain: float = 120) -> None:
        self.ready = folder / "ready.json"
        command = [sys.executable, "-c", PROGRAM, listen, str(self.ready), mode, str(drain)]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)

    def address(self) -> str:
        wait_for(self.ready.exists, self.process)
        return json.loads(self.ready.read_text())["address"]


def wait_for(condition, process, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path):
    started = []

    def _start(*args, **kwargs) -> Served:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Served(folder, *args, **kwargs))
        return started[-1]

    yield _start
    for served in started:
        served.process.kill()
        served.process.communicate()


def test_health_says_serving_once_ready(start):
    served = start()
    with grpc.insecure_channel(served.address()) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "t.T"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=120)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_service_serves_while_the_rest_of_the_server_gets_ready(start):
    served = start(mode="late")
    with grpc.insecure_channel(served.address()) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        whole = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=120)
        assert next(whole).status == health_pb2.HealthCheckResponse.NOT_SERVING
        answer = stub.Check(health_pb2.HealthCheckRequest(service="t.T"), timeout=120)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert channel.unary_unary("/t.T/Slow")(b"0", timeout=120) == b"done"
        served.ready.with_suffix(".go").touch()
        assert next(whole).status == health_pb2.HealthCheckResponse.SERVING


def test_a_server_that_cannot_get_ready_as_a_whole_ends(start):
    served = start(mode="fails late")
    served.address()
    served.ready.with_suffix(".go").touch()
    assert served.process.wait(120) != 0
    assert served.ready.with_suffix(".closed").exists()
    assert not served.ready.exists()


def test_a_signal_while_the_rest_gets_ready_stops_the_server(start):
    served = start(mode="late")
    served.address()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(120) == 0
    assert served.ready.with_suffix(".closed").exists()


def test_a_taken_port_is_refused_by_name(start):
    address = start().address()
    second = start(listen=address)
    assert second.process.wait(120) != 0
    assert f"cannot listen on {address}" in second.process.stderr.read()


def test_a_call_under_way_survives_sigterm(start):
    served = start()
    with grpc.insecure_channel(served.address()) as channel:
        future = channel.unary_unary("/t.T/Slow").future(b"1.0", timeout=120)
        wait_for(served.ready.with_suffix(".began").exists, served.process)
        served.process.send_signal(signal.SIGTERM)
        assert future.result() == b"done"
    assert served.process.wait(120) == 0
    assert served.ready.with_suffix(".closed").exists()
    assert not served.ready.exists()


def test_a_second_signal_ends_calls_at_once(start):
    served = start(drain=300)
    with grpc.insecure_channel(served.address()) as channel:
        future = channel.unary_unary("/t.T/Slow").future(b"300", timeout=290)
        wait_for(served.ready.with_suffix(".began").exists, served.process)
        served.process.send_signal(signal.SIGTERM)
        log = served.process.stderr
        while '"draining"' not in log.readline():
            pass
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(120) == 0
        with pytest.raises(grpc.RpcError):
            future.result()


def test_a_start_that_fails_closes_what_was_opened(start):
    served = start(mode="fails")
    assert served.process.wait(120) != 0
    assert served.ready.with_suffix(".closed").exists()
    assert not served.ready.exists()


def test_a_signal_while_starting_stops_it(start):
    served = start(mode="hangs")
    time.sleep(0.1)
    deadline = time.monotonic() + 120
    while served.process.poll() is None and time.monotonic() < deadline:
        served.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert served.process.returncode is not None
