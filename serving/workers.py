"""A supervised pool of worker processes, so that heavy work neither stalls the event loop nor outlives a caller.

A worker is a spawned process and a pipe; `worker_process` is the parent's half of it, `worker_child` the child's. Here
is the pool that keeps a crew of them, and the queue in front of it.

Lives and deaths: a worker that dies in a request is replaced at once, and that request alone fails. One that dies idle
is replaced after a growing pause. One whose `build` fails is not replaced until somebody asks again and a growing
pause is over; the calls in between fail with its text. A worker that ignores a request to stop is killed.

`spawn` imports the caller's main module again in each child (as `__mp_main__`), which a console script, pytest and
`python -m` survive; a plain script needs the usual `if __name__ == "__main__":`.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import pickle
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from serving.errors import FailedState, Overloaded, Unavailable
from serving.worker_child import EVENT, FAILED, READY, RESULT, Handler, RemoteError, WorkerContext, portable_error
from serving.worker_process import Task, Worker

__all__ = ["Handler", "RemoteError", "WorkerContext", "WorkerPool", "portable_error"]

_MOST_STARTS = 3  # in a row that are killed from outside, before the calls that wait are told
_PAUSE_SECONDS = 0.5  # before the second attempt to start; doubles with each further one
_LONGEST_PAUSE_SECONDS = 30.0


class WorkerPool:
    """Runs requests in a fixed number of processes, first come first served, from a bounded queue.

    Args:
        build: a module-level function; called once in each child with `args`, gives the handler.
        args: picklable arguments of `build`.
        workers: processes, at least 1.
        queue: requests that may wait while all workers are busy, at least 0.
        name: names the processes, and the pool in messages.
        start_timeout: seconds in which `build` must be done.
        cancel_grace: seconds in which a handler must stop when asked to, before its process is killed.

    Belongs to the event loop in which it is first used. Nothing starts before `start()` or the first `run()`.
    """

    def __init__(
        self,
        build: Callable[..., Handler],
        args: tuple[Any, ...] = (),
        *,
        workers: int,
        queue: int,
        name: str,
        start_timeout: float | int = 120,
        cancel_grace: float | int = 2,
    ) -> None:
        if workers < 1 or queue < 0:
            raise ValueError(f"a pool needs workers >= 1 and queue >= 0, got {workers} and {queue}")
        self.start_timeout = start_timeout
        self.cancel_grace = cancel_grace
        self._recipe = pickle.dumps((build, args))
        self._name = name
        self._size = workers
        self._capacity = queue
        self._crew: list[Worker] = []  # living processes
        self._waiting: deque[Task] = deque()
        self._ids = itertools.count(1)
        self._names = itertools.count(1)
        self._closed = False
        self._on_change: Callable[[], None] | None = None
        self._failures = 0  # starts and idle lives that ended badly, in a row
        self._not_before = 0.0  # time.monotonic(); no new process until then
        self._killed_starts = 0  # in a row
        self._start_error = ""  # the text of the last failed build, while no later one has succeeded
        self._usual_seconds = 1.0  # moving mean of a request

    @property
    def queued(self) -> int:
        """Requests that wait for a worker."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests that are being computed, or being stopped."""
        return sum(worker.state == "busy" for worker in self._crew)

    @property
    def free(self) -> int:
        """Ready workers that no request is waiting for."""
        return max(0, sum(worker.state == "idle" for worker in self._crew) - self.queued)

    @property
    def capacity(self) -> int:
        """Places in the queue."""
        return self._capacity

    @property
    def workers(self) -> int:
        """Processes that the pool keeps."""
        return self._size

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the living workers, ready or not."""
        return tuple(worker.pid for worker in self._crew)

    async def start(self) -> None:
        """Returns when every worker is ready; all of them start at the same time.

        Raises:
            FailedState: `build` raised, died or took too long (reason WORKER_START_FAILED, with its text).
            Unavailable: the pool is closed (reason DRAINING).
        """
        while True:
            self._refuse_when_closed()
            self._fill()
            await asyncio.gather(*(asyncio.shield(worker.started) for worker in list(self._crew)))
            self._refuse_when_closed()
            if self._start_error:
                raise self._start_failure()
            if len(self._crew) >= self._size and all(worker.state != "starting" for worker in self._crew):
                return
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()) + 0.01)  # one was killed meanwhile

    async def run(
        self,
        request: object,
        *,
        timeout: float | int | None = None,
        on_event: Callable[[Any], None] | None = None,
        on_position: Callable[[int], None] | None = None,
    ) -> Any:
        """The handler's answer to `request`, computed in a worker. Cancelling the caller stops the worker's work.

        Args:
            request: anything picklable; not to be changed until the answer is there.
            timeout: seconds of computing, the wait in the queue not counted; None for no limit.
            on_event: called in the loop with each event that the handler emits, all of them before the answer.
            on_position: called in the loop with the number of requests before this one: once when it is queued, then
                at every change; 0 is next.

        Raises:
            Overloaded: the queue is full (QUEUE_FULL), or the worker ran out of memory (OUT_OF_MEMORY).
            Unavailable: the worker died (WORKER_DIED), or the pool is closing (DRAINING).
            FailedState: no worker can be started (WORKER_START_FAILED, with the text of the failure).
            Timeout: `timeout` is over (PAGE_TIMEOUT).
            ServiceError: whatever the handler raised of this kind, as it is.
            RemoteError: the handler raised something else, or the request or the result can't be pickled.
        """
        future = self.submit(request, timeout=timeout, on_event=on_event, on_position=on_position)
        del request
        try:
            return await future
        except asyncio.CancelledError:
            self.abandon(future)
            raise

    def watch(self, act: Callable[[], None]) -> None:
        """Calls `act` in the loop whenever a worker has become free, or has died."""
        self._on_change = act

    def submit(
        self,
        request: object,
        *,
        timeout: float | int | None = None,
        on_event: Callable[[Any], None] | None = None,
        on_position: Callable[[int], None] | None = None,
    ) -> asyncio.Future[Any]:
        """As `run`, for callers that do not wait: it is queued or begun when this returns; stop it by `abandon`.

        Raises:
            Overloaded, Unavailable, FailedState: as `run`, at once; what comes later is in the future.
        """
        self._refuse_when_closed()
        self._fill()
        if not self._crew and self._start_error:
            raise self._start_failure()
        if self.running + self.queued >= self._size + self._capacity:
            raise Overloaded(
                f"the queue of {self._name} holds at most {self._capacity} waiting requests, got one more",
                reason="QUEUE_FULL",
                retry_after=self._wait_estimate(),
            )
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        task = Task(next(self._ids), request, future, timeout, on_event, on_position)
        del request
        self._waiting.append(task)
        self._report_positions()
        self._dispatch()
        return future

    def abandon(self, future: asyncio.Future[Any]) -> None:
        """Stops the work on what `submit` gave this future for; it is cancelled."""
        future.cancel()
        for task in [*self._waiting, *(worker.task for worker in self._crew if worker.task)]:
            if task.future is future:
                self._abandon(task)

    async def close(self) -> None:
        """Stops everything; waiting and running calls get Unavailable (DRAINING). Idempotent.

        Cost: at most `cancel_grace` seconds, after which workers are killed.
        """
        first, self._closed = not self._closed, True
        error = self._draining()
        while self._waiting:
            self._waiting.popleft().fail(error)
        for worker in self._crew if first else ():
            if worker.task is not None:
                worker.task.fail(error)
            worker.stop()
        await asyncio.gather(*(asyncio.shield(worker.gone) for worker in list(self._crew)))
        atexit.unregister(self._kill_all)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise self._draining()

    def _draining(self) -> Unavailable:
        return Unavailable(f"{self._name} is shutting down and takes no more work", reason="DRAINING")

    def _start_failure(self) -> FailedState:
        wait = max(0.0, self._not_before - time.monotonic())
        message = f"a worker of {self._name} can't be started: {self._start_error}"
        return FailedState(message, reason="WORKER_START_FAILED", retry_after=max(wait, _PAUSE_SECONDS))

    def _wait_estimate(self) -> float:
        return min(60.0, max(1.0, self._usual_seconds * (self.queued + 1) / self._size))

    def _fill(self) -> None:
        """Starts what is missing, unless the pause after a failure is not over."""
        if self._closed or len(self._crew) >= self._size or time.monotonic() < self._not_before:
            return
        atexit.unregister(self._kill_all)
        atexit.register(self._kill_all)  # runs before multiprocessing's own, which would wait for the children
        try:
            while len(self._crew) < self._size:
                self._crew.append(self._worker())
        except OSError as error:  # no more processes, files or memory
            self._start_error = str(error)
            self._pause(at_least=_PAUSE_SECONDS)
            self._give_up_if_alone()

    def _worker(self) -> Worker:
        return Worker(
            self._recipe,
            f"{self._name}-{next(self._names)}",
            start_timeout=self.start_timeout,
            cancel_grace=self.cancel_grace,
            on_message=self._on_message,
            on_exit=self._on_exit,
        )

    def _kill_all(self) -> None:
        for worker in self._crew:
            worker.process.kill()

    def _dispatch(self) -> None:
        for worker in self._crew:
            if self._waiting and worker.state == "idle":
                worker.begin(self._waiting.popleft())
        self._report_positions()

    def _report_positions(self) -> None:
        for position, task in enumerate(list(self._waiting)):
            if task.position != position:
                task.position = position
                self._call_back(task, task.on_position, position)

    def _call_back(self, task: Task, callback: Callable[[Any], None] | None, value: object) -> None:
        """Calls it; what it raises becomes the outcome of its own request."""
        if callback is None or task.future.done():
            return
        try:
            callback(value)
        except Exception as error:
            task.fail(error)
            self._abandon(task)

    def _abandon(self, task: Task) -> None:
        if task in self._waiting:
            self._waiting.remove(task)
            self._report_positions()
        for worker in self._crew:
            worker.cancel(task)

    def _on_message(self, worker: Worker, kind: int, request_id: int, value: object) -> None:
        if kind == READY:
            if not self._closed:
                worker.forget_timers()
            worker.state, self._start_error, self._killed_starts = "idle", "", 0
            _settle(worker.started)
        elif kind == FAILED:
            worker.kill(str(value))
        elif worker.task is None or worker.task.id != request_id:
            return
        elif kind == EVENT:
            self._call_back(worker.task, worker.task.on_event, value)
            return
        else:
            self._finish(worker, worker.task, kind, value)
        if not self._closed:
            self._dispatch()
            self._changed()

    def _changed(self) -> None:
        if self._on_change:
            self._on_change()

    def _finish(self, worker: Worker, task: Task, kind: int, value: object) -> None:
        if not self._closed:  # then the timer that will kill it must stay
            worker.forget_timers()
        worker.state, worker.task = "idle", None
        self._failures = 0
        self._usual_seconds += 0.2 * (worker.loop.time() - task.began - self._usual_seconds)
        if kind == RESULT:
            if not task.future.done():
                task.future.set_result(value)
            return
        error = value if isinstance(value, BaseException) else RemoteError(f"the worker sent {type(value).__name__}")
        if isinstance(error, RemoteError):
            _log("worker.failed", pool=self._name, pid=worker.pid, error=error.message, trace=error.trace)
        task.fail(error)

    def _on_exit(self, worker: Worker) -> None:
        worker.forget_timers()
        self._crew.remove(worker)
        ready, task, worker.task = worker.state != "starting", worker.task, None
        if not self._closed:
            _log("worker.died", pool=self._name, pid=worker.pid, how=worker.end, ready=ready, busy=task is not None)
            if task is not None:
                message = f"worker {worker.pid} of {self._name} died in the middle of this request: {worker.end}"
                task.fail(Unavailable(message, reason="WORKER_DIED", retry_after=1.0))
                self._fill_soon(worker.loop)
            elif ready:
                self._pause()
                self._fill_soon(worker.loop)
            else:
                self._failed_to_start(worker)
        _settle(worker.started)
        _settle(worker.gone)
        self._changed()

    def _failed_to_start(self, worker: Worker) -> None:
        self._pause(at_least=_PAUSE_SECONDS)
        self._killed_starts += worker.killed
        if worker.killed and self._killed_starts < _MOST_STARTS:
            self._fill_soon(worker.loop)  # a fault of its own would come again, this need not
        else:
            self._start_error = worker.end
            self._give_up_if_alone()

    def _pause(self, at_least: float = 0.0) -> None:
        """No new process for a while: not at all after a first idle death, then ever longer."""
        self._failures += 1
        longer = _PAUSE_SECONDS * 2.0 ** min(self._failures - 2, 10) if self._failures > 1 else 0.0
        self._not_before = time.monotonic() + min(_LONGEST_PAUSE_SECONDS, max(at_least, longer))

    def _fill_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        wait = self._not_before - time.monotonic()
        if wait > 0:
            loop.call_later(wait + 0.01, self._fill)  # a timer may come a clock tick early
        else:
            self._fill()

    def _give_up_if_alone(self) -> None:
        if not self._crew:
            error = self._start_failure()
            while self._waiting:
                self._waiting.popleft().fail(error)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _log(event: str, **facts: object) -> None:
    import structlog  # here, because every child imports this module and none of them logs

    structlog.get_logger(__name__).error(event, **facts)
