"""Pages that wait for the same back-end under the same options go to a worker together.

A pool in front of the worker processes. Pages wait here; as soon as a worker is free, it is given the page that waits
longest, and others of its kind. Nobody waits for company: a page that is alone goes alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from colorizer.tasks import OfPage, Options, PageBatch, PageOutcome, PageTask
from serving.errors import ServiceError, Unavailable
from serving.workers import RemoteError, WorkerPool

log = structlog.get_logger("panelhue.colorizer")


@dataclass(eq=False)
class _Page:
    """One call of `run`."""

    task: PageTask | None  # None once a worker has it
    outcome: asyncio.Future[PageOutcome]
    on_event: Callable[[Any], None] | None
    on_position: Callable[[int], None] | None
    position: int = -1  # as last told

    @property
    def over(self) -> bool:
        return self.outcome.done()

    def fail(self, error: BaseException) -> None:
        if not self.over:
            self.outcome.set_exception(error)


@dataclass(eq=False)
class _Batch:
    """Pages that a worker was given together."""

    pages: tuple[_Page, ...]
    answer: asyncio.Future[Any] = field(init=False)


class BatchPool:
    """Meets `lanes.Pool`.

    A page that is cancelled, or out of time, leaves the others of its batch alone: it is computed with them, and its
    result is dropped. The worker is asked to stop when all pages of its batch are gone.

    Args:
        pool: the workers, whose handler takes a PageTask and a PageBatch; used by this pool alone.
        most: pages that may go together, by the back-end's name.
    """

    def __init__(self, pool: WorkerPool, most: Callable[[str], int]) -> None:
        self._pool = pool
        self._most = most
        self._waiting: deque[_Page] = deque()
        self._batches: list[_Batch] = []  # at the workers, in the order in which they were given
        self._closed = False
        pool.watch(self._dispatch)

    @property
    def workers(self) -> int:
        """Processes that work at the same time."""
        return self._pool.workers

    async def start(self) -> None:
        """Returns when every worker is ready.

        Raises:
            FailedState: WORKER_START_FAILED.
            Unavailable: DRAINING.
        """
        await self._pool.start()

    async def close(self) -> None:
        """Stops everything; waiting and running calls get Unavailable (DRAINING)."""
        self._closed = True
        while self._waiting:
            error = Unavailable("the server is shutting down and takes no more work", reason="DRAINING")
            self._waiting.popleft().fail(error)
        await self._pool.close()

    async def run(
        self,
        request: PageTask,
        *,
        on_event: Callable[[Any], None] | None = None,
        on_position: Callable[[int], None] | None = None,
    ) -> PageOutcome:
        """The outcome of a task, computed alone or with others; cancelling the caller drops it.

        Args:
            request: the page.
            on_event: called with each event of the page, all of them before the outcome.
            on_position: called with the number of pages before this one: at once, then at every change.

        Raises:
            ServiceError: as WorkerPool.run; WORKER_DIED fails all pages of the batch, and no others.
        """
        page = _Page(request, asyncio.get_running_loop().create_future(), on_event, on_position)
        self._waiting.append(page)
        self._report_positions()
        self._dispatch()
        try:
            return await page.outcome
        except asyncio.CancelledError:
            self._abandon(page)
            raise

    def _dispatch(self) -> None:
        """Gives waiting pages to workers that are free."""
        while self._waiting and self._may_give():
            self._give(self._next())
        self._report_positions()

    def _may_give(self) -> bool:
        """Whether a worker is free; or there is none at all, and a request starts one or says why that can't be."""
        return self._closed or self._pool.free > 0 or not (self._pool.pids or self._pool.queued)

    def _next(self) -> tuple[_Page, ...]:
        """The page that waits longest, and others that can go with it, in their order."""
        first = self._waiting[0].task
        assert first
        most, kind = max(1, self._most(first.backend)), _kind(first)
        pages = [page for page in self._waiting if page.task and _kind(page.task) == kind][:most]
        for page in pages:
            self._waiting.remove(page)
        return tuple(pages)

    def _give(self, pages: tuple[_Page, ...]) -> None:
        batch = _Batch(pages)
        tasks = tuple(page.task for page in pages if page.task)
        for page in pages:
            page.task = None

        def on_event(event: Any) -> None:
            if len(pages) == 1:
                self._call(pages[0], pages[0].on_event, event)
            elif isinstance(event, OfPage):
                self._take(pages[event.index], event.what)

        request = tasks[0] if len(tasks) == 1 else PageBatch(tasks)
        try:
            batch.answer = self._pool.submit(request, on_event=on_event)
        except ServiceError as error:
            for page in pages:
                page.fail(error)
            return
        self._batches.append(batch)
        batch.answer.add_done_callback(lambda answer: self._answered(batch, answer))

    def _take(self, page: _Page, what: object) -> None:
        """An event or the end of one page of several."""
        if isinstance(what, PageOutcome):
            if not page.over:
                page.outcome.set_result(what)
        elif isinstance(what, Exception):
            if isinstance(what, RemoteError):
                log.error("worker.failed", error=what.message, trace=what.trace)
            page.fail(what)
        else:
            self._call(page, page.on_event, what)

    def _answered(self, batch: _Batch, answer: asyncio.Future[Any]) -> None:
        """A worker is done with a batch, or dead."""
        if batch in self._batches:
            self._batches.remove(batch)
        if answer.cancelled():
            return
        error = answer.exception()
        if error is None and len(batch.pages) == 1:
            self._take(batch.pages[0], answer.result())
        for page in batch.pages:
            page.fail(error or RemoteError("a worker gave no answer for a page of its batch"))
        self._report_positions()

    def _report_positions(self) -> None:
        """Tells pages how many are before them; a batch that waits for a worker to start is not begun either."""
        stuck = self._batches[max(0, len(self._batches) - self._pool.queued) :]
        for position, page in enumerate([*(page for batch in stuck for page in batch.pages), *self._waiting]):
            if page.position != position:
                page.position = position
                self._call(page, page.on_position, position)

    def _call(self, page: _Page, callback: Callable[[Any], None] | None, value: object) -> None:
        """Calls it; what it raises becomes the outcome of its own page."""
        if callback is None or page.over:
            return
        try:
            callback(value)
        except Exception as error:
            page.fail(error)
            self._abandon(page)

    def _abandon(self, page: _Page) -> None:
        if page in self._waiting:
            self._waiting.remove(page)
            self._report_positions()
        for batch in list(self._batches):
            if page in batch.pages and all(one.over for one in batch.pages):
                self._batches.remove(batch)
                self._pool.abandon(batch.answer)


def _kind(task: PageTask) -> tuple[str, Options]:
    """Equal for pages that can go together: seed and palette are each page's own, and so is its time."""
    return task.backend, replace(
        task.options, series=None, seed=0, palette=(), request_id="", page_timeout=None, backend=""
    )
