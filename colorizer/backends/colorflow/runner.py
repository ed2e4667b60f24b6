"""One batch of pages through one style: guides, canvas, condition, steps, decoding, refinement."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn

from colorizer.backends.colorflow import gsrp, sampling
from colorizer.backends.colorflow.canvas import compose, crop_centre
from colorizer.backends.colorflow.fit import Size, refined_size
from colorizer.backends.colorflow.glance import Glance, Watched
from colorizer.backends.colorflow.guider_pixart import PixArtGuider
from colorizer.backends.colorflow.guider_sd import ColorGuiderSD
from colorizer.backends.colorflow.guides import Guides, guides_of
from colorizer.backends.colorflow.pixart import PixArtDenoiser
from colorizer.backends.colorflow.residency import Residency
from colorizer.backends.colorflow.sd import SDDenoiser
from colorizer.backends.colorflow.styles import Style
from colorizer.backends.colorflow.text import empty_only
from colorizer.backends.colorflow.vae import VaeOptions, set_options

Pixels = UInt8[np.ndarray, "h w 3"]
_KEPT_GUIDES = 8  # pages whose lines or tone are remembered, for other seeds, steps or hints


@runtime_checkable
class Library(Protocol):
    """Where networks come from."""

    def load(self, part: str) -> nn.Module:
        """A part in evaluation mode, in its working precision, on the CPU."""
        ...

    def text(self, style: Style) -> sampling.Text:
        """The embeddings of the style's two prompts."""
        ...

    def schedule(self, style: Style) -> dict[str, Any]:
        """Contents of the base model's scheduler file."""
        ...


@dataclass(frozen=True)
class Unit:
    """One page, or one window of a long page."""

    guides: Guides  # at the refined size
    size: Size  # of the page in the canvas, pixels; multiples of 16
    ranked: Sequence[Sequence[Image.Image]]  # reference patches for each corner, best first
    seed: int  # -2**63 … 2**64 - 1


@dataclass(frozen=True)
class Recipe:
    """How a batch is run."""

    style: Style
    steps: int
    guidance: float  # 1 or below: none
    parity: bool = False  # the published draws: a posterior sample for each guidance half, one stream of numbers
    refine: bool = True
    reuse_guider: int = 1


@dataclass(frozen=True)
class Placing:
    """How networks are laid out; nothing here changes a picture but the precision and the VAE's tiling."""

    device: torch.device
    memory: int = 0  # bytes of weights on the device; 0: no limit
    by_stage: bool = False
    compile: str = "off"  # or a mode of torch.compile
    channels_last: bool = False
    vae_slicing: bool = False
    vae_tiling: bool = False


Progress = Callable[[int, int], None]
Look = Callable[[UInt8[np.ndarray, "pages h w 3"]], None]
Clock = Callable[[str, float], None]


class Runner:
    """Runs batches; keeps the networks, the prompts and what was found of pages.

    Args:
        library: where networks come from.
        placing: where they go.
        clock: told the name of each stage (guides, encode, steps, decode, refine) and its seconds, moves of networks
            included, once the device has done it; None: nothing is timed, and nothing waits for the device.
    """

    def __init__(self, library: Library, placing: Placing, clock: Clock | None = None) -> None:
        self._library = library
        self._placing = placing
        self._clock = clock
        self._parts = Residency(self._load, placing.device, budget=placing.memory, by_stage=placing.by_stage)
        self._text: dict[str, sampling.Text] = {}
        self._denoisers: dict[tuple[str, int], tuple[nn.Module, sampling.Denoiser]] = {}
        self._guides: OrderedDict[tuple[str, bytes], Guides] = OrderedDict()
        self._detail: tuple[bytes, list[Tensor]] | None = None  # encoder features of the last single page's guide

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the parts on the device."""
        return self._parts.resident

    def free(self) -> None:
        """Gives back what is not needed for the next page: after running out of memory, say."""
        self._detail = None
        if self._placing.device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Frees everything."""
        self._parts.clear()
        self._text.clear()
        self._denoisers.clear()
        self._guides.clear()
        self._detail = None

    def guides(self, style: Style, grey: UInt8[np.ndarray, "h w"], seed: int | None = None) -> Guides:
        """What the style sees of a page of the refined size; remembered for the last pages.

        Args:
            style: decides which.
            grey: the page.
            seed: of the screen tone's noise and dropout; None: neither, which is remembered.
        """
        drawn = seed is not None and style.guide == "tone"
        key = style.guide, hashlib.sha256(grey.tobytes()).digest() + repr(grey.shape).encode()
        if not drawn and key in self._guides:
            self._guides.move_to_end(key)
            return self._guides[key]
        generator = torch.Generator("cpu").manual_seed(seed) if drawn and seed is not None else None
        with torch.inference_mode(), self._stage("guides", "tone" if style.guide == "tone" else "lines") as (part,):
            nets = tuple(part.children()) if style.guide == "tone" else (part,)
            found = guides_of(style.guide, grey, nets, generator)
        if not drawn:
            self._guides[key] = found
            while len(self._guides) > _KEPT_GUIDES:
                self._guides.popitem(last=False)
        return found

    def run(
        self, recipe: Recipe, units: Sequence[Unit], progress: Progress, look: Look | None = None
    ) -> list[UInt8[np.ndarray, "_h _w 3"]]:
        """The coloured pages at the refined size (at the canvas's, if the recipe does not refine), in order.

        Args:
            recipe: how.
            units: of one size, at least one; a parity run takes them one by one in the published order of draws.
            progress: called as progress(done, steps + 1); the last one is the refinement's. May raise.
            look: called after each step but the last with small pictures of the pages as they will be.

        Cost: see the specification's section 12; 342 TFLOP for a page of 640 x 640 pixels at 10 steps with guidance.
        """
        size = units[0].size
        assert all(unit.size == size for unit in units), "a batch has one size"
        if self._detail and self._detail[0] != _detail_key(recipe.style, units):
            self._detail = None  # before anything else wants its memory
        with torch.inference_mode():
            draws = _draws(recipe, [unit.seed for unit in units], size)
            coarse = self._diffused(recipe, units, draws, progress, look)
            pages = [crop_centre(Image.fromarray(canvas)) for canvas in coarse]
            if recipe.refine:
                refined = self._refined(recipe, units, pages, draws.refined)
            else:
                refined = [np.asarray(page) for page in pages]
        progress(recipe.steps + 1, recipe.steps + 1)
        return refined

    def _diffused(
        self, recipe: Recipe, units: Sequence[Unit], draws: sampling.Draws, progress: Progress, look: Look | None
    ) -> UInt8[np.ndarray, "pages _high _wide 3"]:
        style, device = recipe.style, self._placing.device
        text = self._prompts(style)  # first of all: where it is not kept yet, the encoder needs the room
        canvas = _signed([np.asarray(_canvas(unit)) for unit in units])
        with self._stage("encode", f"{style.backbone}/vae") as (vae,):
            condition = sampling.encode_condition(vae, canvas, draws.posterior)
        glance = Glance(condition[: len(units), :4], _without_centre(canvas).to(device)) if look else None
        with self._stage("steps", f"{style.name}/denoiser") as (nets,):
            denoiser = self._denoiser(recipe, nets)
            scheduler = self._scheduler(style)
            timesteps = sampling.timesteps_for(scheduler, recipe.steps)
            words = text if recipe.guidance > 1 else empty_only(text)
            run: sampling.Run = denoiser.begin(condition, len(units), recipe.guidance, timesteps, words)
            watched = Watched(run, scheduler.alphas_cumprod, timesteps) if look else None

            def stepped(done: int, steps: int) -> None:
                progress(done, steps + 1)
                if glance and watched and look and 0 < done < steps:
                    look(glance.look(watched.heading()))

            noise = draws.noise.to(device)
            latents = sampling.sample(watched or run, scheduler, noise, timesteps, stepped)
        with self._stage("decode", f"{style.backbone}/vae") as (vae,):
            return sampling.to_uint8(sampling.decode(vae, latents))

    def _refined(
        self, recipe: Recipe, units: Sequence[Unit], pages: Sequence[Image.Image], noise: Tensor | None
    ) -> list[UInt8[np.ndarray, "_h _w 3"]]:
        style = recipe.style
        size = refined_size(units[0].size)
        enlarged = _signed([np.asarray(page.resize(size, Image.Resampling.BICUBIC)) for page in pages])
        with self._stage("refine", f"{style.backbone}/vae", f"{style.name}/fusion") as (vae, fusion):
            assert isinstance(fusion, gsrp.FusionNet)
            guide = _signed([np.repeat(unit.guides.detail[..., None], 3, axis=2) for unit in units])
            features = self._detail_of(style, vae, units, guide) if len(units) == 1 else None
            found = gsrp.refine(vae, fusion, enlarged, guide, noise, guide_features=features)
        return list(found.permute(0, 2, 3, 1).cpu().numpy())

    def _detail_of(self, style: Style, vae: Any, units: Sequence[Unit], guide: Tensor) -> list[Tensor]:
        """Encoder features of a page's guide; those of the last page are kept, for its next seed."""
        key = _detail_key(style, units)
        if self._detail is None or self._detail[0] != key:
            self._detail = None  # freed before the next ones are made
            self._detail = key, gsrp.encode_features(vae, guide.to(vae.device, vae.dtype))
        return self._detail[1]

    @contextlib.contextmanager
    def _stage(self, name: str, *parts: str) -> Iterator[tuple[nn.Module, ...]]:
        """A stage's networks on the device; its seconds go to the clock."""
        begin = self._now()
        with self._parts.use(parts) as taken:
            yield taken
        if self._clock:
            self._clock(name, self._now() - begin)

    def _now(self) -> float:
        if self._clock and self._placing.device.type == "cuda":
            torch.cuda.synchronize(self._placing.device)
        return time.perf_counter()

    def _load(self, part: str) -> nn.Module:
        found = self._library.load(part)
        placing = self._placing
        if part.endswith("/vae"):
            set_options(found, VaeOptions(placing.vae_slicing, placing.vae_tiling, channels_last=placing.channels_last))
        elif placing.channels_last:
            nn.Module.to(found, memory_format=torch.channels_last)
        return found

    def _denoiser(self, recipe: Recipe, nets: nn.Module) -> sampling.Denoiser:
        key = recipe.style.name, recipe.reuse_guider
        known = self._denoisers.get(key)
        if known is not None and known[0] is nets:
            return known[1]
        denoiser = denoiser_of(recipe.style, nets, recipe.reuse_guider)
        if self._placing.compile != "off":
            # One graph for each size: kernels of known shapes are faster, and a server sees few sizes.
            denoiser.compile_(mode=None if self._placing.compile == "default" else self._placing.compile, dynamic=False)
        self._denoisers[key] = nets, denoiser
        return denoiser

    def _scheduler(self, style: Style) -> Any:
        make = sampling.unipc if style.backbone == "sd" else sampling.dpm_solver
        return make(self._library.schedule(style))

    def _prompts(self, style: Style) -> sampling.Text:
        if style.backbone not in self._text:
            self._text[style.backbone] = self._library.text(style)
        return self._text[style.backbone]


def denoiser_of(style: Style, nets: nn.Module, reuse_guider: int = 1) -> SDDenoiser | PixArtDenoiser:
    """The denoiser of a style's two diffusion networks, the `backbone` and the `guider` of a `ModuleDict`."""
    backbone, guider = nets.get_submodule("backbone"), nets.get_submodule("guider")
    if style.backbone == "sd":
        assert isinstance(guider, ColorGuiderSD)
        return SDDenoiser(backbone, guider, reuse_guider_every=reuse_guider)
    assert isinstance(guider, PixArtGuider)
    return PixArtDenoiser(backbone, guider, reuse_guider_every=reuse_guider)


def _draws(recipe: Recipe, seeds: Sequence[int], size: Size) -> sampling.Draws:
    width, height = size
    latent = 2 * height // 8, 2 * width // 8
    refined = tuple(side // 8 for side in reversed(refined_size(size))) if recipe.refine else None
    inner = (refined[0], refined[1]) if refined else None
    if not recipe.parity:
        return sampling.shared_draws(seeds, latent, inner)
    rows = sampling.halves(recipe.guidance)
    return sampling.stack_published([sampling.published_draws(seed, latent, inner, rows=rows) for seed in seeds])


def _detail_key(style: Style, units: Sequence[Unit]) -> bytes:
    """What the encoder features of a single page's guide depend on; of several pages none are kept."""
    if len(units) != 1:
        return b""
    detail = units[0].guides.detail
    return hashlib.sha256(detail.tobytes()).digest() + f"{style.backbone} {detail.shape}".encode()


def _canvas(unit: Unit) -> Image.Image:
    query = Image.fromarray(unit.guides.query).resize(unit.size, Image.Resampling.BICUBIC).convert("RGB")
    return compose(query, unit.ranked)


def _signed(pictures: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Tensor:
    """RGB bytes as a float32 batch in [-1, 1], as published: first to [0, 1], then moved.

    Contiguous, not only in name: on the CPU a group norm of channels_last pictures loses three digits on flat ones.
    """
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous().float() / 255
    return (stacked - 0.5) / 0.5


def _without_centre(canvas: Tensor) -> Tensor:
    """The canvas as its first latent shows it: black where the page is."""
    high, wide = canvas.shape[-2:]
    around = canvas.clone()
    around[..., high // 4 : high - high // 4, wide // 4 : wide - wide // 4] = -1.0
    return around
