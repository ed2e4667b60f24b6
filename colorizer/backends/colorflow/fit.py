"""A picture brought to one of the published sizes, and the patches that are cut from it; PIL and arithmetic only."""

from __future__ import annotations

from PIL import Image

from serving.errors import InvalidInput
from serving.geometry import fit_box

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

    Returns:
        The picture; black where the crop leaves no row of it, as published.

    Raises:
        InvalidInput: the crop leaves no column of it.

    Source: as `serving.geometry.fit_box`, steps 4 and 5.
    """
    try:
        box = fit_box(*picture.size, target)
    except InvalidInput:
        if picture.width * target[1] > picture.height * target[0]:
            raise
        return Image.new("RGB", target)
    cropped = picture if box == (0, 0, *picture.size) else picture.crop(box)
    return cropped.resize(target, Image.Resampling.BICUBIC).convert("RGB")


def page_patches(page: Image.Image) -> list[Image.Image]:
    """The query patches of a fitted page: 3/4 of each side, row by row, as far as they fit.

    From 16 pixels a side they are the four of `serving.geometry.corner_boxes`; smaller pages can have more.

    Raises:
        InvalidInput: a side is under 4 pixels.
    """
    (width, height), (dx, dy) = page.size, (page.width // 4, page.height // 4)
    if min(dx, dy) < 1:
        raise InvalidInput(f"patches need a picture of at least 4 x 4 pixels, got {width} x {height}")
    rows, columns = range(0, height - 3 * dy + 1, dy), range(0, width - 3 * dx + 1, dx)
    return [page.crop((x, y, x + 3 * dx, y + 3 * dy)) for y in rows for x in columns]


def reference_patches(reference: Image.Image) -> list[Image.Image]:
    """The patches of a fitted reference: the whole picture, then those of `page_patches`.

    Raises:
        InvalidInput: as `page_patches`.
    """
    return [reference, *page_patches(reference)]
