"""`panelhue train patchnet`: trains the patch encoder and writes it as safetensors and ONNX with its card."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.options import Options
from training.patchnet.data import Batch, colour_distances, draw, read_pictures
from training.patchnet.export import write_model
from training.patchnet.judge import judge
from training.patchnet.losses import place_loss, scene_loss, story_loss
from training.patchnet.net import SCENE_DIM, PatchNet
from training.runs import Run, device_of
from training.stories import digest, read_stories, split

STEPS = 1500
LOG_EVERY = 20  # steps
JUDGE_EVERY = 100  # steps


@dataclass(frozen=True)
class Settings:
    """What decides the result besides the data and the seed."""

    stories: int = 20  # in a batch
    pages: int = 4  # of each story
    rate: float = 3e-3  # of AdamW, at its top
    decay: float = 0.05  # of the weights
    warm: float = 0.05  # share of the run until the rate is at its top
    place: float = 0.5  # weight of the loss by place
    scene: float = 1.0  # weight of the loss by story and colour
    centres: float = 0.5  # weight of the loss by story names
    average: float = 0.99  # how slowly the averaged weights follow; they are the result


def train(options: Options, settings: Settings = Settings()) -> None:
    """Trains by the options, and writes the finished model into `options.out`.

    Raises:
        NotFound: there are no pictures.
        FailedState: the folder holds another run.
        Cancelled: stopped by a signal; a checkpoint is written.
    """
    trained, held = split(read_stories(options.data), seed=options.seed)
    config = {"recipe": "patchnet-1", "data": digest(trained), "seed": options.seed, **asdict(settings)}
    with Run(options, config, steps=STEPS) as run:
        torch.manual_seed(options.seed)
        device = device_of(options.device)
        pictures = read_pictures(trained, options.out / "pictures.npz", options.seed)
        unseen = read_pictures(held, options.out / "held.npz", options.seed) if held else None
        learner = Learner(len(trained), settings, device)
        if (state := run.load()) is not None:
            learner.load(state)
        sums: dict[str, float] = {}
        for step in run.loop(learner.state):
            batch = draw(pictures, run.rng(step), stories=settings.stories, pages=settings.pages)
            losses = learner.step(batch, run.share)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value / LOG_EVERY
            if step % LOG_EVERY == LOG_EVERY - 1:
                judged = judge(learner.average, unseen) if unseen and step % JUDGE_EVERY == JUDGE_EVERY - 1 else {}
                run.log(**sums, **judged)
                sums = {}
        write_model(learner.average, options.out)


class Learner:
    """The network, its average, the centres of the stories and the optimiser.

    Args:
        stories: how many there are to tell apart.
        settings: of the recipe.
        device: where it learns.
    """

    def __init__(self, stories: int, settings: Settings, device: torch.device) -> None:
        self._settings, self._device = settings, device
        self.net = PatchNet().to(device)
        self.net.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.centres = nn.Parameter(0.1 * torch.randn(stories, SCENE_DIM, device=device))
        matrices = [p for p in self.net.parameters() if p.ndim > 1]
        vectors = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": settings.decay},
            {"params": [*vectors, self.centres], "weight_decay": 0.0},
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=settings.rate)
        self._steps = 0

    def step(self, batch: Batch, share: float) -> dict[str, float]:
        """Learns from one batch; `share` of the run is done. Gives the losses."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.rate * _rate(share, self._settings.warm)
        losses = self._losses(batch)
        total = (
            self._settings.place * losses["place"]
            + self._settings.scene * losses["scene"]
            + self._settings.centres * losses["story"]
        )
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self._optimiser.step()
        self._follow()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        self.net.train()
        both = torch.from_numpy(batch.queries).to(self._device), torch.from_numpy(batch.references).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            layout, scene = self.net(torch.cat(both)[:, None].float())
        story = torch.from_numpy(batch.story).to(self._device)
        distances = torch.from_numpy(colour_distances(batch.colours)).to(self._device)
        half = len(story)
        return {
            "place": place_loss(layout[:half], layout[half:]),
            "scene": scene_loss(scene[:half], scene[half:], story, distances),
            "story": story_loss(scene, self.centres, torch.cat([story, story])),
        }

    @torch.no_grad()
    def _follow(self) -> None:
        """The average goes a little towards the network; in the first steps more, so that its start is forgotten."""
        self._steps += 1
        keep = min(self._settings.average, self._steps / (self._steps + 10))
        for mine, theirs in zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - keep)
            else:
                mine.copy_(theirs)

    def state(self) -> Mapping[str, Any]:
        """All that a resumed run needs."""
        return {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "centres": self.centres.detach(),
            "optimiser": self._optimiser.state_dict(),
            "steps": self._steps,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes up where `state` was made."""
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        with torch.no_grad():
            self.centres.copy_(state["centres"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._steps = int(state["steps"])


def _rate(share: float, warm: float) -> float:
    """The rate over its top: up in a straight line, then down along half a cosine."""
    if share < warm:
        return (share + 1e-3) / (warm + 1e-3)
    return 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * (share - warm) / (1 - warm))))) + 1e-3
