"""Clients that search at once: threads for a product in process, processes for a server."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.product import Product, Search, adapter

WARM_UP_CALLS, WARM_UP_SECONDS = 20, 1.0
MOST_CALLS, FEWEST_CALLS = 1000, 3
WAIT_SECONDS = 300.0  # for the slowest client's warm-up


@dataclass(frozen=True)
class Job:
    """One figure."""

    queries: int  # a call
    k: int
    bound: int | None  # highest chapter, thousandths
    setting: str  # one of the product's own
    seconds: float  # after which no client begins another call


@dataclass(frozen=True)
class Answers:
    """What one client, or several, measured."""

    seconds: NDArray[np.float64]  # of each call
    asked: NDArray[np.int64]  # the query's row, of each answer: (calls · queries,)
    ids: NDArray[np.int64]  # rows found: (calls · queries, k)


def join(parts: list[Answers]) -> Answers:
    """All clients' answers."""
    return Answers(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("seconds", "asked", "ids")))


def calls(search: Search, queries: NDArray[np.float32], job: Job, offset: int, ready: Callable[[], object]) -> Answers:
    """Searches one after the other, after a warm-up and once everybody is ready."""
    per_call = job.queries
    blocks = [np.arange(first, first + per_call) for first in range(0, len(queries) - per_call + 1, per_call)]
    begin, done = time.perf_counter(), 0
    while not done or (done < WARM_UP_CALLS and time.perf_counter() - begin < WARM_UP_SECONDS):
        search(queries[blocks[(offset + done) % len(blocks)]])
        done += 1
    ready()
    seconds: list[float] = []
    asked, ids = [], []
    end = time.perf_counter() + job.seconds
    while len(seconds) < FEWEST_CALLS or (len(seconds) < MOST_CALLS and time.perf_counter() < end):
        block = blocks[(offset + len(seconds)) % len(blocks)]
        given = queries[block]
        start = time.perf_counter()
        found = search(given)
        seconds.append(time.perf_counter() - start)
        asked.append(block)
        ids.append(found)
    return Answers(np.array(seconds), np.concatenate(asked), np.concatenate(ids))


def alone(product: Product, queries: NDArray[np.float32], job: Job) -> Answers:
    """One client, in this thread."""
    return calls(product.searcher(job.k, job.bound, job.setting), queries, job, 0, lambda: None)


Crew = Callable[[Job], Answers]


def _threads(product: Product, queries: NDArray[np.float32], clients: int, job: Job) -> Answers:
    gate = threading.Barrier(clients, timeout=WAIT_SECONDS)

    def one(number: int) -> Answers:
        try:
            search = product.connect(product.reach()).searcher(job.k, job.bound, job.setting)
            return calls(search, queries, job, 13 * number, gate.wait)
        except BaseException:
            gate.abort()
            raise

    with ThreadPoolExecutor(clients) as pool:
        return join(list(pool.map(one, range(clients))))


def _client(pipe: Connection, gate: Any, name: str, reach: Any, queries: NDArray[np.float32], number: int) -> None:
    product = adapter(name).connect(reach)
    pipe.send("connected")
    while (job := pipe.recv()) is not None:
        try:
            search = product.searcher(job.k, job.bound, job.setting)
            pipe.send(calls(search, queries, job, 13 * number, lambda: gate.wait(WAIT_SECONDS)))
        except BaseException as error:
            gate.abort()
            pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


@contextmanager
def crew(product: Product, name: str, queries: NDArray[np.float32], clients: int) -> Iterator[Crew]:
    """Runs jobs with `clients` clients at once.

    Args:
        product: running.
        name: of its adapter, for the clients' processes.
        queries: all of them, (q, dim).
        clients: at least 2.
    """
    if not product.server:
        yield lambda job: _threads(product, queries, clients, job)
        return
    spawn = multiprocessing.get_context("spawn")
    gate = spawn.Barrier(clients)
    pipes, members = [], []
    for number in range(clients):
        mine, theirs = spawn.Pipe()
        member = spawn.Process(target=_client, args=(theirs, gate, name, product.reach(), queries, number), daemon=True)
        member.start()
        pipes.append(mine)
        members.append(member)

    def run(job: Job) -> Answers:
        for pipe in pipes:
            pipe.send(job)
        parts = [pipe.recv() for pipe in pipes]
        for part in parts:
            if isinstance(part, Exception):
                gate.reset()
                raise part
        return join(parts)

    try:
        for pipe in pipes:
            pipe.recv()
        yield run
    finally:
        for member in members:
            member.kill()
            member.join()
