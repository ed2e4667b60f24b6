"""One life of a back-end's process: its start, its health, what it says, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from colorizer import launch
from colorizer.device_lost import EXIT_STATUS
from colorizer.line import CHANNEL_OPTIONS, Session
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from serving.token import bearer

LOOK_SECONDS = 0.05  # between two looks at a process
_LINE_BYTES = 8000  # of one line of the process that are logged

log = structlog.get_logger("panelhue.colorizer")


class Child:
    """One life of a process; `launch` gives a fresh one."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, address: str, session: Session) -> None:
        self.session = session
        self.verdict = ""  # why it was killed
        self.pid = process.pid
        self._process = process
        self._address = address
        self._reading = asyncio.create_task(_log_lines(process, name))
        self._waiting = asyncio.create_task(self._wait())

    @classmethod
    async def launch(
        cls,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None,
        address: str,
        token: str,
    ) -> Child:
        """A fresh process in a session of its own, so that a Ctrl-C in a terminal passes by."""
        launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()))
        # Here, not in a thread: the kernel ties the process to the thread that starts it.
        process = await asyncio.create_subprocess_exec(
            *launcher,
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
        options = (*CHANNEL_OPTIONS, ("grpc.default_authority", "localhost"))
        session = Session(aio.insecure_channel(address, options=options), (bearer(token),))
        return cls(name, process, address, session)

    async def _wait(self) -> str:
        status = await self._process.wait()
        self.signal(signal.SIGKILL)  # whatever it has left behind in its session
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):  # a stranger may hold the pipe
                await asyncio.shield(self._reading)
        self._reading.cancel()
        await self.session.channel.close()
        return self.verdict or _how_it_ended(status)

    async def ended(self) -> str:
        """How it ended, once it has."""
        return await asyncio.shield(self._waiting)

    async def healthy(self, seconds: float) -> str:
        """Nothing once its health is SERVING, or why it will not be."""
        asking = asyncio.create_task(self._serving())
        try:
            await asyncio.wait({asking, self._waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if self._waiting.done():
                return f"it ended before it was ready: {self._waiting.result()}; the server's log has what it said"
            if asking.done():
                return ""
            return f"its health was not SERVING within {seconds:g} s"
        finally:
            asking.cancel()

    async def _serving(self) -> None:
        path = Path(self._address.removeprefix("unix:")) if self._address.startswith("unix:") else None
        stub = health_pb2_grpc.HealthStub(self.session.channel)
        while True:
            if path is None or path.exists():  # so that a failed attempt does not put off the next one
                with contextlib.suppress(aio.AioRpcError):
                    response = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
                    if response.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            await asyncio.sleep(LOOK_SECONDS)

    async def has_at_most(self, running: Callable[[], int]) -> bool:
        """Whether it says that it has no more pages than that."""
        try:
            info = await self.session.stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=self.session.metadata)
        except aio.AioRpcError:
            return self._waiting.done()
        return int(info.queue_length) <= running()

    def signal(self, number: int) -> None:
        """Sends a signal to the process and to all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def kill(self) -> None:
        """Ends it at once."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self, seconds: float) -> None:
        """Lets it end by itself, for so long."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended()
                return
        log.warning("backend.killed", pid=self.pid, why=f"it did not end within {seconds:g} s of SIGTERM")
        await self.kill()


async def _log_lines(process: asyncio.subprocess.Process, name: str) -> None:
    """What the process says, line by line, in this server's log."""
    assert process.stdout
    rest = b""
    while data := await process.stdout.read(1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _LINE_BYTES:
            lines, rest = [*lines, rest], b""
        for line in lines:
            _log_line(line, process.pid, name)
    if rest:
        _log_line(rest, process.pid, name)


def _log_line(line: bytes, pid: int, name: str) -> None:
    text = line[:_LINE_BYTES].decode(errors="replace").rstrip()
    if text:
        log.info("backend.says", backend=name, pid=pid, line=text)


def _how_it_ended(status: int) -> str:
    if status < 0:
        return f"killed by signal {-status}"
    if status == EXIT_STATUS:
        return f"exit status {status}, its GPU is lost"
    if status == launch.NOT_FOUND:
        return f"exit status {status}, its command cannot be run"
    return f"exit status {status}"
