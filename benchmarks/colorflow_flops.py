"""Floating-point operations of a page through the `colorflow` back-end, counted on the meta device, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.colorflow_random import RandomLibrary, Scale
from colorizer.backends.colorflow import gsrp, sampling
from colorizer.backends.colorflow.fit import Size, refined_size
from colorizer.backends.colorflow.lines import STRIDE
from colorizer.backends.colorflow.runner import Recipe, denoiser_of
from colorizer.backends.colorflow.screen import ENCODER_SIDE, tone_of

_META = torch.device("meta")


@lru_cache(maxsize=64)
@torch.inference_mode()
def page_flops(
    scale: Scale, recipe: Recipe, size: Size, *, beside: bool = False, again: bool = False
) -> dict[str, float]:
    """Floating-point operations of one page by stage, a multiply-add being two; nothing is calculated.

    Products alone are counted, as `FlopCounterMode` does: matrix products, convolutions, attention. The exponentials of
    attention are not, and weigh about as much as its products on today's GPUs.

    Args:
        scale: of the networks.
        recipe: how the page is run.
        size: width and height of the page in the canvas.
        beside: LoRA beside the weights.
        again: the page was run before with another seed, so that its guides and their features are there.

    Cost: seconds the first time, and no memory.
    """
    library = RandomLibrary(scale, _META, beside=beside)
    style = recipe.style
    vae: Any = library.load(f"{style.backbone}/vae")
    fusion = library.load(f"{style.name}/fusion")
    assert isinstance(fusion, gsrp.FusionNet)
    canvas = torch.empty(1, 3, 2 * size[1], 2 * size[0], device=_META)
    latents = torch.empty(1, 4, size[1] // 4, size[0] // 4, device=_META)
    rows = sampling.halves(recipe.guidance) if recipe.parity else 1
    condition = latents.new_empty(rows, 9, *latents.shape[2:])
    page = torch.empty(1, 3, *reversed(refined_size(size)), device=_META)
    noise = page.new_empty(1, 4, page.shape[2] // 8, page.shape[3] // 8)
    features = gsrp.encode_features(vae, page) if again else None
    posterior = [latents.new_empty(rows, *latents.shape[1:])] * 2
    counted = {
        "guides": 0.0 if again else _count(lambda: _guides(library, style.guide, page)),
        "encode": _count(lambda: sampling.encode_condition(vae, canvas, posterior)),
        "steps": _steps(library, recipe, condition, latents),
        "decode": _count(lambda: sampling.decode(vae, latents)),
    }
    if recipe.refine:
        counted["refine"] = _count(lambda: gsrp.refine(vae, fusion, page, page, noise, guide_features=features))
    return counted


def _steps(library: RandomLibrary, recipe: Recipe, condition: torch.Tensor, latents: torch.Tensor) -> float:
    style = recipe.style
    denoiser: Any = denoiser_of(style, library.load(f"{style.name}/denoiser"), recipe.reuse_guider)
    make: Any = sampling.unipc if style.backbone == "sd" else sampling.dpm_solver
    timesteps = sampling.timesteps_for(make(library.schedule(style)), recipe.steps)
    text = library.text(style)
    run: Any = None

    def begin() -> None:
        nonlocal run
        run = denoiser.begin(condition, 1, recipe.guidance, timesteps, text)

    once, first = _count(begin), _count(lambda: run.noise(latents, 0))
    if recipe.reuse_guider == 1 or recipe.steps == 1:
        return once + first * recipe.steps
    guided = -(-recipe.steps // recipe.reuse_guider)
    return once + first * guided + _count(lambda: run.noise(latents, 1)) * (recipe.steps - guided)


def _guides(library: RandomLibrary, guide: str, page: torch.Tensor) -> None:
    high, wide = page.shape[2:]
    if guide == "tone":
        encoder, decoder = library.load("tone").children()
        padded = page.new_empty(1, 4, high + -high % ENCODER_SIDE, wide + -wide % ENCODER_SIDE)
        tone_of(encoder, decoder, padded[:, :1], padded[:, 1:])  # type: ignore[arg-type]
    else:
        library.load("lines")(page.new_empty(1, 1, high + -high % STRIDE, wide + -wide % STRIDE))


def _count(call: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())
