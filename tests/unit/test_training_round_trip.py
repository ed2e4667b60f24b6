"""What the recipes leave, in the back-end: the same numbers, and a page in colour."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from colorizer.backends.colorflow.files import part_named
from colorizer.backends.colorflow.runner import denoiser_of
from colorizer.backends.colorflow.sampling import Text
from colorizer.backends.colorflow.styles import STYLES
from colorizer.backends.colorflow.weights import Folder
from colorizer.backends.colorflow_spec import SPEC
from colorizer.types import Hit, Job
from serving.geometry import Box
from tests.unit import colorflow_lessons as lessons
from tests.unit import picture_books
from training.colorflow import fusion_recipe, guider_recipe
from training.colorflow.passes import predicted
from training.colorflow.settings import FusionSettings, GuiderSettings


@dataclass(frozen=True)
class Left:
    """What both recipes left, of one style."""

    settings: GuiderSettings
    guider: Path  # folders of the runs
    fusion: Path
    models: Path  # a copy of the base with the trained files in place of its own, as a user would put them there


@pytest.fixture(scope="module", params=lessons.STYLES)
def left(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    base, data = lessons.bases(folder), lessons.books(folder)
    settings = lessons.settings(base, request.param)
    model = guider_recipe.train(lessons.options(data, folder / "guider"), settings)
    fusion = fusion_recipe.train(
        lessons.options(data, folder / "fusion"), FusionSettings(base, style=request.param, size=lessons.SIDE, crop=24)
    )
    models = shutil.copytree(base, folder / "models")
    shutil.copytree(fusion, models, dirs_exist_ok=True)
    shutil.copytree(model, models, dirs_exist_ok=True)
    return Left(settings, folder / "guider", folder / "fusion", models)


def test_every_part_fits(left):
    reports = Folder.open(left.models, styles=[left.settings.style]).check([left.settings.style])
    assert [report.sentences() for report in reports if not report.ok] == []


def test_the_back_end_predicts_the_noise_that_was_trained(left):
    settings, style = left.settings, left.settings.look
    course = lessons.course(settings)
    about, latents = lessons.sample(settings)
    words = course.words[0]
    folder = Folder.open(left.models, styles=[style.name])
    nets = torch.nn.ModuleDict(
        {"backbone": folder.backbone(style), "guider": folder.network(part_named(f"{style.name}/guider"))}
    )
    with torch.no_grad():
        untrained = predicted(style.backbone, course.nets, latents, 500, about, words)
        course.learner.restore(torch.load(left.guider / "checkpoints" / "4.pt", weights_only=True))
        wanted = predicted(style.backbone, course.nets, latents, 500, about, words)
        text = Text(words[0], words[0], words[1], words[1])
        found = denoiser_of(style, nets).begin(about.condition, 1, 1.0, torch.tensor([500]), text).noise(latents, 0)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert (wanted - untrained).abs().mean() > 100 * (found - wanted).abs().mean()


def test_the_fusion_network_is_the_trained_one(left):
    found = Folder.open(left.models, styles=[left.settings.style]).network(part_named(f"{left.settings.style}/fusion"))
    state = lessons.trained(left.fusion)
    assert all(torch.equal(value, state[name]) for name, value in found.named_parameters())


def test_the_back_end_colours_a_page_with_them(left):
    style = left.settings.style
    page = picture_books.page_of(0, 1, 64)
    hit = Hit(picture_books.page_of(0, 2, 64), 0.9, "a" * 64, Box(0, 0, 64, 64), (64, 64))
    job = Job(page.mean(2).astype(np.uint8), ((hit,),) * 4, steps=2, parameters={"style": style, "area": str(64 * 64)})
    own = {"device": "cpu", "accept_licence": "non-commercial", "prompts": str(left.settings.prompts), "styles": style}
    pixels = []
    for models in (left.models, left.settings.base):
        backend = SPEC.load(own | {"models": str(models)})
        (result,) = backend.colorize([job])
        pixels.append(result.pixels)
        backend.close()
    assert pixels[0].shape == (64, 64, 3)
    assert (pixels[0] != pixels[1]).any()


def test_a_rank_that_is_not_the_published_one_is_written_down(left):
    assert json.loads((left.guider / "model" / "panelhue.json").read_text())["lora_rank"] == 4


def test_a_card_names_whose_pictures_were_trained_on(left):
    card = (left.guider / "model" / STYLES[left.settings.style].folder / "GUIDER.md").read_text()
    assert "- Book 0\n- Book 1\n" in card
    assert "in 4 steps" in card
