"""A picture brought to one of the published sizes, and the patches that are cut from it; PIL and arithmetic only."""

from __future__ import annotations

from PIL import Image

from serving.errors import InvalidInput
from serving.geometry import corner_boxes, fit_box, reference_boxes

GUIDE_SCALE = 1.5  # sides of the finished picture, and of its grey guide, over the page's in the canvas

Size = tuple[int, int]  # width, height in pixels


def refined_size(size: Size) -> Size:
    """Width and height in pixels of the finished picture for a page of `size` in the canvas: 1.5 times, truncated."""
    return int(GUIDE_SCALE * size[0]), int(GUIDE_SCALE * size[1])


def fit(picture: Image.Image, target: Size) -> Image.Image:
    """The picture cropped to the target's aspect ratio and resized to it, in RGB, exactly as published.

    The resize is bicubic and happens in the picture's own mode (a palette or 1-bit picture is resized by nearest
    neighbour); RGB comes last and alpha is dropped. A page that came through `serving.images` is upright
    RGB or grey already, for which none of this matters.

    Args:
        picture: any PIL mode. EXIF orientation is not applied.
        target: width, height in pixels.

    Raises:
        InvalidInput: as `serving.geometry.fit_box`.

    Source: as `serving.geometry.fit_box`, steps 4 and 5.
    """
    box = fit_box(*picture.size, target)
    cropped = picture if box == (0, 0, *picture.size) else picture.crop(box)
    return cropped.resize(target, Image.Resampling.BICUBIC).convert("RGB")


def page_patches(page: Image.Image) -> list[Image.Image]:
    """The four query patches of a fitted page, in the order of `serving.geometry.CORNERS`.

    Raises:
        InvalidInput: the page is smaller than 16 pixels on a side.
    """
    _check_side(page)
    return [page.crop(box) for box in corner_boxes(*page.size)]


def reference_patches(reference: Image.Image) -> list[Image.Image]:
    """The five patches of a fitted reference: the whole picture, then its four corners.

    Raises:
        InvalidInput: the reference is smaller than 16 pixels on a side.
    """
    _check_side(reference)
    return [reference.crop(box) for box in reference_boxes(*reference.size)]


def _check_side(picture: Image.Image) -> None:
    if min(picture.size) < 16:
        raise InvalidInput(f"patches need a picture of at least 16 x 16 pixels, got {picture.width} x {picture.height}")
