"""What every recipe is asked: the command's flags as one object; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Start = Literal["auto", "resume", "fresh"]


@dataclass(frozen=True)
class Report:
    """One logged step, for whoever watches."""

    step: int  # steps that are done
    steps: int | None  # steps wanted; None where minutes decide
    seconds: float  # of training so far, over all resumes
    budget: float | int | None  # seconds of training wanted; None where steps decide
    values: Mapping[str, float | int]  # as logged, such as {"loss": 0.1}


def ignore(_report: Report) -> None:
    """The listener of those who do not watch."""


@dataclass(frozen=True)
class Options:
    """What a recipe gets. Whatever else a recipe can be told has a default of its own."""

    data: Path  # holds manifest.json; see `stories.read_stories`
    out: Path  # checkpoints, curve and the finished model; made if need be
    minutes: float | int | None = None  # of training, counted over resumes; None: no limit of time
    steps: int | None = None  # optimiser steps in all; None: the recipe's own number, or no limit where minutes are set
    seed: int = 0  # of everything that is drawn
    device: str = "auto"  # "auto" is a GPU where there is one; else a name for torch, such as "cpu" or "cuda:1"
    start: Start = "auto"  # "auto" resumes where there is something; "fresh" puts what is there aside
    report: Callable[[Report], None] = ignore  # called at each logged step
