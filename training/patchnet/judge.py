"""How well a patch encoder does on stories it has not learned from: the figures that a recipe's choices go by."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image

from training.patchnet.data import LOOK_COUNT, PATCH, Pictures
from training.patchnet.net import PatchNet

PLACES = ((0.0, 0.0, 1.0, 1.0), *((x, y, x + 0.75, y + 0.75) for y in (0.0, 0.25) for x in (0.0, 0.25)))
TOP = 3  # hits per corner
BATCH = 64  # patches per forward pass


def judge(net: PatchNet, pictures: Pictures) -> dict[str, float]:
    """Shares of corners, in [0, 1], of all pictures.

    `own` is how many printed corners have their own page among three hits of the place head; `story` how many grey
    ones have another page of their story among three hits of the scene head, the page itself left out.

    Cost: 5 forward passes a picture and look.
    """
    net.eval()
    place, scene = _rows(net, pictures.looks[:, 0])
    found = [_own(_rows(net, pictures.looks[:, look])[0][:, 1:], place) for look in range(1, LOOK_COUNT)]
    return {"held_own": float(np.mean(found)), "held_story": _story(scene, pictures)}


def _rows(
    net: PatchNet, pages: UInt8[np.ndarray, "n page page"]
) -> tuple[Float32[np.ndarray, "n 5 place"], Float32[np.ndarray, "n 5 scene"]]:
    side = pages.shape[1]
    boxes = [tuple(value * side for value in place) for place in PLACES]
    patches = np.stack(
        [
            np.asarray(Image.fromarray(page).resize((PATCH, PATCH), Image.Resampling.BICUBIC, box))
            for page in pages
            for box in boxes
        ]
    )
    device = next(net.parameters()).device
    rows = []
    with torch.inference_mode():
        for at in range(0, len(patches), BATCH):
            made = net(torch.from_numpy(patches[at : at + BATCH, None]).to(device).float())
            rows.append([part.cpu().numpy() for part in made])
    place, scene = (np.concatenate(parts).reshape(len(pages), 5, -1) for parts in zip(*rows, strict=True))
    return place, scene


def _own(queries: Float32[np.ndarray, "n 4 dim"], references: Float32[np.ndarray, "n 5 dim"]) -> float:
    scores = queries.reshape(-1, queries.shape[2]) @ references.reshape(-1, references.shape[2]).T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP] // 5
    return float((best == np.repeat(np.arange(len(queries)), 4)[:, None]).any(1).mean())


def _story(rows: Float32[np.ndarray, "n 5 dim"], pictures: Pictures) -> float:
    found = []
    for at, story in enumerate(pictures.story):
        scores = np.einsum("cd,npd->cnp", rows[at, 1:], rows, optimize=True)
        scores[:, at] = -np.inf
        best = np.argsort(-scores.reshape(4, -1), axis=1, kind="stable")[:, :TOP] // 5
        if (pictures.story == story).sum() > 1:
            found.append((pictures.story[best] == story).any(1).mean())
    return float(np.mean(found)) if found else 0.0
