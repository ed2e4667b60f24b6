"""What the network of `incontext` is made of: maps and tokens, a larger size, a residual block, attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

_PIECES = 8  # of the queries to a memory at 1/16


def tokens(x: Tensor) -> Tensor:
    """B c h w to b h*w c."""
    return x.flatten(2).transpose(1, 2)


def grid(x: Tensor, like: Tensor) -> Tensor:
    """B h*w c to b c h w, the size of `like`."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], like.shape[2], like.shape[3])


def twice(x: Tensor) -> Tensor:
    """Each value four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def spread(coarse: Tensor, weights: Tensor) -> Tensor:
    """A coarse map, four times as large: each pixel a weighted mean of the 3 x 3 cells around its own.

    Args:
        coarse: b c h w.
        weights: b 9 4h 4w, before the softmax; the middle cell has a head start.
    """
    b, c, h, w = coarse.shape
    padded = F.pad(coarse, (1, 1, 1, 1), mode="replicate")
    around = torch.stack([padded[:, :, y : y + h, x : x + w] for y in range(3) for x in range(3)], 1)
    around = F.interpolate(around.reshape(b, 9 * c, h, w), scale_factor=4.0, mode="nearest")
    start = torch.tensor([0.0, 1, 0, 1, 2, 1, 0, 1, 0], device=weights.device)[None, :, None, None]
    shares = (weights + start).softmax(1)
    return torch.einsum("bkhw,bkchw->bchw", shares, around.reshape(b, 9, c, 4 * h, 4 * w))


class Residual(nn.Module):
    """Two convolutions beside a path that leaves the input alone; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """The input and what the convolutions add to it."""
        return F.relu(x + self.second(F.relu(self.first(x))))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, keep: Tensor | None = None, pieces: int = 1) -> Tensor:
    """Attention of `heads` heads; q is b n d, k b m d, v b m e; `keep` (b m) is added to the scores.

    A graph that is exported takes the queries in so many `pieces`, one after the other: all scores at once would be
    hundreds of megabytes, and memory that is as small as a piece's is used again.
    """
    b, n, _ = q.shape
    m = k.shape[1]
    bias = None if keep is None else keep[:, None, None, :].to(q.dtype)
    q, k, v = (x.reshape(b, x.shape[1], heads, x.shape[2] // heads).transpose(1, 2) for x in (q, k, v))
    if torch.onnx.is_in_onnx_export():
        out = _in_pieces(q, k, v, bias, pieces)
    else:
        if bias is not None:
            bias = bias.expand(b, 1, n, m)  # what the fast kernel wants
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return out.transpose(1, 2).flatten(2)


def _in_pieces(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, pieces: int) -> Tensor:
    q, k, n = q * q.shape[-1] ** -0.5, k.transpose(2, 3), q.shape[2]
    found = []
    for i in range(pieces):
        scores = (q if pieces == 1 else q[:, :, n * i // pieces : n * (i + 1) // pieces]) @ k
        found.append((scores if bias is None else scores + bias).softmax(-1) @ v)
    return found[0] if pieces == 1 else torch.cat(found, 2)


class Attention(nn.Module):
    """Tokens attend to others, or to themselves; with a place that stands for nothing at all."""

    def __init__(self, width: int, heads: int, *, crossing: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.k.load_state_dict(self.q.state_dict())  # what is alike attends to each other from the start
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        self.crossing = crossing
        if crossing:
            self.other = nn.LayerNorm(width)
            self.nothing = nn.Parameter(torch.zeros(2, 1, 1, width))

    def forward(self, x: Tensor, memory: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """Tokens and what they took from `memory` (from each other where that is None); `keep` as in `attend`."""
        h = self.norm(x)
        source = h if memory is None else self.other(memory)
        k, v = self.k(source), self.v(source)
        if self.crossing:
            b, width = x.shape[0], x.shape[2]
            k = torch.cat([self.nothing[0].expand(b, 1, width).to(k.dtype), k], 1)
            v = torch.cat([self.nothing[1].expand(b, 1, width).to(v.dtype), v], 1)
            if keep is not None:
                keep = torch.cat([torch.zeros_like(keep[:, :1]), keep], 1)
        taken: Tensor = self.out(attend(self.q(h), k, v, self.heads, keep, _PIECES if self.crossing else 1))
        return x + taken


class Mlp(nn.Module):
    """Two linear layers on each token."""

    def __init__(self, width: int, times: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, times * width), nn.Linear(times * width, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Each token and what the layers add to it."""
        added: Tensor = self.second(F.gelu(self.first(self.norm(x)), approximate="tanh"))
        return x + added
