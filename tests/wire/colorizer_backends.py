"""Back-ends for the tests of the colouriser server: one that does what its parameters say, and some that cannot run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from colorizer.backend import Backend, BackendSpec, Card
from colorizer.types import Job, Result
from serving.errors import FailedState, InvalidInput


class Probe:
    """Paints the page in one colour: that of the first hint, else of the palette, else made of the seed.

    Parameters: seconds (of a step), trace (a file that gets a line at every step), fault (what goes wrong), go (a file;
    each step lasts until it is there).
    """

    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        for job in jobs:
            yield self._one(job)

    def _one(self, job: Job) -> Result:
        steps = job.steps or 2
        for step in range(1, steps + 1):
            _note(job, f"step {step}")
            time.sleep(float(job.parameters.get("seconds", "0")))
            while "go" in job.parameters and not Path(job.parameters["go"]).exists():
                job.progress(step - 1, steps)
                time.sleep(0.02)
            self._fault(job)
            job.progress(step, steps)
            if job.preview:
                job.preview(np.full((*job.page.shape, 3), 10 * step, np.uint8))
        _note(job, "done")
        fault = job.parameters.get("fault", "")
        if fault == "size":
            return Result(np.zeros((5, 4, 3), np.uint8))
        if fault == "dtype":
            return Result(np.zeros((*job.page.shape, 3), np.float64).astype(np.uint16))  # type: ignore[arg-type]
        pixels = np.empty((*job.page.shape, 3), np.uint8)
        pixels[:] = self._colour(job)
        used = np.zeros((4, max(len(corner) for corner in job.context)), np.bool_)
        used[:, :1] = True
        return Result(pixels, confidence=np.full(job.page.shape, 51, np.uint8), used=used)

    def _colour(self, job: Job) -> tuple[int, int, int]:
        if job.hints:
            return job.hints[0].rgb
        if job.palette:
            return job.palette[0].rgb
        return (job.seed % 256, 40, 200)

    def _fault(self, job: Job) -> None:
        match job.parameters.get("fault", ""):
            case "raise":
                raise ValueError("secret text of the back-end")
            case "say":
                raise InvalidInput("the page must be friendly, got a grim one")
            case "memory":
                raise MemoryError
            case "sticky":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            case "exit":
                os._exit(3)
            case "deaf":
                while True:
                    time.sleep(1)

    def close(self) -> None:
        """Nothing to free."""


class Together(Probe):
    """Does all jobs at the same time, step by step, and notes for each call the seeds that came.

    Parameters, beside the probe's: go (a file; nothing is done before it is there), bad (the seed whose page meets the
    fault), room (more jobs than that are out of memory).
    """

    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        told = jobs[0].parameters
        _note(jobs[0], "call " + " ".join(str(job.seed) for job in jobs))
        while "go" in told and not Path(told["go"]).exists():
            jobs[0].progress(0, jobs[0].steps or 2)
            time.sleep(0.02)
        if len(jobs) > int(told.get("room", "99")):
            raise MemoryError
        steps = jobs[0].steps or 2
        for step in range(1, steps + 1):
            time.sleep(float(told.get("seconds", "0")))
            for job in jobs:
                if str(job.seed) == told.get("bad"):
                    self._fault(job)
                job.progress(step, steps)
                if job.preview:
                    job.preview(np.full((*job.page.shape, 3), job.seed, np.uint8))
            _note(jobs[0], f"step {step}")
        for job in jobs:
            if str(job.seed) == told.get("bad") and told.get("fault") == "size":
                yield Result(np.zeros((5, 4, 3), np.uint8))
                continue
            pixels = np.empty((*job.page.shape, 3), np.uint8)
            pixels[:] = self._colour(job)
            _note(job, f"done {job.seed}")
            yield Result(pixels)


def _load_together(settings: Mapping[str, str]) -> Backend:
    return Together()


def _note(job: Job, line: str) -> None:
    if "trace" in job.parameters:
        with Path(job.parameters["trace"]).open("a") as file:
            file.write(f"{os.getpid()} {line}\n")


def _load(settings: Mapping[str, str]) -> Backend:
    return Probe()


def _refuse(settings: Mapping[str, str]) -> Backend:
    raise FailedState("the weights in /nowhere do not match their checksum")


def _card(name: str, **changes: object) -> Card:
    facts: dict[str, object] = {
        "name": name,
        "version": "7",
        "description": "For tests.",
        "inputs": ("references", "hints", "palette", "seed", "steps", "preview"),
        "min_side": 24,
        "max_pixels": 4_000_000,
        "hits_per_corner": 2,
        "default_steps": 2,
        "code_licence": "Apache-2.0",
        "weights_licence": "CC0-1.0",
        "weights_sha256": {"weights.bin": "00" * 32},
        "parameters": dict.fromkeys(("seconds", "trace", "fault", "go"), "As it says."),
        **changes,
    }
    return Card(**facts)  # type: ignore[arg-type]


PROBE = BackendSpec(_card("probe"), _load)
MISSING = BackendSpec(_card("missing"), _load, lambda _: "the package unobtainium is not installed; run pip install it")
UNLOADABLE = BackendSpec(_card("unloadable"), _refuse)
CUDA = BackendSpec(_card("cuda-only", device="cuda"), _load)
OWN = BackendSpec(_card("own"), _load, own_process=True)
OWN_MISSING = BackendSpec(_card("own-missing"), _load, lambda _: "its weights are not here", own_process=True)
_TOGETHER = dict.fromkeys(("seconds", "trace", "fault", "go", "bad", "room"), "As it says.")
TOGETHER = BackendSpec(_card("together", batch=4, parameters=_TOGETHER), _load_together)
TOGETHER_OWN = BackendSpec(_card("together-own", batch=4, parameters=_TOGETHER), _load_together, own_process=True)
# HIDDEN_IMPORT is meant not to exist: a spec that cannot be found is listed, and harms nobody.
