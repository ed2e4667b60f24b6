"""What tests of ColorFlow's recipes share: small bases and books, and the networks at one sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from colorizer.backends.colorflow.files import part_named
from colorizer.backends.colorflow.weights import Folder
from tests import tiny_colorflow
from tests.unit import picture_books
from training.colorflow.data import signed
from training.colorflow.guider_recipe import GuiderCourse, open_folder, prompts
from training.colorflow.passes import Lesson, Part, lesson
from training.colorflow.settings import GuiderSettings
from training.options import Options
from training.runs import read_curve

SIDE = (32, 32)
STYLES = ("gray", "shading")  # one of each backbone
WHOLE = Part()


def bases(folder: Path) -> Path:
    return tiny_colorflow.make(folder / "base").models


def books(folder: Path) -> Path:
    return picture_books.make(folder / "train", stories=2, pages=3, side=48)


def options(data: Path, out: Path, steps: int = 4) -> Options:
    return Options(data, out, steps=steps, device="cpu")


def settings(base: Path, style: str = "gray") -> GuiderSettings:
    return GuiderSettings(base, style=style, size=SIDE, rate=5e-3, warm_up=5, rank=4, prompts=base.parent / "prompts")


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_curve(out / "curve.jsonl")]


def trained(out: Path, step: int = 4) -> dict[str, torch.Tensor]:
    return torch.load(out / "checkpoints" / f"{step}.pt", weights_only=True)["trained"]


def assert_same_weights(one: Path, other: Path) -> None:
    found, wanted = trained(one), trained(other)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def course(given: GuiderSettings) -> GuiderCourse:
    """The networks before the first step."""
    folder = open_folder(given, text=True)
    words = prompts(given, folder, given.base)
    return GuiderCourse(given, folder, torch.device("cpu"), words, torch.Generator().manual_seed(0))


def sample(given: GuiderSettings, part: Part = WHOLE) -> tuple[Lesson, torch.Tensor]:
    """A canvas of noise, and noisy latents."""
    vae = Folder.open(given.base, styles=[given.style]).network(part_named(f"{given.look.backbone}/vae"))
    generator = torch.Generator().manual_seed(3)
    canvas = signed([np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)])
    about = lesson(vae, canvas, canvas, part, generator)
    return about, torch.randn(about.clean.shape, generator=generator)
