"""Memory that is counted without a device is what PyTorch's allocator really gives out."""

from __future__ import annotations

import dataclasses
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from benchmarks import colorflow_memory
from benchmarks.colorflow_memory import VARIANTS, HollowLibrary, count, text_encoder_bytes
from benchmarks.colorflow_random import FULL, TINY, RandomLibrary
from benchmarks.device_memory import BLOCK, Ledger, counted, hollow, hollowed, is_hollow
from colorizer.backends.colorflow import gsrp, sampling
from colorizer.backends.colorflow.residency import bytes_of
from colorizer.backends.colorflow.runner import denoiser_of
from colorizer.backends.colorflow.styles import STYLES
from colorizer.backends.colorflow.vae import VaeOptions, set_options

WIDTH, HEIGHT = 64, 96
SHARE = 1e-3  # of the allocator's peak between operations, by which the count may differ from it
COPIES = 1.3  # times the count; on CPUs a convolution keeps copies in a layout of its own while it runs
TARGET = 8e9  # bytes
NAMED = {variant.name: variant for variant in VARIANTS}


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


class Work:
    """The stages of a small page on one device."""

    def __init__(self, style_name: str, device: str) -> None:
        style, library = STYLES[style_name], RandomLibrary(TINY, device)
        vae: Any = library.load(f"{style.backbone}/vae")
        fusion: Any = library.load(f"{style.name}/fusion")
        nets = library.load(f"{style.name}/denoiser")
        canvas = torch.zeros(1, 3, 2 * HEIGHT, 2 * WIDTH, device=device)
        latents = torch.zeros(1, 4, HEIGHT // 4, WIDTH // 4, device=device)
        page = torch.zeros(1, 3, HEIGHT * 3 // 2, WIDTH * 3 // 2, device=device)
        noise = page.new_zeros(1, 4, page.shape[2] // 8, page.shape[3] // 8)
        make = sampling.unipc if style.backbone == "sd" else sampling.dpm_solver
        timesteps = sampling.timesteps_for(make(library.schedule(style)), 2)
        denoiser = denoiser_of(style, nets)
        run: Any = denoiser.begin(latents.new_zeros(1, 9, *latents.shape[2:]), 1, 7.5, timesteps, library.text(style))
        self.stages: dict[str, Callable[[], object]] = {
            "encode": lambda: sampling.encode_condition(vae, canvas, [latents, latents]),
            "step": lambda: run.noise(latents, 0),
            "decode": lambda: sampling.decode(vae, latents),
            "refine": lambda: gsrp.refine(vae, fusion, page, page, noise),
        }
        self.there = [canvas, latents, page, noise, *_tensors(vars(run))]
        for net in (vae, fusion, nets):
            self.there += [*net.parameters(), *net.buffers()]

    def counted(self, stage: str, ledger: Ledger) -> int:
        """Bytes at the peak beyond what was there."""
        ledger.enter(*self.there)
        before = ledger.live
        ledger.lap()
        self.stages[stage]()
        return ledger.lap().total - before


def _tensors(value: Any) -> list[Tensor]:
    """All tensors within, whatever holds them."""
    if isinstance(value, Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        value = vars(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [found for part in parts for found in _tensors(part)]


def allocated(call: Callable[[], object]) -> tuple[int, int]:
    """The CPU allocator's peak in bytes between operations, and at any time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())  # type: ignore[union-attr]
    given = [event for event in events if event.name() == "[memory]"]
    times, totals = [event.start_ns() for event in given], [0]
    for event in given:
        totals.append(totals[-1] + event.nbytes())
    calls = [(e.start_ns(), e.start_ns() + e.duration_ns(), e.name()) for e in events if e.name().startswith("aten::")]
    inside = [(begin, end) for begin, end, name in calls if name == "aten::convolution"]
    starts = [begin for begin, _ in inside]
    ends = [end for _, end, _ in calls if not (at := bisect_right(starts, end)) or end >= inside[at - 1][1]]
    return max(totals[bisect_right(times, end)] for end in ends), max(totals)


@pytest.mark.parametrize("style", ["gray", "sketch"])
@pytest.mark.parametrize("stage", ["encode", "step", "decode", "refine"])
def test_the_count_without_a_device_is_what_the_allocator_gives_out(style: str, stage: str) -> None:
    real = Work(style, "cpu")
    real.stages[stage]()  # whatever is made at the first call alone
    between, ever = allocated(real.stages[stage])
    with Ledger("cpu", block=1) as ledger:
        followed = real.counted(stage, ledger)
    with counted(block=1) as ledger:
        found = Work(style, "meta").counted(stage, ledger)
    assert found == pytest.approx(between, rel=SHARE)
    assert followed == pytest.approx(between, rel=SHARE)
    assert found <= ever * (1 + SHARE)
    assert ever <= found * COPIES


def test_views_take_nothing_more_than_what_they_look_at() -> None:
    with counted() as ledger:
        one = torch.empty(64, 64, device="meta")
        view = one.t()[3:].unsqueeze(0)
        one += 1
        assert ledger.live == 64 * 64 * 4
        del one
        assert ledger.live == 64 * 64 * 4
        del view
        assert ledger.live == 0


def test_what_is_gone_is_struck_out_and_still_in_the_peak() -> None:
    with counted() as ledger:
        found = functional.relu(torch.empty(1000, device="meta") * 2) + 1
        assert ledger.live == 8 * BLOCK  # 4000 bytes
        assert ledger.lap().total == 2 * 8 * BLOCK
        assert ledger.lap().total == ledger.live
        del found


def test_weights_come_out_of_ram_and_go_back() -> None:
    net = hollowed(nn.Linear(128, 128, device="meta", dtype=torch.bfloat16))
    with counted() as ledger:
        assert ledger.live == 0
        net.to("meta")
        assert ledger.live == ledger.weights == 128 * 128 * 2 + BLOCK
        net.to("cpu")
        assert ledger.live == ledger.weights == 0
        assert all(is_hollow(weight) for weight in net.parameters())
        assert ledger.lap().weights == 128 * 128 * 2 + BLOCK


def test_hollow_tensors_take_one_element() -> None:
    assert hollow(torch.empty(10, 20, device="meta")).untyped_storage().nbytes() == 4
    assert not is_hollow(torch.zeros(1))


@pytest.mark.parametrize(("head", "beside"), [(64, 2 * 8 * 512 * 4), (512, 2 * 512 * 8 * 512 * 4)])
def test_fused_attention_writes_no_matrix_of_queries_times_keys(head: int, beside: int) -> None:
    query = torch.empty(2, 8, 512, head, device="meta", dtype=torch.bfloat16)
    peaks = {}
    for kind in ("fused", "math"):
        with counted(kind) as ledger:  # type: ignore[arg-type]
            found = functional.scaled_dot_product_attention(query, query, query)
            ledger.enter(query)
            assert found.shape == query.shape
            peaks[kind] = ledger.lap().total
            del found
    output = query.numel() * 2
    assert peaks["fused"] == max(output + beside, 2 * output)
    assert peaks["math"] >= 2 * 2 * 8 * 512 * 512 * 4


@pytest.mark.parametrize("name", ["ours", pytest.param("batch-4", marks=pytest.mark.slow)])
def test_the_default_at_its_real_size_stays_below_its_target(name: str) -> None:
    found = count(FULL, STYLES["gray"], NAMED[name], (640, 640), steps=1)
    assert set(found.stages) == {"guides", "encode", "steps", "decode", "refine"}
    assert 5e9 < found.peak.total < TARGET
    assert 3.8e9 < found.peak.weights < 4e9


def test_offload_leaves_no_weights_behind() -> None:
    found = count(TINY, STYLES["gray"], NAMED["offload"], (32, 64), steps=1)
    library = HollowLibrary(TINY, torch.bfloat16)
    library.prepare(STYLES["gray"])
    decoding, all_there = bytes_of(library.load("sd/vae")), found.stages["steps"].weights
    assert decoding <= found.stages["decode"].weights < 2 * decoding + 200 * BLOCK < all_there
    assert found.between < all_there


def test_taking_pages_one_by_one_spares_a_batch_its_memory_in_the_refinement() -> None:
    library = RandomLibrary(TINY, "meta")
    vae, fusion = library.load("sd/vae"), library.load("gray/fusion")
    assert isinstance(fusion, gsrp.FusionNet)
    pages = torch.zeros(4, 3, 96, 96, device="meta")
    peaks = {}
    for sliced in (True, False):
        set_options(vae, VaeOptions(slicing=sliced))
        with counted() as ledger:
            gsrp.refine(vae, fusion, pages, pages, torch.zeros(4, 4, 12, 12, device="meta"))
            peaks[sliced] = ledger.lap().total
    assert peaks[False] > 3 * peaks[True]


def test_text_encoders_have_their_published_sizes() -> None:
    assert text_encoder_bytes("sd") == 2 * 123_060_480
    assert text_encoder_bytes("pixart") == pytest.approx(2 * 4.762e9, rel=1e-3)


def test_the_command_writes_what_it_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "memory.json"
    arguments = ["--styles", "sketch", "--sizes", "64x64", "--rows", "offload", "--steps", "1", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["colorflow_memory", *arguments])
    colorflow_memory.main()
    content = json.loads(out.read_text())
    assert {"command", "machine", "commit", "date"} <= set(content["meta"])
    rows = content["results"]["rows"]
    assert set(rows) == {"sketch/64x64/offload"}
    for row in rows.values():
        assert row["peak_gib"] == pytest.approx(row["weights_gib"] + row["activations_gib"], abs=1e-3)
    assert set(content["results"]["styles_gib"]) == {*STYLES, "all"}
