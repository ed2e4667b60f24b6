"""What the patch encoder is told: find your own place again, and then what is coloured alike in your story."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

PLACE_HEAT = 0.06  # temperature of the layout head's similarities
SCENE_HEAT = 0.1  # and of the scene head's
COLOUR_RANGE = 5.0  # levels of chroma; a page of the story this much off counts 1/e
SAME_STORY = 0.05  # what a page of the same story counts however its colours are
BACKWARD = 0.5  # share of each loss that asks from reference to query


def place_loss(queries: Tensor, references: Tensor) -> Tensor:
    """Cross-entropy of finding the reference of the same place among all of the batch, both ways.

    Source: InfoNCE, van den Oord, Li and Vinyals, arXiv:1807.03748.
    """
    logits = queries @ references.T / PLACE_HEAT
    own = torch.arange(len(logits), device=logits.device)
    forward, backward = functional.cross_entropy(logits, own), functional.cross_entropy(logits.T, own)
    return (1 - BACKWARD) * forward + BACKWARD * backward


def scene_loss(queries: Tensor, references: Tensor, story: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy against where a colouriser would look: other pages of the story, the more the more alike in colour.

    The page itself takes no part; rows without another page of their story count nothing.

    Args:
        queries: unit rows.
        references: unit rows, of the same places.
        story: (n,) its number.
        distances: (n, n) as `data.colour_distances`.
    """
    itself = torch.eye(len(story), dtype=torch.bool, device=story.device)
    related = (story[:, None] == story[None]) & ~itself
    wanted = related * (torch.exp(-distances / COLOUR_RANGE) + SAME_STORY)
    total = wanted.sum(1, keepdim=True)
    share = wanted / total.clamp(min=1e-9)
    losses = []
    for left, right in ((queries, references), (references, references)):
        logits = (left @ right.T / SCENE_HEAT).masked_fill(itself, float("-inf"))
        log = functional.log_softmax(logits, 1).masked_fill(itself, 0)
        losses.append(-(share * log).sum(1)[total[:, 0] > 0].mean())
    return torch.stack(losses).mean()


def story_loss(rows: Tensor, centres: Tensor, story: Tensor) -> Tensor:
    """Cross-entropy of naming the story among all, by learned centres of the training stories.

    Source: Proxy-NCA, Movshovitz-Attias et al., ICCV 2017, with a softmax over all proxies.
    """
    logits = rows @ functional.normalize(centres, dim=1).T / SCENE_HEAT
    return functional.cross_entropy(logits, story, label_smoothing=0.1)
