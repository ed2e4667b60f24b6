"""What the patch encoder is trained on: pages put together from the pictures of one story, and patches of them.

A sample's page is one picture, or several pictures of one story as the panels of a page: comics have pages of panels,
picture books have not. Pages of one story in one batch share no picture. Each page is made in three versions with the
same layout: grey, in a printed look, and in colour. A reference patch is cut from the grey one, the query patch of the
same place (a little moved) from the printed one; the colour tells which other pages of the story are alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image

from training.degrade import LOOKS, degrade
from training.stories import Story, digest

PAGE = 128  # pixels; a page is squeezed into a square of this side, so that a 3/4 corner has 96
PATCH = 96  # pixels; what the network is given
SMALL = 32  # pixels; the side of a page's colours
DRAWN = 224  # pixels; the longer side at which looks are drawn
SHARES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "screen": {"screentone": 0.6, "blend": 0.4},
        "line": {"line_art": 1.0},
    }
)
"""The printed looks that are drawn once for each picture, after its grey twin. Wear is drawn anew for each batch."""
LOOK_COUNT = 1 + len(SHARES)
LOOK_CHANCES = (0.4, 0.3, 0.3)  # of a query
BINS = 6  # of luma, for the colours of a patch
PURE_CHROMA = 12.0  # levels of Cb and Cr; colours that differ by so much are another colour


@dataclass(frozen=True)
class Pictures:
    """All pictures in the sizes that the recipe needs."""

    looks: UInt8[np.ndarray, "n looks page page"]  # grey, then one per entry of SHARES
    colour: UInt8[np.ndarray, "n small small 3"]  # Y, Cb, Cr
    story: Int64[np.ndarray, "n"]  # index of the picture's story


@dataclass(frozen=True)
class Batch:
    """Patches in pairs: row i of the queries shows the place of row i of the references."""

    queries: UInt8[np.ndarray, "n patch patch"]
    references: UInt8[np.ndarray, "n patch patch"]
    colours: Float32[np.ndarray, "n bins 3"]  # of the references: mean Cb and Cr by luma, and the share of the patch
    story: Int64[np.ndarray, "n"]  # its index


def read_pictures(stories: Sequence[Story], cache: Path | None = None, seed: int = 0) -> Pictures:
    """Every picture in every look; read from `cache` where that was made from the same pictures.

    Args:
        stories: at least one picture.
        cache: a file ending in .npz, written if need be; None: kept nowhere.
        seed: of the looks.

    Raises:
        InvalidInput: a picture cannot be read.

    Cost: about 40 ms a picture on one core, and 50 KB of memory each.
    """
    key = f"{digest(stories)}-{seed}-{PAGE}-{SMALL}-{DRAWN}-{dict(SHARES)}"
    if cache is not None and cache.is_file():
        with np.load(cache) as kept:
            if str(kept["key"]) == key:
                return Pictures(kept["looks"], kept["colour"], kept["story"])
    paths = [(number, picture) for number, story in enumerate(stories) for picture in story.pictures]
    looks = np.empty((len(paths), LOOK_COUNT, PAGE, PAGE), np.uint8)
    colour = np.empty((len(paths), SMALL, SMALL, 3), np.uint8)
    for index, (_, picture) in enumerate(paths):
        looks[index], colour[index] = _versions(picture.load(), np.random.default_rng([seed, index]))
    made = Pictures(looks, colour, np.array([number for number, _ in paths], np.int64))
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        part = cache.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, key=np.array(key), looks=made.looks, colour=made.colour, story=made.story)
        part.replace(cache)
    return made


def _versions(
    rgb: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "looks page page"], UInt8[np.ndarray, "small small 3"]]:
    whole = Image.fromarray(rgb)
    whole.thumbnail((DRAWN, DRAWN), Image.Resampling.BICUBIC)
    rgb = np.asarray(whole)
    greys = [LOOKS["grey"](rgb, rng), *(degrade(rgb, rng, shares) for shares in SHARES.values())]
    small = [np.asarray(Image.fromarray(grey).resize((PAGE, PAGE), Image.Resampling.BICUBIC)) for grey in greys]
    colour = Image.fromarray(rgb).convert("YCbCr").resize((SMALL, SMALL), Image.Resampling.BOX)
    return np.stack(small), np.asarray(colour)


def draw(pictures: Pictures, rng: np.random.Generator, *, stories: int, pages: int) -> Batch:
    """One batch.

    Args:
        pictures: to draw from.
        rng: decides everything.
        stories: how many different ones, where there are so many. The chance of a story grows with the square root of
            its number of pictures.
        pages: of each story, where it has so many pictures.

    Cost: about 1 ms a pair.
    """
    names, counts = np.unique(pictures.story, return_counts=True)
    chance = np.sqrt(counts) / np.sqrt(counts).sum()
    chosen = rng.choice(names, min(stories, len(names)), replace=False, p=chance)
    drawn = [
        (_pair(pictures, group, rng), int(story))
        for story in chosen
        for group in _groups(np.flatnonzero(pictures.story == story), pages, rng)
    ]
    return Batch(
        np.stack([_worn(pair.query, rng) for pair, _ in drawn]),
        np.stack([pair.reference for pair, _ in drawn]),
        np.stack([patch_colours(pair.colour) for pair, _ in drawn]),
        np.array([story for _, story in drawn], np.int64),
    )


def patch_colours(ycc: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "bins 3"]:
    """What colour a patch has at each luma: mean Cb and Cr around 0, and the share of its pixels, per bin of luma."""
    flat = ycc.reshape(-1, 3).astype(np.float32)
    which = np.minimum(flat[:, 0].astype(np.int64) * BINS // 256, BINS - 1)
    count = np.bincount(which, minlength=BINS)
    sums = [np.bincount(which, flat[:, channel] - 128, minlength=BINS) for channel in (1, 2)]
    means = [total / np.maximum(count, 1) for total in sums]
    return np.stack([*means, count / len(flat)], axis=1).astype(np.float32)


def colour_distances(colours: Float32[np.ndarray, "n bins 3"]) -> Float32[np.ndarray, "n n"]:
    """How far the joint distributions of luma and chroma of any two patches are apart, in levels of chroma.

    At each luma that both have, the distance of their mean chroma counts by the share they both have; the share of
    one that the other lacks counts as another colour.
    """
    common = np.minimum(colours[:, None, :, 2], colours[None, :, :, 2])  # "n n bins"
    apart = np.linalg.norm(colours[:, None, :, :2] - colours[None, :, :, :2], axis=3)
    return np.asarray((common * apart).sum(2) + (1 - common.sum(2)) * PURE_CHROMA, np.float32)


@dataclass(frozen=True)
class _Pair:
    query: UInt8[np.ndarray, "patch patch"]
    reference: UInt8[np.ndarray, "patch patch"]
    colour: UInt8[np.ndarray, "_h _w 3"]  # of the reference


_Frame = tuple[float, float, float, float]  # left, top, right, bottom; shares of the whole, in [0, 1]


def _groups(members: Int64[np.ndarray, " n"], pages: int, rng: np.random.Generator) -> list[Int64[np.ndarray, " _"]]:
    """The pictures of each page: one each, or in half of the draws several, as far as they go."""
    members = rng.permutation(members)
    pages = min(pages, len(members))
    if rng.random() < 0.5 or len(members) < 2 * pages:
        return [members[index : index + 1] for index in range(pages)]
    most = min(5, len(members) // pages)
    return [members[index * most : index * most + int(rng.integers(1, most + 1))] for index in range(pages)]


def _pair(pictures: Pictures, group: Int64[np.ndarray, " k"], rng: np.random.Generator) -> _Pair:
    frames = _frames(len(group), rng)
    crops = [_crop(rng, 0.55 if len(group) > 1 else 0.9) for _ in group]
    gutter = int(rng.choice([255, 255, 250, 20]))
    look = int(rng.choice(LOOK_COUNT, p=LOOK_CHANCES))
    grey = _page(pictures.looks[group, 0], frames, crops, PAGE, gutter)
    printed = grey if look == 0 else _page(pictures.looks[group, look], frames, crops, PAGE, gutter)
    colour = _page(pictures.colour[group], frames, crops, SMALL, (gutter, 128, 128))
    place = _place(rng)
    query = _cut(printed, _moved(place, rng), PATCH)
    reference = _cut(grey, place, PATCH)
    inside = _cut(colour, place, round(SMALL * (place[2] - place[0])))
    if rng.random() < 0.5:
        query, reference = query[:, ::-1], reference[:, ::-1]
    return _Pair(query, reference, inside)


def _frames(panels: int, rng: np.random.Generator) -> list[_Frame]:
    """A page split by straight gutters into so many panels."""
    frames: list[_Frame] = [(0.0, 0.0, 1.0, 1.0)]
    while len(frames) < panels:
        largest = max(range(len(frames)), key=lambda i: _area(frames[i]))
        left, top, right, bottom = frames.pop(largest)
        at = rng.uniform(0.35, 0.65)
        if (bottom - top) * rng.uniform(0.7, 1.7) > right - left:
            middle = top + at * (bottom - top)
            frames += [(left, top, right, middle), (left, middle, right, bottom)]
        else:
            middle = left + at * (right - left)
            frames += [(left, top, middle, bottom), (middle, top, right, bottom)]
    if panels == 1:
        return frames
    rim = rng.uniform(0.0, 0.02)
    return [(left + rim, top + rim, right - rim, bottom - rim) for left, top, right, bottom in frames]


def _area(frame: _Frame) -> float:
    return (frame[2] - frame[0]) * (frame[3] - frame[1])


def _crop(rng: np.random.Generator, least: float) -> _Frame:
    width, height = rng.uniform(least, 1, 2)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return left, top, left + width, top + height


def _place(rng: np.random.Generator) -> _Frame:
    """The whole page in one draw of five, else one of its four 3/4 corners."""
    which = int(rng.integers(5))
    if which == 4:
        return 0.0, 0.0, 1.0, 1.0
    left, top = 0.25 * (which % 2), 0.25 * (which // 2)
    return left, top, left + 0.75, top + 0.75


def _moved(place: _Frame, rng: np.random.Generator) -> _Frame:
    scale = rng.uniform(0.9, 1.06)
    sx, sy = rng.normal(0, 0.02, 2)
    cx, cy = (place[0] + place[2]) / 2 + sx, (place[1] + place[3]) / 2 + sy
    half = (place[2] - place[0]) * scale / 2
    return max(0.0, cx - half), max(0.0, cy - half), min(1.0, cx + half), min(1.0, cy + half)


def _page(
    pictures: UInt8[np.ndarray, "k ..."],
    frames: Sequence[_Frame],
    crops: Sequence[_Frame],
    side: int,
    gutter: int | tuple[int, int, int],
) -> Image.Image:
    if len(frames) == 1:
        box = _scaled(crops[0], pictures.shape[1])
        return Image.fromarray(pictures[0]).resize((side, side), Image.Resampling.BILINEAR, box)
    page = Image.new("L" if pictures.ndim == 3 else "RGB", (side, side), gutter)  # Y, Cb and Cr, called RGB
    for picture, frame, crop in zip(pictures, frames, crops, strict=True):
        x0, y0, x1, y1 = (round(value * side) for value in frame)
        size = (max(1, x1 - x0), max(1, y1 - y0))
        box = _scaled(crop, picture.shape[0])
        page.paste(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, box), (x0, y0))
    return page


def _scaled(frame: _Frame, side: int) -> _Frame:
    return frame[0] * side, frame[1] * side, frame[2] * side, frame[3] * side


def _cut(page: Image.Image, place: _Frame, side: int) -> UInt8[np.ndarray, "_h _w *_c"]:
    box = _scaled(place, page.size[0])
    return np.asarray(page.resize((side, side), Image.Resampling.BILINEAR, box))


def _worn(patch: UInt8[np.ndarray, "h w"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Printed and scanned once more in half of the draws: other contrast, gamma, light, sharpness and some grain."""
    if rng.random() < 0.5:
        return patch
    value = patch.astype(np.float32) / 255
    if rng.random() < 0.3:
        value = (value + np.roll(value, 1, 0) + np.roll(value, 1, 1) + np.roll(value, (1, 1), (0, 1))) / 4
    value = value ** np.float32(rng.uniform(0.7, 1.4))
    low, high = rng.uniform(0, 0.2), rng.uniform(0.8, 1)
    value = low + (high - low) * value
    value = value * np.linspace(1, rng.uniform(0.85, 1), patch.shape[1], dtype=np.float32)
    value = value + rng.normal(0, rng.uniform(0, 0.03), patch.shape)
    return np.asarray(np.clip(value, 0, 1) * 255 + 0.5).astype(np.uint8)
