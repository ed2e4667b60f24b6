"""One walk through the SD 1.5 trunk, for the UNet (residuals are added) and for its guider (residuals are tapped).

The blocks are stock diffusers modules; only the order in which they are called is written here, so that what comes
between two layers can be changed without hooks and torch.compile sees one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

KeyValue = tuple[Float[Tensor, "all heads tokens _d"], Float[Tensor, "all heads tokens _d"]]


def walk(
    net: Any,
    hidden: Float[Tensor, "rows c h w"],
    embedding: Float[Tensor, "_some e"],
    text: Sequence[KeyValue],
    after: Callable[[Float[Tensor, "_rows _c _h _w"]], Float[Tensor, "_rows _c _h _w"]],
) -> Float[Tensor, "rows c2 h w"]:
    """The output of the last up block.

    Args:
        net: has stock `down_blocks`, `mid_block`, `up_blocks`.
        hidden: the input convolution's output; it is the first skip as it is.
        embedding: of the timestep; a row for each of `hidden`, or one for all.
        text: keys and values of each cross-attention in the order of `cross_attentions`; empty for a net without any.
        after: applied to `hidden` once it is a skip, then to the output of every layer, downsampler, mid block and
            upsampler; what it returns goes on, and is the skip of that layer. 28 calls for SD 1.5.
    """
    queue = iter(text)
    skips = [hidden]
    hidden = after(hidden)
    for block in net.down_blocks:
        for resnet, attention in _layers(block):
            hidden = after(_layer(resnet, attention, hidden, embedding, queue))
            skips.append(hidden)
        for sampler in block.downsamplers or ():
            hidden = after(sampler(hidden))
            skips.append(hidden)
    hidden = after(_mid(net.mid_block, hidden, embedding, queue))
    for block in net.up_blocks:
        for resnet, attention in _layers(block):
            joined = [torch.cat([hidden, skips.pop()], dim=1)]
            del hidden  # neither it nor what is joined is wanted beyond the resnet, at this level's largest moment
            hidden = after(_layer(resnet, attention, joined.pop(), embedding, queue))
        for sampler in block.upsamplers or ():
            hidden = after(sampler(hidden, skips[-1].shape[2:]))  # the skip's own size, so odd sizes work
    return hidden


def _layers(block: Any) -> Iterator[tuple[Any, Any]]:
    return zip(block.resnets, getattr(block, "attentions", None) or [None] * len(block.resnets), strict=True)


def _layer(resnet: Any, attention: Any, hidden: Tensor, embedding: Tensor, text: Iterator[KeyValue]) -> Tensor:
    hidden = resnet(hidden, embedding)
    return hidden if attention is None else _transformer(attention, hidden, text)


def _mid(block: Any, hidden: Tensor, embedding: Tensor, text: Iterator[KeyValue]) -> Tensor:
    hidden = block.resnets[0](hidden, embedding)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        hidden = resnet(_transformer(attention, hidden, text), embedding)
    return hidden


def _transformer(module: Any, hidden: Tensor, text: Iterator[KeyValue]) -> Tensor:
    rows, channels, h, w = hidden.shape
    layout = torch.channels_last if hidden.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    tokens = module.proj_in(module.norm(hidden)).permute(0, 2, 3, 1).reshape(rows, h * w, channels)
    for block in module.transformer_blocks:
        tokens = tokens + block.attn1(block.norm1(tokens))
        if block.attn2 is not None:
            tokens = tokens + _attend(block.attn2, block.norm2(tokens), *next(text))
        tokens = tokens + block.ff(block.norm3(tokens))
    picture = tokens.reshape(rows, h, w, channels).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    return cast(Tensor, module.proj_out(picture)) + hidden


def _attend(attention: Any, tokens: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query = _heads(attention, attention.to_q(tokens))
    found = functional.scaled_dot_product_attention(query, key, value)
    out: Tensor = attention.to_out[0](found.transpose(1, 2).flatten(2))
    return out


def _heads(attention: Any, tokens: Tensor) -> Tensor:
    rows, length, width = tokens.shape
    return tokens.view(rows, length, attention.heads, width // attention.heads).transpose(1, 2)


def cross_attentions(net: Any) -> list[Any]:
    """Every cross-attention of the net in the order in which `walk` comes to it."""
    modules = [m for block in net.down_blocks for m in getattr(block, "attentions", ())]
    modules += [*net.mid_block.attentions]
    modules += [m for block in net.up_blocks for m in getattr(block, "attentions", ())]
    return [block.attn2 for m in modules for block in m.transformer_blocks if block.attn2 is not None]


def keys_values(net: Any, text: Float[Tensor, "rows tokens width"]) -> list[KeyValue]:
    """What `walk` wants as `text`: it depends on the prompt alone, so a run computes it once."""
    return [
        (_heads(one, one.to_k(text)).contiguous(), _heads(one, one.to_v(text)).contiguous())
        for one in cross_attentions(net)
    ]


def time_embeddings(net: Any, timesteps: Tensor, rows: int = 1) -> Float[Tensor, "steps rows e"]:
    """The embeddings of all timesteps, in the net's dtype and on its device.

    Args:
        net: has stock `time_proj` and `time_embedding`.
        timesteps: of a run.
        rows: of the batch. One row would do for all, but rounds otherwise in its small products: with the batch's
            rows the published numbers come out to the bit.
    """
    weight = next(net.time_embedding.parameters())
    projected = [net.time_proj(t.expand(rows)).to(weight.dtype) for t in timesteps.to(weight.device)]
    return torch.stack([net.time_embedding(one) for one in projected])
