"""A small voting forest, fitted on the references of one page and thrown away with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

BINS = 32  # values a feature is rounded to
_TINY = 1e-9


@dataclass(frozen=True)
class Growth:
    """How a tree grows."""

    depth: int = 9
    tries: int = 16  # features looked at for each level's cuts
    least: int = 10  # samples on either side of a cut
    prior: float = 8.0  # weight, in samples, of the parent's votes in a leaf


@dataclass(frozen=True)
class Tree:
    """One fitted tree; node i of level l stands at 2^l - 1 + i, its children are 2i and 2i + 1 of the next level."""

    feature: Int64[np.ndarray, " nodes"]
    cut: Int64[np.ndarray, " nodes"]  # the right child takes bins above it
    votes: Float32[np.ndarray, "leaves k"]  # each row adds up to 1


def bin_edges(samples: Float32[np.ndarray, "n f"]) -> Float32[np.ndarray, "f e"]:
    """Quantiles of each feature, BINS - 1 of them."""
    return np.asarray(np.quantile(samples, np.linspace(0, 1, BINS + 1)[1:-1], axis=0).T, np.float32)


def to_bins(samples: Float32[np.ndarray, "n f"], edges: Float32[np.ndarray, "f e"]) -> UInt8[np.ndarray, "f n"]:
    """Each sample's bins, feature by feature."""
    return np.stack([np.searchsorted(e, samples[:, i], side="right").astype(np.uint8) for i, e in enumerate(edges)])


def grow(
    bins: UInt8[np.ndarray, "f n"],
    chroma: Float64[np.ndarray, "n 2"],
    labels: Int64[np.ndarray, " n"],
    colours: int,
    rng: np.random.Generator,
    growth: Growth,
) -> Tree:
    """One tree whose cuts reduce the variance of `chroma` and whose leaves vote for `labels`.

    Cost: depth * tries passes over n samples.
    Source: extremely randomised trees, Geurts, Ernst and Wehenkel, 2006. Differs: the features tried are drawn once
    for a whole level, so that a level is a few histograms.
    """
    node = np.zeros(bins.shape[1], np.int64)
    features, cuts = [], []
    for level in range(growth.depth):
        tried = rng.permutation(len(bins))[: growth.tries]
        feature, cut = _best_cuts(bins, chroma, node, 1 << level, tried, growth.least)
        features.append(feature)
        cuts.append(cut)
        node = node * 2 + (bins[feature[node], np.arange(len(node))] > cut[node])
    return Tree(np.concatenate(features), np.concatenate(cuts), _leaf_votes(node, labels, growth, colours))


def _best_cuts(
    bins: UInt8[np.ndarray, "f n"],
    chroma: Float64[np.ndarray, "n 2"],
    node: Int64[np.ndarray, " n"],
    nodes: int,
    tried: Int64[np.ndarray, " t"],
    least: int,
) -> tuple[Int64[np.ndarray, " nodes"], Int64[np.ndarray, " nodes"]]:
    best, feature = np.full(nodes, 1e-6), np.zeros(nodes, np.int64)
    cut = np.full(nodes, BINS, np.int64)  # no cut: all go left
    for f in tried.tolist():
        gain = _gains(node * BINS + bins[f], chroma, nodes, least)
        place = gain.argmax(axis=1)
        found = gain[np.arange(nodes), place]
        better = found > best
        best[better], feature[better], cut[better] = found[better], f, place[better]
    return feature, cut


def _gains(
    key: Int64[np.ndarray, " n"], chroma: Float64[np.ndarray, "n 2"], nodes: int, least: int
) -> Float64[np.ndarray, "nodes bins"]:
    size = nodes * BINS
    left = np.bincount(key, minlength=size).reshape(nodes, BINS).cumsum(axis=1)
    right = left[:, -1:] - left
    gain = np.zeros((nodes, BINS))
    for c in (0, 1):
        s = np.bincount(key, chroma[:, c], size).reshape(nodes, BINS).cumsum(axis=1)
        gain += s**2 / (left + _TINY) + (s[:, -1:] - s) ** 2 / (right + _TINY) - s[:, -1:] ** 2 / (left[:, -1:] + _TINY)
    gain[(left < least) | (right < least)] = 0.0
    return gain


def _leaf_votes(
    node: Int64[np.ndarray, " n"], labels: Int64[np.ndarray, " n"], growth: Growth, colours: int
) -> Float32[np.ndarray, "leaves k"]:
    leaves = 1 << growth.depth
    votes = np.bincount(node * colours + labels, minlength=leaves * colours).reshape(leaves, colours).astype(np.float64)
    parent = votes.reshape(leaves // 2, 2, colours).sum(axis=1).repeat(2, axis=0) + votes.sum(axis=0) / len(node)
    votes += growth.prior * parent / parent.sum(axis=1, keepdims=True)
    return np.asarray(votes / votes.sum(axis=1, keepdims=True), np.float32)


def vote(tree: Tree, bins: UInt8[np.ndarray, "f n"]) -> Float32[np.ndarray, "n k"]:
    """The votes of the leaf that each sample falls into."""
    node, columns = np.zeros(bins.shape[1], np.int64), np.arange(bins.shape[1])
    for level in range(len(tree.votes).bit_length() - 1):
        at = node + (1 << level) - 1
        node = node * 2 + (bins[tree.feature[at], columns] > tree.cut[at])
    return tree.votes[node]
