"""Small pictures of a page on the way, without the decoder."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from colorizer.backends.colorflow.sampling import Run

_RIDGE = 1e-3  # keeps the fit solvable where a canvas has one colour only


class Watched:
    """A run that remembers its last step, so that the picture which it is heading for can be looked at.

    Args:
        run: the run itself.
        alphas: the scheduler's cumulative products, by timestep.
        timesteps: of the run.
    """

    def __init__(self, run: Run, alphas: Float[Tensor, " all"], timesteps: Int64[Tensor, " steps"]) -> None:
        self._run = run
        self._kept = alphas[timesteps].tolist()
        self._last: tuple[Tensor, Tensor, int] | None = None

    def noise(self, latents: Float[Tensor, "pages 4 h w"], index: int) -> Float[Tensor, "pages 4 h w"]:
        """As the run's."""
        noise = self._run.noise(latents, index)
        self._last = latents, noise, index
        return noise

    def heading(self) -> Float[Tensor, "pages 4 h w"]:
        """The latents without the noise that the last step found in them. There must have been a step."""
        assert self._last
        latents, noise, index = self._last
        kept = self._kept[index]
        found: Tensor = (latents.float() - (1 - kept) ** 0.5 * noise.float()) / kept**0.5
        return found


class Glance:
    """The linear map from latents to colours that fits a batch's own canvases best.

    Nothing is published or stored: each canvas comes with both its pixels and its latents, and a least-squares fit of
    3 x 5 numbers on those shows well enough what the other latents mean.

    Args:
        latents: of the canvases, scaled.
        canvases: the same in [-1, 1].

    Cost: one small fit; below a hundredth of a step.
    """

    def __init__(self, latents: Float[Tensor, "n 4 h w"], canvases: Float[Tensor, "n 3 H W"]) -> None:
        small = functional.interpolate(canvases.float(), latents.shape[-2:], mode="area")
        known = _with_one(latents)
        wanted = small.permute(0, 2, 3, 1).reshape(-1, 3)
        gram = known.T @ known + _RIDGE * len(known) * torch.eye(known.shape[1], device=known.device)
        self._map = torch.linalg.solve(gram, known.T @ wanted)

    def look(self, latents: Float[Tensor, "pages 4 h w"]) -> UInt8[np.ndarray, "pages _h _w 3"]:
        """The pages, the central half of each canvas, at an eighth of the canvas's scale."""
        pages, _, h, w = latents.shape
        colours = (_with_one(latents) @ self._map).reshape(pages, h, w, 3)
        centre = colours[:, h // 4 : h - h // 4, w // 4 : w - w // 4]
        array: np.ndarray = ((centre / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        return array


def _with_one(latents: Tensor) -> Tensor:
    flat = latents.float().permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    return torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1)
