"""How `incontext` is trained: every page of a group is coloured from the others, and the error counts at three places.

The loss of a page is the logarithm of its squared error over its own chroma's energy, as in a mean of gains in decibel,
and its plain error over its own plain size, half each: a page of pale colours counts as much as a gaudy one, and no
single page rules a step. The same is asked of the mixture at 1/8 and of the regression, so that copying is learned
before correcting.

Cost: 0.9 s a step of six pages of 42,000 pixels on one core with bfloat16 matrix units; 3 GB, a gigabyte of it pictures
in each process that makes pages.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from training.incontext.data import BIG, SMALL, Group, Maker, Odds, Picture
from training.incontext.net import Features, InContextNet, Size, gather
from training.options import Options
from training.runs import Run, device_of
from training.stories import Story, digest, read_stories, split

_FLOOR = 0.006  # of a page's mean square of chroma, where it stops to count
_LOGGED = 20  # steps between lines of the curve
_AHEAD = 6  # groups made ahead


@dataclass(frozen=True)
class Settings:
    """What decides the result, beside the data, the seed and the length of the run."""

    size: Size = field(default_factory=Size)
    odds: Odds = field(default_factory=Odds)
    pages: int = 6  # of a group
    held: float = 0.05  # share of the stories that are not trained on
    rate: float = 7e-4  # at its highest; it falls to a fiftieth along half a cosine
    warmup: int = 200  # steps
    decay: float = 0.02  # of weights, not of biases
    clip: float = 1.0  # norm of the gradient
    big_from: float = 0.85  # share of the run after which pages are larger
    cells: float = 0.33  # share of the references' cells at 1/8 that a step attends to
    mixture: float = 0.4  # weight of the mixture's error
    regression: float = 0.15  # and of the regression's
    average: float = 0.996  # of the weights, per step; the average is what is kept
    steps: int = 5000  # where neither steps nor minutes are asked for
    workers: int = 1  # processes that make pages


def train(options: Options, settings: Settings | None = None) -> Path:
    """Trains, or goes on with, the network, and exports it.

    Args:
        options: its `data` is a folder of stories; on a CPU, threads are as torch has them (OMP_NUM_THREADS).
        settings: the defaults made the weights that come with the package.

    Returns:
        The folder of the exported model; see `export.export`.

    Raises:
        Cancelled: a signal asked to stop; the run goes on with the same command.
        FailedState, Conflict, NotFound, InvalidInput: as `Run` and `read_stories` say.
    """
    from training.incontext.export import export

    told = settings or Settings()
    stories, _held = split(read_stories(options.data), told.held)
    config = {"recipe": "incontext-1", "seed": options.seed, "data": digest(stories), **asdict(told)}
    del config["workers"]
    with Run(options, config, steps=told.steps) as run:
        teacher = _Teacher(told, device_of(options.device), options.seed)
        if (state := run.load()) is not None:
            teacher.restore(state)
        if state is None or run.share < 1:
            _teach(run, teacher, options, told)
        return export(teacher.averaged(), run.folder)


def _teach(run: Run, teacher: _Teacher, options: Options, told: Settings) -> None:
    with _Groups(options, told) as groups:
        for step in run.loop(teacher.state):
            share = run.share
            group = groups.take(step, large=share >= told.big_from)
            found = teacher.step(group, step, share, run.generator(step))
            if (step + 1) % _LOGGED == 0:
                run.log(**found)


class _Groups:
    """Groups made ahead in processes of their own; group N of a run is the same whoever makes it."""

    def __init__(self, options: Options, told: Settings) -> None:
        self._seed = options.seed
        self._makers = ProcessPoolExecutor(
            told.workers, get_context("spawn"), initializer=_prepare, initargs=(options.data, told)
        )
        self._coming: dict[tuple[int, bool], Future[Group]] = {}

    def __enter__(self) -> _Groups:
        return self

    def __exit__(self, *_: object) -> None:
        self._makers.shutdown(cancel_futures=True)

    def take(self, step: int, *, large: bool) -> Group:
        """The group of that step."""
        for ahead in range(step, step + _AHEAD):
            if (ahead, large) not in self._coming:
                self._coming[ahead, large] = self._makers.submit(_made, self._seed, ahead, large)
        self._coming = {key: value for key, value in self._coming.items() if key[0] >= step}
        return self._coming[step, large].result()


_maker: Maker | None = None


def _prepare(data: Path, told: Settings) -> None:
    global _maker
    os.nice(5)
    torch.set_num_threads(1)
    stories, _ = split(read_stories(data), told.held)
    pictures: list[list[Picture]] = [[picture.load() for picture in story.pictures] for story in stories]
    _maker = Maker(pictures, kin_of(stories), told.odds, told.pages)


def _made(seed: int, number: int, large: bool) -> Group:
    assert _maker is not None
    return _maker.group(seed, number, BIG if large else SMALL)


def kin_of(stories: Sequence[Story]) -> list[list[int]]:
    """For each story the numbers of those by the same hand, itself among them.

    The hand is the illustrator that the attribution names ("illustrated by …,"), else the series.
    """
    hands = []
    for story in stories:
        named = re.search(r"illustrated by ([^,]+)", story.pictures[0].attribution)
        hands.append(named[1] if named else story.name.split("/")[0])
    return [[i for i, other in enumerate(hands) if other == hand] for hand in hands]


class _Teacher:
    """The network, its optimiser and the average of its weights."""

    def __init__(self, told: Settings, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        self._told, self._device = told, device
        self.net = InContextNet(told.size).to(device).to(memory_format=torch.channels_last)
        weights = [p for p in self.net.parameters() if p.ndim >= 2]
        others = [p for p in self.net.parameters() if p.ndim < 2]
        groups = [{"params": weights, "weight_decay": told.decay}, {"params": others, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=told.rate, betas=(0.9, 0.98), eps=1e-7, fused=True)
        self._average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {"net": self.net.state_dict(), "optimizer": self._optimizer.state_dict(), "average": self._average}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""
        self.net.load_state_dict(state["net"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._average = {k: v.to(self._device) for k, v in state["average"].items()}

    def averaged(self) -> InContextNet:
        """The network with averaged weights, on the CPU."""
        net = InContextNet(self._told.size)
        net.load_state_dict({k: v.cpu() for k, v in self._average.items()})
        return net.eval()

    def step(self, group: Group, step: int, share: float, generator: torch.Generator) -> dict[str, float]:
        """One step on one group; what to log of it."""
        told = self._told
        for part in self._optimizer.param_groups:
            part["lr"] = told.rate * min(1.0, (step + 1) / told.warmup) * _cosine(share)
        loss, error, plain = self._loss(group, generator)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), told.clip)
        self._optimizer.step()
        keep = min(told.average, (2 + step) / (21 + step))
        with torch.no_grad():
            for key, value in self.net.state_dict().items():
                self._average[key].lerp_(value, 1 - keep)
        return {"loss": float(loss.detach()), "squared": error, "plain": plain, "gradient": float(norm)}

    def _loss(self, group: Group, generator: torch.Generator) -> tuple[Tensor, float, float]:
        told = self._told
        looks, chroma, drawn, seen = (
            torch.from_numpy(x).to(self._device) for x in (group.looks, group.chroma, group.drawn, group.seen)
        )
        with torch.autocast(self._device.type, dtype=torch.bfloat16):
            features = self.net.encoder(looks.contiguous(memory_format=torch.channels_last))
            memory = gather(self.net, self.net.tell(features, chroma, drawn), seen, told.cells, generator)
            pages = self._pages(features, group, len(seen))
            out, _, mixture, regression = self.net.paint(pages, memory)
        return self._errors(out, mixture, regression, chroma[: len(seen)])

    def _pages(self, features: Features, group: Group, count: int) -> Features:
        if group.targets is None:
            return Features(
                features.half[:count], features.quarter[:count], features.eighth[:count], features.sixteenth[:count]
            )
        looks = torch.from_numpy(group.targets).to(self._device)
        found: Features = self.net.encoder(looks.contiguous(memory_format=torch.channels_last))
        return found

    def _errors(self, out: Tensor, mixture: Tensor, regression: Tensor, true: Tensor) -> tuple[Tensor, float, float]:
        half, eighth = F.avg_pool2d(true, 2), F.avg_pool2d(true, 8)
        energy, size = half.square().sum(1).mean((1, 2)), _size(half.square().sum(1)) + 0.08

        def parts(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
            error = (found - wanted).square().sum(1)
            return ((error.mean((1, 2)) + _FLOOR) / (energy + _FLOOR)).log().mean(), (_size(error) / size).mean()

        squared, plain = parts(out, half)
        loss = (squared + plain) / 2
        loss = loss + self._told.mixture * sum(parts(mixture, eighth)) / 2
        loss = loss + self._told.regression * sum(parts(regression, eighth)) / 2
        return loss, float(squared.detach()), float(plain.detach())


def _size(squares: Tensor) -> Tensor:
    """Mean length of each picture, smooth at 0."""
    return (squares + 1e-4).sqrt().mean((1, 2)) - 0.01


def _cosine(share: float) -> float:
    return 0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2
