"""Streams to a colouriser server that stay open, and what the test back-ends leave in their traces."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from tests.wire.colorizer_talk import Answers, options, page
from tests.wire.conftest import RunningServer


@contextmanager
def stub_of(server: RunningServer) -> Iterator[pb_grpc.ColorizerServiceStub]:
    """A stub that is closed again."""
    with grpc.insecure_channel(server.address) as channel:
        yield pb_grpc.ColorizerServiceStub(channel)


def connected(server: RunningServer) -> pb_grpc.ColorizerServiceStub:
    return pb_grpc.ColorizerServiceStub(grpc.insecure_channel(server.address))


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def lines_of(trace: Path) -> list[str]:
    return trace.read_text().splitlines() if trace.exists() else []


class Live:
    """A stream that stays open: messages are sent one by one."""

    def __init__(self, stub: pb_grpc.ColorizerServiceStub, **fields: object) -> None:
        self._out: queue.SimpleQueue[pb.ColorizePagesRequest | None] = queue.SimpleQueue()
        self.answers = Answers()
        self.call = stub.ColorizePages(iter(self._out.get, None), timeout=400)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.send([options(**fields)])

    def _read(self) -> None:
        try:
            for message in self.call:
                self.answers.take(message)
        except grpc.RpcError as error:
            self.answers.status = error

    def send(self, messages: Iterator[pb.ColorizePagesRequest] | list[pb.ColorizePagesRequest]) -> None:
        for message in messages:
            self._out.put(message)

    def finish(self) -> Answers:
        self._out.put(None)
        return self.join()

    def join(self) -> Answers:
        self._thread.join(240)
        assert not self._thread.is_alive(), "the stream did not end"
        self._out.put(None)
        return self.answers


def busy_with(stub: pb_grpc.ColorizerServiceStub, trace: Path, steps: int = 1000, **fields: object) -> Live:
    live = Live(stub, steps=steps, parameters={"seconds": "0.05", "trace": str(trace)}, **fields)
    live.send(page("busy"))
    wait_until(lambda: bool(lines_of(trace)), "the page to be worked on")
    return live
