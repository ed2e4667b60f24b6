"""Colour for flat regions: each takes the colour of reference regions that look alike and have the same company."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from scipy import sparse
from scipy.spatial.distance import cdist

from colorizer.backends.exemplar import palette
from colorizer.backends.exemplar.flats import PAPER, Flats, apart, describe
from colorizer.hands import Hands
from colorizer.luma import chroma_of, luma_of

_COLOURS = 48  # palette of a context
_TEMPER = 1.0  # distance at which a reference region's vote has fallen to 1/e
_COMPANY = 1.3  # weight of what touches what beside a region's own looks
_ROUNDS = 6  # of neighbours telling each other
_SHARPER = 1.5  # exponent on beliefs before their mean is taken
_BANDS = 8  # of certainty
_PRIOR = 0.2  # weight of no success beside an average band's evidence
_TOP = 1.2  # a factor above 1 makes up for the paleness of a mean
_FAVOUR = 5.0  # how decidedly the better of two predictions is preferred
_FAR = 0.1  # certainty lost for a unit of distance to the nearest reference region


@dataclass(frozen=True)
class Known:
    """The regions of one reference and their colours."""

    flats: Flats  # without its map of labels
    chroma: Float64[np.ndarray, "n 2"]


@dataclass(frozen=True)
class _Book:
    """The regions of all references together."""

    features: Float32[np.ndarray, "n f"]
    luma: Float64[np.ndarray, " n"]
    chroma: Float64[np.ndarray, "n 2"]
    colour: Int64[np.ndarray, " n"]  # its place in the palette
    owner: Int64[np.ndarray, " n"]  # its reference
    meetings: Float64[np.ndarray, "r 2 k k"]  # of colours in each reference, without and with an outline between


@dataclass(frozen=True)
class _Trust:
    """What an answer is worth as a function of its certainty; linear between knots, never falling."""

    knots: Float64[np.ndarray, " b"]
    factors: Float64[np.ndarray, " b"]
    explained: Float64[np.ndarray, " b"]


def learn(picture: UInt8[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"]) -> Known:
    """The regions of one reference.

    Args:
        picture: sRGB, at matching size.
        known: where `picture` shows the reference.

    Cost: that of `flats.describe`.
    """
    flats = describe(luma_of(picture).astype(np.float32), known)
    at = flats.label >= 0
    chroma, where, n = chroma_of(picture)[at], flats.label[at], len(flats.luma)
    total = np.stack([np.bincount(where, chroma[:, c], n) for c in (0, 1)], axis=1)
    mean = np.asarray(total, np.float64) / np.maximum(np.bincount(where, minlength=n), 1)[:, None]
    return Known(replace(flats, label=np.zeros((0, 0), np.int64)), mean)


def match(
    luma: Float32[np.ndarray, "h w"], references: Sequence[Known], groups: Sequence[int], hands: Hands
) -> tuple[Float32[np.ndarray, "h w 2"], Float32[np.ndarray, "h w"]]:
    """Chroma of the page's flat regions and how much of it to expect right.

    Args:
        luma: of the page, [0, 255], at matching size.
        references: as `learn` describes them.
        groups: for each reference the group that it is left out with when the matching is tried on the references.
        hands: try the references side by side.

    Returns:
        Chroma, and the share in [0, 1] of the true chroma's energy that it is expected to explain, judged by
        references that the others predict. Both are 0 where no flat region is, and everywhere if there is nothing to
        judge by: fewer than two groups.

    Cost: 0.2 s for the page at 640 x 640 pixels, some 0.05 s for each reference.
    """
    chroma, sure = np.zeros((*luma.shape, 2), np.float32), np.zeros(luma.shape, np.float32)
    pairs = [(k, g) for k, g in zip(references, groups, strict=True) if len(k.chroma)]
    if len({g for _, g in pairs}) < 2:
        return chroma, sure
    book = _book([k for k, _ in pairs])
    trust = _judge([k for k, _ in pairs], np.array([g for _, g in pairs]), book, hands)
    if trust.explained.max() <= 0:
        return chroma, sure
    flats = describe(luma, np.ones(luma.shape, bool))
    if not len(flats.luma):
        return chroma, sure
    mean, certain = _answer(flats, book, np.ones(len(pairs), bool))
    at = flats.label >= 0
    chroma[at] = (mean * np.interp(certain, trust.knots, trust.factors)[:, None])[flats.label[at]]
    sure[at] = np.interp(certain, trust.knots, trust.explained)[flats.label[at]]
    return chroma, sure


def share(expected: Float32[np.ndarray, "h w"], other: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The matched chroma's share in a blend with another prediction; both confidences in [0, 1]."""
    own, rest = (1 - expected.clip(0, 0.98)) ** _FAVOUR, (1 - other.clip(0, 0.98)) ** _FAVOUR
    return np.asarray(np.where(expected > 0, rest / (own + rest), 0), np.float32)


def _book(known: Sequence[Known]) -> _Book:
    chroma = np.concatenate([k.chroma for k in known])
    _, colour = palette.palette_of(chroma, _COLOURS, np.random.default_rng(0))
    counts = [len(k.chroma) for k in known]
    meetings = np.zeros((len(known), 2, _COLOURS, _COLOURS))
    for i, (k, mine) in enumerate(zip(known, np.split(colour, np.cumsum(counts)[:-1]), strict=True)):
        one, two = mine[k.flats.pairs].T
        for a, b in ((one, two), (two, one)):
            np.add.at(meetings[i], (k.flats.inked.astype(int), a, b), np.sqrt(k.flats.border))
    return _Book(
        np.concatenate([k.flats.features for k in known]),
        np.concatenate([k.flats.luma for k in known]),
        chroma,
        colour,
        np.repeat(np.arange(len(known)), counts),
        meetings,
    )


def _company(meetings: Float64[np.ndarray, "2 k k"]) -> Float64[np.ndarray, "2 k k"]:
    """How much oftener two colours meet than by chance, as a logarithm."""
    alone = meetings.sum(axis=2, keepdims=True)
    chance = alone * alone.transpose(0, 2, 1) / (meetings.sum(axis=(1, 2), keepdims=True) + 1e-9)
    prior = 10 * chance / (chance + 1) + 0.5
    return np.asarray(np.clip(np.log((meetings + prior) / (chance + prior)), -1.5, 2.5))


def _judge(known: Sequence[Known], groups: Int64[np.ndarray, " r"], book: _Book, hands: Hands) -> _Trust:
    """What the matching is worth on references that it has not seen."""

    def tried(place: int) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, " n"], Float64[np.ndarray, "n 2"]]:
        k = known[place]
        mean, certain = _answer(k.flats, book, groups != groups[place])
        share = np.sqrt(k.flats.area * (k.flats.luma < PAPER))[:, None]
        return mean * share, certain, k.chroma * share

    parts = list(hands.each(tried, range(len(known))))
    mean, certain, truth = (np.concatenate(column) for column in zip(*parts, strict=True))
    edges = np.quantile(certain, np.linspace(0, 1, _BANDS + 1))
    band = np.clip(np.searchsorted(edges, certain) - 1, 0, _BANDS - 1)
    inner, size, power = (
        np.bincount(band, (a * b).sum(axis=1), _BANDS) for a, b in ((mean, truth), (mean, mean), (truth, truth))
    )
    factors = np.maximum.accumulate(
        np.clip((inner + _PRIOR * size.mean() * 0.5) / (size + _PRIOR * size.mean() + 1e-9), 0, _TOP)
    )
    won = 2 * factors * inner - factors**2 * size
    explained = np.maximum.accumulate(np.clip(won / (power + _PRIOR * power.mean() + 1e-9), 0, 1))
    return _Trust((edges[1:] + edges[:-1]) / 2, factors, explained)


def _answer(
    flats: Flats, book: _Book, seen: Bool[np.ndarray, " r"]
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, " n"]]:
    """Chroma of each region and its certainty, from the references that may be seen."""
    order = np.argsort(book.colour, kind="stable")
    order = order[seen[book.owner[order]]]
    ids, heads = np.unique(book.colour[order], return_index=True)
    away = cdist(flats.features, book.features[order], "cityblock")
    away += apart(flats.luma, book.luma[order])
    nearest = away.min(axis=1)
    logit, tint = np.empty((len(away), len(ids))), np.empty((len(away), len(ids), 2))
    for j, rows in enumerate(np.split(order, heads[1:])):
        part = away[:, heads[j] : heads[j] + len(rows)]
        best = rows[part.argmin(axis=1)]
        logit[:, j] = np.log(np.exp((nearest[:, None] - part) / _TEMPER).sum(axis=1) + 1e-12)
        lighter = np.clip((flats.luma + 8) / (book.luma[best] + 8), 0.6, 1.5)  # light scales colour and luma alike
        tint[:, j] = book.chroma[best] * lighter[:, None]
    table = _company(book.meetings[seen].sum(axis=0))[:, ids][:, :, ids]
    belief = _agreed(logit, flats, table) ** _SHARPER
    belief /= belief.sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nkc->nc", belief, tint)
    power = np.einsum("nk,nkc->n", belief, tint**2)
    return mean, (mean**2).sum(axis=1) / (power + 25.0) - _FAR * nearest


def _agreed(
    logit: Float64[np.ndarray, "n k"], flats: Flats, table: Float64[np.ndarray, "2 k k"]
) -> Float64[np.ndarray, "n k"]:
    """Beliefs after neighbours have told each other which colours they go with.

    Source: mean field on a pairwise random field, a fixed number of damped rounds.
    """
    belief = _softmax(logit)
    one, two = flats.pairs.T
    total = np.maximum(np.bincount(one, flats.border, len(logit)) + np.bincount(two, flats.border, len(logit)), 1e-9)
    ways = []
    for kind in (0, 1):
        at = flats.inked == bool(kind)
        rows, columns = np.concatenate([one[at], two[at]]), np.concatenate([two[at], one[at]])
        length = np.concatenate([flats.border[at]] * 2) / total[rows]
        ways.append(sparse.csr_array((length, (rows, columns)), shape=(len(logit), len(logit))))
    for _ in range(_ROUNDS):
        told = sum(np.einsum("nk,kl->nl", way @ belief, table[kind]) for kind, way in enumerate(ways))
        belief = (belief + _softmax(logit + _COMPANY * told)) / 2
    return belief


def _softmax(logit: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    weight = np.exp(logit - logit.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))
