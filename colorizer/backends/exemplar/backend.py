"""The back-end itself: joins references, forest, calibration and propagation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from PIL import Image

from colorizer.assembly import AREA, working_size
from colorizer.backends.exemplar import calibrate, flats, forest, match, palette, propagate, ridge, stack
from colorizer.backends.exemplar.features import describe, unit_of
from colorizer.backends.exemplar.references import BLACK, FLAT_AREA, WHITE, Reference, Shelf
from colorizer.enlarging import enlarge
from colorizer.guidance import apply_hints, apply_palette, smoothing
from colorizer.hands import Hands
from colorizer.luma import with_luma
from colorizer.types import GreyPage, Job, Result

_STRIP = 1 << 20  # page pixels finished at once
_MANY = 3  # chapters that make a context scattered
_SILENT = 0.1  # flat regions that explain less are not worth a look
_EVENNESS = (0.42, 0.48)  # of a page where flat regions are hardly to be trusted, and where they are
_FLAT_STRENGTH = 4.0
_FLAT_SHARP = 6.0
# Shares of forest and ridge. What one chapter's pages say of each other falls a little short of what they say of the
# next page together; what chapters say of each other goes too far, because what was found is like the page by choice.
_TOGETHER = stack.Stance((0.6, 0.4), weight=30.0, doubt=0.0, strength=1.05)
_SCATTERED = stack.Stance((0.4, 0.4), weight=8.0, doubt=0.5, strength=0.7, steady=0.5)
_STEADY_STRENGTH = 0.8


@dataclass(frozen=True)
class Settings:
    """What the tuning episodes decided; see docs/decisions/0003-exemplar.md."""

    trees: int = 32
    samples: int = 16000  # pixels of all references together
    colours: int = 32  # palette of a context
    seen: float = 0.6  # part of the references that each tree learns from
    gamma: float = 1.2  # sharpening of votes
    pooled: float = 0.5  # share of a region's mean in its pixels' votes
    strength: float = 10.0  # of the smoothing between neighbours
    sharpness: float = 6.0  # luma difference that divides neighbours
    grid: int = 2  # working pixels between two that vote
    growth: forest.Growth = field(default_factory=forest.Growth)


@dataclass(frozen=True)
class _Lesson:
    """What the references of one page teach."""

    features: Float32[np.ndarray, "n f"]
    chroma: Float64[np.ndarray, "n 2"]
    group: Int64[np.ndarray, " n"]  # what a tree sees all of or nothing of
    stance: stack.Stance


@dataclass(frozen=True)
class _Answer:
    """What the forest of one page says."""

    centres: Float64[np.ndarray, "k 2"]  # the palette
    votes: Float32[np.ndarray, "q k"]  # of the page
    trust: calibrate.Trust
    judged: Bool[np.ndarray, " n"]  # samples that trees voted on unseen
    held: Float64[np.ndarray, "m 2"]  # their chroma as those trees have it, trust applied


@dataclass(frozen=True)
class _Matched:
    """What the matching of flat regions says of a page."""

    fine: Float32[np.ndarray, "h w"]  # luma of the page at their size, [0, 255]
    chroma: Float32[np.ndarray, "h w 2"]
    expected: Float32[np.ndarray, "h w"]  # share of the true chroma's energy, [0, 1]


@dataclass(frozen=True)
class Guess:
    """What references say of a page, at working size, before palette and hints."""

    small: Float32[np.ndarray, "h w"]  # luma of the page, [0, 255]
    chroma: Float32[np.ndarray, "h w 2"]
    sure: Float32[np.ndarray, "h w"]  # [0, 1]
    flat: Float32[np.ndarray, "h w"]  # share of matched flat regions in the chroma, [0, 1]
    together: float  # share of the references that are of one chapter, the most that are
    names: frozenset[str]  # of the references that gave colour


class Exemplar:
    """Colours a page by what looked alike in its references; no weights, CPU, the same bits every time.

    A small forest and a smooth regression on the tones of panels are fitted on the references of each page, and are
    mixed and trusted as far as they predict references that they have not seen. Hints and the palette are
    honoured. `Job.steps` is the number of trees. Samples of the references seen last are kept until `close`.

    Args:
        settings: what was tuned.
        threads: that one page may use; None: a thread a core, at most four.

    Cost: `benchmarks/serving.py` measures it; see docs/BENCHMARKS.md. Some 4 s a page of 1.4 megapixels on two cores,
    below 400 MB with the server.
    """

    preferred_hits = 8  # per corner; three work

    def __init__(self, settings: Settings | None = None, threads: int | None = None) -> None:
        self._settings = settings or Settings()
        self._hands, self._beside = Hands(threads), ThreadPoolExecutor(1, "flats")
        self._shelf = Shelf(self._hands)

    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """Results in the order of the jobs, each begun when it is asked for."""
        for job in jobs:
            yield self._page(job)

    def close(self) -> None:
        """Free what was kept of references, and the threads."""
        self._shelf.clear()
        self._hands.close()
        self._beside.shutdown()

    def _page(self, job: Job) -> Result:
        steps = self.steps(job)
        guess = self.guess(job)
        job.progress(steps - 2, steps)
        small = guess.small
        scale = (small.shape[1] / job.page.shape[1], small.shape[0] / job.page.shape[0])
        chroma = apply_palette(guess.chroma, small, guess.sure, job.palette)
        chroma = apply_hints(chroma, small, job.hints, scale)
        job.progress(steps - 1, steps)
        pixels = _coloured(job.page, small, chroma, lambda: job.progress(steps - 1, steps))
        job.progress(steps, steps)
        return Result(pixels, _full_size(guess.sure, job.page.shape), _used(job, guess.names))

    def guess(self, job: Job) -> Guess:
        """The chroma that a page's references give it, before palette and hints; neutral without references.

        Progress is told in as many steps as a whole page takes, and stops two short of them.
        """
        trees, steps = self._trees(job), self.steps(job)
        job.progress(0, steps)
        small = _shrunk(job.page)
        taught = [found for found in self._fetched(job, steps) if len(found.samples.chroma)]
        job.progress(1, steps)
        names, together = frozenset(t.name for t in taught), _together([t.chapter for t in taught])
        if not taught:
            nothing = np.zeros(small.shape, np.float32)
            return Guess(small, np.zeros((*small.shape, 2), np.float32), nothing, nothing, together, names)
        beside = self._beside.submit(self._matched, job.page, taught)
        try:
            chroma, sure = self._predict(job, small, taught, trees, steps)
        finally:  # a page that is cancelled leaves nothing running
            wait([beside])
        small, chroma, sure, flat = _with_flats(beside.result(), small, chroma, sure)
        return Guess(small, chroma, sure, flat, together, names)

    def steps(self, job: Job) -> int:
        """The steps in which a page's progress is told."""
        return self._trees(job) + 5

    def _trees(self, job: Job) -> int:
        return min(200, max(4, job.steps if job.steps is not None else self._settings.trees))

    def _fetched(self, job: Job, steps: int) -> Iterator[Reference]:
        for item in self._shelf.fetch(job.context):
            job.progress(0, steps)
            yield item

    def _predict(
        self, job: Job, small: Float32[np.ndarray, "h w"], taught: list[Reference], trees: int, steps: int
    ) -> tuple[Float32[np.ndarray, "h w 2"], Float32[np.ndarray, "h w"]]:
        """Chroma and confidence in [0, 1] at working size."""
        s, grid = self._settings, self._settings.grid
        rng = np.random.default_rng(job.seed % 2**64)
        lesson = _lesson(taught, s.samples, rng)
        unit = unit_of(small.shape[1], small.shape[0])
        coarse = np.ascontiguousarray(small[::grid, ::grid])
        at = np.arange(small.size).reshape(small.shape)[::grid, ::grid]
        pixels = describe(small, unit, at.ravel())
        job.progress(2, steps)

        def told(done: int, votes: Float32[np.ndarray, "q k"], centres: Float64[np.ndarray, "k 2"]) -> None:
            job.progress(2 + done, steps)
            if job.preview is not None and job.preview_every and (2 + done) % job.preview_every == 0:
                job.preview(_sketch(coarse, palette.decide(votes, centres, s.gamma)[0]))

        answer = self._ask(lesson, pixels, trees, rng, told)
        votes = propagate.pooled(answer.votes, propagate.regions(coarse, unit / grid), s.pooled)
        mean, agreement = palette.decide(votes, answer.centres, s.gamma)
        smooth, held = ridge.predict(lesson.features, lesson.chroma, lesson.group, pixels, job.seed % 2**64)
        known = answer.judged
        blend = stack.learn([answer.held, held[known]], lesson.chroma[known], lesson.group[known], lesson.stance)
        trust = answer.trust(agreement)
        predicted = [mean * trust[:, None], smooth]
        steady = stack.steady(predicted, agreement, _STEADY_STRENGTH)
        mixed = (1 - lesson.stance.steady) * blend(predicted) + lesson.stance.steady * steady
        sure = agreement * np.minimum(1, trust * blend.strength * sum(blend.shares))
        maps = np.concatenate([mixed, sure[:, None]], axis=1)
        maps = enlarge(maps.reshape(*coarse.shape, 3).astype(np.float32), coarse, small, 0, small.shape[0])
        chroma = maps[..., :2] * ((small < WHITE) & (small > BLACK))[..., None]
        weight = np.where(small < WHITE, 1.0, 4.0).astype(np.float32)
        return smoothing.smooth(small, chroma, weight, s.strength, s.sharpness), maps[..., 2]

    def _matched(self, page: UInt8[np.ndarray, "H W"], taught: list[Reference]) -> _Matched | None:
        """What matching flat regions says, where it is worth a look."""
        scattered = _scattered([t.chapter for t in taught])
        groups = [t.chapter if scattered else i for i, t in enumerate(taught)]
        one_chapter = len({t.chapter for t in taught}) == 1
        fine = _shrunk(page, FLAT_AREA)
        apt = float(np.interp(flats.evenness(fine), _EVENNESS, (0.5 if one_chapter else 0.0, 1.0)))
        if apt == 0:
            return None
        chroma, expected = match.match(fine, self._shelf.regions(taught), groups, self._hands)
        return _Matched(fine, chroma, expected * np.float32(apt))

    def _ask(
        self,
        lesson: _Lesson,
        asked: Float32[np.ndarray, "q f"],
        trees: int,
        rng: np.random.Generator,
        told: Callable[[int, Float32[np.ndarray, "q k"], Float64[np.ndarray, "k 2"]], None],
    ) -> _Answer:
        """What a new forest says."""
        s = self._settings
        centres, labels = palette.palette_of(lesson.chroma, s.colours, rng)
        edges = forest.bin_edges(lesson.features)
        known, page = forest.to_bins(lesson.features, edges), forest.to_bins(asked, edges)
        votes = np.zeros((len(asked), s.colours), np.float32)
        unseen, judges = np.zeros((len(labels), s.colours), np.float32), np.zeros(len(labels), np.int64)
        for t in range(trees):
            seen = _seen(lesson.group, t, s.seen, rng)
            tree = forest.grow(known[:, seen], lesson.chroma[seen], labels[seen], s.colours, rng, s.growth)
            votes += forest.vote(tree, page)
            unseen[~seen] += forest.vote(tree, known[:, ~seen])
            judges += ~seen
            told(t + 1, votes, centres)
        judged = judges > 1
        share = unseen[judged] / judges[judged, None].astype(np.float32)
        mean, agreement = palette.decide(share.astype(np.float32), centres, s.gamma)
        trust = calibrate.learn(mean, agreement, lesson.chroma[judged])
        return _Answer(centres, votes / np.float32(trees), trust, judged, mean * trust(agreement)[:, None])


def _with_flats(
    found: _Matched | None,
    small: Float32[np.ndarray, "h w"],
    chroma: Float32[np.ndarray, "h w 2"],
    sure: Float32[np.ndarray, "h w"],
) -> tuple[
    Float32[np.ndarray, "h2 w2"],
    Float32[np.ndarray, "h2 w2 2"],
    Float32[np.ndarray, "h2 w2"],
    Float32[np.ndarray, "h2 w2"],
]:
    """Luma, chroma, confidence and share of flat regions, at their finer size; as given where none is sure."""
    if found is None or found.expected.max() < _SILENT:
        return small, chroma, sure, np.zeros(small.shape, np.float32)
    fine, expected = found.fine, found.expected
    maps = np.concatenate([chroma, sure[..., None]], axis=2)
    maps = enlarge(maps, small, fine, 0, len(fine))
    share = match.share(expected, maps[..., 2])
    value = maps[..., :2] + share[..., None] * (found.chroma - maps[..., :2])
    value *= ((fine < WHITE) & (fine > BLACK))[..., None]
    weight = np.where(fine >= WHITE, 4.0, np.where(expected > 0, 2.0, 0.3)).astype(np.float32)
    value = smoothing.smooth(fine, value, weight, _FLAT_STRENGTH, _FLAT_SHARP, iterations=12)
    return fine, value, np.maximum(maps[..., 2], expected), share


def _lesson(taught: list[Reference], samples: int, rng: np.random.Generator) -> _Lesson:
    """Equally many samples of every reference, and the groups that are left out together."""
    share = max(1, samples // len(taught))
    scattered = _scattered([t.chapter for t in taught])
    picks = [(t, rng.permutation(len(t.samples.chroma))[:share]) for t in taught]
    if len(taught) == 1:  # each quarter is a group of its own
        group = [t.samples.quarter[p] for t, p in picks]
    else:
        group = [np.full(len(p), t.chapter if scattered else i) for i, (t, p) in enumerate(picks)]
    return _Lesson(
        np.concatenate([t.samples.features[p] for t, p in picks]),
        np.concatenate([t.samples.chroma[p] for t, p in picks]).astype(np.float64),
        np.concatenate(group).astype(np.int64),
        _SCATTERED if scattered else _TOGETHER,
    )


def _scattered(chapters: list[int]) -> bool:
    """Whether a context comes from here and there.

    A context with half its references in one chapter most likely has them from the page's own. Without that, pages of
    one chapter predict each other too well to tell what they are worth for the page at hand, so whole chapters are
    left out together, and what they teach is still used with caution.
    """
    counts = Counter(chapters)
    return len(counts) >= _MANY and max(counts.values()) * 2 < len(chapters)


def _together(chapters: list[int]) -> float:
    return max(Counter(chapters).values()) / len(chapters) if chapters else 1.0


def _seen(group: Int64[np.ndarray, " n"], turn: int, part: float, rng: np.random.Generator) -> Bool[np.ndarray, " n"]:
    """The samples that tree number `turn` learns from: some groups wholly, the others not at all."""
    groups = np.unique(group)
    if len(groups) == 1:
        return np.ones(len(group), bool)
    if len(groups) == 2:
        return np.asarray(group == groups[turn % 2], bool)
    chosen = rng.permutation(groups)[: min(len(groups) - 1, max(1, round(len(groups) * part)))]
    return np.asarray(np.isin(group, chosen), bool)


def _shrunk(page: GreyPage, area: int = AREA) -> Float32[np.ndarray, "sh sw"]:
    """The page at working size."""
    size = working_size(page.shape[1], page.shape[0], area)
    picture = Image.fromarray(np.ascontiguousarray(page)).resize(size, Image.Resampling.BOX)
    return np.asarray(picture, np.float32)


def _sketch(small: Float32[np.ndarray, "h w"], chroma: Float64[np.ndarray, "n 2"]) -> UInt8[np.ndarray, "h w 3"]:
    """A small picture of what the trees say so far."""
    return with_luma(np.rint(small).astype(np.uint8), chroma.reshape(*small.shape, 2) * calibrate.FIXED)


def _coloured(
    page: UInt8[np.ndarray, "H W"],
    small: Float32[np.ndarray, "h w"],
    chroma: Float32[np.ndarray, "h w 2"],
    told: Callable[[], None],
) -> UInt8[np.ndarray, "H W 3"]:
    """The page with the working picture's chroma, strip by strip."""
    out = np.empty((*page.shape, 3), np.uint8)
    rows = max(1, _STRIP // page.shape[1])
    for y in range(0, len(page), rows):
        strip = page[y : y + rows]
        out[y : y + rows] = with_luma(strip, enlarge(chroma, small, strip, y, len(page)))
        told()
    return out


def _used(job: Job, names: frozenset[str]) -> Bool[np.ndarray, "corners ranks"]:
    used = np.zeros((len(job.context), max((len(c) for c in job.context), default=0)), bool)
    for i, corner in enumerate(job.context):
        used[i, : len(corner)] = [hit.reference_id in names for hit in corner]
    return used


def _full_size(sure: Float32[np.ndarray, "h w"], shape: tuple[int, ...]) -> UInt8[np.ndarray, "H W"]:
    """Confidence at the size of the page."""
    levels = Image.fromarray((sure.clip(0, 1) * 255).astype(np.uint8))
    return np.array(levels.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
