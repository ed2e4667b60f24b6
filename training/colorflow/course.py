"""What both recipes do at each step: passes over the batch, one step of the optimiser, and what a checkpoint holds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from serving.errors import FailedState
from training.ahead import ahead
from training.colorflow.settings import Precision, Settings
from training.runs import Run

Sample = TypeVar("Sample")
CLIP = 1.0  # norm of a step's gradients, at most
_ROWS = 1000  # streams of random numbers of a step: samples from 1, passes from here on


@dataclass(frozen=True)
class Draws:
    """The random numbers of one pass."""

    rng: np.random.Generator
    generator: torch.Generator  # on the CPU


class Learner(Generic[Sample]):
    """Parameters, their optimiser, and the loss of one sample.

    Args:
        trained: parameters by the names that a checkpoint has for them.
        loss: of one sample; whatever is random in it comes from the draws.
        settings: batch.
        device: for the precision.
    """

    def __init__(
        self,
        trained: Mapping[str, nn.Parameter],
        loss: Callable[[Sample, Draws], Tensor],
        settings: Settings,
        device: torch.device,
    ) -> None:
        self.trained, self._loss = dict(trained), loss
        self._precision, self._device = settings.precision, device
        self._optimiser = torch.optim.AdamW(self.trained.values(), lr=settings.rate)

    def learn(self, samples: Sequence[tuple[Sample, Draws]], rate: float) -> float:
        """One step of the optimiser over the mean loss of the samples, which is returned.

        Raises:
            FailedState: TRAINING_DIVERGED: the loss or its slope is no number any more; nothing was changed.
        """
        self._optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for sample, draws in samples:
            with passes(self._precision, self._device):
                loss = self._loss(sample, draws) / len(samples)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        slope = float(nn.utils.clip_grad_norm_(self.trained.values(), CLIP))
        if not (math.isfinite(total) and math.isfinite(slope)):
            message = "the loss is no number any more; go on from the last checkpoint at a lower rate"
            raise FailedState(message, reason="TRAINING_DIVERGED")
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        return total

    def state(self) -> dict[str, Any]:
        """For a checkpoint: three numbers for each one that is trained."""
        return {
            "trained": {name: parameter.detach() for name, parameter in self.trained.items()},
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave, put back."""
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state["trained"][name])
        self._optimiser.load_state_dict(state["optimiser"])


def follow(
    run: Run, learner: Learner[Sample], draw: Callable[[np.random.Generator], Sample], settings: Settings
) -> float:
    """All steps of a run, from its checkpoint where it has one; the last step's loss, or nan where none was left.

    Args:
        run: entered.
        learner: at its start.
        draw: a sample; runs on a second thread.
        settings: batch, rate, warm-up, repeat.

    Raises:
        Cancelled: as `Run.loop`.
        FailedState: as `Learner.learn`.
    """
    if (state := run.load()) is not None:
        learner.restore(state)

    def numbers(step: int) -> int:
        return step % settings.repeat if settings.repeat else step

    def samples(step: int) -> list[Sample]:
        return [draw(run.rng(numbers(step), 1 + row)) for row in range(settings.batch)]

    loss = math.nan
    for step, batch in ahead(run.loop(learner.state), samples):
        own = numbers(step)
        draws = [Draws(run.rng(own, _ROWS + row), run.generator(own, _ROWS + row)) for row in range(len(batch))]
        rate = settings.rate * min(1.0, (step + 1) / (settings.warm_up + 1))
        loss = learner.learn(list(zip(batch, draws, strict=True)), rate)
        run.log(loss=loss, rate=rate)
    return loss


def passes(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The precision that networks run in inside the block; their weights keep theirs."""
    if precision == "float32" or (precision == "auto" and device.type == "cpu"):
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
