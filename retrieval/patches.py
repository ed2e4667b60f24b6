"""A page cut into its query patches and a reference into its patches, under a crop recipe; pure geometry and PIL."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from serving.errors import InvalidInput
from serving.geometry import Box, corner_boxes, fit_box, reference_boxes

MIN_SIDE = 16  # pixels; below this the published 3/4 corners are no longer four


@dataclass(frozen=True)
class CropRecipe:
    """How a picture is brought to the size that its patches are cut at.

    `native` cuts the picture as it is. `fit:WxH` first crops and resizes every picture to W x H pixels, as the
    published method does.
    """

    size: tuple[int, int] | None = None  # width, height in pixels; None is `native`

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < MIN_SIDE:
            raise InvalidInput(f"a crop recipe needs sides of at least {MIN_SIDE} pixels, got {self}")

    def __str__(self) -> str:
        return "native" if self.size is None else f"fit:{self.size[0]}x{self.size[1]}"

    @classmethod
    def parse(cls, text: str) -> CropRecipe:
        """The recipe that `text` names: "native" or "fit:WxH", W and H in pixels.

        Raises:
            InvalidInput: the text is neither, or a side is below `MIN_SIDE`.
        """
        if text == "native":
            return cls()
        if found := re.fullmatch(r"fit:([1-9]\d{0,4})x([1-9]\d{0,4})", text):
            return cls((int(found[1]), int(found[2])))
        raise InvalidInput(f"a crop recipe is 'native' or 'fit:WxH' (such as 'fit:512x800'), got {text!r}")


@dataclass(frozen=True)
class Patches:
    """One picture's patches, kept as boxes so that what overlaps is computed once."""

    picture: UInt8[np.ndarray, "h w 3"]  # RGB, the picture after the recipe; not a copy under `native`
    boxes: tuple[Box, ...]  # in pixels of `picture`
    source_boxes: tuple[Box, ...]  # the same patches in pixels of the picture that was given

    @property
    def pixels(self) -> tuple[UInt8[np.ndarray, "_ _ 3"], ...]:
        """The patches themselves, RGB, as views into `picture`."""
        return tuple(self.picture[b.y0 : b.y1, b.x0 : b.x1] for b in self.boxes)


def fit(picture: Image.Image, target: tuple[int, int]) -> Image.Image:
    """The picture cropped to the target's aspect ratio and resized to it, in RGB.

    The resize is bicubic and happens in the picture's own mode; RGB comes last, alpha is dropped.

    Args:
        picture: any PIL mode. EXIF orientation is not applied.
        target: width, height in pixels.

    Raises:
        InvalidInput: as `fit_box`.

    Source: as `fit_box`, steps 4 and 5.
    """
    box = fit_box(*picture.size, target)
    cropped = picture if box == (0, 0, *picture.size) else picture.crop(box)
    return cropped.resize(target, Image.Resampling.BICUBIC).convert("RGB")


def cut_page(page: UInt8[np.ndarray, "h w 3"], recipe: CropRecipe) -> Patches:
    """The four query patches of a page, in the order of `serving.geometry.CORNERS`.

    Args:
        page: RGB, at least 16 pixels a side.
        recipe: how the page is brought to size first.

    Raises:
        InvalidInput: the page is too small, or too thin for the recipe.
    """
    return _cut(page, recipe, whole=False)


def cut_reference(reference: UInt8[np.ndarray, "h w 3"], recipe: CropRecipe) -> Patches:
    """The five patches of a reference: the whole picture, then its four corners.

    Args:
        reference: RGB, at least 16 pixels a side.
        recipe: how the reference is brought to size first.

    Raises:
        InvalidInput: the reference is too small, or too thin for the recipe.
    """
    return _cut(reference, recipe, whole=True)


def reference_sources(width: int, height: int, recipe: CropRecipe) -> tuple[Box, ...]:
    """Where a reference's five patches lie in it, pixels; as `cut_reference` says, without cutting.

    Raises:
        InvalidInput: the reference is too small, or too thin for the recipe.
    """
    return _boxes(width, height, recipe, whole=True)[1]


def _boxes(width: int, height: int, recipe: CropRecipe, *, whole: bool) -> tuple[tuple[Box, ...], tuple[Box, ...]]:
    """The patches in pixels of the picture after the recipe, and before it."""
    cutter = reference_boxes if whole else corner_boxes
    if recipe.size is None:
        if min(width, height) < MIN_SIDE:
            raise InvalidInput(f"a picture needs at least {MIN_SIDE} x {MIN_SIDE} pixels, got {width} x {height}")
        boxes = cutter(width, height)
        return boxes, boxes
    kept = fit_box(width, height, recipe.size)
    boxes = cutter(*recipe.size)
    return boxes, tuple(_back(box, kept, recipe.size) for box in boxes)


def _cut(source: UInt8[np.ndarray, "h w 3"], recipe: CropRecipe, *, whole: bool) -> Patches:
    height, width = source.shape[:2]
    boxes, source_boxes = _boxes(width, height, recipe, whole=whole)
    if recipe.size is None:
        return Patches(source, boxes, source_boxes)
    return Patches(np.asarray(fit(Image.fromarray(source), recipe.size)), boxes, source_boxes)


def _back(box: Box, kept: Box, size: tuple[int, int]) -> Box:
    """`box` of the fitted picture in pixels of the picture it came from, rounded to the nearest pixel, never empty."""
    sx, sy = kept.width / size[0], kept.height / size[1]
    x0, y0 = kept.x0 + round(box.x0 * sx), kept.y0 + round(box.y0 * sy)
    x1, y1 = kept.x0 + round(box.x1 * sx), kept.y0 + round(box.y1 * sy)
    x0, y0 = min(x0, kept.x1 - 1), min(y0, kept.y1 - 1)
    return Box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
