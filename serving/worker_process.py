"""The parent's half of a worker: one spawned process, the pipe to it, and the two threads that serve the pipe.

One thread pickles and sends, one receives and hands each message to the loop; so neither a big page nor a full pipe
holds the loop up.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import queue as queues
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from serving.errors import Timeout
from serving.worker_child import CANCEL, ERROR, RUN, STOP, RemoteError, child_main, pickled, read, write


@dataclass(eq=False)
class Task:
    """One call of `WorkerPool.run`."""

    id: int
    request: object
    future: asyncio.Future[object]
    timeout: float | int | None  # seconds of computing
    on_event: Callable[[Any], None] | None
    on_position: Callable[[int], None] | None
    position: int = -1  # as last reported
    began: float = 0.0  # the loop's clock

    def fail(self, error: BaseException) -> None:
        """Ends it with an error, if it has not ended."""
        if not self.future.done():
            self.future.set_exception(error)


class Worker:
    """One process and the parent's two threads for it. Methods run in the loop's thread unless they say otherwise.

    Args:
        recipe: `build` and its arguments, pickled.
        name: names the process and its threads.
        start_timeout: seconds in which it must be ready.
        cancel_grace: seconds in which it must stop when asked to, before it is killed.
        on_message: called in the loop with each message of the child: worker, kind, request, value.
        on_exit: called in the loop once, after the last message, when the process is no more.
    """

    def __init__(
        self,
        recipe: bytes,
        name: str,
        *,
        start_timeout: float | int,
        cancel_grace: float | int,
        on_message: Callable[[Worker, int, int, object], None],
        on_exit: Callable[[Worker], None],
    ) -> None:
        self.name = name
        self._grace = cancel_grace
        self._on_message, self._on_exit = on_message, on_exit
        self.loop = asyncio.get_running_loop()
        self.state = "starting"  # then "idle" or "busy"
        self.task: Task | None = None
        self.trouble = ""  # why it was killed, or why build failed
        self.started: asyncio.Future[None] = self.loop.create_future()  # done when ready, or when it never will be
        self.gone: asyncio.Future[None] = self.loop.create_future()
        self.outbox: queues.SimpleQueue[tuple[int, int, object] | None] = queues.SimpleQueue()
        self._timers: list[asyncio.TimerHandle] = []
        context = multiprocessing.get_context("spawn")
        self.connection, child_end = context.Pipe()
        self.process = context.Process(target=child_main, args=(child_end, recipe, os.getpid()), name=name)
        try:
            with _no_signals():  # this thread's mask is the child's until it ignores them itself
                self.process.start()  # here, not in a thread: the kernel ties the child to the thread that starts it
        except BaseException:
            self.connection.close()
            raise
        finally:
            child_end.close()
        self.pid = self.process.pid or 0
        self._sender = threading.Thread(target=self._send_all, name=f"{name}-send", daemon=True)
        self._sender.start()
        threading.Thread(target=self._receive_all, name=f"{name}-receive", daemon=True).start()
        self.after(start_timeout, self.kill, f"was not ready within {start_timeout:g} s")

    def after(self, seconds: float | int, act: Callable[..., None], *args: object) -> None:
        """Calls `act` in the loop, unless `forget_timers` comes first."""
        self._timers.append(self.loop.call_later(seconds, act, *args))

    def forget_timers(self) -> None:
        """Calls off what `after` has planned."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def begin(self, task: Task) -> None:
        """Sends the task; its seconds count from here."""
        self.state, self.task, task.began = "busy", task, self.loop.time()
        self.outbox.put((RUN, task.id, task.request))
        task.request = None
        if task.timeout is not None:
            self.after(task.timeout, self._out_of_time, task, task.timeout)

    def _out_of_time(self, task: Task, seconds: float | int) -> None:
        message = f"the page must be computed within {seconds:g} s, and was not done by then"
        task.fail(Timeout(message, reason="PAGE_TIMEOUT"))
        self.cancel(task)

    def cancel(self, task: Task) -> None:
        """Asks the child to stop this task, and kills it if it has not within the grace."""
        if self.task is task:
            self.outbox.put((CANCEL, task.id, None))
            self.after(self._grace, self.kill, "did not stop when asked to")

    def stop(self) -> None:
        """Asks the child to leave when its task is over, and kills it after the grace."""
        if self.task is not None:
            self.outbox.put((CANCEL, self.task.id, None))
        self.outbox.put((STOP, 0, None))
        self.after(self._grace, self.kill, "did not stop when asked to")

    def kill(self, trouble: str = "") -> None:
        """Ends the process at once; the first `trouble` said is why."""
        self.trouble = self.trouble or trouble
        self.process.kill()

    @property
    def killed(self) -> bool:
        """Whether it was ended from outside, by a person or by a kernel without memory."""
        return not self.trouble and (self.process.exitcode or 0) < 0

    @property
    def end(self) -> str:
        """Why it is no more: why it was killed, or how the process ended."""
        code = self.process.exitcode
        if self.trouble:
            return self.trouble
        return f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def _tell(self, act: Callable[..., None], *args: object) -> None:
        """From any thread: `act` in the loop, if there is still one."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(act, *args)

    def _send_all(self) -> None:
        """In its own thread, so that pickling a big page and a full pipe hold nobody up."""
        while (item := self.outbox.get()) is not None:
            kind, request_id, value = item
            del item
            try:
                payload = pickled(value, "the request")
            except Exception as error:
                self._tell(self._on_message, self, ERROR, request_id, RemoteError(str(error)))
                continue
            finally:
                del value
            with contextlib.suppress(OSError):  # the receiving thread learns of a dead child and says so
                write(self.connection, kind, request_id, payload)
            del payload

    def _receive_all(self) -> None:
        """In its own thread: every message, then the exit."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, request_id, payload = read(self.connection)
                try:
                    value = pickle.loads(payload) if payload else None  # noqa: S301  our own child wrote it
                except Exception as error:
                    kind, value = ERROR, RemoteError(f"the worker's answer can't be read: {error}")
                del payload
                self._tell(self._on_message, self, kind, request_id, value)
                del value
        self.process.join(self._grace)
        if self.process.exitcode is None:  # it closed the pipe and lives on
            self.process.kill()
            self.process.join()
        self.outbox.put(None)
        self._sender.join()
        self.connection.close()
        self._tell(self._on_exit, self)


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
