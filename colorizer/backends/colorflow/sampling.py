"""What both backbones share of a diffusion run: random draws, condition, schedule, the step loop, decoding.

A run goes: `draws` → `encode_condition` → `timesteps_for` → `Denoiser.begin` → `sample` → `decode` → `to_uint8`.
The two networks live behind `Denoiser` (`sd.SDDenoiser`, `pixart.PixArtDenoiser`), so that nothing here knows which
backbone runs. Callers hold `torch.inference_mode()`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from jaxtyping import Bool, Float, Int, Int64, UInt8
from torch import Tensor

from colorizer.backends.colorflow.canvas import page_mask, split_pixels
from serving.errors import InvalidInput, ShapeMismatch

SD_SCHEDULE: Mapping[str, Any] = {
    "_class_name": "PNDMScheduler",  # whose file it is; another class's defaults are then dropped
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
"""What the SD 1.5 scheduler file says, for a folder without one."""

PIXART_SCHEDULE: Mapping[str, Any] = {
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "num_train_timesteps": 1000,
}
"""What the PixArt scheduler file says, for a folder without one."""


@dataclass(frozen=True)
class Text:
    """The embeddings of one positive and one negative prompt; the masks are PixArt's (True at tokens that count)."""

    positive: Float[Tensor, "1 tokens width"]
    negative: Float[Tensor, "1 tokens width"]
    positive_mask: Bool[Tensor, "1 tokens"] | None = None
    negative_mask: Bool[Tensor, "1 tokens"] | None = None


@runtime_checkable
class Run(Protocol):
    """A denoiser bound to one batch: its condition, text, guidance and timesteps."""

    def noise(self, latents: Float[Tensor, "pages 4 h w"], index: int) -> Float[Tensor, "pages 4 h w"]:
        """The guided noise prediction at `timesteps[index]`, in the dtype of `latents`."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """A backbone with its guider."""

    def begin(
        self,
        condition: Float[Tensor, "rows channels h w"],
        pages: int,
        guidance: float,
        timesteps: Int64[Tensor, " steps"],
        text: Text,
    ) -> Run:
        """A run, for which everything that does not change between steps has been computed.

        Args:
            condition: `[A latent 4 | mask 1 | B latent 4]` by channel. As many rows as `pages`: one posterior sample a
                page, so the guider runs once a page and its residuals serve both guidance halves. Twice as many: the
                published way, all negative rows, then all positive ones.
            pages: size of the batch, at least 1.
            guidance: scale of classifier-free guidance; at 1 or below only the positive half is computed.
            timesteps: as `timesteps_for` gives them, on the CPU.
            text: moved to the network's device and dtype if it is elsewhere.

        Raises:
            ShapeMismatch: the rows are neither `pages` nor, with guidance, twice that.
        """
        ...


class Steps:
    """What a denoiser calls in each step: `step`, or `guide` and `denoise` where the guider is reused between steps."""

    step: Callable[..., Tensor]
    guide: Callable[..., Any]
    denoise: Callable[..., Tensor]

    def __init__(self, reuse_guider_every: int) -> None:
        if reuse_guider_every < 1:
            raise InvalidInput(f"reuse_guider_every must be at least 1, got {reuse_guider_every}")
        self.reuse_guider_every = reuse_guider_every
        self._step, self._guide, self._denoise = self.step, self.guide, self.denoise

    def compile_(self, **options: Any) -> None:
        """Compiles a step (and its two parts, for a reused guider) at their next call; options of `torch.compile`."""
        self._step = torch.compile(self.step, **options)
        self._guide = torch.compile(self.guide, **options)
        self._denoise = torch.compile(self.denoise, **options)


def halves(guidance: float) -> int:
    """Rows of the backbone's batch per page: 2 with classifier-free guidance, else 1."""
    return 2 if guidance > 1 else 1


def check_rows(rows: int, pages: int, guidance: float) -> None:
    """Raises ShapeMismatch unless a condition of so many rows fits so many pages at that guidance."""
    allowed = sorted({pages, pages * halves(guidance)})
    if pages < 1 or rows not in allowed:
        raise ShapeMismatch(f"condition for {pages} pages at guidance {guidance} must have {allowed} rows, got {rows}")


@dataclass(frozen=True)
class Draws:
    """All random numbers of a batch, standard normal, float32, on the CPU.

    Rows of `posterior` are `pages`, or in the published mode with guidance `2 * pages`: negative half, positive half.
    """

    noise: Float[Tensor, "pages 4 h w"]  # the latents at the first timestep; their sigma is 1 for both schedules
    posterior: tuple[Float[Tensor, "rows 4 h w"], ...]  # one per encoded picture of the canvas: A and B, or the whole
    refined: Float[Tensor, "pages 4 _h _w"] | None  # for the refinement's posterior, where a size was given


def shared_draws(
    seeds: Sequence[int], latent: tuple[int, int], refined: tuple[int, int] | None, *, pictures: int = 2
) -> Draws:
    """Draws in which each page has a generator of its own, so that batch-mates do not change a page's numbers.

    Args:
        seeds: one per page, -2**63 … 2**64 - 1.
        latent: height and width of the canvas latent.
        refined: height and width of the refinement's latent; None draws none. Drawn last, so it changes no other.
        pictures: encoded pictures per canvas: 2, or 1 for a guider with 5 condition channels.
    """
    shapes = [(1, 4, *latent)] * (1 + pictures) + ([(1, 4, *refined)] if refined else [])
    pages = [[torch.randn(shape, generator=g) for shape in shapes] for g in map(_generator, seeds)]
    drawn = [torch.cat(rows) for rows in zip(*pages, strict=True)]
    return Draws(drawn[0], tuple(drawn[1 : 1 + pictures]), drawn[-1] if refined else None)


def published_draws(
    seed: int,
    latent: tuple[int, int],
    refined: tuple[int, int] | None,
    *,
    stream_seed: int | None = None,
    rows: int = 2,
    pictures: int = 2,
) -> Draws:
    """The draws of one page in the published order: the noise from one generator, the posteriors from a second stream.

    Args:
        seed: of the noise's generator.
        latent: height and width of the canvas latent.
        refined: height and width of the refinement's latent; None draws none.
        stream_seed: of the second stream; None is `seed`, as in the demo, where the noise then equals a posterior's.
        rows: posterior rows; the demo draws one for each guidance half.
        pictures: encoded pictures per canvas: 2, or 1 for a guider with 5 condition channels.
    """
    noise = torch.randn((1, 4, *latent), generator=_generator(seed))
    stream = _generator(seed if stream_seed is None else stream_seed)
    posterior = tuple(torch.randn((rows, 4, *latent), generator=stream) for _ in range(pictures))
    return Draws(noise, posterior, torch.randn((1, 4, *refined), generator=stream) if refined else None)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def stack_published(pages: Sequence[Draws]) -> Draws:
    """One batch from several pages' published draws: all negative rows first, then all positive ones."""
    rows = pages[0].posterior[0].shape[0]
    pictures = zip(*(page.posterior for page in pages), strict=True)
    posterior = tuple(torch.cat([one[row : row + 1] for row in range(rows) for one in same]) for same in pictures)
    refined = [page.refined for page in pages if page.refined is not None]
    return Draws(torch.cat([page.noise for page in pages]), posterior, torch.cat(refined) if refined else None)


def encode_condition(
    vae: Any,
    canvas: Float[Tensor, "pages 3 high wide"],
    posterior: Sequence[Float[Tensor, "rows 4 h w"]],
    *,
    at_once: int = 1,
) -> Float[Tensor, "rows channels h w"]:
    """The guider's condition: `[A latent 4 | mask 1 | B latent 4]`, or `[canvas latent 4 | mask 1]` for one posterior.

    A is the canvas with its central half black, B the central half on black. Both are encoded once per page, whatever
    the rows: only the posterior's noise differs between the guidance halves.

    Args:
        vae: a stock `AutoencoderKL`; its device and dtype are the result's.
        canvas: RGB in [-1, 1]; sides must be multiples of 32 pixels.
        posterior: the noise of each encoded picture, two or one of them; rows are the pages, or twice that.
        at_once: pictures per encoder pass; peak memory grows with it. At 1 a page's latent is independent of the
            batch to the bit.

    Raises:
        InvalidInput: a canvas side is no multiple of 32 pixels.
        ShapeMismatch: the posterior's rows are no multiple of the pages.

    Cost: one encoder pass per page and posterior.
    """
    pages, _, high, wide = canvas.shape
    if high % 32 or wide % 32:
        raise InvalidInput(f"canvas sides must be multiples of 32 pixels, got {wide} x {high}")
    mask = page_mask(high // 8, wide // 8)
    rows = posterior[0].shape[0]
    if rows % pages:
        raise ShapeMismatch(f"posterior rows must be a multiple of {pages} pages, got {rows}")
    pictures = split_pixels(canvas) if len(posterior) == 2 else (canvas,)
    latents = [_posterior(vae, *one, at_once) for one in zip(pictures, posterior, strict=True)]
    return torch.cat([latents[0], mask.to(latents[0]).expand(rows, -1, -1, -1), *latents[1:]], dim=1)


def _posterior(vae: Any, pictures: Tensor, noise: Tensor, at_once: int) -> Tensor:
    pictures = pictures.to(device=vae.device, dtype=vae.dtype)
    found = [vae.encode(part).latent_dist for part in torch.split(pictures, at_once)]
    repeat = (noise.shape[0] // pictures.shape[0], 1, 1, 1)
    mean, std = (torch.cat([getattr(one, name) for one in found]).repeat(repeat) for name in ("mean", "std"))
    latents: Tensor = (mean + std * noise.to(mean)) * vae.config.scaling_factor
    return latents


def unipc(config: Mapping[str, Any] = SD_SCHEDULE) -> Any:
    """The SD style's scheduler: UniPC of order 2, from the contents of SD 1.5's `scheduler_config.json`.

    What that file does not set keeps UniPC's own default, whatever the default of the class that the file names:
    timesteps are spaced "linspace".
    """
    return UniPCMultistepScheduler.from_config(dict(config))  # type: ignore[no-untyped-call]


def dpm_solver(config: Mapping[str, Any] = PIXART_SCHEDULE) -> Any:
    """The PixArt styles' scheduler: DPM-Solver++ of order 2, midpoint, from PixArt's `scheduler_config.json`."""
    return DPMSolverMultistepScheduler.from_config(dict(config))  # type: ignore[no-untyped-call]


def timesteps_for(scheduler: Any, steps: int) -> Int64[Tensor, " {steps}"]:
    """The timesteps of a run, descending, in [0, 999], on the CPU. Leaves `scheduler` as it is.

    Raises:
        InvalidInput: `steps` is not in 1 … 1000.
    """
    most = scheduler.config.num_train_timesteps
    if not 1 <= steps <= most:
        raise InvalidInput(f"steps must be in 1 … {most}, got {steps}")
    timesteps: Tensor = started(scheduler, steps).timesteps
    return timesteps.to(torch.int64)


def started(scheduler: Any, steps: int, device: torch.device | str = "cpu") -> Any:
    """A scheduler of the same configuration at the beginning of a run of so many steps."""
    fresh = type(scheduler).from_config(scheduler.config)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # diffusers with numpy 2
        fresh.set_timesteps(steps, device=device)
    fresh.set_begin_index(0)  # so that no step has to search for its index, which would wait for the device
    return fresh


def sample(
    run: Run,
    scheduler: Any,
    latents: Float[Tensor, "pages 4 h w"],
    timesteps: Int[Tensor, " steps"],
    progress: Callable[[int, int], None],
) -> Float[Tensor, "pages 4 h w"]:
    """The latents after all steps; device and dtype are those of `latents`, best float32.

    Args:
        run: from `Denoiser.begin` with the same timesteps.
        scheduler: `unipc()` or `dpm_solver()`; only its configuration is read, so one may serve many runs at once.
        latents: standard normal noise. Read only.
        timesteps: from `timesteps_for(scheduler, steps)`.
        progress: called as progress(done, steps) before the first step and after each one, once the device has done
            it. May raise, which is how a run is cancelled within one step.

    Cost: `steps` calls of `run.noise`.
    """
    steps = len(timesteps)
    schedule = started(scheduler, steps, latents.device)
    progress(0, steps)
    for index, timestep in enumerate(timesteps):
        latents = schedule.step(run.noise(latents, index), timestep, latents, return_dict=False)[0]
        _wait(latents.device)
        progress(index + 1, steps)
    return latents


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def decode(vae: Any, latents: Float[Tensor, "pages 4 h w"], *, at_once: int = 1) -> Float[Tensor, "pages 3 high wide"]:
    """The pictures of latents, RGB in [0, 1], float32, on the VAE's device.

    Args:
        vae: a stock `AutoencoderKL`.
        latents: scaled, as `sample` gives them.
        at_once: latents per decoder pass; peak memory grows with it.
    """
    scaled = latents.to(device=vae.device, dtype=vae.dtype) / vae.config.scaling_factor
    pictures = [vae.decode(part, return_dict=False)[0].float() for part in torch.split(scaled, at_once)]
    return (torch.cat(pictures) / 2 + 0.5).clamp(0, 1)


def to_uint8(pictures: Float[Tensor, "pages 3 high wide"]) -> UInt8[np.ndarray, "pages high wide 3"]:
    """RGB pictures in [0, 1] as bytes, rounded, on the CPU."""
    array: np.ndarray = (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return array
