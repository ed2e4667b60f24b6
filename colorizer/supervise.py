"""A back-end's process: started, watched, restarted, stopped.

The process is told by its environment where to listen and which token to ask for; docs/BACKENDS.md says it for authors.
Lives and deaths: a process that dies is started again after a pause, at once the first time and ever later when deaths
follow one another without a page done between them. One that cannot be started is tried again when a page asks for it
and the pause is over; the pages until then fail with the time that is left. One that works on after it was told to
stop, or whose GPU is lost, is killed. Nothing that it does ends this server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from colorizer.child import LOOK_SECONDS, Child
from colorizer.line import Session
from serving.errors import Unavailable

SOCKET_VARIABLE = "PANELHUE_BACKEND_SOCKET"  # where the process listens: unix:PATH, or 127.0.0.1:PORT
TOKEN_VARIABLE = "PANELHUE_BACKEND_TOKEN"  # noqa: S105 - a variable's name; what every call carries

_PAUSE_SECONDS = 0.5  # before the second start; doubles with each further one
_LONGEST_PAUSE_SECONDS = 60.0
_LONGEST_SOCKET_PATH = 100  # bytes; the kernel takes 107

log = structlog.get_logger("panelhue.colorizer")


@dataclass(frozen=True)
class ChildLimits:
    """How patient its supervisor is with a process; all in seconds."""

    start: float = 120.0  # from its start to health SERVING
    wait: float = 30.0  # a page may wait so long for the pause between two starts
    stop: float = 10.0  # from SIGTERM to its end
    cancel: float = 5.0  # from the end of a page's stream to the end of its work


class Supervisor:
    """Meets `line.Line` with a process of its own.

    Args:
        name: the back-end's, for messages.
        command: program and arguments.
        environment: of the process, whole; the two variables are put in here.
        folder: working directory; None: this server's.
        limits: patience.
        transport: how the process is reached.
        eager: starts with the server and is started again until it runs, also when no page asks for it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        folder: Path | None = None,
        limits: ChildLimits = ChildLimits(),
        transport: Literal["unix", "tcp"] = "unix",
        eager: bool = False,
    ) -> None:
        self.trouble = ""
        self._name = name
        self._command = tuple(command)
        self._environment = dict(environment)
        self._folder = folder
        self._limits = limits
        self._transport = transport
        self._eager = eager
        self._sockets: Path | None = None
        self._child: Child | None = None
        self._leaving: Child | None = None  # told to go, and perhaps not gone
        self._starting: asyncio.Task[None] | None = None
        self._watching: set[asyncio.Task[None]] = set()
        self._failures = 0  # ends in a row without a page done in between
        self._not_before = 0.0  # the loop's clock
        self._again: asyncio.TimerHandle | None = None
        self._jitter = random.Random()  # noqa: S311 - spreads restarts, guards nothing
        self._closed = False

    @property
    def current(self) -> Session | None:
        """The connection, if the process is up."""
        return self._child.session if self._child else None

    @property
    def pid(self) -> int | None:
        """Of the process that is up."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Starts the process if it is eager; one that fails now is tried again, and keeps nobody waiting for long."""
        if self._eager:
            self._begin()

    async def session(self) -> Session:
        """The connection; waits for the process, and for the pause before its next start as long as the limits allow.

        Raises:
            Unavailable: BACKEND_UNAVAILABLE, with the time after which to try again.
        """
        patience = asyncio.get_running_loop().time() + self._limits.wait
        while not self._child:
            if self._closed:
                raise Unavailable("the server is shutting down", reason="BACKEND_UNAVAILABLE", retry_after=2.0)
            if self._starting:
                await self._started()
                continue
            pause = self._pause_left()
            if pause <= 0:
                self._begin()
            elif asyncio.get_running_loop().time() + pause > patience:
                raise self._down()
            else:
                await asyncio.sleep(pause)
        return self._child.session

    async def _started(self) -> None:
        assert self._starting
        await asyncio.wait({self._starting})  # not awaited itself: a page that is cancelled must not end it
        if not self._child:
            raise self._down()

    def _down(self) -> Unavailable:
        why = self.trouble or "it is not running"
        return Unavailable(
            f"back-end {self._name!r} is down: {why}",
            reason="BACKEND_UNAVAILABLE",
            retry_after=max(1.0, self._pause_left()),
            metadata={"backend": self._name},
        )

    def _pause_left(self) -> float:
        return self._not_before - asyncio.get_running_loop().time()

    def _begin(self) -> None:
        if self._starting is None and self._child is None and not self._closed:
            self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        child: Child | None = None
        try:
            if self._leaving:  # two of them may not fit into one GPU
                await self._leaving.ended()
                self._leaving = None
            child = await self._launched()
            why = await child.healthy(self._limits.start)
            if why:
                await child.kill()
                self._failed(why)
                return
            self.trouble, self._child = "", child
            log.info("backend.up", backend=self._name, pid=child.pid)
            watch = asyncio.create_task(self._watch(child))
            self._watching.add(watch)
            watch.add_done_callback(self._watching.discard)
        except OSError as error:  # no process, no folder, no memory
            self._failed(f"it cannot be started: {error}")
        except asyncio.CancelledError:
            if child:
                await child.kill()
            raise
        finally:
            self._starting = None

    async def _launched(self) -> Child:
        if self._sockets is None:
            self._sockets = _private_folder()
        token = secrets.token_urlsafe(32)
        address = f"127.0.0.1:{_free_port()}"
        if self._transport == "unix":
            address = f"unix:{self._sockets / secrets.token_hex(4)}"
        environment = self._environment | {SOCKET_VARIABLE: address, TOKEN_VARIABLE: token}
        return await Child.launch(self._name, self._command, environment, self._folder, address, token)

    def _failed(self, why: str) -> None:
        self.trouble = why
        pause = self._pause()
        log.error("backend.not_started", backend=self._name, why=why, pause=round(pause, 1))
        if self._eager:
            self._begin_after(pause)

    def _pause(self, first: float = _PAUSE_SECONDS) -> float:
        """Puts the next start off, and says for how long, seconds."""
        self._failures += 1
        usual = first if self._failures == 1 else _PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 10)
        pause = min(_LONGEST_PAUSE_SECONDS, usual) * self._jitter.uniform(0.75, 1.25)
        self._not_before = asyncio.get_running_loop().time() + pause
        return pause

    def _begin_after(self, seconds: float) -> None:
        if self._again:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(seconds + 0.01, self._begin)

    async def _watch(self, child: Child) -> None:
        """Waits for the end of a process that was up, and sees to the next one."""
        how = await child.ended()
        by_itself = child is self._child
        if by_itself:
            self._gone(how)
        if by_itself or child.verdict:
            log.error("backend.died", backend=self._name, pid=child.pid, how=how)

    def _gone(self, why: str) -> None:
        """The process is of no use any more; the next one is started after a pause."""
        self._child, self._leaving, self.trouble = None, self._child, why
        self._begin_after(self._pause(first=LOOK_SECONDS))

    async def stopped(self, session: Session, running: Callable[[], int]) -> None:
        """Returns when the process says that it has no more than `running()` pages; kills it after the limit."""
        child = self._child
        if not child or child.session is not session:
            return
        try:
            async with asyncio.timeout(self._limits.cancel):
                while not await child.has_at_most(running):
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            self.condemn(session, f"it went on for {self._limits.cancel:g} s after its page was cancelled")

    async def epitaph(self, session: Session) -> str:
        """How the process of a broken session ended; waits a moment for it."""
        child = self._child
        if not child or child.session is not session:
            return self.trouble
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                return await child.ended()
        return "the connection broke"

    def served(self, session: Session) -> None:  # noqa: ARG002 - Line's signature
        """A page was done; the next death is a first one again."""
        self._failures = 0

    def condemn(self, session: Session, why: str) -> None:
        """Kills the process of that session; the next one is started as after any death."""
        child = self._child
        if child and child.session is session:
            log.error("backend.condemned", backend=self._name, pid=child.pid, why=why)
            child.verdict = why
            self._gone(why)
            child.signal(signal.SIGKILL)

    async def rest(self) -> None:
        """Ends the process until a page asks for it."""
        child, self._child = self._child, None
        if child:
            self._leaving = child
            log.info("backend.rests", backend=self._name, pid=child.pid)
            await child.stop(self._limits.stop)

    async def close(self) -> None:
        """Ends the process with SIGTERM, or SIGKILL where that does not help."""
        self._closed = True
        if self._again:
            self._again.cancel()
        if self._starting:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        await self.rest()
        if self._watching:
            await asyncio.wait(self._watching)
        if self._sockets:
            shutil.rmtree(self._sockets, ignore_errors=True)


def _private_folder() -> Path:
    """A fresh folder that only this user may enter, short enough for a socket's path."""
    folder = Path(tempfile.mkdtemp(prefix="panelhue-"))  # 0700
    if len(os.fsencode(folder)) + 10 > _LONGEST_SOCKET_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="panelhue-", dir="/tmp"))
    return folder


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
