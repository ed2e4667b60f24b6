"""The SD 1.5 backbone: the stock UNet with the guider's residuals, bound to a batch of pages for one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from colorizer.backends.colorflow.guider_sd import ColorGuiderSD, Residuals
from colorizer.backends.colorflow.sampling import Steps, Text, check_rows, halves
from colorizer.backends.colorflow.trunk import KeyValue, keys_values, time_embeddings, walk
from serving.errors import InvalidInput, ShapeMismatch

_ABSENT = ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")  # in SD 1.5


def predict(
    unet: Any,
    latents: Float[Tensor, "rows 4 h w"],
    embedding: Float[Tensor, "_some e"],
    text: Sequence[KeyValue],
    residuals: Residuals,
) -> Float[Tensor, "rows 4 h w"]:
    """The stock UNet's output with residuals added after each layer.

    Args:
        unet: a stock `UNet2DConditionModel`, with LoRA merged or injected.
        latents: noisy latents; rows are a multiple of the residuals' rows, which then serve each such part alike.
        embedding: one step of `trunk.time_embeddings(unet, …)`.
        text: `trunk.keys_values(unet, …)` of as many rows as the latents.
        residuals: from the guider, in the order of the walk; empty for none.
    """
    return consume(unet, latents, embedding, text, list(residuals))


def consume(
    unet: Any,
    latents: Float[Tensor, "rows 4 h w"],
    embedding: Float[Tensor, "_some e"],
    text: Sequence[KeyValue],
    residuals: list[Tensor],
) -> Float[Tensor, "rows 4 h w"]:
    """As `predict`, but empties the list, so that a residual that nobody else holds is freed once it has been added."""
    there = bool(residuals)
    residuals.reverse()

    def add(hidden: Tensor) -> Tensor:
        return _add(hidden, residuals.pop()) if there else hidden

    hidden = walk(unet, unet.conv_in(latents), embedding, text, add)
    noise: Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))
    return noise


def _add(hidden: Tensor, residual: Tensor) -> Tensor:
    if hidden.shape[0] == residual.shape[0]:
        return hidden + residual
    parts = hidden.reshape(-1, *residual.shape)  # guidance halves; the sum is broadcast
    return (parts + residual).reshape(hidden.shape)


class SDDenoiser(Steps):
    """The `sampling.Denoiser` of the SD 1.5 style.

    Args:
        unet: a stock `UNet2DConditionModel`; its device and dtype are the run's.
        guider: on the same device, in the same dtype.
        reuse_guider_every: 1 runs the guider at each step. A larger n runs it at each n-th step and keeps its
            residuals in between: an approximation, which saves the guider's passes.

    Raises:
        InvalidInput: the UNet's config has an embedding that SD 1.5 has not, or `reuse_guider_every` is below 1.
    """

    def __init__(self, unet: Any, guider: ColorGuiderSD, *, reuse_guider_every: int = 1) -> None:
        wrong = [f"{k} must be None, got {unet.config[k]!r}" for k in _ABSENT if unet.config.get(k) is not None]
        if wrong:
            raise InvalidInput("the UNet's config is not SD 1.5's: " + "; ".join(wrong))
        self.unet, self.guider = unet, guider
        super().__init__(reuse_guider_every)

    def begin(
        self,
        condition: Float[Tensor, "rows channels h w"],
        pages: int,
        guidance: float,
        timesteps: Int64[Tensor, " steps"],
        text: Text,
    ) -> SDRun:
        """See `sampling.Denoiser.begin`.

        Cost: the time embeddings of all steps in both networks, and the UNet's text keys and values, once.
        """
        check_rows(condition.shape[0], pages, guidance)
        if condition.shape[1] != self.guider.conditioning_channels:
            expected = f"condition must have {self.guider.conditioning_channels} channels"
            raise ShapeMismatch(f"{expected}, got {condition.shape[1]}")
        device, dtype = self.unet.device, self.unet.dtype
        prompts = [text.negative, text.positive] if halves(guidance) == 2 else [text.positive]
        words = torch.cat(prompts).to(device=device, dtype=dtype)
        return SDRun(
            self,
            condition.to(device=device, dtype=dtype),
            pages,
            guidance,
            time_embeddings(self.guider, timesteps, condition.shape[0]),
            time_embeddings(self.unet, timesteps, pages * len(prompts)),
            tuple(
                (key.repeat_interleave(pages, 0), value.repeat_interleave(pages, 0))
                for key, value in keys_values(self.unet, words)
            ),
        )

    def step(
        self,
        latents: Float[Tensor, "pages 4 h w"],
        condition: Float[Tensor, "rows channels h w"],
        guider_embedding: Float[Tensor, "_some e"],
        embedding: Float[Tensor, "_some e"],
        text: tuple[KeyValue, ...],
    ) -> Float[Tensor, "all 4 h w"]:
        """The noise of all rows of one step: tensors in, a tensor out, and no state."""
        residuals = list(self.guide(latents, condition, guider_embedding))
        return consume(self.unet, _fill(latents, text[0][0].shape[0]), embedding, text, residuals)

    def guide(
        self,
        latents: Float[Tensor, "pages 4 h w"],
        condition: Float[Tensor, "rows channels h w"],
        embedding: Float[Tensor, "_some e"],
    ) -> Residuals:
        """The guider's residuals, one row for each row of the condition."""
        residuals: Residuals = self.guider(_fill(latents, condition.shape[0]), condition, embedding)
        return residuals

    def denoise(
        self,
        latents: Float[Tensor, "pages 4 h w"],
        residuals: Residuals,
        embedding: Float[Tensor, "_some e"],
        text: tuple[KeyValue, ...],
    ) -> Float[Tensor, "all 4 h w"]:
        """The UNet's noise with residuals: negative rows first, where the text has both halves."""
        return predict(self.unet, _fill(latents, text[0][0].shape[0]), embedding, text, residuals)


def _fill(latents: Tensor, rows: int) -> Tensor:
    return latents if rows == latents.shape[0] else latents.repeat(rows // latents.shape[0], 1, 1, 1)


@dataclass(eq=False)
class SDRun:
    """A `sampling.Run`: one batch, with everything that stays the same from step to step."""

    denoiser: SDDenoiser
    condition: Float[Tensor, "rows channels h w"]
    pages: int
    guidance: float
    guider_embeddings: Float[Tensor, "steps _guided e"]
    embeddings: Float[Tensor, "steps _all e"]
    text: tuple[KeyValue, ...]  # as many rows as the UNet's batch
    residuals: Residuals | None = field(default=None, init=False)  # kept only where the guider is reused

    def noise(self, latents: Float[Tensor, "pages 4 h w"], index: int) -> Float[Tensor, "pages 4 h w"]:
        """See `sampling.Run.noise`. With a reused guider, steps are to be asked for in order."""
        rows = self._rows(latents.to(device=self.condition.device, dtype=self.condition.dtype), index).to(latents)
        if halves(self.guidance) == 1:
            return rows
        negative, positive = rows.chunk(2)
        return negative + self.guidance * (positive - negative)

    def _rows(self, latents: Tensor, index: int) -> Tensor:
        denoiser = self.denoiser
        guider_embedding, embedding = self.guider_embeddings[index], self.embeddings[index]
        if denoiser.reuse_guider_every == 1:
            return denoiser._step(latents, self.condition, guider_embedding, embedding, self.text)
        if self.residuals is None or index % denoiser.reuse_guider_every == 0:
            found = denoiser._guide(latents, self.condition, guider_embedding)
            self.residuals = tuple(one.clone() for one in found)  # a CUDA graph writes its outputs over at each replay
        return denoiser._denoise(latents, self.residuals, embedding, self.text)
