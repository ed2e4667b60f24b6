"""The back-end `exemplar` as its callers see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from colorizer.backends.exemplar import Exemplar
from colorizer.luma import chroma_of, luma_of, with_luma
from colorizer.types import Hint, Hit, Job, Result
from serving.geometry import Box, reference_boxes

TREES = 8  # enough for made-up scenes
SKY, GRASS, COAT = (120, 170, 230), (60, 110, 40), (170, 60, 50)


def scene(
    seed: int, sky: tuple[int, ...] = SKY, grass: tuple[int, ...] = GRASS, coat: tuple[int, ...] = COAT
) -> np.ndarray:
    """A framed picture: light sky above dark ground, and a striped figure with an outline."""
    rng = np.random.default_rng(seed)
    rgb = np.full((200, 160, 3), 255, np.uint8)
    horizon, x = int(rng.integers(90, 120)), int(rng.integers(30, 90))
    rgb[10:190, 10:150] = 0
    rgb[12:horizon, 12:148] = sky
    rgb[horizon:188, 12:148] = grass
    rgb[70:150, x - 2 : x + 42] = 0
    rgb[72:148, x : x + 40] = coat
    rgb[72:148:6, x : x + 40] = (np.array(coat) * 0.6).astype(np.uint8)
    rgb[20:40, 100:140] = 255  # a balloon
    rgb[28:32, 105:135:3] = 0
    return rgb


def hits_of(rgb: np.ndarray, name: str, chapter: int = 1000) -> tuple[Hit, ...]:
    size = (rgb.shape[1], rgb.shape[0])
    return tuple(
        Hit(rgb[b.y0 : b.y1, b.x0 : b.x1], 0.9, name, b, size, chapter=chapter) for b in reference_boxes(*size)
    )


def job_of(page: np.ndarray, *references: np.ndarray) -> Job:
    hits = tuple(hit for i, rgb in enumerate(references) for hit in hits_of(rgb, str(i)))
    return Job(page, (hits, hits[1:], (), ()), steps=TREES)


def only(job: Job, backend: Exemplar | None = None) -> Result:
    (result,) = (backend or Exemplar()).colorize([job])
    return result


def chroma_at(result: Result, window: tuple[slice, slice]) -> np.ndarray:
    return np.median(chroma_of(np.ascontiguousarray(result.pixels[window])).reshape(-1, 2), axis=0)


def chroma_of_colour(rgb: tuple[int, ...]) -> np.ndarray:
    return chroma_of(np.array([[rgb]], np.uint8))[0, 0]


@pytest.fixture(scope="module")
def job() -> Job:
    return job_of(luma_of(scene(9)), *(scene(i) for i in range(3)))


@pytest.fixture(scope="module")
def result(job: Job) -> Result:
    return only(job)


@pytest.mark.parametrize(("colour", "window"), [(SKY, np.s_[45:65, 20:28]), (GRASS, np.s_[170:185, 20:140])])
def test_a_scene_like_its_references_gets_their_colours(
    result: Result, colour: tuple[int, ...], window: tuple[slice, slice]
) -> None:
    assert np.abs(chroma_at(result, window) - chroma_of_colour(colour)).max() < 20


def test_an_object_is_coloured_apart_from_its_surroundings(result: Result) -> None:
    coat = luma_of(np.array([[COAT]], np.uint8))[0, 0]
    inside = (luma_of(scene(9)) == coat)[80:145]
    red = np.median(chroma_of(result.pixels)[80:145][inside][:, 1])
    assert red > 0.5 * chroma_of_colour(COAT)[1]


def test_the_luma_of_the_page_is_kept_exactly(job: Job, result: Result) -> None:
    assert np.array_equal(np.asarray(Image.fromarray(result.pixels).convert("L")), job.page)


@pytest.mark.parametrize("level", [0, 255])
def test_paper_or_ink_stays_neutral(job: Job, result: Result, level: int) -> None:
    assert np.array_equal(np.unique(result.pixels[job.page == level]), [level])


def test_the_same_job_gives_the_same_bytes_from_another_instance(job: Job, result: Result) -> None:
    assert np.array_equal(only(job).pixels, result.pixels)


def test_what_was_coloured_before_makes_no_difference(job: Job, result: Result) -> None:
    backend = Exemplar()
    only(job_of(luma_of(scene(5)), scene(7), scene(0)), backend)
    assert np.array_equal(only(job, backend).pixels, result.pixels)


def test_confidence_is_higher_inside_a_known_scene_than_for_noise(job: Job, result: Result) -> None:
    strange = np.random.default_rng(0).integers(0, 256, job.page.shape).astype(np.uint8)
    known, unknown = result.confidence, only(replace(job, page=strange)).confidence
    assert known is not None
    assert unknown is not None
    assert known[20:180, 20:140].mean() > unknown[20:180, 20:140].mean()


def test_every_hit_with_colour_counts_as_used(result: Result, job: Job) -> None:
    assert result.used is not None
    assert result.used.sum() == sum(len(corner) for corner in job.context)


def test_a_hit_of_blank_paper_is_not_used() -> None:
    blank = np.full((80, 60, 3), 255, np.uint8)
    found = only(job_of(luma_of(scene(1)), blank))
    assert found.used is not None
    assert not found.used.any()


@pytest.mark.parametrize("context", [((), (), (), ()), ()])
def test_without_references_the_page_stays_grey(context: tuple[tuple[Hit, ...], ...]) -> None:
    page = luma_of(scene(1))
    assert np.array_equal(only(Job(page, context)).pixels, np.repeat(page[..., None], 3, axis=-1))


def test_the_inputs_are_not_changed(job: Job) -> None:
    page, pixels = job.page.copy(), [h.pixels.copy() for corner in job.context for h in corner]
    only(job)
    assert np.array_equal(job.page, page)
    assert all(np.array_equal(a, h.pixels) for a, h in zip(pixels, (h for c in job.context for h in c), strict=True))


def test_read_only_inputs_will_do(job: Job, result: Result) -> None:
    page = job.page.copy()
    page.setflags(write=False)
    assert np.array_equal(only(replace(job, page=page)).pixels, result.pixels)


def test_references_that_contradict_each_other_give_a_modest_page() -> None:
    hues = [60 * np.array([np.cos(a), np.sin(a)]) for a in np.linspace(0, 2 * np.pi, 6, endpoint=False)]
    greys = [luma_of(scene(i)) for i in range(6)]
    painted = [with_luma(g, np.broadcast_to(hue, (*g.shape, 2))) for g, hue in zip(greys, hues, strict=True)]
    found = chroma_of(only(job_of(luma_of(scene(9)), *painted)).pixels)
    assert np.abs(found).mean() < 0.3 * np.mean([np.abs(chroma_of(rgb)).mean() for rgb in painted])


def stop_at(step: int) -> tuple[Callable[[int, int], None], list[int]]:
    calls: list[int] = []

    def progress(done: int, _steps: int) -> None:
        calls.append(done)
        if done >= step:
            raise InterruptedError("enough")

    return progress, calls


@pytest.mark.parametrize("step", [0, 1, 5, TREES + 3])
def test_a_raise_from_progress_stops_the_page_at_once(job: Job, step: int) -> None:
    progress, calls = stop_at(step)
    with pytest.raises(InterruptedError, match="enough"):
        only(replace(job, progress=progress))
    assert calls[-1] >= step
    assert all(done < step for done in calls[:-1])


def test_progress_never_falls_and_ends_at_the_last_step(job: Job) -> None:
    seen: list[tuple[int, int]] = []
    only(replace(job, progress=lambda done, steps: seen.append((done, steps))))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    assert len({done for done, _ in seen}) > TREES


def test_previews_are_small_pictures_at_the_wanted_steps(job: Job) -> None:
    seen: list[np.ndarray] = []
    only(replace(job, preview=seen.append, preview_every=3))
    assert [p.shape for p in seen] == [(100, 80, 3)] * 3


def test_a_hint_colours_its_object(job: Job) -> None:
    green = (90, 170, 90)
    found = only(replace(job, hints=(Hint(24.0, 50.0, 6.0, green),)))
    assert np.abs(chroma_at(found, np.s_[40:60, 18:30]) - chroma_of_colour(green)).max() < 8


def test_a_hint_does_not_cross_an_outline() -> None:
    page = np.full((100, 100), 150, np.uint8)
    page[:, 49:51] = 0
    found = only(Job(page, hints=(Hint(25.0, 50.0, 8.0, (200, 120, 140)),)))
    assert np.abs(chroma_at(found, np.s_[30:70, 15:35])).max() > 20
    assert np.abs(chroma_at(found, np.s_[30:70, 65:85])).max() < 2


@pytest.mark.parametrize("shape", [(16, 16), (16, 900), (1200, 17), (333, 501)])
def test_a_page_of_any_size_keeps_it(job: Job, shape: tuple[int, int]) -> None:
    page = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    found = only(replace(job, page=page, steps=4))
    assert np.array_equal(luma_of(found.pixels), page)
    assert found.confidence is not None
    assert found.confidence.shape == shape


@pytest.mark.parametrize("level", [0, 255])
def test_an_empty_page_stays_empty(job: Job, level: int) -> None:
    page = np.full((60, 40), level, np.uint8)
    assert np.array_equal(only(replace(job, page=page, steps=4)).pixels, np.repeat(page[..., None], 3, axis=-1))


def test_a_tiny_hit_will_do() -> None:
    red = np.tile(np.array([160, 80, 70], np.uint8), (12, 12, 1))
    hit = Hit(red, 0.5, "tiny", Box(4, 4, 16, 16), (16, 16))
    found = only(Job(np.full((40, 40), 105, np.uint8), ((hit,), (), (), ()), steps=4))
    assert chroma_at(found, np.s_[5:35, 5:35])[1] > 10


def test_grey_references_leave_the_page_grey(job: Job) -> None:
    grey = np.repeat(luma_of(scene(2))[..., None], 3, axis=-1)
    found = only(job_of(job.page, grey, grey[::-1].copy()))
    assert np.abs(chroma_of(found.pixels)).max() < 2


def test_a_closed_backend_keeps_no_references(job: Job) -> None:
    backend = Exemplar()
    only(job, backend)
    backend.close()
    assert not backend._shelf._samples
    assert not backend._shelf._regions
