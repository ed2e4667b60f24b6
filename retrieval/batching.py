"""Pictures that wait for the same embedder go to a worker together, across series, where the embedder gains from it.

They wait here, in front of the worker processes; as soon as a worker is free it is given what waits longest, and others
of its kind. Nobody waits for company: what is alone goes alone, and several workers share what waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from retrieval.stopping import draining
from retrieval.work import Work, WorkBatch, WorkDone
from serving.errors import ServiceError
from serving.workers import RemoteError, WorkerPool

log = structlog.get_logger("panelhue.retrieval")


@dataclass(eq=False)
class _Call:
    """One call of `run`."""

    work: Work
    answer: asyncio.Future[WorkDone]
    alone: bool = False  # whether it was with others when their worker died, and any of them may be to blame

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(eq=False)
class _Batch:
    """Calls that a worker was given together."""

    calls: tuple[_Call, ...]
    answer: asyncio.Future[list[WorkDone | Exception]]


class Batching:
    """Runs work in a pool, several at a time where that helps.

    A call that is cancelled leaves the others of its batch alone; the worker is asked to stop when all of them are
    gone. When a worker dies in the middle of a batch, each of its calls is tried once more by itself.

    Args:
        pool: the workers, whose handler takes a WorkBatch; used by this alone.
        most: how many may go together, by the embedder's name.
        seconds: of computing that one may take; a batch may take as many times as long.
    """

    def __init__(self, pool: WorkerPool, most: Callable[[str], int], seconds: float) -> None:
        self._pool, self._most, self._seconds = pool, most, seconds
        self._waiting: deque[_Call] = deque()
        self._batches: list[_Batch] = []  # at the workers
        pool.watch(self._dispatch)

    @property
    def idle(self) -> bool:
        """Whether a worker is free and nothing waits for one."""
        return self._pool.free > 0 and not self._waiting

    async def start(self) -> None:
        """Returns when every worker is ready.

        Raises:
            FailedState: WORKER_START_FAILED.
        """
        await self._pool.start()

    async def close(self) -> None:
        """Stops everything; calls that wait or run get Unavailable (DRAINING)."""
        while self._waiting:
            self._waiting.popleft().fail(draining())
        await self._pool.close()

    async def run(self, work: Work) -> WorkDone:
        """The answer to one piece of work; cancelling the caller drops it.

        Raises:
            ServiceError: as WorkerPool.run.
        """
        call = _Call(work, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._dispatch()
        try:
            return await call.answer
        except asyncio.CancelledError:
            self._abandon(call)
            raise

    def _dispatch(self) -> None:
        """Gives what waits to workers that are free; with no worker at all, a request starts one or says why not."""
        while self._waiting and (self._pool.free > 0 or not (self._pool.pids or self._pool.queued)):
            self._give(self._next())

    def _next(self) -> tuple[_Call, ...]:
        """What waits longest, and others that can go with it, in their order; not more than one worker's share."""
        first = self._waiting[0]
        share = -(-len(self._waiting) // self._pool.workers)
        most = 1 if first.alone else max(1, min(self._most(first.work.embedder), share))
        calls = [call for call in self._waiting if call is first or _fits(call, first)][:most]
        for call in calls:
            self._waiting.remove(call)
        return tuple(calls)

    def _give(self, calls: tuple[_Call, ...]) -> None:
        try:
            answer = self._pool.submit(
                WorkBatch(tuple(call.work for call in calls)), timeout=self._seconds * len(calls)
            )
        except ServiceError as error:
            for call in calls:
                call.fail(error)
            return
        batch = _Batch(calls, answer)
        self._batches.append(batch)
        answer.add_done_callback(lambda _: self._answered(batch))

    def _answered(self, batch: _Batch) -> None:
        """A worker is done with a batch, or dead."""
        if batch in self._batches:
            self._batches.remove(batch)
        if batch.answer.cancelled():
            return
        error = batch.answer.exception()
        if error is None:
            for call, done in zip(batch.calls, batch.answer.result(), strict=True):
                _settle(call, done)
        elif len(batch.calls) > 1 and getattr(error, "reason", "") == "WORKER_DIED":
            for call in reversed(batch.calls):
                if not call.answer.done():
                    call.alone = True
                    self._waiting.appendleft(call)
        else:
            for call in batch.calls:
                call.fail(error)
        self._dispatch()

    def _abandon(self, call: _Call) -> None:
        if call in self._waiting:
            self._waiting.remove(call)
        for batch in list(self._batches):
            if call in batch.calls and all(one.answer.done() for one in batch.calls):
                self._batches.remove(batch)
                self._pool.abandon(batch.answer)


def _fits(call: _Call, first: _Call) -> bool:
    return not call.alone and (call.work.embedder, call.work.kind) == (first.work.embedder, first.work.kind)


def _settle(call: _Call, done: WorkDone | Exception) -> None:
    if isinstance(done, WorkDone):
        if not call.answer.done():
            call.answer.set_result(done)
        return
    if isinstance(done, RemoteError):
        log.error("worker.failed", error=done.message, trace=done.trace)
    call.fail(done)
