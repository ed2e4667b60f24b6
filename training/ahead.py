"""Samples made one step ahead, on a second thread, while the networks are at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(steps: Iterator[int], draw: Callable[[int], T]) -> Iterator[tuple[int, T]]:
    """Each step with its sample; the next step's is being made meanwhile.

    Args:
        steps: consecutive numbers, such as `Run.loop` gives.
        draw: a step's sample, from nothing but the step; one beyond the last may be drawn for nothing. What it raises
            is raised here, at its step.
    """
    with ThreadPoolExecutor(1, "samples") as pool:
        waiting: dict[int, Future[T]] = {}
        for step in steps:
            sample = (waiting.pop(step, None) or pool.submit(draw, step)).result()
            waiting = {step + 1: pool.submit(draw, step + 1)}
            yield step, sample
