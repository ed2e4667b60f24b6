"""What an embedder promises, and the name of the space that its vectors live in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from serving.errors import FailedState, InvalidInput

ID_DIGITS = 16  # hexadecimal digits of the fingerprint: 64 bits, far beyond any number of spaces that will be made


@dataclass(frozen=True)
class EmbeddingSpace:
    """Everything that decides what a vector means; vectors of two spaces never meet."""

    model: str  # "structure-v1", "open_clip:ViT-B-16-quickgelu"
    weights_sha256: str  # 64 hexadecimal digits; "" when there are no weights
    preprocessing: str  # a stable text, such as "rgb224-bicubic-centre"
    crop_recipe: str  # "native" or "fit:WxH"
    dim: int  # length of a vector
    grey_twin: bool  # colour references are embedded as grey pictures

    @property
    def id(self) -> str:
        """The model and a fingerprint of all fields, such as "structure-v1/3fa9c0d2e1b47a65"; stable across runs."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return f"{self.model}/{hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]}"


@runtime_checkable
class Embedder(Protocol):
    """Turns pictures into unit vectors of one space.

    Every vector is float32 with length 1. Inputs are RGB, uint8, any size of at least 16 pixels a side, and are never
    changed. One embedder gives the same vectors for the same pictures. Calls may come from several threads.
    """

    @property
    def space(self) -> EmbeddingSpace:
        """The space of all vectors that this embedder gives."""
        ...

    @property
    def has_text(self) -> bool:
        """Whether `embed_texts` works: the model can say in the same space what a text means."""
        ...

    def embed(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n dim"]:
        """One vector per picture, taken as a patch that is already cut: no recipe and no grey twin is applied.

        Raises:
            InvalidInput: a picture is too small.
        """
        ...

    def embed_pages(self, pages: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n 4 dim"]:
        """The vectors of each page's four query patches, cut by the space's recipe and made grey.

        Raises:
            InvalidInput: a page is too small, or too thin for the recipe.
        """
        ...

    def embed_references(self, references: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "n 5 dim"]:
        """The vectors of each reference's five patches (whole, corners), made grey if the space says `grey_twin`.

        Raises:
            InvalidInput: a reference is too small, or too thin for the recipe.
        """
        ...

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n dim"]:
        """One vector per text, such as "a girl with red hair"; what a model cannot read of a long one is left out.

        Raises:
            FailedState: EMBEDDER_HAS_NO_TEXT; or what it needs for texts cannot be loaded.
        """
        ...

    def close(self) -> None:
        """Frees what the embedder holds; it must not be used afterwards. Closing twice is allowed."""
        ...


@dataclass(frozen=True)
class EmbedderSettings:
    """What a user may choose; fields that an embedder has no use for must keep their defaults."""

    crop_recipe: str = "native"  # or "fit:WxH"
    grey_twin: bool = True  # embed each colour reference as a grey picture, as the queries are
    model: str | None = None  # an open_clip model name; None with a config file beside the weights
    pretrained: str | None = None  # an open_clip tag, or "hf-hub" weights named by the model
    weights: Path | None = None  # a local .safetensors, .pt or .bin file, or a folder with config.json and weights
    config: Path | None = None  # config.json of a CLIPVisionModelWithProjection; beside the weights when None
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:1" …
    precision: str = "auto"  # "auto" (fp16 on a GPU, fp32 on the CPU), "fp32", "fp16" or "bf16"
    batch: int = 64  # pictures per forward pass, at least 1


def no_text(space: EmbeddingSpace) -> FailedState:
    """The error of an embedder that cannot take texts."""
    return FailedState(
        f"a search by text needs an embedder with a text tower, and {space.model!r} has none",
        reason="EMBEDDER_HAS_NO_TEXT",
        metadata={"embedding_space": space.id},
    )


def grey_twin(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture without its colour: PIL's `convert("L")` (BT.601 luma) in all three channels."""
    return np.repeat(luma(picture)[..., None], 3, axis=2)


def luma(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """BT.601 luma in [0, 255], as PIL's `convert("L")` gives it."""
    return np.asarray(Image.fromarray(picture).convert("L"))


def check_picture(picture: UInt8[np.ndarray, "h w 3"], at_least: int) -> None:
    """Refuses a picture with a side of fewer than `at_least` pixels.

    Raises:
        InvalidInput: a side is too short.
    """
    height, width = picture.shape[:2]
    if min(height, width) < at_least:
        raise InvalidInput(f"a picture needs at least {at_least} x {at_least} pixels, got {width} x {height}")
