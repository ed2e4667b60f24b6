"""The back-end itself: pages are cut into windows, windows run in batches, results come back as pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from colorizer.backends.colorflow.canvas import RANKS
from colorizer.backends.colorflow.options import Options, options_from
from colorizer.backends.colorflow.runner import Recipe, Runner, Unit
from colorizer.backends.colorflow.styles import DEFAULT_STEPS, STYLES, Style
from colorizer.backends.colorflow.tiles import (
    TileOptions,
    Window,
    blend,
    chroma_to_page,
    picture_to_page,
    plan,
    window_corners,
)
from colorizer.luma import luma_of, with_luma
from colorizer.types import GreyPage, Job, Result
from serving.errors import InvalidInput

Pixels = UInt8[np.ndarray, "_h _w 3"]
_SMALL = 512 * 512  # working areas below it need a finer choice of sizes, or they would stretch the page


class ColorFlow:
    """Colours a page inside a canvas of its references, by the published networks.

    Deterministic: the same job alone gives the same bits on one machine; in a batch with other pages it differs by
    rounding. Hints and the palette are not used. `Job.steps` counts steps of the diffusion; the refinement is one more.

    Args:
        runner: with the networks.
        batch: windows that go through the networks together, at most.
        require: called with a request's style; raises ServiceError if that cannot be run.

    Cost: per window of 640 x 640 pixels at 10 steps, 342 TFLOP with guidance and 252 without.
    Source: ColorFlow, arXiv:2412.11815. Differs: pages of any size, batches, one posterior sample for both guidance
        halves; `parity` brings the published way back.
    """

    def __init__(self, runner: Runner, *, batch: int = 4, require: Callable[[Style], None] | None = None) -> None:
        self._runner = runner
        self._batch = batch
        self._require = require

    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """One result for each job, in order, each as soon as its windows are done.

        Raises:
            InvalidInput: a parameter is unknown or out of range.
            FailedState: the style cannot be run with this model folder.
        """
        pages = [_Page.of(job) for job in jobs]
        for page in pages:
            if self._require:
                self._require(page.recipe.style)
        waiting = [(page, index) for page in pages for index in range(len(page.windows))]
        for page in pages:
            while not page.done:
                batch = self._next(waiting)
                waiting = [one for one in waiting if one not in batch]
                self._run_smaller_if_need_be(batch)
            yield page.result()

    def warm_up(self, styles: Sequence[str], sizes: Sequence[tuple[int, int]]) -> None:
        """Runs an empty page of each size in each style once, for two steps, and forgets the results.

        Args:
            styles: names from STYLES, which must be usable.
            sizes: width and height of pages, pixels.
        """
        for style in styles:
            for width, height in sizes:
                page = np.full((height, width), 255, np.uint8)
                for _ in self.colorize([Job(page, steps=2, parameters={"style": style})]):
                    pass

    def close(self) -> None:
        """Frees the networks."""
        self._runner.close()

    def _next(self, waiting: Sequence[tuple[_Page, int]]) -> list[tuple[_Page, int]]:
        """The first window that waits, and others that can go with it."""
        (page, index), batch = waiting[0], list[tuple[_Page, int]]()
        most = 1 if page.recipe.parity else self._batch
        wanted = page.recipe, page.windows[index].working
        for other, place in waiting:
            if len(batch) < most and (other.recipe, other.windows[place].working) == wanted:
                batch.append((other, place))
        return batch

    def _run_smaller_if_need_be(self, batch: Sequence[tuple[_Page, int]]) -> None:
        """As `_run`; a batch that does not fit into memory is run window by window."""
        try:
            self._run(batch)
            return
        except torch.OutOfMemoryError:
            self._runner.free()
            if len(batch) == 1:
                raise
        for one in batch:
            self._run([one])

    def _run(self, batch: Sequence[tuple[_Page, int]]) -> None:
        recipe = batch[0][0].recipe
        units = [self._unit(page, index) for page, index in batch]
        listeners = [page for page, _ in batch if page.job.preview]

        def progress(done: int, steps: int) -> None:
            for page in _once(batch):
                page.step(sum(1 for other, _ in batch if other is page), done, steps)

        def look(small: UInt8[np.ndarray, "pages h w 3"]) -> None:
            for (page, index), picture in zip(batch, small, strict=True):
                page.glimpses[index] = picture
            for page in _once([(page, 0) for page in listeners]):
                page.show()

        found = self._runner.run(recipe, units, progress, look if listeners else None)
        for (page, index), picture in zip(batch, found, strict=True):
            page.results[index] = picture

    def _unit(self, page: _Page, index: int) -> Unit:
        window = page.windows[index]
        part = Image.fromarray(page.job.page).crop(window.box)
        grey = np.asarray(part.resize(window.refined, Image.Resampling.BICUBIC))
        seed = _seed(page.job.seed, index)
        guides = self._runner.guides(page.recipe.style, grey, seed if page.recipe.parity else None)
        corners = window_corners(window.box, (page.job.page.shape[1], page.job.page.shape[0]))
        ranked = [[Image.fromarray(hit.pixels) for hit in page.job.context[corner][:RANKS]] for corner in corners]
        return Unit(guides, window.working, ranked, seed)


@dataclass(eq=False)
class _Page:
    """A job under way."""

    job: Job
    recipe: Recipe
    windows: tuple[Window, ...]
    results: dict[int, Pixels] = field(default_factory=dict)  # of windows, at the refined size
    glimpses: dict[int, Pixels] = field(default_factory=dict)
    steps_done: int = 0  # of windows that are finished
    told: int = 0  # steps, to the job's listener

    @classmethod
    def of(cls, job: Job) -> _Page:
        options = options_from(job.parameters)
        style = STYLES[options.style]
        height, width = job.page.shape
        multiple = 64 if options.area >= _SMALL else 32
        windows = plan(width, height, TileOptions(options.sizes, options.area, multiple))
        return cls(job, _recipe(style, options, job.steps), windows)

    @property
    def done(self) -> bool:
        return len(self.results) == len(self.windows)

    def step(self, together: int, done: int, steps: int) -> None:
        """Tells the job's listener; `together` of its windows are at it."""
        self.told = max(self.told, self.steps_done + together * done)  # a batch that is run again begins anew
        self.job.progress(self.told, len(self.windows) * steps)
        if done == steps:
            self.steps_done += together * steps

    def show(self) -> None:
        """A preview: the windows as they are now, grey where none has begun."""
        assert self.job.preview
        height, width = self.job.page.shape
        scale = min(1.0, 1024 / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = Image.fromarray(self.job.page).resize(size, Image.Resampling.BOX).convert("RGB")
        for index, glimpse in (self.glimpses | self.results).items():
            box = self.windows[index].box
            x0, y0, x1, y1 = (round(side * scale) for side in box)
            placed = Image.fromarray(glimpse).resize((max(1, x1 - x0), max(1, y1 - y0)), Image.Resampling.BICUBIC)
            picture.paste(placed, (x0, y0))
        self.job.preview(np.asarray(picture))

    def result(self) -> Result:
        width, height = self.job.page.shape[1], self.job.page.shape[0]
        parts = (_at_page(self.job.page, window, self.results[i]) for i, window in enumerate(self.windows))
        mixed = blend(self.windows, parts, (width, height))
        luma = np.rint(self.job.page + mixed[..., 0]).clip(0, 255).astype(np.uint8)
        self.results.clear()
        return Result(with_luma(luma, mixed[..., 1:]), used=_used(self.job, self.windows))


def _at_page(page: GreyPage, window: Window, picture: Pixels) -> Float32[np.ndarray, "_ _ 3"]:
    """A window's result at the page's own size: luma beyond the page's own, and chroma."""
    box = window.box
    own = page[box.y0 : box.y1, box.x0 : box.x1]
    size = box.width, box.height
    luma = picture_to_page(np.repeat(luma_of(picture)[..., None], 3, axis=2), size)[..., :1]
    return np.concatenate([luma - own[..., None], chroma_to_page(picture, size, own)], axis=2, dtype=np.float32)


def _used(job: Job, windows: Sequence[Window]) -> Bool[np.ndarray, "corners ranks"]:
    """Which hits are on a canvas."""
    height, width = job.page.shape
    taken = {corner for window in windows for corner in window_corners(window.box, (width, height))}
    ranks = max((len(corner) for corner in job.context), default=0)
    used = np.zeros((len(job.context), ranks), bool)
    for corner, hits in enumerate(job.context):
        used[corner, : min(RANKS, len(hits))] = corner in taken
    return used


def _recipe(style: Style, options: Options, steps: int | None) -> Recipe:
    if steps is not None and not 1 <= steps <= 1000:
        raise InvalidInput(f"colorflow takes 1 to 1000 steps, got {steps}", reason="INVALID_REQUEST")
    return Recipe(
        style=style,
        steps=steps or DEFAULT_STEPS,
        guidance=style.guidance if options.guidance is None else options.guidance,
        parity=options.parity,
        refine=options.refine,
        reuse_guider=options.reuse_guider,
    )


def _seed(seed: int, window: int) -> int:
    """The seed of a window; the first one has the page's own."""
    if not window:
        return seed
    return int(np.random.SeedSequence([seed, window]).generate_state(1, np.uint64)[0])


def _once(batch: Sequence[tuple[_Page, int]]) -> list[_Page]:
    """The pages of a batch, each once, in order."""
    return list(dict.fromkeys(page for page, _ in batch))
