"""The promises that every back-end keeps, each as a check that any back-end can be put to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from colorizer.backend import INPUTS, Backend, Card
from colorizer.conformance.findings import Broken, expect
from colorizer.conformance.guidance import off_hint, off_palette
from colorizer.conformance.pictures import drawing, drawn_context
from colorizer.luma import luma_of
from colorizer.types import Hint, Job, Result, Swatch
from serving.geometry import CORNERS

_ODD_SIZES = ((97, 73), (113, 64), (64, 131))
_TOLERANCE = 2.0  # mean difference, of 255, that DETERMINISM_TOLERANCE allows


class _Stop(Exception):
    """What the checks raise from `progress`."""


@dataclass(frozen=True)
class Bench:
    """A back-end on trial."""

    card: Card
    load: Callable[[], Backend]
    size: tuple[int, int]
    parameters: Mapping[str, str] = field(default_factory=dict)
    held: dict[str, Backend] = field(default_factory=dict)

    @property
    def backend(self) -> Backend:
        """The one that most checks share; loaded at first use."""
        if "shared" not in self.held:
            self.held["shared"] = self.load()
        return self.held["shared"]

    def run(self, *jobs: Job) -> list[Result]:
        """The results of one call, as many as there are jobs."""
        results = list(self.backend.colorize(jobs))
        expect(len(results) == len(jobs), f"{len(jobs)} results for {len(jobs)} jobs", len(results))
        return results

    def job(self, size: tuple[int, int] | None = None, seed: int = 1, **changes: object) -> Job:
        """An ordinary page with a full context."""
        width, height = size or self.size
        job = Job(
            page=drawing(width, height, seed),
            seed=seed,
            context=drawn_context(width, height, self.card.hits_per_corner or 1),
            parameters=dict(self.parameters),
        )
        return replace(job, **changes)  # type: ignore[arg-type]  # the fields of Job, by name


Check = Callable[[Bench], None]
CHECKS: dict[str, tuple[str, Check]] = {}  # name to sentence and check, in the order in which they are made


def _promise(sentence: str) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        CHECKS[check.__name__.removeprefix("_")] = (sentence, check)
        return check

    return register


@_promise("The back-end loads and meets the protocol.")
def _loads(bench: Bench) -> None:
    expect(isinstance(bench.backend, Backend), "an object with colorize and close", type(bench.backend).__name__)


@_promise("The card is complete.")
def _card_is_complete(bench: Bench) -> None:
    card = bench.card
    for name in ("name", "version", "description", "code_licence"):
        expect(bool(getattr(card, name)), f"the card's {name} to be set", "nothing")
    expect(set(card.inputs) <= set(INPUTS), f"inputs among {', '.join(INPUTS)}", ", ".join(card.inputs))
    expect(
        card.min_side >= 1 and card.max_pixels >= card.min_side**2, "min_side and max_pixels that allow a page", card
    )
    expect(
        bool(card.weights_licence) or not card.weights_sha256, "a weights_licence beside weights_sha256", "no licence"
    )
    expect("steps" not in card.inputs or card.default_steps >= 1, "default_steps where steps can be chosen", 0)


@_promise("The result is uint8 RGB and has the page's size.")
def _size_is_kept(bench: Bench) -> None:
    _check_result(bench.job(), bench.run(bench.job())[0])


@_promise("Pages of odd sizes are taken.")
def _odd_sizes(bench: Bench) -> None:
    for width, height in _ODD_SIZES:
        side = bench.card.min_side
        job = bench.job((max(width, side), max(height, side)))
        _check_result(job, bench.run(job)[0])


@_promise("A page of the smallest side that the card allows is taken.")
def _smallest_page(bench: Bench) -> None:
    side = bench.card.min_side
    job = replace(bench.job(), page=drawing(side, side, 1))
    _check_result(job, bench.run(job)[0])


@_promise("A page without any reference is taken.")
def _no_references(bench: Bench) -> None:
    job = bench.job(context=((),) * len(CORNERS))
    _check_result(job, bench.run(job)[0])


@_promise("Corners may have different numbers of hits, down to none.")
def _uneven_corners(bench: Bench) -> None:
    full = bench.job()
    uneven = bench.job(context=tuple(() if i % 2 else corner for i, corner in enumerate(full.context)))
    _check_result(uneven, bench.run(uneven)[0])


@_promise("Hits of odd, tiny and narrow sizes are taken.")
def _hits_of_odd_sizes(bench: Bench) -> None:
    job = bench.job()
    shapes = ((1, 1), (7, 31), (200, 3), (33, 33))
    patches = [np.full((*shape, 3), (200, 90, 40), np.uint8) for shape in shapes]
    context = tuple(
        tuple(replace(hit, pixels=patches[(corner + rank) % len(patches)]) for rank, hit in enumerate(hits))
        for corner, hits in enumerate(job.context)
    )
    _check_result(job, bench.run(replace(job, context=context))[0])


@_promise("Pages that are all white, all black or all noise are taken.")
def _plain_pages(bench: Bench) -> None:
    width, height = bench.size
    noise = np.random.default_rng(3).integers(0, 256, (height, width), np.uint8)
    for page in (np.zeros_like(noise), np.full_like(noise, 255), noise):
        job = bench.job(page=page)
        _check_result(job, bench.run(job)[0])


@_promise("Inputs are not written to.")
def _inputs_are_unchanged(bench: Bench) -> None:
    job = bench.job()
    arrays = [job.page, *(hit.pixels for corner in job.context for hit in corner)]
    before = [array.copy() for array in arrays]
    bench.run(job)
    for index, (array, copy) in enumerate(zip(arrays, before, strict=True)):
        what = "the page" if index == 0 else f"hit {index}"
        expect(np.array_equal(array, copy), f"{what} as it was", "other pixels")
    for array in arrays:
        array.setflags(write=False)
    bench.run(job)


@_promise("One seed gives one result on one machine, as far as the card says.")
def _one_seed_one_result(bench: Bench) -> None:
    if bench.card.determinism == "none":
        return
    job = bench.job(seed=5)
    other = bench.job(seed=6, size=(bench.size[0] + 8, bench.size[1] + 8))
    first, _, second = (bench.run(one)[0].pixels for one in (job, other, job))
    away = float(np.abs(first.astype(np.int16) - second.astype(np.int16)).mean())
    allowed = 0.0 if bench.card.determinism == "exact" else _TOLERANCE
    expect(away <= allowed, f"a mean difference of at most {allowed:g} between two runs", f"{away:.3g}")


@_promise("A second instance gives the same result as the first.")
def _no_hidden_state(bench: Bench) -> None:
    if bench.card.determinism != "exact":
        return
    job = bench.job(seed=5)
    expected = bench.run(job)[0].pixels
    fresh = bench.load()
    try:
        (result,) = fresh.colorize([job])
    finally:
        fresh.close()
    expect(np.array_equal(expected, result.pixels), "the same pixels from a fresh instance", "other pixels")


@_promise("Several jobs of different sizes give their results in order.")
def _order_is_kept(bench: Bench) -> None:
    width, height = bench.size
    jobs = [bench.job((width + 8 * i, height + 4 * i), seed=i) for i in range(3)]
    for job, result in zip(jobs, bench.run(*jobs), strict=True):
        _check_result(job, result)
    if bench.card.determinism == "exact":
        alone = bench.run(jobs[1])[0].pixels
        expect(
            np.array_equal(alone, bench.run(*jobs)[1].pixels), "a job's result not to depend on others", "other pixels"
        )


@_promise("No jobs give no results.")
def _no_jobs(bench: Bench) -> None:
    expect(not list(bench.backend.colorize([])), "no result for no job", "one or more")


@_promise("Progress is reported, never goes back and ends at `steps`.")
def _progress_is_monotone(bench: Bench) -> None:
    seen = _progress_of(bench, bench.job())
    expect(bool(seen), "progress to be called at least once", "never")
    steps = [total for _, total in seen]
    expect(min(steps) >= 1 and len(set(steps)) == 1, "one number of steps, at least 1", sorted(set(steps)))
    done = [step for step, _ in seen]
    expect(done[0] >= 0 and done == sorted(done), "steps that never go back", done)
    expect(done[-1] == steps[0], f"the last step to be {steps[0]}", done[-1])


@_promise("More steps asked for are more steps reported, where the card says that they can be chosen.")
def _steps_are_followed(bench: Bench) -> None:
    if "steps" not in bench.card.inputs:
        return
    few, many = (_progress_of(bench, bench.job(steps=steps))[-1:] for steps in (4, 12))
    more = bool(few and many) and many[0][1] > few[0][1]
    expect(more, "more steps in all for 12 than for 4", f"(done, in all) {few} and {many}")


def _progress_of(bench: Bench, job: Job) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    bench.run(replace(job, progress=lambda step, steps: seen.append((step, steps))))
    return seen


@_promise("What `progress` raises ends the job at once and comes through as it is.")
def _a_raise_from_progress_stops(bench: Bench) -> None:
    calls: list[int] = []

    def stop(step: int, steps: int) -> None:  # noqa: ARG001 - the signature of Job.progress
        calls.append(step)
        raise _Stop

    try:
        list(bench.backend.colorize([replace(bench.job(), progress=stop), replace(bench.job(), progress=stop)]))
    except _Stop:
        expect(len(calls) == 1, "no step after the one that raised", f"{len(calls) - 1} more")
        return
    except Exception as error:
        raise Broken(f"expected the exception that progress raised, got {type(error).__name__}: {error}") from error
    raise Broken("expected the exception that progress raised, got results")


@_promise("After a cancelled job the back-end is as good as before.")
def _usable_after_a_stop(bench: Bench) -> None:
    fresh = replace(bench, held={})  # the shared one was stopped before
    job = bench.job(seed=5)
    before = fresh.run(job)[0].pixels
    with suppress(Exception):
        _a_raise_from_progress_stops(fresh)
    after = fresh.run(job)[0]
    fresh.backend.close()
    _check_result(job, after)
    if bench.card.determinism == "exact":
        expect(np.array_equal(before, after.pixels), "the same pixels as before the stop", "other pixels")


@_promise("Results that nobody takes do no harm.")
def _abandoned_results(bench: Bench) -> None:
    results = bench.backend.colorize([bench.job(), bench.job()])
    next(iter(results))
    del results
    _check_result(bench.job(), bench.run(bench.job())[0])


@_promise("Hints, palette, seeds up to 2^64 - 1 and unknown parameters do not make it fail.")
def _anything_optional(bench: Bench) -> None:
    width, height = bench.size
    corners = ((0.0, 0.0), (width - 0.5, height - 0.5))
    hints = tuple(Hint(x, y, radius, (255, 0, 0)) for x, y in corners for radius in (0.5, 4.0, 400.0))
    palette = (Swatch("hair", (220, 60, 40)), Swatch("sky", (120, 170, 240)))
    job = bench.job(
        hints=hints, palette=palette, seed=2**64 - 1, parameters={**bench.parameters, "no such parameter": "∞"}
    )
    _check_result(job, bench.run(job)[0])


@_promise("The page's luma is kept to the bit, where the card says so.")
def _luma_is_kept(bench: Bench) -> None:
    if not bench.card.keeps_luma:
        return
    for job in (bench.job(), bench.job(context=((),) * len(CORNERS))):
        away = luma_of(bench.run(job)[0].pixels).astype(np.int16) - job.page
        share = float(np.mean(away != 0))
        expect(share == 0, "the page's luma at every pixel", f"another at {share:.2%} of them")


@_promise("Previews are uint8 RGB pictures, and are made where the card lists them.")
def _previews(bench: Bench) -> None:
    seen: list[object] = []
    bench.run(bench.job(preview=seen.append, preview_every=1))
    if "preview" not in bench.card.inputs:
        return
    expect(bool(seen), "a preview when each step is to be shown", "none")
    for picture in seen:
        good = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,)
        expect(good, "a uint8 preview of shape (h, w, 3)", _said(picture))


@_promise("References change the picture, where the card says that it uses them.")
def _references_count(bench: Bench) -> None:
    if "references" not in bench.card.inputs:
        return
    expect(bench.card.hits_per_corner >= 1, "hits_per_corner of at least 1 for a back-end that uses references", 0)
    job = bench.job()
    blue = tuple(
        tuple(replace(hit, pixels=np.ascontiguousarray(hit.pixels[..., [1, 2, 0]])) for hit in c) for c in job.context
    )
    one, other = bench.run(job)[0].pixels, bench.run(replace(job, context=blue))[0].pixels
    expect(not np.array_equal(one, other), "another picture from references of other colours", "the same")


@_promise("The palette draws like colours to it, where the card says that it is used.")
def _palette_counts(bench: Bench) -> None:
    if "palette" not in bench.card.inputs:
        return
    before, after = off_palette(bench.job(), lambda job: bench.run(job)[0].pixels)
    expect(after < before, f"hues nearer to the swatch than without it, {before:.2f} degrees", f"{after:.2f}")


@_promise("A hint colours its place, where the card says that hints are used.")
def _hints_count(bench: Bench) -> None:
    if "hints" not in bench.card.inputs:
        return
    before, after = off_hint(bench.job(), lambda job: bench.run(job)[0].pixels)
    expect(after < before, f"a colour nearer to the hint's than without it, {before:.1f} levels", f"{after:.1f}")


@_promise("`close` frees it and may be called twice.")
def _close_twice(bench: Bench) -> None:
    backend = bench.load()
    next(iter(backend.colorize([bench.job()])))
    backend.close()
    backend.close()
    _check_result(bench.job(), bench.run(bench.job())[0])  # another instance lives on


def _check_result(job: Job, result: object) -> None:
    if not isinstance(result, Result):
        raise Broken(f"expected a Result, got {type(result).__name__}")
    height, width = job.page.shape
    _check_array("pixels", result.pixels, np.uint8, (height, width, 3))
    if result.confidence is not None:
        _check_array("confidence", result.confidence, np.uint8, (height, width))
    if result.used is not None:
        ranks = max((len(corner) for corner in job.context), default=0)
        _check_array("used", result.used, np.bool_, (len(job.context), ranks))


def _check_array(name: str, array: object, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    good = isinstance(array, np.ndarray) and array.dtype == np.dtype(dtype) and array.shape == shape
    expect(good, f"{name} to be {np.dtype(dtype)} of shape {shape}", _said(array))


def _said(array: object) -> str:
    return f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
