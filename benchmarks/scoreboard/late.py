"""Metrics that need a network's weights: CLIP-IS, the aesthetic score and FID; left out, with the reason, without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from benchmarks.scoreboard.frechet import frechet_distance
from benchmarks.scoreboard.journal import Journal, sum_of
from benchmarks.scoreboard.towers import (
    AestheticHead,
    Picture,
    Tower,
    cosine,
    read_clip,
    read_inception,
)

CLIP_IS, AESTHETIC, FID = "clip_is", "aesthetic", "fid"
NEEDS = {
    CLIP_IS: (
        "needs weights of a CLIP image tower (--clip), such as the INT8 ViT-B/16 that "
        "benchmarks/clip_int8_yardstick.py names; none were given"
    ),
    AESTHETIC: (
        "needs weights of CLIP ViT-L/14 (--aesthetic-clip) and of LAION's linear head on it (--aesthetic-head); "
        "not both were given"
    ),
    FID: (
        "needs weights of FID's Inception of 2015-12-05 with 2048 features (--inception, TorchScript or ONNX); "
        "none were given"
    ),
}


@dataclass(frozen=True)
class Weights:
    """Files that the user gives."""

    clip: Path | None = None
    clip_model: str = "ViT-B-16-quickgelu"  # open_clip's name, for weights that are no ONNX
    inception: Path | None = None
    aesthetic_clip: Path | None = None
    aesthetic_clip_model: str = "ViT-L-14-quickgelu"
    aesthetic_head: Path | None = None


@dataclass(frozen=True)
class Networks:
    """What could be loaded, and what is said of the rest."""

    clip: Tower | None = None
    inception: Tower | None = None
    aesthetic_clip: Tower | None = None
    head: AestheticHead | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def clip_key(self) -> str:
        """Names CLIP-IS with these weights in the journal; empty without."""
        return f"{CLIP_IS}@{self.clip.sha256[:12]}" if self.clip else ""

    @property
    def aesthetic_key(self) -> str:
        """Names the aesthetic score with these weights in the journal; empty without."""
        if not (self.aesthetic_clip and self.head):
            return ""
        return f"{AESTHETIC}@{sum_of(self.aesthetic_clip.sha256, self.head.sha256)[:12]}"

    @property
    def keys(self) -> tuple[str, ...]:
        """Journal keys of the metrics that are means over pages."""
        return tuple(key for key in (self.clip_key, self.aesthetic_key) if key)

    def said(self) -> dict[str, dict[str, str]]:
        """Per metric: what it was measured with, or why it was left out."""
        entries = {name: {"left_out": reason} for name, reason in self.left_out.items()}
        for name, towers in (
            (CLIP_IS, (self.clip,)),
            (FID, (self.inception,)),
            (AESTHETIC, (self.aesthetic_clip, self.head)),
        ):
            if name not in entries:
                given = [tower for tower in towers if tower is not None]
                entries[name] = {
                    "weights": ", ".join(t.name for t in given),
                    "sha256": ", ".join(t.sha256 for t in given),
                }
        return entries


def load(weights: Weights) -> Networks:
    """The networks whose files were given and fit; nothing is fetched."""
    left_out: dict[str, str] = {}

    def tried(metric: str, read: Callable[[], Any], *needed: object) -> Any:
        if any(one is None for one in needed):
            left_out[metric] = NEEDS[metric]
            return None
        try:
            return read()
        except Exception as error:  # each library has errors of its own
            left_out[metric] = f"its weights can't be used: {error}"
            return None

    clip = tried(CLIP_IS, lambda: read_clip(weights.clip or Path(), weights.clip_model), weights.clip)
    inception = tried(FID, lambda: read_inception(weights.inception or Path()), weights.inception)
    both = (weights.aesthetic_clip, weights.aesthetic_head)
    tower = tried(AESTHETIC, lambda: read_clip(both[0] or Path(), weights.aesthetic_clip_model), *both)
    head = tried(AESTHETIC, lambda: AestheticHead(both[1] or Path()), *both) if tower else None
    return Networks(clip, inception, tower if head else None, head, left_out)


class Late:
    """Works these metrics out for pages of a board, and keeps them in the journal.

    Args:
        networks: what there is.
        journal: added to.
        folder: for the features of FID, one file a page.
    """

    def __init__(self, networks: Networks, journal: Journal, folder: Path) -> None:
        self._networks, self._journal, self._folder = networks, journal, folder
        self._true: dict[str, Float32[np.ndarray, "dim"]] = {}

    def page(
        self, made: str, pixels: str, read: Callable[[], Picture], *, true: tuple[str, Callable[[], Picture]]
    ) -> None:
        """What is missing for one page under one row.

        Args:
            made: the page's sum under the row, by which the journal knows it.
            pixels: names the picture, by which its features are kept.
            read: reads the picture.
            true: the sum of the true page, equal to `made` where that is the page in question, and what reads it.
        """
        truth_made, truth = true
        nets, known = self._networks, self._journal.get(made) or {}
        clip = nets.clip if nets.clip_key and nets.clip_key not in known and made != truth_made else None
        scorer = nets.aesthetic_clip if nets.aesthetic_key and nets.aesthetic_key not in known else None
        features = self._features(pixels) if nets.inception else None
        if not (clip or scorer or (features and not features.exists())):
            return
        picture, more = read(), dict[str, float]()
        if clip:
            if truth_made not in self._true:
                self._true = {truth_made: clip(truth())}  # rows of one page follow one another: one is enough
            more[nets.clip_key] = cosine(clip(picture), self._true[truth_made])
        if scorer and nets.head:
            more[nets.aesthetic_key] = nets.head(scorer(picture))
        if features and nets.inception and not features.exists():
            self._keep(features, nets.inception(picture))
        if more:
            self._journal.put(made, more)

    def fid(self, results: Sequence[str], truths: Sequence[str]) -> float | None:
        """FID between the pictures of these names; None without Inception or with fewer than two pages.

        Raises:
            FileNotFoundError: a page's features were not worked out.
        """
        if self._networks.inception is None or min(len(results), len(truths)) < 2:
            return None
        one, other = (np.stack([np.load(self._features(n)) for n in names]) for names in (results, truths))
        return frechet_distance(one, other)

    def _features(self, pixels: str) -> Path:
        sha = self._networks.inception.sha256[:12] if self._networks.inception else ""
        return self._folder / sha / f"{pixels}.npy"

    @staticmethod
    def _keep(file: Path, features: Float32[np.ndarray, "dim"]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft")
        with draft.open("wb") as out:
            np.save(out, features)
        draft.replace(file)
