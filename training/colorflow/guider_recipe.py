"""Recipe: ColorFlow's guider and the LoRA of its backbone, from a base model's weights.

Every step: a page of a story amid patches of other pages of it, as the back-end composes them; noise at a shifted
timestep; the loss of the predicted noise on the page.

Source: ColorFlow, arXiv:2412.11815, in-context colourisation: canvas, two-branch condition, LoRA, timestep shift,
patch-wise training, blended grey and screen tone. Differs: what the paper leaves open is a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from colorizer.backends.colorflow import sampling
from colorizer.backends.colorflow.files import part_named
from colorizer.backends.colorflow.text import text_for
from colorizer.backends.colorflow.weights import Folder
from training.colorflow import export, start
from training.colorflow.course import Draws, Learner, follow
from training.colorflow.data import Canvas, Canvases, Looks, signed
from training.colorflow.looks import DrawnLooks, NetworkLooks
from training.colorflow.passes import Part, Words, lesson, masked_loss, noised, predicted
from training.colorflow.settings import GuiderSettings, Settings
from training.colorflow.timesteps import shifted
from training.options import Options
from training.runs import Run, device_of
from training.stories import Story, digest, read_stories

STEPS = 100_000  # where neither steps nor minutes are stated


def train(options: Options, settings: GuiderSettings) -> Path:
    """Trains, and writes the model folder.

    Args:
        options: as for every recipe.
        settings: the base, and what else there is to say.

    Returns:
        The model folder; see `export`.

    Raises:
        FailedState: the base does not fit, or the run in `options.out` is another one.
        InvalidInput: the data hold no story of two pages.
        NotFound: there are no data, or no base.
        Cancelled: a signal came; the run can be resumed.

    Cost: 16 bytes a parameter that is trained (SD 1.5 at rank 64: 13.9 GB; PixArt at rank 128: 5.8 GB) and 4 a
        parameter that is not, and activations; a step about 3 passes of the guider, 2 of the backbone, 3 encodes.
    """
    stories = read_stories(options.data)
    device = device_of(options.device)
    folder = open_folder(settings, text=True)
    settings = replace(settings, rank=settings.rank or folder.sizes.get("lora_rank", settings.look.rank))
    canvases = Canvases(
        stories, settings.size, looks_of(settings, folder, device), settings.ranking, settings.references
    )
    with Run(options, run_config("guider", options, settings, stories), steps=STEPS) as run:
        words = prompts(settings, folder, options.out)
        course = GuiderCourse(settings, folder, device, words, run.generator(0, 1))
        loss = follow(run, course.learner, canvases.draw, settings)
        model = course.save(options.out)
        export.save_card(
            options.out, "GUIDER.md", "Colour guider and LoRA", settings, stories, steps=run.step, loss=loss
        )
    return model


class GuiderCourse:
    """The two networks under training.

    Args:
        settings: with a rank.
        folder: the base.
        device: where everything goes.
        words: the prompt and the empty one.
        generator: of the LoRA's first weights.
    """

    def __init__(
        self,
        settings: GuiderSettings,
        folder: Folder,
        device: torch.device,
        words: tuple[Words, Words],
        generator: torch.Generator,
    ) -> None:
        self._settings, self._folder, self._device, self.words = settings, folder, device, words
        kind = settings.look.backbone
        backbone = start.backbone(settings, folder, generator)
        self._config = guider_config(settings, folder, backbone)
        self.nets = nn.ModuleDict({"backbone": backbone, "guider": start.guider(settings, folder, backbone)})
        nn.Module.to(self.nets, device)
        self._vae: Any = folder.network(part_named(f"{kind}/vae"), device=device, dtype=torch.float32)
        make = sampling.unipc if kind == "sd" else sampling.dpm_solver
        self._kept: Tensor = make(folder.schedule(kind)).alphas_cumprod
        trained = {f"guider.{name}": one for name, one in self.nets["guider"].named_parameters()}
        trained |= {f"lora.{name}": one for name, one in start.adapter(self.nets["backbone"]).items()}
        self.learner: Learner[Canvas] = Learner(trained, self.loss, settings, device)

    def loss(self, canvas: Canvas, draws: Draws) -> Tensor:
        """Of one canvas."""
        settings, rng = self._settings, draws.rng
        part = Part(int(rng.integers(4))) if rng.random() < settings.quarters else Part()
        (timestep,) = shifted(rng.random(1), settings.mu)
        words = self.words[int(rng.random() < settings.wordless)]
        truth, seen = signed([canvas.truth]), signed([canvas.seen])
        about = lesson(self._vae, truth, seen, part, draws.generator)
        noise = torch.randn(about.clean.shape, generator=draws.generator).to(about.clean)
        latents = noised(about.clean, noise, float(self._kept[timestep]))
        found = predicted(settings.look.backbone, self.nets, latents, int(timestep), about, words)
        return masked_loss(found, noise, about.page, settings.around)

    def save(self, out: Path) -> Path:
        """Writes the networks; see `export.save_guider`."""
        settings = self._settings
        sizes = dict(self._folder.sizes)
        sizes.pop("lora_rank", None)
        if settings.own_rank != settings.look.rank:
            sizes["lora_rank"] = settings.own_rank
        adapter = start.adapter(self.nets["backbone"])
        return export.save_guider(out, settings.look, self.nets["guider"], self._config, adapter, sizes)


def guider_config(settings: GuiderSettings, folder: Folder, backbone: Any) -> Mapping[str, Any]:
    """The guider's config.json: the published one's, where training begins there."""
    from colorizer.backends.colorflow.networks import config_of

    if settings.begin == "published":
        return config_of(part_named(f"{settings.style}/guider"), folder.homes)
    return start.guider_config(settings.look.backbone, backbone)


def prompts(settings: GuiderSettings, folder: Folder, out: Path) -> tuple[Words, Words]:
    """The fixed prompt and the empty one, kept in a small file once they are computed."""
    kind = settings.look.backbone
    found = folder.homes.find(part_named(f"{kind}/text_encoder"))
    encoder = None if found.missing or found.folder is None else found.folder.parent
    text = text_for(kind, settings.prompts or out / "prompts", encoder=encoder)
    return (text.positive, text.positive_mask), (text.negative, text.negative_mask)


def open_folder(settings: Settings, *, text: bool) -> Folder:
    """The base, as the back-end opens it; nothing is downloaded."""
    return Folder.open(settings.base, styles=[settings.style], text=text)


def looks_of(settings: Settings, folder: Folder, device: torch.device) -> Looks:
    """What the networks see of a page."""
    if settings.guides == "networks":
        return NetworkLooks(settings.look, folder, device)
    return DrawnLooks(settings.look)


def run_config(recipe: str, options: Options, settings: Settings, stories: tuple[Story, ...]) -> dict[str, Any]:
    """What a run of this recipe is known by."""
    return {"recipe": recipe, "seed": options.seed, "data": digest(stories), **settings.described()}
