"""Pages of any size for a method with three published sizes: windows, working sizes and the way back to the page.

A page of ordinary shape is one window, worked at its own aspect. A tall strip, or a double spread, is cut along its
long side into overlapping windows of ordinary shape; the results are blended with weights that sum to 1.
Geometry and numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image
from scipy.ndimage import uniform_filter

from colorizer.backends.colorflow.fit import refined_size
from colorizer.backends.colorflow.styles import PUBLISHED_SIZES
from colorizer.luma import chroma_of, luma_of
from serving.errors import InvalidInput, ShapeMismatch
from serving.geometry import Box, fit_box

Size = tuple[int, int]  # width, height in pixels
Sizes = Literal["page", "published"]

SMALLEST = 16  # pixels a side that a page, and every window in the mode "page", has at least
_NO_EDGE = np.float32(400.0)  # variance of luma, [0, 255] squared, well above which 3 x 3 pixels hold an edge
_AREA_WEIGHT = 0.5  # how much a wrong area counts beside a wrong aspect when a working size is chosen, both in log


@dataclass(frozen=True)
class TileOptions:
    """How a page is cut and at which size it is worked.

    Raises:
        InvalidInput: a value is out of the range that its comment gives.
    """

    # "page": the whole page, at its own aspect. "published": the nearest of the three published sizes and the centre
    # crop that belongs to it; what lies outside of the crop gets no colour.
    sizes: Sizes = "page"
    area: int = 640 * 640  # pixels of a window's working size, met within some 10 %; at least multiple x multiple
    # Sides of working sizes are multiples of this many pixels, itself a multiple of 32, because the canvas has twice
    # the side, its latents a quarter of that, and the UNet halves these three times. 32 would do. 64 is the default
    # since it leaves a quarter of the sizes, so that pages of about the same shape share a batch, a compiled graph and
    # a warm-up. (The published 800 is a multiple of 32 only.)
    multiple: int = 64
    overlap: float = 0.25  # of a window's length, shared with each neighbour at least; [0.25, 0.5]
    tall: float = 1.6  # height over width up to which a page is one window; [1.25, 4]; published sizes go to 1.5625
    # Width over height up to which a page is one window, else it counts as a double spread; [1, 4]. Two pages of
    # 0.64 to 0.75 side by side have 1.28 to 1.5. Raise it to 1.6 to work landscape pictures whole.
    wide: float = 1.25

    def __post_init__(self) -> None:
        self._within("multiple", self.multiple, 32, 1024)
        if self.multiple % 32:
            raise InvalidInput(f"multiple must be a multiple of 32 pixels, got {self.multiple}")
        self._within("area", self.area, self.multiple**2, 1 << 26)
        self._within("overlap", self.overlap, 0.25, 0.5)
        self._within("tall", self.tall, 1.25, 4)
        self._within("wide", self.wide, 1, 4)

    @staticmethod
    def _within(name: str, value: float | int, low: float | int, high: float | int) -> None:
        if not low <= value <= high:
            raise InvalidInput(f"{name} must be in [{low}, {high}], got {value}")


@dataclass(frozen=True)
class Window:
    """A part of a page that goes through the networks in one piece."""

    box: Box  # in pixels of the page
    working: Size  # width, height it is worked at, pixels; the canvas has twice these sides

    @property
    def canvas(self) -> Size:
        """Width and height of the window's canvas, pixels."""
        return 2 * self.working[0], 2 * self.working[1]

    @property
    def refined(self) -> Size:
        """Width and height of the refined result, pixels."""
        return refined_size(self.working)


def plan(width: int, height: int, options: TileOptions) -> tuple[Window, ...]:
    """The windows of a page, from left to right or from top to bottom; all of one size.

    In the mode "page" they cover the whole page and neighbours share at least `options.overlap` of their length. No
    window is longer than `options.tall` or `options.wide` times the short side; where a page is cut, none is shorter
    than 4/7 of that at an overlap of a quarter. In the mode "published" there is one, and it may be a crop.

    Args:
        width: of the page, pixels, at least 16.
        height: of the page, pixels, at least 16.
        options: how to cut.

    Raises:
        InvalidInput: a side is under 16 pixels.
    """
    if min(width, height) < SMALLEST:
        raise InvalidInput(f"a page needs at least {SMALLEST} x {SMALLEST} pixels, got {width} x {height}")
    if options.sizes == "published":
        working = nearest_published((width, height))
        return (Window(fit_box(width, height, working), working),)
    tall = height > width
    short, long = sorted((width, height))
    length, starts = _cuts(short, long, options.tall if tall else options.wide, options.overlap)
    working = working_size((short, length) if tall else (length, short), options)
    boxes = (Box(0, s, short, s + length) if tall else Box(s, 0, s + length, short) for s in starts)
    return tuple(Window(box, working) for box in boxes)


def _cuts(short: int, long: int, limit: float, overlap: float) -> tuple[int, list[int]]:
    """Length of the windows along the long side and where they start, by as few windows as the limit allows."""
    longest = max(short, int(limit * short))
    if long <= longest:
        return long, [0]
    count = max(2, math.ceil((long / longest - overlap) / (1 - overlap)))
    while True:
        length = max(SMALLEST, math.ceil(long / (count - (count - 1) * overlap)))
        while -((length - long) // (count - 1)) > math.floor(length * (1 - overlap)):  # the largest step, rounded up
            length += 1
        if length <= longest:
            return length, [i * (long - length) // (count - 1) for i in range(count)]
        count += 1


def working_size(size: Size, options: TileOptions) -> Size:
    """Width and height in pixels that a picture of `size` is worked at: near its aspect and near the wanted area.

    The picture is stretched to it, by at most 8 % for ordinary shapes at the published area (the published way of
    fitting stretches by up to 15 %).
    """
    aspect, cells = size[0] / size[1], options.area / options.multiple**2
    # Within a factor of 2 around the exact solution, and the two rows nearest to each column by area or by aspect.
    middle = math.sqrt(cells * aspect)
    columns = range(max(1, int(middle / 2)), math.ceil(2 * middle) + 1)
    found = [
        (columns_, max(1, rows))
        for columns_ in columns
        for exact in (columns_ / aspect, cells / columns_)
        for rows in (math.floor(exact), math.ceil(exact))
    ]
    best = min(
        found,
        key=lambda c: (abs(math.log(c[0] / c[1] / aspect)) + _AREA_WEIGHT * abs(math.log(c[0] * c[1] / cells)), c),
    )
    return best[0] * options.multiple, best[1] * options.multiple


def nearest_published(size: Size) -> Size:
    """The published target size whose aspect is nearest to that of a picture of `size`, by the ratio of aspects."""
    aspect = size[0] / size[1]
    return min(PUBLISHED_SIZES, key=lambda target: abs(math.log(target[0] / target[1] / aspect)))


def window_corners(box: Box, page: Size) -> tuple[int, int, int, int]:
    """For each corner of a window, in the order of `serving.geometry.CORNERS`, the page's corner whose hits it uses.

    That is the page's corner patch with which the window's shares most. The page's four patches are of one size, so
    it is the one whose centre is nearest; that also decides where two hold the window's patch whole. Of equally near
    ones it is the one of the same name. A window that is the whole page keeps its corners.

    Args:
        box: the window, pixels of the page.
        page: width, height of the page, pixels.
    """
    of_page = _centres(Box(0, 0, *page))

    def nearest(i: int, x: float, y: float) -> int:
        return min(range(4), key=lambda j: (math.hypot(of_page[j][0] - x, of_page[j][1] - y), j != i))

    first, second, third, fourth = (nearest(i, x, y) for i, (x, y) in enumerate(_centres(box)))
    return first, second, third, fourth


def _centres(box: Box) -> list[tuple[float, float]]:
    """Of the four corner patches, three quarters of each side, without the rounding to whole pixels."""
    offsets = [(x, y) for y in (0.375, 0.625) for x in (0.375, 0.625)]
    return [(box.x0 + x * box.width, box.y0 + y * box.height) for x, y in offsets]


def blend_weights(windows: Sequence[Window]) -> list[Float64[np.ndarray, " length"]]:
    """Each window's weight at every pixel along the long side, in (0, 1]: raised cosines where windows overlap.

    Over all windows they sum to 1 at every pixel; where one window lies alone its weight is 1.
    """
    spans = _spans(windows)
    start, end = spans[0][0], spans[-1][1]
    raw = []
    for i, (s, e) in enumerate(spans):
        at = np.arange(s, e) + 0.5
        weight = np.ones(e - s)
        if i > 0:
            weight *= _rise((at - s) / (spans[i - 1][1] - s))
        if i + 1 < len(spans):
            weight *= _rise((e - at) / (e - spans[i + 1][0]))
        raw.append(weight)
    total = np.zeros(end - start)
    for (s, e), weight in zip(spans, raw, strict=True):
        total[s - start : e - start] += weight
    return [weight / total[s - start : e - start] for (s, e), weight in zip(spans, raw, strict=True)]


def _rise(t: Float64[np.ndarray, " length"]) -> Float64[np.ndarray, " length"]:
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * t.clip(0.0, 1.0)))


def _down(windows: Sequence[Window]) -> bool:
    """Whether the windows follow each other from top to bottom; a single one: whether it is upright."""
    first, last = windows[0].box, windows[-1].box
    return first.height > first.width if first == last else first.y0 != last.y0


def _spans(windows: Sequence[Window]) -> list[tuple[int, int]]:
    down = _down(windows)
    return [(w.box.y0, w.box.y1) if down else (w.box.x0, w.box.x1) for w in windows]


def blend(
    windows: Sequence[Window],
    results: Iterable[Float32[np.ndarray, "_ _ c"]],
    page: Size,
    *,
    outside: float = 0.0,
) -> Float32[np.ndarray, "h w c"]:
    """The page put together from the windows' results, float32, in the results' units.

    Each result is mixed into the page as it comes and let go, so besides the page one result is held at a time when
    `results` is a generator. What the windows agree on is kept to the bit: a network that gives every window its part
    of one picture gives that picture.

    Args:
        windows: as `plan` gives them.
        results: one for each window in that order, of its box's size.
        page: width, height of the page, pixels.
        outside: value of pixels that no window covers, which the mode "published" can have.

    Raises:
        ShapeMismatch: a result is not of its box's size, or there are more or fewer results than windows.

    Cost: one pass over each result and 4 bytes a value of the page.
    """
    down, spans, weights = _down(windows), _spans(windows), blend_weights(windows)
    covered = np.zeros(spans[-1][1])
    out: np.ndarray | None = None
    given = iter(results)
    for window, (s, e), weight in zip(windows, spans, weights, strict=True):
        result = _checked(next(given, None), window)
        if out is None:
            out = np.full((page[1], page[0], result.shape[2]), outside, np.float32)
        covered[s:e] += weight
        share = (weight / covered[s:e]).astype(np.float32)
        part = out[window.box.y0 : window.box.y1, window.box.x0 : window.box.x1]
        _mix(part, result, share[:, None, None] if down else share[None, :, None])
        del result  # before the next one is made
    if next(given, None) is not None:
        raise ShapeMismatch(f"expected {len(windows)} results, one for each window, got more")
    assert out is not None
    return out


def _mix(
    part: Float32[np.ndarray, "h w c"], result: Float32[np.ndarray, "h w c"], share: Float32[np.ndarray, "_ _ 1"]
) -> None:
    """Moves what is there towards the new by its share of all that came so far; equal values stay what they are."""
    np.copyto(part, result, where=share == 1.0)
    moved = result - part
    moved *= share
    part += moved


def _checked(result: np.ndarray | None, window: Window) -> np.ndarray:
    wanted = (window.box.height, window.box.width)
    if result is None or result.ndim != 3 or result.shape[:2] != wanted:
        got = None if result is None else result.shape
        raise ShapeMismatch(f"the result of a window must have shape ({wanted[0]}, {wanted[1]}, 'c'), got {got}")
    return result


def chroma_to_page(
    result: UInt8[np.ndarray, "high wide 3"], size: Size, luma: UInt8[np.ndarray, "h w"] | None = None
) -> Float32[np.ndarray, "{size[1]} {size[0]} 2"]:
    """The chroma of a coloured picture at another size, as `colorizer.luma.with_luma` takes it.

    Without `luma` the two planes are enlarged bicubically. With it they follow the page's own edges: to the enlarged
    chroma is added what the page's luma has beyond the enlarged result's, times the slope of chroma over luma in the
    3 x 3 pixels around. Where the result has no edge the slope is 0, so that texture which only the page has, such as
    screen tone, leaves no colour.

    Args:
        result: sRGB, [0, 255].
        size: width, height wanted, pixels.
        luma: the page's own luma at that size, [0, 255]; None for bicubic alone.

    Raises:
        ShapeMismatch: `luma` is not of that size.

    Cost: some 0.04 s a megapixel of the page bicubic, 0.12 s with `luma`.
    """
    if luma is not None and luma.shape != (size[1], size[0]):
        raise ShapeMismatch(f"the page's luma must have shape ({size[1]}, {size[0]}), got {luma.shape}")
    chroma = chroma_of(result)
    if luma is None:
        return np.stack([_resized(chroma[..., i], size) for i in (0, 1)], axis=-1)
    own = luma_of(result).astype(np.float32)
    mean = _mean(own)
    spread = _mean(own * own) - mean * mean + _NO_EDGE
    missing = luma - _resized(own, size)
    planes = []
    for plane in (chroma[..., 0], chroma[..., 1]):
        slope = (_mean(plane * own) - _mean(plane) * mean) / spread
        planes.append(_resized(plane, size) + _resized(slope, size) * missing)
    return np.stack(planes, axis=-1)


def picture_to_page(
    result: UInt8[np.ndarray, "high wide 3"], size: Size
) -> Float32[np.ndarray, "{size[1]} {size[0]} 3"]:
    """A coloured picture at another size: bicubic (antialiased where it shrinks), sRGB in [0, 255].

    Args:
        result: sRGB, [0, 255].
        size: width, height wanted, pixels.
    """
    resized = Image.fromarray(result).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32)


def _mean(plane: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    return np.asarray(uniform_filter(plane, 3, mode="nearest"))


def _resized(plane: Float32[np.ndarray, "h w"], size: Size) -> Float32[np.ndarray, "high wide"]:
    picture = Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float32)
