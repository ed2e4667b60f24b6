"""The back-end itself: references to memories, windows of the page to chroma, chroma to the full page."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from colorizer.assembly import assemble, by_reference, working_size
from colorizer.backends.incontext import tones
from colorizer.backends.incontext.looks import CELL, drawn_of, look
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
# Tuned, see docs/decisions/0011-incontext.md.
TONES = 0.5  # share of the regression on tones in the chroma; the rest is the network's
GAIN = 1.0  # of the chroma
_STRIP = 1 << 20  # page pixels finished at once
_KEPT = 48  # references whose memories are kept; one takes about 3 MB


@dataclass(frozen=True)
class _Known:
    """What one reference says, to the network and to the regression."""

    told: Told
    tones: tones.ToneSums


class InContext:
    """Colours a page from its references by attention; the same bits every time on one kind of processor.

    The page is looked at as one window, or as several where it is long; see `windows`. What a reference says is worked
    out once and kept until `close`, because the pages of a chapter share their references.

    Args:
        folder: of the model; the package's own when None.

    Raises:
        FailedState: WEIGHTS_MISSING, WEIGHTS_DAMAGED.

    Cost: tried once on two shared cores, a page of 992 x 1401 takes 1.5 s with known references, 4 s with seven
    new ones, and the process 1.3 GB. `benchmarks/default_speed.py` measures it properly.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._network = Network(folder or FOLDER)
        self._shelf: OrderedDict[bytes, _Known] = OrderedDict()

    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Results in the order of the jobs, each begun when it is asked for."""
        for job in jobs:
            yield self._page(job)

    def close(self) -> None:
        """Free what was kept of references."""
        self._shelf.clear()

    def _page(self, job: Job) -> Result:
        found = dict(list(by_reference(job.context).items())[:MOST])
        parts = windows(job.page.shape[1], job.page.shape[0])
        steps, done = len(found) + len(parts) + 2, 0
        job.progress(0, steps)
        told = []
        for hits in found.values():
            told.append(self._known(hits))
            job.progress(done := done + 1, steps)
        painted = []
        for part in parts:
            painted.append(self._paint(job.page, part, told))
            job.progress(done := done + 1, steps)
        chroma, sure, small = _joined(job.page, parts, painted)
        chroma = _guided(job, chroma, sure, small)
        job.progress(done := done + 1, steps)
        pixels = _coloured(job, small, chroma, done, steps)
        job.progress(steps, steps)
        return Result(pixels, _full_size(sure, job.page.shape), _used(job, found))

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

    def _paint(
        self, page: GreyPage, part: Window, told: Sequence[_Known]
    ) -> tuple[Float32[np.ndarray, "h2 w2 2"], Float32[np.ndarray, "h2 w2"]]:
        """Chroma and confidence of one window at half its working size."""
        cut = page[part.y0 : part.y1, part.x0 : part.x1]
        size = working_size(cut.shape[1], cut.shape[0], PAGE_AREA, CELL)
        luma = _shrunk(cut, size)
        seen = look(luma)
        chroma, sure = self._network.paint(seen, [t.told for t in told])
        cells = (size[1] // tones.CELL, size[0] // tones.CELL)
        by_tone = tones.predict(tones.waves(seen, luma), [t.tones for t in told], cells)
        half = (size[0] // 2, size[1] // 2)
        smooth = np.stack([_resized(by_tone[..., i], half) for i in (0, 1)], axis=-1)
        mixed = (chroma + np.float32(TONES) * (smooth - chroma)) * np.float32(GAIN)
        return np.asarray(mixed, np.float32), _resized(sure, half).clip(0, 1)


def _shrunk(page: UInt8[np.ndarray, "H W"], size: tuple[int, int]) -> Float32[np.ndarray, "sh sw"]:
    picture = Image.fromarray(np.ascontiguousarray(page)).resize(size, Image.Resampling.BOX)
    return np.asarray(picture, np.float32)


def _joined(
    page: UInt8[np.ndarray, "H W"],
    parts: Sequence[Window],
    painted: Sequence[tuple[Float32[np.ndarray, "_h _w 2"], Float32[np.ndarray, "_h _w"]]],
) -> tuple[Float32[np.ndarray, "h w 2"], Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Chroma, confidence and luma of the whole page at half of working size; windows fade into each other."""
    if len(parts) == 1:
        chroma, sure = painted[0]
        return chroma, sure, _shrunk(page, (sure.shape[1], sure.shape[0]))
    scale = painted[0][1].shape[1] / (parts[0].x1 - parts[0].x0)
    width, height = (max(1, round(side * scale)) for side in (page.shape[1], page.shape[0]))
    total, weights = np.zeros((height, width, 3), np.float32), np.zeros((height, width, 1), np.float32)
    for part, (chroma, sure) in zip(parts, painted, strict=True):
        x0, x1, y0, y1 = (min(limit, round(at * scale)) for at, limit in _edges(part, width, height))
        weight = part.fading(x1 - x0, y1 - y0)[..., None]
        maps = [*chroma.transpose(2, 0, 1), sure]
        fitted = np.stack([_resized(m, (x1 - x0, y1 - y0)) for m in maps], axis=-1)
        total[y0:y1, x0:x1] += weight * fitted
        weights[y0:y1, x0:x1] += weight
    total /= weights
    return np.ascontiguousarray(total[..., :2]), np.ascontiguousarray(total[..., 2]), _shrunk(page, (width, height))


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
    job: Job, small: Float32[np.ndarray, "h w"], chroma: Float32[np.ndarray, "h w 2"], done: int, steps: int
) -> UInt8[np.ndarray, "H W 3"]:
    """The page with the small picture's chroma, strip by strip."""
    page = job.page
    out = np.empty((*page.shape, 3), np.uint8)
    rows = max(1, _STRIP // page.shape[1])
    for y in range(0, len(page), rows):
        strip = page[y : y + rows]
        out[y : y + rows] = with_luma(strip, enlarge(chroma, small, strip, y, len(page)))
        job.progress(done, steps)
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
