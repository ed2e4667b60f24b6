"""The PixArt backbone: the stock transformer with the guider's controls, bound to a batch of pages for one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from colorizer.backends.colorflow.guider_pixart import (
    PixArtGuider,
    Tables,
    attend,
    embed,
    feed,
    positions,
    tables,
)
from colorizer.backends.colorflow.sampling import Steps, Text, check_rows, halves
from serving.errors import InvalidInput, ShapeMismatch

Controls = Sequence[Tensor]  # one "rows tokens width" per guider block


@dataclass(frozen=True)
class Words:
    """What one guidance half's prompt gives each block: keys and values, or for a prompt of one token their outcome.

    Padding is left out of both: its weight in the stock softmax is exp(-10000), which is zero in every dtype. With one
    token left that token's weight is 1 wherever it is looked at from, so cross-attention adds one vector everywhere.
    """

    keys: Float[Tensor, "blocks 1 heads words head"] | None
    values: Float[Tensor, "blocks 1 heads words head"] | None
    added: Float[Tensor, "blocks width"] | None


def words(transformer: Any, embedding: Float[Tensor, "1 tokens wide"], mask: Bool[Tensor, "1 tokens"] | None) -> Words:
    """One prompt as all blocks see it, on the transformer's device and in its dtype.

    Args:
        transformer: a stock `PixArtTransformer2DModel` with text.
        embedding: T5's, padding included.
        mask: True at tokens that count; None counts all.

    Raises:
        InvalidInput: no token counts.

    Cost: two small matrix products per block, once a run.
    """
    kept = embedding if mask is None else embedding[:, mask[0].to(embedding.device, torch.bool)]
    if kept.shape[1] == 0:
        raise InvalidInput("a prompt must have at least one token that counts, got a mask without any")
    like = transformer.scale_shift_table
    caption = transformer.caption_projection(kept.to(device=like.device, dtype=like.dtype))
    layers = [block.attn2 for block in transformer.transformer_blocks]
    values = [layer.to_v(caption) for layer in layers]
    if kept.shape[1] == 1:
        return Words(None, None, torch.cat([layer.to_out[0](v)[:, 0] for layer, v in zip(layers, values, strict=True)]))
    keys = [_heads(layer, layer.to_k(caption)) for layer in layers]
    return Words(
        torch.stack(keys), torch.stack([_heads(layer, v) for layer, v in zip(layers, values, strict=True)]), None
    )


def _heads(layer: Any, tokens: Tensor) -> Tensor:
    return tokens.view(*tokens.shape[:-1], layer.heads, -1).transpose(1, 2)


def predict(
    transformer: Any,
    latents: Float[Tensor, "pages 4 h w"],
    where: Float[Tensor, "1 tokens width"],
    table: Float[Tensor, "blocks 6 width"],
    embedded: Float[Tensor, " width"],
    text: Sequence[Words],
    controls: Controls,
) -> Float[Tensor, "all out h w"]:
    """The stock transformer's output with control i added after block i.

    Args:
        transformer: a stock `PixArtTransformer2DModel`, with LoRA merged or injected.
        latents: noisy latents, once a page: all halves start from them, so that what precedes the first text
            is computed once.
        where: from `positions`.
        table: one step of `tables`.
        embedded: the same step's, for the output head.
        text: one per guidance half, negative first; the output's rows are all pages for each.
        controls: from the guider; their rows are the output's, or one for each page. Empty for none.
    """
    h, w = latents.shape[-2:]
    hidden = embed(transformer.pos_embed, latents, where)
    for index, (block, row) in enumerate(zip(transformer.transformer_blocks, table, strict=True)):
        hidden = attend(block, hidden, row)
        if index == 0:
            hidden = hidden.repeat(len(text), 1, 1)
        hidden = feed(block, _look_up(block.attn2, hidden, text, index), row)
        if index < len(controls):
            hidden = _add(hidden, controls[index])
    shift, scale = transformer.scale_shift_table + embedded
    tokens = transformer.proj_out(transformer.norm_out(hidden) * (1 + scale) + shift)
    return _unpatch(tokens, h, w, transformer.config.patch_size)


def _look_up(layer: Any, hidden: Tensor, text: Sequence[Words], index: int) -> Tensor:
    """`hidden` after a block's cross-attention, each half with its own prompt."""
    parts = zip(hidden.chunk(len(text)), text, strict=True)
    return torch.cat([part + _looked_up(layer, part, prompt, index) for part, prompt in parts])


def _looked_up(layer: Any, part: Tensor, prompt: Words, index: int) -> Tensor:
    if prompt.added is not None:
        return prompt.added[index]
    assert prompt.keys is not None and prompt.values is not None  # noqa: PT018 -- both are there, or `added` is
    rows = part.shape[0]
    keys, values = (one[index].expand(rows, -1, -1, -1) for one in (prompt.keys, prompt.values))
    found = functional.scaled_dot_product_attention(_heads(layer, layer.to_q(part)), keys, values)
    result: Tensor = layer.to_out[0](found.transpose(1, 2).flatten(2))
    return result


def _add(hidden: Tensor, control: Tensor) -> Tensor:
    if hidden.shape[0] == control.shape[0]:
        return hidden + control
    parts = hidden.view(-1, *control.shape)  # guidance halves; the sum is broadcast, not repeated
    return (parts + control).view(hidden.shape)


def _unpatch(tokens: Tensor, h: int, w: int, side: int) -> Tensor:
    grid = tokens.reshape(tokens.shape[0], h // side, w // side, side, side, -1)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(tokens.shape[0], -1, h, w)


class PixArtDenoiser(Steps):
    """The `sampling.Denoiser` of the PixArt styles.

    Args:
        transformer: a stock `PixArtTransformer2DModel`; its device and dtype are the run's.
        guider: on the same device, in the same dtype.
        reuse_guider_every: 1 runs the guider at each step. A larger n runs it at each n-th step and keeps its
            controls in between: an approximation, which saves the guider's passes.

    Raises:
        InvalidInput: the transformer takes no text, its tokens have another width than the guider's, the guider has
            more blocks, or `reuse_guider_every` is below 1.
    """

    def __init__(self, transformer: Any, guider: PixArtGuider, *, reuse_guider_every: int = 1) -> None:
        wrong = _problems(transformer, guider)
        if wrong:
            raise InvalidInput(f"transformer and guider do not fit: {'; '.join(wrong)}")
        self.transformer, self.guider = transformer, guider
        super().__init__(reuse_guider_every)

    def begin(
        self,
        condition: Float[Tensor, "rows channels h w"],
        pages: int,
        guidance: float,
        timesteps: Int64[Tensor, " steps"],
        text: Text,
    ) -> PixArtRun:
        """See `sampling.Denoiser.begin`.

        Cost: positions, adaptive norms of all steps in both networks, and the prompts' keys and values, once.
        """
        check_rows(condition.shape[0], pages, guidance)
        if condition.shape[1] != self.guider.config.cond_channels:
            expected = f"condition must have {self.guider.config.cond_channels} channels"
            raise ShapeMismatch(f"{expected}, got {condition.shape[1]}")
        h, w = condition.shape[-2:]
        prompts = [(text.negative, text.negative_mask), (text.positive, text.positive_mask)][-halves(guidance) :]
        return PixArtRun(
            self,
            condition.to(self.transformer.scale_shift_table),
            guidance,
            (positions(self.guider, h, w), positions(self.transformer, h, w)),
            tables(self.guider, timesteps, h, w),
            tables(self.transformer, timesteps, h, w),
            tuple(words(self.transformer, *prompt) for prompt in prompts),
        )

    def step(
        self,
        latents: Float[Tensor, "pages 4 h w"],
        condition: Float[Tensor, "rows channels h w"],
        where: tuple[Tensor, Tensor],
        guider_table: Float[Tensor, "guider_blocks 6 width"],
        table: Float[Tensor, "blocks 6 width"],
        embedded: Float[Tensor, " width"],
        text: tuple[Words, ...],
    ) -> Float[Tensor, "all 4 h w"]:
        """The noise of all rows of one step: tensors in, a tensor out, and no state."""
        controls = self.guide(latents, condition, where[0], guider_table)
        return self.denoise(latents, where[1], table, embedded, text, controls)

    def guide(
        self,
        latents: Float[Tensor, "pages 4 h w"],
        condition: Float[Tensor, "rows channels h w"],
        where: Float[Tensor, "1 tokens width"],
        table: Float[Tensor, "blocks 6 width"],
    ) -> Controls:
        """The guider's controls, one row for each row of the condition."""
        rows = latents.repeat(condition.shape[0] // latents.shape[0], 1, 1, 1)
        return self.guider.controls(torch.cat([rows, condition], dim=1), where, table)

    def denoise(
        self,
        latents: Float[Tensor, "pages 4 h w"],
        where: Float[Tensor, "1 tokens width"],
        table: Float[Tensor, "blocks 6 width"],
        embedded: Float[Tensor, " width"],
        text: tuple[Words, ...],
        controls: Controls,
    ) -> Float[Tensor, "all 4 h w"]:
        """The transformer's noise with controls, negative rows first; its predicted variances are dropped."""
        return predict(self.transformer, latents, where, table, embedded, text, controls)[:, :4]


def _problems(transformer: Any, guider: PixArtGuider) -> list[str]:
    wide, own = transformer.scale_shift_table.shape[-1], guider.config.width
    blocks, taps = len(transformer.transformer_blocks), len(guider.transformer_blocks)
    found = {
        "the transformer must take text, got caption_channels None": transformer.caption_projection is None,
        f"the guider's tokens must be {wide} wide, got {own}": own != wide,
        f"the guider must have at most {blocks} blocks, got {taps}": taps > blocks,
    }
    return [problem for problem, there in found.items() if there]


@dataclass(eq=False)
class PixArtRun:
    """A `sampling.Run`: one batch, with everything that stays the same from step to step."""

    denoiser: PixArtDenoiser
    condition: Float[Tensor, "rows channels h w"]
    guidance: float
    where: tuple[Tensor, Tensor]  # positions, of the guider and of the transformer
    guider_tables: Tables
    tables: Tables
    text: tuple[Words, ...]  # one per guidance half
    controls: Controls | None = field(default=None, init=False)  # kept only where the guider is reused

    def noise(self, latents: Float[Tensor, "pages 4 h w"], index: int) -> Float[Tensor, "pages 4 h w"]:
        """See `sampling.Run.noise`. With a reused guider, steps are to be asked for in order."""
        rows = self._rows(latents.to(self.condition), index).to(latents)
        if len(self.text) == 1:
            return rows
        negative, positive = rows.chunk(2)
        return negative + self.guidance * (positive - negative)

    def _rows(self, latents: Tensor, index: int) -> Tensor:
        denoiser, tail = self.denoiser, (self.tables.blocks[index], self.tables.embedded[index], self.text)
        guider_table = self.guider_tables.blocks[index]
        if denoiser.reuse_guider_every == 1:
            return denoiser._step(latents, self.condition, self.where, guider_table, *tail)
        if self.controls is None or index % denoiser.reuse_guider_every == 0:
            found = denoiser._guide(latents, self.condition, self.where[0], guider_table)
            self.controls = tuple(one.clone() for one in found)  # a CUDA graph writes its outputs over at each replay
        return denoiser._denoise(latents, self.where[1], *tail, self.controls)
