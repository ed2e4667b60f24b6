"""One row of the `colorflow` benchmarks: the real runner with random networks, laid out and run in one way."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.colorflow_flops import page_flops
from benchmarks.colorflow_random import RandomLibrary, Scale, grey_page, patches
from colorizer.backends.colorflow.fit import Size, refined_size
from colorizer.backends.colorflow.runner import Placing, Recipe, Runner, Unit
from colorizer.backends.colorflow.styles import STYLES

Kind = Literal["exact", "approximate", "other"]
"""What a way of running does to the picture: the same up to rounding, about the same, or another one on purpose."""


@dataclass(frozen=True)
class Variant:
    """A way of running, as it differs from the back-end's default on that device."""

    name: str
    what: str  # for people
    kind: Kind = "exact"
    placing: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    precision: str = ""  # "": the default's
    beside: bool = False
    batch: int = 1
    again: bool = False  # the same pages over and over with other seeds, not a new page each time

    @property
    def compiled(self) -> bool:
        """Whether torch.compile is in it."""
        return "compile" in self.placing


OURS = Variant("ours", "the default: one posterior sample for both guidance halves, LoRA merged, batch 1")


@dataclass(frozen=True)
class Bench:
    """What all rows of a run share."""

    scale: Scale
    style: str
    device: torch.device
    precision: str  # of the default
    steps: int = 10
    repeats: int = 5  # timed batches
    patience: float = 20.0  # seconds of timed batches after which three are enough
    matmul: Mapping[str, float] = field(default_factory=dict)  # measured TFLOP/s by precision

    def recipe(self, variant: Variant) -> Recipe:
        """The variant's recipe."""
        style = STYLES[self.style]
        return replace(Recipe(style, self.steps, style.guidance), **variant.recipe)


class Rows:
    """Measures rows; remembers the default's latents, with which those of other rows are compared."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._latents: dict[Size, Tensor] = {}

    def measure(self, variant: Variant, size: Size) -> dict[str, Any]:
        """The figures of one row, or the reason why there are none: out of memory, or an error.

        Args:
            variant: the way of running.
            size: width and height of the page in the canvas.
        """
        try:
            return self._measured(variant, size)
        except torch.OutOfMemoryError:
            return {"failed": "out of memory"}
        except Exception as error:  # a row that fails is a row that says so
            text = str(error).strip().splitlines() or [""]
            return {"failed": f"{type(error).__name__}: {text[0][:200]}"}
        finally:
            _cleared(self.bench.device)

    def _measured(self, variant: Variant, size: Size) -> dict[str, Any]:
        bench = self.bench
        session = Session(bench, variant, size)
        try:
            warm = [session.batch(0)]  # loads, compiles, captures
            latents = session.latents
            warm.append(session.batch(1))
            _free(bench.device)
            _reset_peak(bench.device)
            session.batch(2)  # counts for memory alone: it pays for the allocations
            memory = _memory(bench.device)
            session.stages.clear()
            seconds: list[float] = []
            while len(seconds) < bench.repeats and not (len(seconds) >= 3 and sum(seconds) > bench.patience):
                seconds.append(session.batch(3 + len(seconds)))
        finally:
            session.close()
        row = session.figures(seconds) | {"warm_up_s": warm, **memory}
        if variant.kind != "other" and variant.name != OURS.name:
            row["latent_error"] = relative_error(latents, self._wanted(size))
        if variant.name == OURS.name:
            self._latents[size] = latents
        return row

    def _wanted(self, size: Size) -> Tensor:
        """The default's latents of the first page."""
        if size not in self._latents:
            _cleared(self.bench.device)
            session = Session(self.bench, OURS, size)
            try:
                session.batch(0)
                self._latents[size] = session.latents
            finally:
                session.close()
        return self._latents[size]


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Distance of latents from others, as a share of the others' length."""
    return float(torch.linalg.vector_norm(found - wanted) / torch.linalg.vector_norm(wanted))


class Session:
    """A runner with its networks, laid out in one row's way; `stages` has the seconds of each batch's stages."""

    def __init__(self, bench: Bench, variant: Variant, size: Size) -> None:
        self.precision = variant.precision or bench.precision
        self.stages: dict[str, list[float]] = {}
        self._bench, self._variant, self._size = bench, variant, size
        self._library = RandomLibrary(bench.scale, bench.device, getattr(torch, self.precision), beside=variant.beside)
        self._runner = Runner(self._library, Placing(bench.device, **variant.placing), clock=self._clock)
        self._recipe = bench.recipe(variant)
        self._patches = patches(size, 0)
        self._sums: dict[str, float] = {}

    def batch(self, number: int) -> float:
        """Seconds of one batch, from grey pages at the refined size to coloured ones, both on the CPU."""
        count, bench = self._variant.batch, self._bench
        seeds = [number * count + one for one in range(count)]
        pages = [grey_page(refined_size(self._size), one if self._variant.again else seed)
                 for one, seed in enumerate(seeds)]  # fmt: skip
        self._library.decoded.clear()
        self._sums = {}
        _wait(bench.device)
        begin = time.perf_counter()
        style, parity = self._recipe.style, self._recipe.parity
        units = [
            Unit(self._runner.guides(style, page, seed if parity else None), self._size, self._patches, seed)
            for page, seed in zip(pages, seeds, strict=True)
        ]
        found = self._runner.run(self._recipe, units, lambda _done, _steps: None)
        seconds = time.perf_counter() - begin  # the pages are on the CPU: the device has done everything
        assert [page.shape[:2] for page in found] == [page.shape for page in pages]
        for stage, time_spent in self._sums.items():
            self.stages.setdefault(stage, []).append(time_spent)
        return seconds

    @property
    def latents(self) -> Tensor:
        """Of the last batch's first page, as they were decoded; must be finite."""
        first = self._library.decoded[0][:1].float().cpu()
        if not bool(first.isfinite().all()):
            raise ArithmeticError("the latents are not finite in this precision")
        return first

    def figures(self, seconds: Sequence[float]) -> dict[str, Any]:
        """A row: time, work and speed, per page.

        Args:
            seconds: of the timed batches; `stages` must have those of the same ones.
        """
        bench, variant = self._bench, self._variant
        pages = np.array(seconds) / variant.batch
        median = float(np.median(pages))
        flops = page_flops(bench.scale, self._recipe, self._size, beside=variant.beside, again=variant.again)
        total = sum(flops.values()) / 1e12
        row: dict[str, Any] = {
            "kind": variant.kind,
            "precision": self.precision,
            "batch": variant.batch,
            "s_per_page": median,
            "s_per_page_min": float(pages.min()),
            "s_per_page_p95": float(np.percentile(pages, 95)),
            "n": len(seconds),
            "pages_per_min": 60 / median,
            "stages_s": {name: float(np.median(times)) / variant.batch for name, times in self.stages.items()},
            "stages_tflop": {name: value / 1e12 for name, value in flops.items()},
            "tflop": total,
            "tflop_per_s": total / median,
        }
        if rate := bench.matmul.get(self.precision):
            row |= {"matmul_tflop_per_s": rate, "of_matmul_rate": total / median / rate}
        return row

    def close(self) -> None:
        """Frees the networks."""
        self._runner.close()
        self._library.decoded.clear()

    def _clock(self, stage: str, seconds: float) -> None:
        self._sums[stage] = self._sums.get(stage, 0.0) + seconds


def matmul_rate(device: torch.device, precision: str, side: int) -> float:
    """TFLOP/s of a product of two square matrices, the median of ten runs after three of warm-up."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.float32).to(getattr(torch, precision)) for _ in "ab")
    seconds = []
    for _ in range(13):
        _wait(device)
        begin = time.perf_counter()
        for _ in range(10):
            torch.mm(a, b)
        _wait(device)
        seconds.append((time.perf_counter() - begin) / 10)
    return 2 * side**3 / float(np.median(seconds[3:])) / 1e12


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _cleared(device: torch.device) -> None:
    """Nothing of the last row remains: neither its memory nor what the compiler learnt of its shapes."""
    torch.compiler.reset()
    _free(device)


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _memory(device: torch.device) -> dict[str, float]:
    """What the allocator held at most since the reset, and what is allocated now; nothing where nobody counts it."""
    if device.type != "cuda":
        return {}
    return {
        "peak_reserved_gib": torch.cuda.max_memory_reserved(device) / 2**30,
        "peak_allocated_gib": torch.cuda.max_memory_allocated(device) / 2**30,
        "between_pages_gib": torch.cuda.memory_allocated(device) / 2**30,
    }
