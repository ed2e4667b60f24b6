"""The canvas: a page in the middle of the reference patches that its four corners found.

q0r2 q0r1 | q1r1 q1r2        q: corner of the page, r: rank of the patch
q0r0  page  page  q1r0
q2r0  page  page  q3r0
q2r2 q2r1 | q3r1 q3r2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from PIL import Image

from colorizer.backends.colorflow.fit import Size, fit
from serving.errors import InvalidInput
from serving.geometry import CORNERS, Box, fit_box

RANKS = 3  # patches for each corner of the page
MARGIN = 1  # white pixels on each side of a patch in its tile
TILES = (  # row, column of each corner's patches, best first; the best touches the page's side
    ((1, 0), (0, 1), (0, 0)),
    ((1, 3), (0, 2), (0, 3)),
    ((2, 0), (3, 1), (3, 0)),
    ((2, 3), (3, 2), (3, 3)),
)

T = TypeVar("T")


def compose(page: Image.Image, ranked: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """A white RGB canvas of twice the page's sides: the page in the middle, twelve patches around it.

    Args:
        page: the grey page at the size it has in the canvas, at least 16 pixels a side.
        ranked: for each corner, in the order of `serving.geometry.CORNERS`, its patches, best first. The first three
            count; `fill` says what happens where there are fewer.

    Returns:
        The canvas. A patch is squeezed into its tile of half the page's sides, less one white pixel all around. A
        patch of a size that the published method knows (the page's own, or 3/4 of it) is squeezed as it is; any
        other whose aspect ratio differs by 15 % or more from its tile's is first cropped around its centre.

    Raises:
        InvalidInput: there are not four lists of patches, or the page is too small.

    Source: ColorFlow, arXiv:2412.11815, in-context canvas. Differs: patches of any size, and any number of them.
    """
    width, height = page.size
    if min(width, height) < 16:
        raise InvalidInput(f"a page in the canvas needs at least 16 x 16 pixels, got {width} x {height}")
    if len(ranked) != len(CORNERS):
        raise InvalidInput(f"patches come for each of {len(CORNERS)} corners, got lists for {len(ranked)}")
    tile_width, tile_height = width // 2, height // 2
    canvas = Image.new("RGB", (2 * width, 2 * height), "white")
    canvas.paste(page, (tile_width, tile_height))
    for patches, places in zip(fill(ranked), TILES, strict=True):
        for patch, (row, column) in zip(patches, places, strict=False):
            origin = column * tile_width + MARGIN, row * tile_height + MARGIN
            canvas.paste(_squeezed(patch, page.size), origin)
    return canvas


def fill(ranked: Sequence[Sequence[T]]) -> list[list[T]]:
    """Three patches for every corner, where there is any patch at all.

    Args:
        ranked: each corner's patches, best first.

    Returns:
        For each corner its own first three. A corner with fewer repeats its own in rank order; a corner with none
        takes the other corners' best, in the order of the corners, then their second best, and so on. All lists are
        empty if no corner has any; those tiles of the canvas stay white.
    """
    deepest = max((len(patches) for patches in ranked), default=0)
    spare = [patches[rank] for rank in range(deepest) for patches in ranked if rank < len(patches)]
    return [_repeat(patches or spare) for patches in ranked]


def centre_box(width: int, height: int) -> Box:
    """The page's place in a canvas of `width` x `height` pixels: the central half of each side."""
    left, top = (width - width // 2) // 2, (height - height // 2) // 2
    return Box(left, top, left + width // 2, top + height // 2)


def crop_centre(canvas: Image.Image) -> Image.Image:
    """The page in the middle of a canvas, at half of the canvas's sides."""
    return canvas.crop(centre_box(*canvas.size))


def split(canvas: Image.Image) -> tuple[Image.Image, Image.Image]:
    """The canvas as the two pictures that condition the diffusion, both RGB and of the canvas's size.

    Returns:
        A, the references with black in place of the page; and B, the page on black.
    """
    box = centre_box(*canvas.size)
    references = canvas.convert("RGB")
    references.paste((0, 0, 0), box)
    page = Image.new("RGB", canvas.size)
    page.paste(canvas.crop(box), box)
    return references, page


def split_pixels(
    canvas: Float[torch.Tensor, "pages 3 H W"],
) -> tuple[Float[torch.Tensor, "pages 3 H W"], Float[torch.Tensor, "pages 3 H W"]]:
    """As `split`, for a batch in [-1, 1], where black is -1. The input is not changed."""
    box = centre_box(canvas.shape[3], canvas.shape[2])
    rows, columns = slice(box.y0, box.y1), slice(box.x0, box.x1)
    references, page = canvas.clone(), torch.full_like(canvas, -1.0)
    references[..., rows, columns] = -1.0
    page[..., rows, columns] = canvas[..., rows, columns]
    return references, page


def page_mask(h: int, w: int) -> Float[torch.Tensor, "1 1 h w"]:
    """The mask beside the latents: 0 where the page is, 1 around it; float32 on the CPU.

    Args:
        h: rows of the canvas's latent (its pixels over 8), a positive multiple of 4.
        w: columns of the canvas's latent, a positive multiple of 4.

    Raises:
        InvalidInput: a side is no positive multiple of 4; the page's edge would lie inside a latent pixel.

    Source: closed form of the published mask picture after its two resizes, for every canvas with sides of
    multiples of 32 pixels.
    """
    if h % 4 or w % 4 or min(h, w) < 4:
        raise InvalidInput(f"a canvas's latent needs sides of positive multiples of 4, got {h} x {w}")
    mask = torch.ones(1, 1, h, w)
    mask[..., h // 4 : 3 * h // 4, w // 4 : 3 * w // 4] = 0.0
    return mask


def _repeat(patches: Sequence[T]) -> list[T]:
    return [patches[rank % len(patches)] for rank in range(RANKS)] if patches else []


def _squeezed(patch: Image.Image, page: Size) -> Image.Image:
    width, height = page
    inner = width // 2 - 2 * MARGIN, height // 2 - 2 * MARGIN
    if patch.size in ((width, height), (width // 4 * 3, height // 4 * 3)):
        return patch.resize(inner, Image.Resampling.BICUBIC)
    try:
        fit_box(*patch.size, inner)
    except InvalidInput:  # too thin to be cropped
        return patch.convert("RGB").resize(inner, Image.Resampling.BICUBIC)
    return fit(patch, inner)
