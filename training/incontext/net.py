"""The network of `incontext`: one encoder for page and references, attention between them, chroma out.

A picture is encoded without its colour, so that page and reference are described alike. What a place of a reference
looks like is a key, its chroma the value; the page's places attend to them at two sizes:

* at 1/16, layers of self- and cross-attention tell each place of the page about the scene and what is like it;
* at 1/8, heads copy chroma: each is a mean of the references' chroma, weighted by likeness. Beside them stands a ridge
  regression from features to chroma, fitted in closed form on all places of all references.

A gate mixes heads, ridge and grey; so the network says "I don't know" by mixing towards grey. The mixture is refined at
1/2 size by weights over its coarse neighbours, which follow the page's drawing, and a small correction.

Source: the idea of in-context colouring is ColorFlow's (arXiv 2412.11815, section 3.3), at a size for a laptop; convex
upsampling is RAFT's (Teed and Deng, ECCV 2020); a closed-form regressor inside a network is R2D2's (Bertinetto et al.,
ICLR 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from colorizer.backends.incontext.looks import CHANNELS
from training.incontext.layers import Attention, Mlp, Residual, attend, grid, spread, tokens, twice

SKETCH = 6  # numbers about the chroma of a cell of a reference: mean, mean of squares and of the product, mean size

EVIDENCE = 6  # numbers about how far the references explain each other
LEAST_PENALTY = 1e-3  # of the regression, over the number of cells
_NEVER = -1e4  # score of what must not be looked at; finite, so that bfloat16 stays sound
_LOUD = 4.0  # chroma is a few tenths; what is beside it in the decoder has size 1
_PIECES = 32  # of the queries to a memory at 1/8: some 16 MB of scores each
_CORRECTION = 0.2  # of what the last layer adds; small, so that training looks for what can be copied first


@dataclass(frozen=True)
class Size:
    """Widths and depths; all in channels or layers."""

    half: int = 32
    quarter: int = 64
    eighth: int = 128
    sixteenth: int = 256
    blocks: tuple[int, int, int] = (2, 3, 3)  # at 1/4, 1/8 and 1/16
    scene: int = 2  # self-attention layers of a picture
    cross: int = 4  # layers between page and references
    heads: int = 8
    copies: int = 4  # heads that copy chroma
    key: int = 48  # channels of a copying head's key
    note: int = 45  # channels that a copying head brings along beside chroma; 3 more are as many as a key has
    ridge: int = 96  # features of the regression


@dataclass(frozen=True)
class Memory:
    """What the references of a page say; rows are cells, `keep` is 0 for a cell and very negative for none."""

    tokens: Tensor  # b n d: cells at 1/16, drawing and chroma
    token_keep: Tensor | None  # b n
    keys: Tensor  # b m copies*key: cells at 1/8
    values: Tensor  # b m copies*(2+1+note)
    value_keep: Tensor | None  # b m
    ridge: Tensor  # b ridge+1 2: the fitted regression
    evidence: Tensor  # b EVIDENCE: what the references explain of each other; see `weigh`


@dataclass(frozen=True)
class Features:
    """One picture without its colour, at four sizes."""

    half: Tensor
    quarter: Tensor
    eighth: Tensor
    sixteenth: Tensor


class Encoder(nn.Module):
    """A grey picture and where its panels are, to features; sides are multiples of 16."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        s, n = size, size.blocks
        self.stem = nn.Conv2d(CHANNELS, s.half, 5, stride=2, padding=2)
        self.to_quarter = nn.Conv2d(s.half, s.quarter, 3, stride=2, padding=1)
        self.quarter = nn.Sequential(*(Residual(s.quarter) for _ in range(n[0])))
        self.to_eighth = nn.Conv2d(s.quarter, s.eighth, 3, stride=2, padding=1)
        self.eighth = nn.Sequential(*(Residual(s.eighth) for _ in range(n[1])))
        self.to_sixteenth = nn.Conv2d(s.eighth, s.sixteenth, 3, stride=2, padding=1)
        self.sixteenth = nn.Sequential(*(Residual(s.sixteenth) for _ in range(n[2])))
        self.scene = nn.ModuleList(
            [
                nn.Sequential(Attention(s.sixteenth, s.heads, crossing=False), Mlp(s.sixteenth))
                for _ in range(size.scene)
            ]
        )

    def forward(self, x: Tensor) -> Features:
        """Features of b CHANNELS h w."""
        half = F.relu(self.stem(x))
        quarter = self.quarter(F.relu(self.to_quarter(half)))
        eighth = self.eighth(F.relu(self.to_eighth(quarter)))
        sixteenth = self.sixteenth(F.relu(self.to_sixteenth(eighth)))
        seen = tokens(sixteenth)
        for layer in self.scene:
            seen = layer(seen)
        return Features(half, quarter, eighth, grid(seen, sixteenth))


def sketch(chroma: Tensor, cell: int) -> Tensor:
    """Numbers about the chroma of each cell; b 2 h w to b SKETCH h/cell w/cell."""
    blue, red = chroma[:, :1], chroma[:, 1:]
    size = (chroma.square().sum(1, keepdim=True) + 1e-6).sqrt()
    maps = torch.cat([chroma, 4 * blue * blue, 4 * red * red, 4 * blue * red, size], 1)
    return F.avg_pool2d(maps, cell)


class InContextNet(nn.Module):
    """Page, references and their chroma in; chroma of the page at 1/2 size and how sure it is out.

    Chroma is (blue minus luma, red minus luma) / 128.
    """

    def __init__(self, size: Size | None = None) -> None:
        super().__init__()
        self.size = s = size or Size()
        self.encoder = Encoder(s)
        self.remember = nn.Linear(SKETCH, s.sixteenth)
        self.cross = nn.ModuleList(
            [
                nn.ModuleList(
                    [
                        Attention(s.sixteenth, s.heads, crossing=True),
                        Attention(s.sixteenth, s.heads, crossing=False),
                        Mlp(s.sixteenth),
                    ]
                )
                for _ in range(s.cross)
            ]
        )
        self.lateral = nn.Conv2d(s.sixteenth, s.eighth, 1)
        self.key = nn.Linear(s.eighth, s.copies * s.key)
        self.query_lateral = nn.Conv2d(s.sixteenth, s.eighth, 1)
        self.query = nn.Linear(s.eighth, s.copies * s.key)  # what the scene adds to the key of a place that asks
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)
        self.sharpness = nn.Parameter(torch.linspace(1.5, 2.8, s.copies))  # log of the scale of likeness, by head
        self.key_norm, self.query_norm = nn.LayerNorm(s.eighth), nn.LayerNorm(s.eighth)
        self.note = nn.Linear(SKETCH + s.eighth, s.copies * s.note)
        self.nothing_key = nn.Parameter(torch.zeros(1, 1, s.copies * s.key))
        self.ridge_features = nn.Linear(s.eighth, s.ridge)
        self.log_penalty = nn.Parameter(torch.tensor(-3.0))
        width = 2 * s.eighth + s.copies * (3 + s.note) + 2
        self.join = nn.Conv2d(width, s.eighth, 3, padding=1)
        self.trust = nn.Linear(EVIDENCE, s.eighth)
        self.trust_scene = nn.Linear(EVIDENCE, s.sixteenth)
        self.coarse = nn.Sequential(Residual(s.eighth), Residual(s.eighth))
        self.gate = nn.Conv2d(s.eighth, s.copies + 2, 1)
        self.up_quarter = nn.Conv2d(s.eighth + s.quarter, s.quarter, 3, padding=1)
        self.fine = Residual(s.quarter)
        self.up_half = nn.Conv2d(s.quarter + s.half, s.half, 3, padding=1)
        self.last = nn.Conv2d(s.half, 9 + 2, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.weight.abs().max() > 0:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for module in (self.last, self.gate):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.gate.bias[s.copies] = 1.4  # type: ignore[index]  # the regression is right sooner than the copies

    # What one reference says

    def describe(self, features: Features) -> Tensor:
        """What cells at 1/8 look like, with the scene around them: b n eighth."""
        found: Tensor = self.key_norm(tokens(features.eighth + twice(self.lateral(features.sixteenth))))
        return found

    def regressors(self, described: Tensor) -> Tensor:
        """The regression's inputs, the last of them 1: b n ridge+1."""
        phi = torch.tanh(self.ridge_features(described).float())
        return torch.cat([phi, torch.ones_like(phi[..., :1])], -1)

    def tell(self, features: Features, chroma: Tensor, drawn: Tensor) -> tuple[Tensor, ...]:
        """Tokens, keys, values and the regression's sums of pictures with their chroma.

        Args:
            features: of the pictures.
            chroma: b 2 h w.
            drawn: b 1 h w; 1 where colour may be, 0 on paper and pure ink.

        Returns:
            tokens b n d; keys b m copies*key; values b m copies*(3+note); gram b r r; moment b r 2; energy b.
        """
        s = self.size
        told = tokens(features.sixteenth) + self.remember(tokens(sketch(chroma, 16)))
        cells = tokens(sketch(chroma, 8))
        described = self.describe(features)
        notes = self.note(torch.cat([cells.to(described.dtype), described], -1))
        b, m, _ = cells.shape
        parts = torch.cat([cells[..., :2], cells[..., 5:6]], -1)[:, :, None].expand(b, m, s.copies, 3)
        values = torch.cat([parts.to(notes.dtype), notes.reshape(b, m, s.copies, s.note)], -1).flatten(2)
        phi, weight = self.regressors(described), tokens(F.avg_pool2d(drawn, 8)).float()
        with torch.autocast("cpu", enabled=False):
            gram = torch.einsum("bnr,bns->brs", phi * weight, phi)
            moment = torch.einsum("bnr,bnc->brc", phi * weight, cells[..., :2].float())
            energy = (weight * cells[..., :2].float().square()).sum((1, 2))
        return told, self.unit(self.key(described)), values, gram, moment, energy

    def unit(self, key: Tensor) -> Tensor:
        """Keys of length 1 in each head: b n copies*key."""
        heads = key.reshape(*key.shape[:2], self.size.copies, self.size.key).float()
        return (heads / (heads.square().sum(-1, keepdim=True) + 1e-4).sqrt()).flatten(2)

    def fit(self, gram: Tensor, moment: Tensor) -> Tensor:
        """The regression on sums over all references: b r 2; zero when there are none.

        The last regressor is 1, so that the last sum of squares is the number of cells.
        """
        penalty = torch.eye(gram.shape[-1], device=gram.device) * (self.log_penalty.exp() + LEAST_PENALTY)
        count = gram[:, -1:, -1:].clamp(min=1.0)
        with torch.autocast("cpu", enabled=False):
            fitted: Tensor = torch.linalg.solve(gram.float() / count + penalty, moment.float() / count)
        return fitted

    # What the page makes of it

    def paint(self, page: Features, memory: Memory) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Chroma at 1/2 (b 2 h/2 w/2); at 1/8 how sure it is (b 1 h w), the mixture, the regression (b 2 h w each)."""
        s = self.size
        seen = tokens(page.sixteenth) + self.trust_scene(memory.evidence)[:, None]
        for layer in self.cross:
            crossing, own, mlp = layer.children()
            seen = mlp(own(crossing(seen, memory.tokens, memory.token_keep)))
        scene = grid(seen, page.sixteenth)
        described = self.describe(page)
        asked = self.query_norm(tokens(page.eighth + twice(self.query_lateral(scene))))
        copied = self._copied(asked, described, memory)
        regressed = torch.einsum("bnr,brc->bnc", self.regressors(described), memory.ridge)
        like = page.eighth
        found = _LOUD * torch.cat([copied, regressed.to(copied.dtype)], -1)
        hidden = grid(torch.cat([asked, described, found.to(asked.dtype)], -1), like)
        hidden = self.coarse(F.relu(self.join(hidden) + self.trust(memory.evidence)[:, :, None, None]))
        shares = self.gate(hidden).float().softmax(1)
        heads = copied.reshape(*copied.shape[:2], s.copies, -1)[..., :2].float()
        offers = torch.cat([heads, regressed[:, :, None].float()], 2)  # b n copies+1 2
        mixed = torch.einsum("bnk,bnkc->bnc", tokens(shares)[..., :-1], offers)
        sure = 1 - shares[:, -1:]
        hidden = F.relu(self.up_quarter(torch.cat([twice(hidden), page.quarter], 1)))
        hidden = F.relu(self.up_half(torch.cat([twice(self.fine(hidden)), page.half], 1)))
        last = self.last(hidden).float()
        coarse = grid(mixed, like)
        return spread(coarse, last[:, :9]) + _CORRECTION * last[:, 9:], sure, coarse, grid(regressed.float(), like)

    def _copied(self, asked: Tensor, described: Tensor, memory: Memory) -> Tensor:
        s = self.size
        q = self.unit(self.key(described) + self.query(asked))
        scale = self.sharpness.exp().repeat_interleave(s.key) * s.key**0.5  # attention divides by the root
        q, b = (q * scale).to(memory.values.dtype), q.shape[0]
        k = torch.cat([self.nothing_key.expand(b, 1, -1).to(q.dtype), memory.keys.to(q.dtype)], 1)
        v = torch.cat([torch.zeros_like(memory.values[:, :1]), memory.values], 1)
        keep = memory.value_keep
        if keep is not None:
            keep = torch.cat([torch.zeros_like(keep[:, :1]), keep], 1)
        return attend(q, k, v, s.copies, keep, _PIECES)


def gather(
    net: InContextNet, told: tuple[Tensor, ...], seen: Tensor, cells: float, generator: torch.Generator
) -> Memory:
    """What each target may know of the references.

    Args:
        net: for its regression.
        told: of n references, from `InContextNet.tell`.
        seen: t n; which references a target may look at.
        cells: share of the cells at 1/8 that are kept, the same ones of every reference; less is faster.
        generator: draws them.
    """
    tokens_, keys, values, gram, moment, energy = told
    keep = torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, _NEVER)
    if cells < 1:
        count = keys.shape[1]
        chosen = torch.randperm(count, generator=generator)[: max(1, int(count * cells))].to(keys.device)
        keys, values = keys[:, chosen], values[:, chosen]
    share = seen.float()

    def flat(x: Tensor) -> Tensor:
        return x.reshape(1, -1, x.shape[-1]).expand(len(seen), -1, -1)

    return Memory(
        flat(tokens_),
        keep.repeat_interleave(tokens_.shape[1], 1),
        flat(keys),
        flat(values),
        keep.repeat_interleave(keys.shape[1], 1),
        net.fit(torch.einsum("tn,nrs->trs", share, gram), torch.einsum("tn,nrc->trc", share, moment)),
        torch.stack([weigh(net, gram[row].detach(), moment[row].detach(), energy[row]) for row in seen]),
    )


@torch.no_grad()
def weigh(net: InContextNet, gram: Tensor, moment: Tensor, energy: Tensor) -> Tensor:
    """What the references of one page explain of each other, each by the regression on all others: EVIDENCE numbers.

    They are the mean and the least share that is explained, in [-1, 1]; the factor on the regression that would have
    been best, in [0, 2]; the mean and the deviation of the logarithm of the references' energy; and how many there are
    over 10. All follow from the sums of `tell`.

    Args:
        net: for its regression.
        gram: n r r.
        moment: n r 2.
        energy: n.
    """
    n = len(energy)
    out = torch.zeros(EVIDENCE, device=energy.device)
    if n == 0:
        return out
    counts = gram[:, -1, -1].clamp(min=1.0)
    level = (energy / counts + 1e-3).log()
    out[3], out[4], out[5] = level.mean() / 4, level.std(unbiased=False), n / 10
    if n > 1:
        others = net.fit(gram.sum(0) - gram, moment.sum(0) - moment)  # n r 2: fitted without one
        agreed = torch.einsum("nrc,nrc->n", others, moment)
        power = torch.einsum("nrc,nrs,nsc->n", others, gram, others)
        explained = ((2 * agreed - power) / (energy + 1e-3 * counts)).clamp(-1, 1)
        out[0], out[1] = explained.mean(), explained.min()
        out[2] = (agreed.sum() / power.sum().clamp(min=1e-6)).clamp(0, 2)
    return out
