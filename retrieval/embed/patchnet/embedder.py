"""The learned embedder `patchnet`: the weight-free vector, and beside it what a small network says of the scene.

A grey patch becomes two parts, each of unit length and weighted, joined and brought to unit length again:

* structure: the vector of `structure`, which finds the same drawing under any print;
* scene: the network's, which was trained to find other pages of the same story, those of like colours first.

Line art says nothing of a scene's tones. So the scene counts by how much tone a patch has: not at all where its
blurred luma hardly varies, fully from what nearly every page with tones has.

The network runs on onnxruntime with one thread and one patch at a time: a vector never depends on its batch, and
threads of the caller share one session. Trained by `panelhue train patchnet`; see `weights/CARD.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from retrieval.embed.patchnet.network import SHIPPED, SIDE, Network
from retrieval.embed.space import EmbedderSettings, EmbeddingSpace, luma, no_text
from retrieval.embed.structure import StructureEmbedder
from retrieval.patches import CropRecipe, Patches, cut_page, cut_reference
from serving.errors import FailedState, InvalidInput

MODEL = "patchnet-v1"  # raised with every change of a number below: vectors of two versions never meet
SCENE = 0.7  # what the scene's part weighs; the structure's weighs 1
CELL = 8  # pixels of a squeezed patch; tone is what is left of its luma in cells of this side
TONE_FROM = 0.08  # standard deviation of those cells, in luma, at which the scene begins to count
TONE_RANGE = 0.02  # and how much more it takes until it counts fully


def create(settings: EmbedderSettings) -> PatchnetEmbedder:
    """The embedder that the registry knows as "patchnet".

    `settings.weights` may name a folder that `panelhue train patchnet` wrote; the shipped weights when None.

    Raises:
        InvalidInput: a setting is given that only an open_clip model can use.
        FailedState: WEIGHTS_INVALID.
    """
    given = [n for n in ("model", "pretrained", "config") if getattr(settings, n) is not None]
    if given:
        raise InvalidInput(f"the embedder 'patchnet' is one model and takes no {', '.join(given)}")
    network = Network(settings.weights or SHIPPED)
    return PatchnetEmbedder(network, CropRecipe.parse(settings.crop_recipe), grey_twin=settings.grey_twin)


class PatchnetEmbedder:
    """Structure features and a learned network's view of the scene in one vector.

    `grey_twin` changes nothing but the space's id, because colour is never looked at.

    Args:
        network: the learned part.
        recipe: how pages are cut.
        grey_twin: as the settings say.
    """

    def __init__(self, network: Network, recipe: CropRecipe, *, grey_twin: bool) -> None:
        self._structure = StructureEmbedder(recipe, grey_twin=grey_twin)
        self._network: Network | None = network
        self._recipe = recipe
        structure = self._structure.space
        preprocessing = f"{structure.model}:{structure.preprocessing}+luma-{SIDE}-bicubic"
        dim = structure.dim + network.dim
        self.space = EmbeddingSpace(MODEL, network.sha256, preprocessing, str(recipe), dim, grey_twin)

    def embed(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n dim"]:
        """One vector per picture, each taken as a patch that is already cut.

        Raises:
            InvalidInput: a picture is smaller than 16 pixels on a side.
            FailedState: the embedder is closed.
        """
        drawn = self._structure.embed(pictures)
        return self._joined(drawn, [_squeezed(luma(picture)) for picture in pictures])

    def embed_pages(self, pages: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n 4 dim"]:
        """The vectors of each page's four query patches.

        Raises:
            InvalidInput: a page is too small, or too thin for the recipe.
            FailedState: the embedder is closed.
        """
        return self._rows(self._structure.embed_pages(pages), pages, cut_page)

    def embed_references(self, references: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n 5 dim"]:
        """The vectors of each reference's five patches: the whole picture, then its corners.

        Raises:
            InvalidInput: a reference is too small, or too thin for the recipe.
            FailedState: the embedder is closed.
        """
        return self._rows(self._structure.embed_references(references), references, cut_reference)

    @property
    def has_text(self) -> bool:
        """False: it knows drawings alone."""
        return False

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n dim"]:  # noqa: ARG002 - the protocol's
        """Never gives anything.

        Raises:
            FailedState: EMBEDDER_HAS_NO_TEXT.
        """
        raise no_text(self.space)

    def close(self) -> None:
        """Lets go of the network."""
        self._network = None

    def _rows(
        self,
        drawn: Float32[np.ndarray, "n patches structure"],
        pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        cut: Callable[[UInt8[np.ndarray, "_ _ 3"], CropRecipe], Patches],
    ) -> Float32[np.ndarray, "n patches dim"]:
        squeezed = [patch for picture in pictures for patch in _patches(cut(picture, self._recipe))]
        rows = self._joined(drawn.reshape(-1, drawn.shape[2]), squeezed)
        return rows.reshape(*drawn.shape[:2], self.space.dim)

    def _joined(
        self, drawn: Float32[np.ndarray, "n structure"], patches: Sequence[UInt8[np.ndarray, "side side"]]
    ) -> Float32[np.ndarray, "n dim"]:
        network = self._network
        if network is None:
            raise FailedState("the embedder is closed; it must be open to embed")
        if not patches:
            return np.zeros((0, self.space.dim), np.float32)
        squeezed = np.stack(patches)
        joined = np.concatenate([drawn, np.float32(SCENE) * _toned(squeezed) * network(squeezed)], axis=1)
        return np.asarray(joined / np.linalg.norm(joined, axis=1, keepdims=True), np.float32)


def _patches(patches: Patches) -> list[UInt8[np.ndarray, "side side"]]:
    grey = luma(patches.picture)
    return [_squeezed(grey[b.y0 : b.y1, b.x0 : b.x1]) for b in patches.boxes]


def _squeezed(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "side side"]:
    return np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _toned(patches: UInt8[np.ndarray, "n side side"]) -> Float32[np.ndarray, "n 1"]:
    """How far the scene counts, in [0, 1]."""
    cells = patches.reshape(len(patches), SIDE // CELL, CELL, SIDE // CELL, CELL).mean((2, 4), dtype=np.float32) / 255
    toned = np.clip((cells.std((1, 2)) - TONE_FROM) / TONE_RANGE, 0, 1)
    return np.asarray(toned[:, None], np.float32)
