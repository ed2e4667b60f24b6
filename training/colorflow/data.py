"""Canvases for training: a page of a story amid patches of other pages of the same story."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from colorizer.backends.colorflow.canvas import RANKS, compose
from colorizer.backends.colorflow.fit import Size, fit, reference_patches, refined_size
from colorizer.backends.colorflow.guides import Guides
from retrieval.embed.structure import StructureEmbedder
from retrieval.patches import CropRecipe
from serving.errors import InvalidInput
from serving.geometry import CORNERS
from training.colorflow.settings import Ranking
from training.stories import Picture, Story

Looks = Callable[[UInt8[np.ndarray, "h w 3"], np.random.Generator], Guides]
Pixels = UInt8[np.ndarray, "_h _w 3"]


@dataclass(frozen=True)
class Canvas:
    """One sample; both canvases are RGB, twice the page's sides, and differ in the page alone."""

    truth: Pixels  # with the page in colour
    seen: Pixels  # with what the networks see of it
    page: Picture
    references: tuple[Picture, ...]  # other pages of its story


@dataclass(frozen=True)
class Refinement:
    """One sample of the fusion network, RGB at the refined size."""

    truth: Pixels
    detail: Pixels  # grey in three channels
    page: Picture


class Pages:
    """Pages of stories, drawn at random: first a story, then a page, so that long stories do not outweigh short ones.

    Args:
        stories: those with one page alone are left out where `others` is set.
        others: every page needs other pages of its story.

    Raises:
        InvalidInput: NO_STORIES: none is left.
    """

    def __init__(self, stories: Sequence[Story], *, others: bool) -> None:
        self._stories = [story for story in stories if len(story.pictures) > int(others)]
        if not self._stories:
            wanted = "with two pages or more" if others else "with a page"
            raise InvalidInput(f"there must be a story {wanted}, got {len(stories)} stories", reason="NO_STORIES")

    def draw(self, rng: np.random.Generator) -> tuple[Picture, tuple[Picture, ...]]:
        """A page and all other pages of its story."""
        story = self._stories[int(rng.integers(len(self._stories)))]
        page = story.pictures[int(rng.integers(len(story.pictures)))]
        return page, story.others(page)


class Canvases:
    """Draws canvases as the back-end composes them.

    Args:
        stories: as for `Pages`.
        size: of the page in the canvas.
        looks: what the networks see of a page.
        ranking: "structure" finds patches by the weight-free embedder of the retrieval server, whose vectors are kept
            (12 KB a picture); "random" draws them.
        references: other pages of the story whose patches compete, at most.
    """

    def __init__(
        self, stories: Sequence[Story], size: Size, looks: Looks, ranking: Ranking = "structure", references: int = 6
    ) -> None:
        self._pages = Pages(stories, others=True)
        self._size, self._looks, self._ranking, self._most = size, looks, ranking, references
        self._embedder = StructureEmbedder(CropRecipe(size), grey_twin=False)
        self._vectors: dict[str, Float32[np.ndarray, "5 dim"]] = {}

    def draw(self, rng: np.random.Generator) -> Canvas:
        """One canvas.

        Cost: one page and up to `references` pictures are decoded and resized; some 20 ms each at 640 x 640.
        """
        page, others = self._pages.draw(rng)
        count = min(len(others), int(rng.integers(1, self._most + 1)))
        chosen = tuple(others[int(index)] for index in rng.permutation(len(others))[:count])
        rgb = np.asarray(fit(Image.fromarray(page.load()), refined_size(self._size)))
        query = self._looks(rgb, rng).query
        seen = Image.fromarray(query).resize(self._size, Image.Resampling.BICUBIC).convert("RGB")
        truth = Image.fromarray(rgb).resize(self._size, Image.Resampling.BICUBIC)
        patches = self._ranked(np.asarray(seen), chosen, rng)
        return Canvas(np.asarray(compose(truth, patches)), np.asarray(compose(seen, patches)), page, chosen)

    def _ranked(self, query: Pixels, chosen: Sequence[Picture], rng: np.random.Generator) -> list[list[Image.Image]]:
        fitted = [fit(Image.fromarray(picture.load()), self._size) for picture in chosen]
        patches = [patch for picture in fitted for patch in reference_patches(picture)]
        if self._ranking == "random":
            order = np.stack([rng.permutation(len(patches)) for _ in CORNERS])
        else:
            rows = np.concatenate(
                [self._vectors_of(p, np.asarray(f)) for p, f in zip(chosen, fitted, strict=True)]
            )  # "5n dim"
            order = _best(self._embedder.embed_pages([query])[0], rows)
        return [[patches[index] for index in corner[:RANKS]] for corner in order]

    def _vectors_of(self, picture: Picture, fitted: Pixels) -> Float32[np.ndarray, "5 _dim"]:
        key = str(picture.path)
        if key not in self._vectors:
            self._vectors[key] = self._embedder.embed_references([fitted])[0]
        return self._vectors[key]


class Refinements:
    """Draws pages for the fusion network.

    Args:
        stories: any.
        size: of the page in the canvas; the samples have the refined size.
        looks: gives the grey guide.
    """

    def __init__(self, stories: Sequence[Story], size: Size, looks: Looks) -> None:
        self._pages = Pages(stories, others=False)
        self._size, self._looks = refined_size(size), looks

    def draw(self, rng: np.random.Generator) -> Refinement:
        """One page."""
        page, _ = self._pages.draw(rng)
        rgb = np.asarray(fit(Image.fromarray(page.load()), self._size))
        detail = self._looks(rgb, rng).detail
        return Refinement(rgb, np.repeat(detail[..., None], 3, axis=2), page)


def signed(pictures: Sequence[Pixels]) -> Tensor:
    """RGB bytes as a float32 batch "n 3 h w" in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous().float()
    return stacked / 127.5 - 1


def _best(queries: Float32[np.ndarray, "4 dim"], rows: Float32[np.ndarray, "n dim"]) -> Int64[np.ndarray, "4 n"]:
    """Rows by falling similarity to each query; of equals the first comes first."""
    return np.argsort(-(queries @ rows.T), axis=1, kind="stable")
