"""Back-ends that break one promise each, to prove that the conformance suite notices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from colorizer.backend import BackendSpec, Card
from colorizer.luma import chroma_of, with_luma
from colorizer.types import Job, Result

CARD = Card(
    "broken",
    "1",
    "Breaks one promise.",
    inputs=("references", "steps", "preview"),
    determinism="exact",
    code_licence="Apache-2.0",
    default_steps=2,
    keeps_luma=True,
)


class Sound:
    """Breaks none; the others differ from it in one method."""

    def __init__(self) -> None:
        self.closed = False

    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        for job in jobs:
            yield self.one(job)

    def one(self, job: Job) -> Result:
        self.steps(job, job.steps or 2)
        return Result(self.paint(job))

    def steps(self, job: Job, steps: int) -> None:
        for step in range(1, steps + 1):
            job.progress(step, steps)
            if job.preview:
                job.preview(np.zeros((8, 8, 3), np.uint8))

    def paint(self, job: Job) -> np.ndarray:
        hits = [hit for corner in job.context for hit in corner]
        if not hits:
            return np.repeat(job.page[..., None], 3, axis=2)
        colour = np.rint(hits[0].pixels.mean(axis=(0, 1), keepdims=True)).astype(np.uint8)
        return with_luma(job.page, np.broadcast_to(chroma_of(colour), (*job.page.shape, 2)))

    def close(self) -> None:
        self.closed = True


class WrongSize(Sound):
    def paint(self, job: Job) -> np.ndarray:
        return super().paint(job)[:-1]


class Floats(Sound):
    def paint(self, job: Job) -> np.ndarray:
        return super().paint(job) / 255


class OddSizesRounded(Sound):
    def paint(self, job: Job) -> np.ndarray:
        height, width = job.page.shape
        return super().paint(job)[: height // 2 * 2, : width // 2 * 2]


class NeedsReferences(Sound):
    def paint(self, job: Job) -> np.ndarray:
        return super().paint(job) + 0 * job.context[0][0].pixels[0, 0]


class NeedsEvenCorners(Sound):
    def one(self, job: Job) -> Result:
        used = np.array([[True for _ in corner] for corner in job.context])
        return replace(super().one(job), used=used)


class WritesToThePage(Sound):
    def paint(self, job: Job) -> np.ndarray:
        result = super().paint(job)
        if job.page.flags.writeable:
            job.page[0, 0] ^= 1
        return result


class Dice(Sound):
    def paint(self, job: Job) -> np.ndarray:
        noise = np.random.default_rng().integers(0, 2, job.page.shape, np.uint8)
        return super().paint(job) ^ noise[..., None]


class DiffersByInstance(Sound):
    count = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.number = next(self.count)

    def paint(self, job: Job) -> np.ndarray:
        return super().paint(job) ^ np.uint8(self.number % 2)


class Backwards(Sound):
    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        yield from reversed([self.one(job) for job in jobs])


class ForgetsTheLast(Sound):
    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        for job in jobs[:-1] or jobs:
            yield self.one(job)


class NoProgress(Sound):
    def steps(self, job: Job, steps: int) -> None:
        return


class ProgressGoesBack(Sound):
    def steps(self, job: Job, steps: int) -> None:
        for step in (2, 1, steps):
            job.progress(step, steps)


class ProgressStopsShort(Sound):
    def steps(self, job: Job, steps: int) -> None:
        job.progress(0, steps)


class IgnoresSteps(Sound):
    def steps(self, job: Job, steps: int) -> None:
        super().steps(job, 2)


class SwallowsTheStop(Sound):
    def steps(self, job: Job, steps: int) -> None:
        for step in range(1, steps + 1):
            try:
                job.progress(step, steps)
            except Exception:
                continue


class WrapsTheStop(Sound):
    def steps(self, job: Job, steps: int) -> None:
        try:
            super().steps(job, steps)
        except Exception as error:
            raise RuntimeError("something happened") from error


class SpoiltByAStop(Sound):
    spoilt = False

    def steps(self, job: Job, steps: int) -> None:
        try:
            super().steps(job, steps)
        except Exception:
            self.spoilt = True
            raise

    def paint(self, job: Job) -> np.ndarray:
        return super().paint(job) ^ np.uint8(self.spoilt)


class LosesLuma(Sound):
    def paint(self, job: Job) -> np.ndarray:
        return np.minimum(super().paint(job), 250).astype(np.uint8)


class GreyPreviews(Sound):
    def steps(self, job: Job, steps: int) -> None:
        for step in range(1, steps + 1):
            job.progress(step, steps)
            if job.preview:
                job.preview(np.zeros((8, 8), np.uint8))


class NeverLooksAtReferences(Sound):
    def paint(self, job: Job) -> np.ndarray:
        return np.repeat(job.page[..., None], 3, axis=2)


class IgnoresThePalette(Sound):
    inputs = ("palette",)


class IgnoresHints(Sound):
    inputs = ("hints",)


class ClosesOnce(Sound):
    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        super().close()


class SharedState(Sound):
    alive = True

    def one(self, job: Job) -> Result:
        if not SharedState.alive:
            raise RuntimeError("closed")
        return super().one(job)

    def close(self) -> None:
        SharedState.alive = False


class StumblesOverParameters(Sound):
    def one(self, job: Job) -> Result:
        if job.parameters:
            raise KeyError(next(iter(job.parameters)))
        return super().one(job)


class SmallSeeds(Sound):
    def one(self, job: Job) -> Result:
        np.random.default_rng(np.int64(job.seed))
        return super().one(job)


class DividesByInk(Sound):
    def paint(self, job: Job) -> np.ndarray:
        if not (job.page < 255).any():
            raise ZeroDivisionError("no ink")
        return super().paint(job)


class NotABackend:
    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        yield from Sound().colorize(jobs)


BROKEN: dict[type, str] = {
    WrongSize: "size_is_kept",
    Floats: "size_is_kept",
    OddSizesRounded: "odd_sizes",
    NeedsReferences: "no_references",
    NeedsEvenCorners: "uneven_corners",
    WritesToThePage: "inputs_are_unchanged",
    Dice: "one_seed_one_result",
    DiffersByInstance: "no_hidden_state",
    Backwards: "order_is_kept",
    ForgetsTheLast: "order_is_kept",
    NoProgress: "progress_is_monotone",
    ProgressGoesBack: "progress_is_monotone",
    ProgressStopsShort: "progress_is_monotone",
    IgnoresSteps: "steps_are_followed",
    SwallowsTheStop: "a_raise_from_progress_stops",
    WrapsTheStop: "a_raise_from_progress_stops",
    SpoiltByAStop: "usable_after_a_stop",
    LosesLuma: "luma_is_kept",
    GreyPreviews: "previews",
    NeverLooksAtReferences: "references_count",
    IgnoresThePalette: "palette_counts",
    IgnoresHints: "hints_count",
    ClosesOnce: "close_twice",
    SharedState: "close_twice",
    StumblesOverParameters: "anything_optional",
    SmallSeeds: "anything_optional",
    DividesByInk: "plain_pages",
    NotABackend: "loads",
}


def spec_of(make: Callable[[], object], card: Card = CARD) -> BackendSpec:
    card = replace(card, inputs=(*card.inputs, *getattr(make, "inputs", ())))
    return BackendSpec(card, lambda settings: make())  # type: ignore[arg-type, return-value]
