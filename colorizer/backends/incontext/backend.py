"""The back-end itself: a guess fitted on the references, a trained network beside it, and the mixture of both."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from colorizer.assembly import assemble, by_reference, working_size
from colorizer.backends.exemplar import Exemplar
from colorizer.backends.incontext import mixing, tones
from colorizer.backends.incontext.looks import CELL, INK, PAPER, drawn_of, look
from colorizer.backends.incontext.network import CHROMA, Network, Told
from colorizer.backends.incontext.windows import Window, windows
from colorizer.enlarging import enlarge
from colorizer.guidance import apply_hints, apply_palette
from colorizer.luma import chroma_of, luma_of, with_luma
from colorizer.types import GreyPage, Hit, Job, Result

FOLDER = Path(__file__).parent / "model"  # the weights that come with the package
PAGE_AREA = 336 * 480  # working pixels of a window of the page
REFERENCE_AREA = 336 * 480  # and of a reference
MOST = 12  # references that a page looks at, best first
TOGETHER = 0.7  # share of references of one chapter from which a context counts as one scene's
_STRIP = 1 << 20  # page pixels finished at once
_KEPT = 48  # references whose memories are kept; one takes about 3 MB


T = TypeVar("T")


@dataclass(frozen=True)
class _Known:
    """What one reference says, to the network and to the regression."""

    told: Told
    tones: tones.ToneSums


class InContext:
    """Colours a page from its references: what is fitted on them, and what a trained network sees in them, mixed.

    The same bits every time on one kind of processor, whatever the seed. The network looks at the page as one window,
    or as several where it is long; see `windows`. What a reference says is worked out once and kept until `close`,
    because the pages of a chapter share their references.

    Args:
        folder: of the model; the package's own when None.

    Raises:
        FailedState: WEIGHTS_MISSING, WEIGHTS_DAMAGED.

    Cost: `benchmarks/default_speed.py` measures it; see docs/BENCHMARKS.md.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._network = Network(folder or FOLDER)
        self._fitted = Exemplar()
        self._beside = ThreadPoolExecutor(1)  # the network's work, which holds no lock, while the guess is fitted
        self._shelf: OrderedDict[bytes, _Known] = OrderedDict()

    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Results in the order of the jobs, each begun when it is asked for."""
        for job in jobs:
            yield self._page(job)

    def close(self) -> None:
        """Free what was kept of references."""
        self._shelf.clear()
        self._fitted.close()
        self._beside.shutdown()

    def _page(self, job: Job) -> Result:
        found = dict(list(by_reference(job.context).items())[:MOST])
        parts = windows(job.page.shape[1], job.page.shape[0])
        fitting = _limited(job, found.keys())
        steps = _Steps(job, len(found), self._fitted.steps(fitting), len(parts) + 2)
        told = [steps.after(self._known(hits)) for hits in found.values()]
        beside = [self._beside.submit(self._paint, job.page, part, told) for part in parts]
        try:
            guess = self._fitted.guess(steps.of_guess(fitting))
            painted = [steps.after(window.result()) for window in beside]
        finally:  # a page that is cancelled leaves nothing running
            wait([window for window in beside if not window.cancel()])
        maps, luma = _joined(job.page, parts, painted)
        small = guess.small
        maps = enlarge(maps, luma, small, 0, len(small))
        drawn = ((small < PAPER) & (small > INK))[..., None]
        shares = mixing.SCATTERED if guess.together < TOGETHER else mixing.TOGETHER
        chroma = mixing.mixed(guess.chroma, maps[..., :2] * drawn, maps[..., 2:] * drawn, guess.flat, shares)
        chroma = _guided(job, chroma, guess.sure, small)
        steps.after(None)
        pixels = _coloured(job, small, chroma, steps.again)
        steps.rest()
        return Result(pixels, _full_size(guess.sure, job.page.shape), _used(job, found))

    def _known(self, hits: Sequence[Hit]) -> _Known:
        picture, known = assemble(hits, REFERENCE_AREA, CELL)
        key = hashlib.blake2b(picture.tobytes() + known.tobytes() + bytes(str(known.shape), "ascii")).digest()
        found = self._shelf.pop(key, None)
        self._shelf[key] = found = found or self._learn(picture, known)
        if len(self._shelf) > _KEPT:
            self._shelf.popitem(last=False)
        return found

    def _learn(self, picture: UInt8[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"]) -> _Known:
        luma = luma_of(picture).astype(np.float32)
        chroma = np.ascontiguousarray(chroma_of(picture).transpose(2, 0, 1))
        seen, drawn = look(luma), drawn_of(luma)
        sums = tones.learn(tones.waves(seen, luma), chroma, tones.known_weight(drawn, known))
        return _Known(self._network.tell(seen, chroma / np.float32(CHROMA), drawn, known), sums)

    def _paint(self, page: GreyPage, part: Window, told: Sequence[_Known]) -> Float32[np.ndarray, "h2 w2 4"]:
        """The network's and the regression's chroma of one window, at half its working size."""
        cut = page[part.y0 : part.y1, part.x0 : part.x1]
        size = working_size(cut.shape[1], cut.shape[0], PAGE_AREA, CELL)
        luma = _shrunk(cut, size)
        seen = look(luma)
        chroma, _ = self._network.paint(seen, [t.told for t in told])
        cells = (size[1] // tones.CELL, size[0] // tones.CELL)
        by_tone = tones.predict(tones.waves(seen, luma), [t.tones for t in told], cells)
        half = (size[0] // 2, size[1] // 2)
        smooth = [_resized(by_tone[..., i], half) for i in (0, 1)]
        return np.concatenate([chroma, np.stack(smooth, axis=-1)], axis=-1)


class _Steps:
    """Progress of one page: its references, the guess's own steps, and those after it."""

    def __init__(self, job: Job, before: int, guess: int, after: int) -> None:
        self._job, self._before, self._done = job, before, 0
        self._all = before + guess + after
        self.again()

    def of_guess(self, job: Job) -> Job:
        """`job`, whose steps count between the references and the rest."""

        def told(done: int, _: int) -> None:
            self._done = self._before + done
            self.again()

        return replace(job, progress=told)

    def after(self, result: T) -> T:
        """Counts one step more, and gives back what came of it."""
        self._done += 1
        self.again()
        return result

    def rest(self) -> None:
        """The page is done."""
        self._done = self._all
        self.again()

    def again(self) -> None:
        """Tells the steps so far once more, so that a page can be cancelled in a long one."""
        self._job.progress(self._done, self._all)


def _limited(job: Job, names: Collection[str]) -> Job:
    """The job with these references alone, for the fitted guess; it draws the same whatever the seed."""
    context = tuple(tuple(hit for hit in corner if hit.reference_id in names) for corner in job.context)
    return Job(job.page, context)


def _shrunk(page: UInt8[np.ndarray, "H W"], size: tuple[int, int]) -> Float32[np.ndarray, "sh sw"]:
    picture = Image.fromarray(np.ascontiguousarray(page)).resize(size, Image.Resampling.BOX)
    return np.asarray(picture, np.float32)


def _joined(
    page: UInt8[np.ndarray, "H W"], parts: Sequence[Window], painted: Sequence[Float32[np.ndarray, "_h _w 4"]]
) -> tuple[Float32[np.ndarray, "h w 4"], Float32[np.ndarray, "h w"]]:
    """What was painted and the luma of the whole page, at half of working size; windows fade into each other."""
    if len(parts) == 1:
        return painted[0], _shrunk(page, (painted[0].shape[1], painted[0].shape[0]))
    scale = painted[0].shape[1] / (parts[0].x1 - parts[0].x0)
    width, height = (max(1, round(side * scale)) for side in (page.shape[1], page.shape[0]))
    total, weights = np.zeros((height, width, 4), np.float32), np.zeros((height, width, 1), np.float32)
    for part, maps in zip(parts, painted, strict=True):
        x0, x1, y0, y1 = (min(limit, round(at * scale)) for at, limit in _edges(part, width, height))
        weight = part.fading(x1 - x0, y1 - y0)[..., None]
        fitted = np.stack([_resized(m, (x1 - x0, y1 - y0)) for m in maps.transpose(2, 0, 1)], axis=-1)
        total[y0:y1, x0:x1] += weight * fitted
        weights[y0:y1, x0:x1] += weight
    return total / weights, _shrunk(page, (width, height))


def _edges(part: Window, width: int, height: int) -> tuple[tuple[int, int], ...]:
    return (part.x0, width), (part.x1, width), (part.y0, height), (part.y1, height)


def _resized(plane: Float32[np.ndarray, "_a _b"], size: tuple[int, int]) -> Float32[np.ndarray, "_c _d"]:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BILINEAR), np.float32)


def _guided(
    job: Job,
    chroma: Float32[np.ndarray, "h w 2"],
    sure: Float32[np.ndarray, "h w"],
    small: Float32[np.ndarray, "h w"],
) -> Float32[np.ndarray, "h w 2"]:
    """The chroma as palette and hints want it."""
    chroma = apply_palette(chroma, small, sure, job.palette)
    scale = (small.shape[1] / job.page.shape[1], small.shape[0] / job.page.shape[0])
    return apply_hints(chroma, small, job.hints, scale)


def _coloured(
    job: Job, small: Float32[np.ndarray, "h w"], chroma: Float32[np.ndarray, "h w 2"], told: Callable[[], None]
) -> UInt8[np.ndarray, "H W 3"]:
    """The page with the small picture's chroma, strip by strip."""
    page = job.page
    out = np.empty((*page.shape, 3), np.uint8)
    rows = max(1, _STRIP // page.shape[1])
    for y in range(0, len(page), rows):
        strip = page[y : y + rows]
        out[y : y + rows] = with_luma(strip, enlarge(chroma, small, strip, y, len(page)))
        told()
    return out


def _used(job: Job, found: dict[str, list[Hit]]) -> Bool[np.ndarray, "corners ranks"]:
    used = np.zeros((len(job.context), max((len(corner) for corner in job.context), default=0)), bool)
    for i, corner in enumerate(job.context):
        used[i, : len(corner)] = [hit.reference_id in found for hit in corner]
    return used


def _full_size(sure: Float32[np.ndarray, "h w"], shape: tuple[int, ...]) -> UInt8[np.ndarray, "H W"]:
    """Confidence at the size of the page."""
    levels = Image.fromarray((sure.clip(0, 1) * 255).astype(np.uint8))
    return np.array(levels.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
