"""The back-end colorflow on small random weights: whole pages, seeds, batches, windows, memory, options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from colorizer.backends.colorflow import library, tiles
from colorizer.backends.colorflow.backend import ColorFlow
from colorizer.backends.colorflow.glance import Glance
from colorizer.backends.colorflow.options import Options, described, options_from, settings_from
from colorizer.backends.colorflow.residency import Residency, bytes_of
from colorizer.backends.colorflow_spec import SPEC
from colorizer.luma import luma_of
from colorizer.types import Hit, Job
from serving.errors import Cancelled, FailedState, InvalidInput
from serving.geometry import Box
from tests import tiny_colorflow

AREA = {"area": str(128 * 128)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_colorflow.make(tmp_path_factory.mktemp("models")).models


def settings(folder: Path, **more: str) -> dict[str, str]:
    prompts = str(folder.parent / "prompts")
    own = {"device": "cpu", "models": str(folder), "accept_licence": "non-commercial", "prompts": prompts}
    return own | more


def loaded(folder: Path, **more: str) -> ColorFlow:
    backend = SPEC.load(settings(folder, **more))
    assert isinstance(backend, ColorFlow)
    return backend


@pytest.fixture(scope="module")
def backend(folder: Path) -> Iterator[ColorFlow]:
    backend = loaded(folder)
    yield backend
    backend.close()


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def hit(seed: int) -> Hit:
    return Hit(noise(seed, 60, 50, 3), 0.5, "a" * 64, Box(0, 0, 50, 60), (50, 60))


def job(seed: int = 1, height: int = 150, width: int = 110, **parameters: str) -> Job:
    context = ((hit(1), hit(2), hit(3), hit(4)), (hit(5),), (), (hit(6), hit(7)))
    return Job(noise(seed, height, width), context, seed=seed, steps=2, parameters=AREA | parameters)


def assert_alike(one: np.ndarray, other: np.ndarray, share: float = 0.01) -> None:
    """Equal but for rounding: at most that share of values is off by more than 2 of 255, and none by more than 16."""
    off = np.abs(one.astype(int) - other.astype(int))
    assert (off > 2).mean() <= share
    assert off.max() <= 16


def run(backend: ColorFlow, *jobs: Job) -> list[np.ndarray]:
    return [result.pixels for result in backend.colorize(jobs)]


@pytest.mark.parametrize("style", ["gray", "sketch", "shading"])
def test_every_style_colours_a_page_of_any_size(backend: ColorFlow, style: str) -> None:
    (result,) = backend.colorize([job(style=style)])
    assert result.pixels.shape == (150, 110, 3)
    assert np.ptp(result.pixels.astype(int), axis=-1).max() > 8  # some colour
    expected = [[True, True, True, False], [True, False, False, False], [False] * 4, [True, True, False, False]]
    assert result.used is not None
    assert result.used.tolist() == expected


def test_a_seed_gives_the_same_bits_and_another_seed_another_picture(backend: ColorFlow) -> None:
    first, again, other = (run(backend, one)[0] for one in (job(), job(), replace(job(), seed=2)))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other.astype(int)).max() > 8


@pytest.mark.parametrize("style", ["gray", "sketch"])
def test_a_page_in_a_batch_is_the_page_alone_up_to_rounding(backend: ColorFlow, style: str) -> None:
    jobs = [job(seed, style=style) for seed in (1, 2, 3)]
    together = run(backend, *jobs)
    for one, page in zip(jobs, together, strict=True):
        assert_alike(run(backend, one)[0], page)


def test_a_tall_strip_runs_in_windows_and_its_progress_never_goes_back(backend: ColorFlow) -> None:
    told: list[tuple[int, int]] = []
    strip = replace(job(height=400), progress=lambda done, steps: told.append((done, steps)))
    (page,) = run(backend, strip)
    assert page.shape == (400, 110, 3)
    assert told == sorted(told)
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1]
    assert told[-1][1] > 3  # more than one window


def test_jobs_of_other_sizes_and_styles_come_back_in_order(backend: ColorFlow) -> None:
    jobs = [job(1), job(2, height=110, width=130), job(3, style="sketch"), job(4)]
    assert [page.shape for page in run(backend, *jobs)] == [(150, 110, 3), (110, 130, 3), (150, 110, 3), (150, 110, 3)]


def test_a_page_without_references_is_allowed(backend: ColorFlow) -> None:
    (result,) = backend.colorize([replace(job(), context=((), (), (), ()))])
    assert result.pixels.shape == (150, 110, 3)


def test_what_progress_raises_stops_the_page_within_a_step_and_leaves_the_backend_usable(backend: ColorFlow) -> None:
    steps: list[int] = []

    def progress(done: int, of: int) -> None:
        steps.append(done)
        if done == 1:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        run(backend, replace(job(), steps=5, progress=progress))
    assert steps == [0, 1]
    assert run(backend, job())[0].shape == (150, 110, 3)


def test_previews_come_while_the_page_is_under_way(backend: ColorFlow) -> None:
    seen: list[np.ndarray] = []
    run(backend, replace(job(), steps=4, preview=seen.append, preview_every=1))
    assert len(seen) == 3
    assert {one.shape for one in seen} == {(150, 110, 3)}
    assert np.ptp(seen[-1].astype(int), axis=-1).max() > 0


def test_the_published_sizes_crop_and_leave_the_rest_grey(backend: ColorFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "PUBLISHED_SIZES", ((64, 64), (64, 96), (96, 64)))  # the true ones take a minute here
    wide = replace(job(height=64, width=400, sizes="published"), steps=1)
    (page,) = run(backend, wide)
    edge = page[:, :20]
    np.testing.assert_array_equal(edge, np.repeat(wide.page[:, :20, None], 3, axis=2))
    assert np.ptp(page[:, 150:250].astype(int), axis=-1).max() > 8


def test_parity_is_another_run_of_the_same_page_and_deterministic_too(backend: ColorFlow) -> None:
    ours, parity, again = (run(backend, one)[0] for one in (job(), job(parity="on"), job(parity="on")))
    np.testing.assert_array_equal(parity, again)
    assert np.abs(ours.astype(int) - parity.astype(int)).max() > 8


def test_without_the_refinement_the_luma_is_coarser(backend: ColorFlow) -> None:
    refined, coarse = (run(backend, one)[0] for one in (job(), job(refine="off")))
    assert np.abs(luma_of(refined).astype(int) - luma_of(coarse).astype(int)).max() > 8


def test_a_reused_guider_is_an_approximation_that_must_be_asked_for(backend: ColorFlow) -> None:
    exact, reused = (run(backend, replace(one, steps=4))[0] for one in (job(), job(reuse_guider="2")))
    assert np.abs(exact.astype(int) - reused.astype(int)).max() > 0


def test_guidance_off_runs_one_half(backend: ColorFlow) -> None:
    on, off = (run(backend, one)[0] for one in (job(), job(guidance="1")))
    assert np.abs(on.astype(int) - off.astype(int)).max() > 0


def test_a_budget_keeps_the_styles_in_use_and_gives_the_same_pictures(folder: Path, backend: ColorFlow) -> None:
    small = loaded(folder, memory="0.000001")
    for style in ("gray", "sketch", "gray"):
        np.testing.assert_array_equal(run(small, job(style=style))[0], run(backend, job(style=style))[0])
    assert len(small._runner.resident) < len(backend._runner.resident)


# On the CPU, group norms of channels_last pictures lose three digits on flat ones.
@pytest.mark.parametrize(
    ("more", "share"), [({"vae_slicing": "off"}, 0.01), ({"channels_last": "on"}, 0.05), ({"batch": "1"}, 0.01)]
)
def test_options_of_layout_change_no_picture_but_by_rounding(
    folder: Path, backend: ColorFlow, more: dict[str, str], share: float
) -> None:
    assert_alike(run(loaded(folder, **more), job())[0], run(backend, job())[0], share)


def test_bfloat16_runs(folder: Path) -> None:
    assert run(loaded(folder, precision="bfloat16"), job())[0].shape == (150, 110, 3)


def test_a_folder_for_one_style_serves_it_and_says_what_the_others_lack(tmp_path: Path) -> None:
    tiny = tiny_colorflow.make(tmp_path / "models", ("sketch",))
    backend = loaded(tiny.models)
    assert run(backend, job(style="sketch"))[0].shape == (150, 110, 3)
    with pytest.raises(FailedState, match=r"style 'gray' cannot be used.*GraySD") as caught:
        run(backend, job(style="gray"))
    assert caught.value.reason == "WEIGHTS_INVALID"
    with pytest.raises(FailedState, match="GraySD"):
        loaded(tiny.models, styles="gray,sketch")


def test_the_licence_must_be_accepted(folder: Path) -> None:
    with pytest.raises(FailedState, match="non-commercial") as caught:
        SPEC.load(settings(folder) | {"accept_licence": ""})
    assert caught.value.reason == "LICENCE_NOT_ACCEPTED"


def test_wrong_settings_and_parameters_are_all_named() -> None:
    with pytest.raises(InvalidInput, match=r"models.*precision.*bad") as caught:
        settings_from({"precision": "float8", "bad": "1"})
    assert len(caught.value.violations) == 3
    with pytest.raises(InvalidInput, match=r"style.*guidance"):
        options_from({"style": "oil", "guidance": "-1"})


def test_the_card_describes_every_parameter() -> None:
    assert set(SPEC.card.parameters) == set(Options.model_fields)
    assert all(described(Options).values())


def test_residency_drops_what_was_used_longest_ago_and_never_what_is_in_use() -> None:
    loads: list[str] = []

    def load(name: str) -> nn.Module:
        loads.append(name)
        return nn.Linear(10, 10, bias=False)

    size = bytes_of(nn.Linear(10, 10, bias=False))
    parts = Residency(load, torch.device("cpu"), budget=2 * size)
    for name in ("a", "b", "a", "c"):
        with parts.use([name]):
            pass
    assert parts.resident == ("a", "c")
    assert parts.resident_bytes == 2 * size
    with parts.use(["a", "c", "d"]) as (a, _c, d):
        assert parts.resident == ("a", "c", "d")
        assert a is not d
    with parts.use(["b"]):
        assert parts.resident == ("d", "b")
    assert loads == ["a", "b", "c", "d", "b"]


def test_a_part_that_does_not_load_leaves_nothing_in_use() -> None:
    def load(name: str) -> nn.Module:
        if name == "bad":
            raise FailedState("no such part")
        return nn.Linear(2, 2)

    parts = Residency(load, torch.device("cpu"), budget=1)
    with pytest.raises(FailedState), parts.use(["good", "bad"]):
        pass
    with parts.use(["other"]):
        assert parts.resident == ("other",)


def test_a_glance_finds_the_colours_that_a_linear_code_holds() -> None:
    rng = torch.Generator().manual_seed(0)
    canvas = torch.rand(1, 3, 64, 64, generator=rng) * 2 - 1
    small = nn.functional.interpolate(canvas, (8, 8), mode="area")
    latents = torch.cat([small * 3 + 1, small[:, :1]], dim=1)
    (seen,) = Glance(latents, canvas).look(latents)
    expected = ((small[0, :, 2:6, 2:6] / 2 + 0.5) * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(seen.astype(int) - expected.astype(int)).max() <= 2


def test_a_warm_up_loads_the_networks_before_the_first_page(folder: Path) -> None:
    tiny = tiny_colorflow.make(folder.parent / "one-style", ("sketch",))
    backend = loaded(tiny.models, warm_up="64x64")
    assert "sketch/denoiser" in backend._runner.resident
    with pytest.raises(InvalidInput, match=r"warm_up.*640x640"):
        loaded(tiny.models, warm_up="64 by 64")


def out_of_memory_above(backend: ColorFlow, most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes batches of more than `most` windows run out of memory after a step; the sizes of those that were tried."""
    tried: list[int] = []
    run_batch = backend._runner.run

    def run_small(recipe, units, progress, look=None):  # type: ignore[no-untyped-def]
        tried.append(len(units))
        if len(units) > most:
            progress(1, recipe.steps + 1)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run_batch(recipe, units, progress, look)

    monkeypatch.setattr(backend._runner, "run", run_small)
    return tried


def test_a_batch_that_does_not_fit_runs_one_by_one(backend: ColorFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    jobs = [job(1), replace(job(2), progress=lambda done, steps: told.append(done))]
    expected = [run(backend, one)[0] for one in jobs]
    told.clear()
    tried = out_of_memory_above(backend, 1, monkeypatch)
    for page, alone in zip(run(backend, *jobs), expected, strict=True):
        np.testing.assert_array_equal(page, alone)
    assert tried == [2, 1, 1]
    assert told == sorted(told)


def test_a_page_that_does_not_fit_alone_says_so(backend: ColorFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(backend, 0, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        run(backend, job())


@pytest.mark.parametrize("damage", [b"", b"x" * 500])
def test_damaged_prompt_embeddings_are_made_again(folder: Path, tmp_path: Path, damage: bytes) -> None:
    prompts = tmp_path / "prompts"
    expected = run(loaded(folder, prompts=str(prompts)), job())[0]
    (file,) = prompts.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage)
    np.testing.assert_array_equal(run(loaded(folder, prompts=str(prompts)), job())[0], expected)
    assert len(file.read_bytes()) == len(whole)


def test_a_text_encoder_that_does_not_fit_on_the_device_works_on_the_cpu(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(loaded(folder), job())[0]
    asked: list[str] = []

    def text_for(*arguments: Any, device: torch.device | str, **options: Any) -> Any:
        asked.append(str(device))
        if len(asked) == 1:
            raise torch.OutOfMemoryError("too small")
        return real(*arguments, device=device, **options)

    backend = loaded(folder, prompts=str(tmp_path))
    real = library.text_for
    monkeypatch.setattr(library, "text_for", text_for)
    np.testing.assert_array_equal(run(backend, job())[0], expected)
    assert asked == ["cpu", "cpu"]


def test_prompts_are_there_before_any_diffusion_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = loaded(folder)
    there: list[tuple[str, ...]] = []
    real = backend._runner._library.text
    monkeypatch.setattr(
        backend._runner._library, "text", lambda style: (there.append(backend._runner.resident), real(style))[1]
    )
    run(backend, job())
    assert there == [("tone",)]
