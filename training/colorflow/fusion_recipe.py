"""Recipe: the fusion network of ColorFlow's refinement (GSRP), under a base model's frozen VAE.

Every step: a page made small and soft, as a coarse result is, enlarged again, and its grey guide in full detail; the
loss of the refined page against the page itself.

Source: ColorFlow, arXiv:2412.11815, guided super-resolution pipeline. Differs: what the paper leaves open is a setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from colorizer.backends.colorflow.files import part_named
from colorizer.backends.colorflow.gsrp import (
    FusionNet,
    decode_guided,
    encode_features,
    encode_hidden,
    hidden_channels,
)
from colorizer.backends.colorflow.weights import Folder
from training.colorflow import export
from training.colorflow.course import Draws, Learner, follow
from training.colorflow.data import Refinement, Refinements, signed
from training.colorflow.guider_recipe import looks_of, open_folder, run_config
from training.colorflow.settings import FusionSettings
from training.options import Options
from training.runs import Run, device_of
from training.stories import read_stories

STEPS = 50_000  # where neither steps nor minutes are stated
SMALLER = (1.25, 2.5)  # how many times smaller a coarse page is; at run time 1.5
SOFTER = 1.2  # pixels of the small page: the widest blur


def train(options: Options, settings: FusionSettings) -> Path:
    """Trains, and writes the model folder; arguments, result and errors as for `guider_recipe.train`.

    Cost: 85 million parameters at 16 bytes; a step about 3 times the passes of fusion network and decoder.
    """
    stories = read_stories(options.data)
    device = device_of(options.device)
    folder = open_folder(settings, text=False)
    pages = Refinements(stories, settings.size, looks_of(settings, folder, device))
    with Run(options, run_config("gsrp", options, settings, stories), steps=STEPS) as run:
        course = FusionCourse(settings, folder, device, options.seed)
        loss = follow(run, course.learner, pages.draw, settings)
        model = export.save_fusion(options.out, settings.look, course.fusion, folder.sizes)
        export.save_card(options.out, "FUSION.md", "Fusion network", settings, stories, steps=run.step, loss=loss)
    return model


class FusionCourse:
    """The fusion network under training.

    Args:
        settings: of the recipe.
        folder: the base.
        device: where everything goes.
        seed: of the first weights.
    """

    def __init__(self, settings: FusionSettings, folder: Folder, device: torch.device, seed: int) -> None:
        self._settings = settings
        kind, style = settings.look.backbone, settings.style
        self._vae: Any = folder.network(part_named(f"{kind}/vae"), device=device, dtype=torch.float32)
        if settings.begin == "published":
            self.fusion = folder.network(part_named(f"{style}/fusion"), device=device, dtype=torch.float32)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.fusion = FusionNet(hidden_channels(self._vae))
        self.fusion.to(device).requires_grad_(requires_grad=True)
        trained = dict(self.fusion.named_parameters())
        self.learner: Learner[Refinement] = Learner(trained, self.loss, settings, device)

    def loss(self, page: Refinement, draws: Draws) -> Tensor:
        """Of one page."""
        both = torch.cat([signed([page.truth]), signed([page.detail])]).to(self._vae.device)
        truth, detail = torch.split(_cropped(both, self._settings.crop, draws), 1)
        with torch.no_grad():
            coarse = self._coarse(truth, draws)
            encoded, guide = encode_hidden(self._vae, coarse), encode_features(self._vae, detail)
            latent = encoded.latent(torch.randn(encoded.mean.shape, generator=draws.generator))
        found = decode_guided(self._vae, latent, self.fusion(encoded.hidden, guide)).float()
        return _apart(found, truth) + self._settings.edges * sum(
            (_apart(found.diff(dim=dim), truth.diff(dim=dim)) for dim in (2, 3)), torch.zeros((), device=truth.device)
        )

    def _coarse(self, truth: Float[Tensor, "1 3 h w"], draws: Draws) -> Float[Tensor, "1 3 h w"]:
        """The page as the diffusion gives it, enlarged: smaller by a random factor, softer, and through the VAE."""
        factor = draws.rng.uniform(*SMALLER)
        small = [max(8, round(side / factor / 8) * 8) for side in truth.shape[-2:]]
        picture = _soft(_resized(truth, small), draws.rng.uniform(0, SOFTER))
        found = self._vae.encode(picture).latent_dist
        latent = found.mean + found.std * torch.randn(found.mean.shape, generator=draws.generator).to(found.mean)
        picture = self._vae.decode(latent, return_dict=False)[0].float().clamp(-1, 1)
        return _resized(picture, list(truth.shape[-2:]))


def _cropped(pictures: Float[Tensor, "n 3 h w"], side: int, draws: Draws) -> Float[Tensor, "n 3 _h _w"]:
    """The same square of all pictures, or a strip where they are narrower."""
    if not side:
        return pictures
    for dim in (2, 3):
        room = pictures.shape[dim] - side
        if room > 0:
            pictures = pictures.narrow(dim, int(draws.rng.integers(room + 1)), side)
    return pictures


def _resized(picture: Float[Tensor, "1 3 h w"], size: list[int]) -> Float[Tensor, "1 3 _h _w"]:
    return functional.interpolate(picture, size, mode="bicubic", antialias=True).clamp(-1, 1)


def _soft(picture: Float[Tensor, "1 3 h w"], sigma: float) -> Float[Tensor, "1 3 h w"]:
    """Blurred by a Gaussian of that many pixels; seven taps a side, the rim repeated."""
    if sigma < 0.2:
        return picture
    taps = torch.exp(-0.5 * (torch.arange(-3, 4, device=picture.device) / sigma) ** 2)
    taps = (taps / taps.sum()).to(picture)
    for shape in ((1, 1, 7, 1), (1, 1, 1, 7)):
        pad = (0, 0, 3, 3) if shape[2] == 7 else (3, 3, 0, 0)
        kernel = taps.reshape(shape).expand(3, -1, -1, -1)
        picture = functional.conv2d(functional.pad(picture, pad, mode="replicate"), kernel, groups=3)
    return picture


def _apart(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs().mean()
