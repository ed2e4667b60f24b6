"""Made-up pages from the pictures of one story, and groups of them that are each other's references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageDraw

from colorizer.backends.incontext.looks import drawn_of, look
from colorizer.luma import chroma_of, luma_of
from training.degrade import degrade

Picture = UInt8[np.ndarray, "_h _w 3"]
SMALL = ((240, 176), (176, 240), (208, 208), (224, 192), (192, 224))  # height, width; multiples of 16
BIG = ((320, 224), (224, 320), (272, 256), (256, 272), (304, 240))
CHROMA = 128.0  # chroma of one in the network


@dataclass(frozen=True)
class Odds:
    """How often, and how far, what is drawn by chance happens."""

    turned: float = 0.3  # groups whose hues are all turned by one angle
    lit: float = 0.25  # groups whose pages each have a light of their own
    degraded: float = 0.2  # groups whose targets are printed or scanned
    foreign: float = 0.25  # groups with pages of another story among the references
    none: float = 0.05  # targets without any reference
    strangers: float = 0.08  # targets with foreign references alone
    dropped: float = 0.25  # references that a target does not see
    lettered: float = 0.35  # pages with balloons


@dataclass(frozen=True)
class Group:
    """Pages of one story; each is a target, and the others are its references.

    `targets` are looks of the pages as they are to be coloured: those of the references, or printed ones.
    """

    looks: Float32[np.ndarray, "n 11 h w"]
    targets: Float32[np.ndarray, "t 11 h w"] | None  # None: the first `t` pages themselves
    chroma: Float32[np.ndarray, "n 2 h w"]  # over CHROMA
    drawn: Float32[np.ndarray, "n 1 h w"]
    seen: Bool[np.ndarray, "t n"]  # which references a target may look at


def crop(picture: Picture, size: tuple[int, int], rng: np.random.Generator) -> Picture:
    """A random part of a picture at `size` (height, width), stretched by at most a fifth."""
    height, width = size
    aspect = width / height * float(np.exp(rng.uniform(-0.2, 0.2)))
    high, wide = picture.shape[:2]
    part = float(rng.uniform(0.5, 1.0)) if rng.random() < 0.75 else 1.0
    w = min(wide, high * aspect) * part
    h = min(w / aspect, float(high))
    x, y = rng.uniform(0, wide - w), rng.uniform(0, high - h)
    cut = Image.fromarray(picture).resize(
        (width, height), Image.Resampling.BOX if w > width else Image.Resampling.BICUBIC, (x, y, x + w, y + h)
    )
    out = np.asarray(cut)
    return out[:, ::-1] if rng.random() < 0.5 else out


def divide(
    box: tuple[int, int, int, int], parts: int, gap: int, rng: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """A box (y0, x0, y1, x1) cut into panels with gutters of `gap` pixels."""
    y0, x0, y1, x1 = box
    if parts <= 1 or max(y1 - y0, x1 - x0) < 90:
        return [box]
    few = parts // 2
    share = (few / parts) * float(rng.uniform(0.8, 1.2))
    if (y1 - y0) * float(rng.uniform(0.7, 1.4)) > x1 - x0:
        cut = y0 + int((y1 - y0) * share)
        return divide((y0, x0, cut, x1), few, gap, rng) + divide((cut + gap, x0, y1, x1), parts - few, gap, rng)
    cut = x0 + int((x1 - x0) * share)
    return divide((y0, x0, y1, cut), few, gap, rng) + divide((y0, cut + gap, y1, x1), parts - few, gap, rng)


def letter(page: Picture, rng: np.random.Generator) -> Picture:
    """The page with one to four balloons of made-up lettering."""
    picture = Image.fromarray(page)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 5))):
        w, h = int(rng.integers(28, 80)), int(rng.integers(18, 50))
        x, y = int(rng.integers(0, page.shape[1] - 20)), int(rng.integers(0, page.shape[0] - 15))
        draw.ellipse((x, y, x + w, y + h), fill=(255, 255, 255), outline=(0, 0, 0))
        for line in range(y + h // 4, y + 3 * h // 4, 5):
            for start in range(x + w // 5, x + 4 * w // 5, 5):
                draw.line(
                    (start, line, start + int(rng.integers(1, 5)), line + int(rng.integers(0, 3))), fill=(0, 0, 0)
                )
    return np.asarray(picture)


def page(pictures: Sequence[Picture], size: tuple[int, int], rng: np.random.Generator, odds: Odds) -> Picture:
    """A comic page of `size` made of one to six parts of the pictures, in an order of chance."""
    height, width = size
    if rng.random() < 0.4:
        out = crop(pictures[int(rng.integers(len(pictures)))], size, rng)
    else:
        white = 255 if rng.random() < 0.8 else 0
        out = np.full((height, width, 3), white, np.uint8)
        edge, gap = int(rng.integers(0, 12)), int(rng.integers(3, 9))
        boxes = divide((edge, edge, height - edge, width - edge), int(rng.integers(2, 7)), gap, rng)
        for i, (y0, x0, y1, x1) in enumerate(boxes):
            out[y0:y1, x0:x1] = crop(pictures[i % len(pictures)], (y1 - y0, x1 - x0), rng)
    return letter(out, rng) if rng.random() < odds.lettered else out


def lit(
    luma: Float32[np.ndarray, "h w"], chroma: Float32[np.ndarray, "2 h w"], hue: float, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "2 h w"]]:
    """A page under another light: darker or lighter, and tinted towards `hue` or away from it, the darker the more."""
    gamma = float(np.exp(rng.normal(0, 0.3)))
    dark = 255 * (luma / 255) ** gamma
    angle = hue + float(rng.normal(0, 0.7))
    tint = float(np.clip(gamma - 1, -0.6, 1.2)) * 0.12 + float(rng.normal(0, 0.03))
    pull = np.array([np.cos(angle), np.sin(angle)], np.float32)[:, None, None] * np.float32(tint)
    room = np.sqrt((dark / 255).clip(0, 1) * (1 - (dark / 255).clip(0, 1))) * 2
    gain = 0.2 if rng.random() < 0.05 else float(np.exp(rng.normal(0, 0.22)))  # one in twenty is nearly without colour
    return dark.astype(np.float32), (chroma * np.float32(gain) + pull * room).astype(np.float32)


def turned(
    chroma: Float32[np.ndarray, "2 h w"], angle: float, mirrored: bool, gain: float
) -> Float32[np.ndarray, "2 h w"]:
    """All hues turned by one angle (radians), mirrored or not, and more or less colourful."""
    c, s = np.cos(angle) * gain, np.sin(angle) * gain
    sign = -1.0 if mirrored else 1.0
    return np.stack([c * chroma[0] - s * sign * chroma[1], s * chroma[0] + c * sign * chroma[1]]).astype(np.float32)


def fitted(luma: Float32[np.ndarray, "h w"], chroma: Float32[np.ndarray, "2 h w"]) -> Float32[np.ndarray, "2 h w"]:
    """The chroma, scaled down where it does not fit into sRGB at its luma."""
    green = -(0.299 * chroma[1] + 0.114 * chroma[0]) / 0.587
    room = np.ones_like(luma)
    for offset in (chroma[0], chroma[1], green):
        space = np.where(offset > 0, 255 - luma, luma) / np.float32(CHROMA)
        room = np.minimum(room, space / np.maximum(np.abs(offset), 1e-3))
    return np.asarray(chroma * room, np.float32)


class Maker:
    """Groups of pages, each drawn by its own number.

    Args:
        stories: the pictures of each story.
        kin: for each story, others by the same hand.
    """

    def __init__(
        self,
        stories: Sequence[Sequence[Picture]],
        kin: Sequence[Sequence[int]],
        odds: Odds | None = None,
        pages: int = 6,
    ) -> None:
        self._stories, self._kin, self._odds, self._pages = stories, kin, odds or Odds(), pages
        weight = np.array([min(len(s), 24) for s in stories], np.float64) ** 0.75
        self._weights = weight / weight.sum()

    def group(self, seed: int, number: int, sizes: Sequence[tuple[int, int]] = SMALL) -> Group:
        """Group `number` of the run `seed`; the same one every time."""
        rng = np.random.default_rng((seed, number))
        odds, n = self._odds, self._pages
        size = sizes[int(rng.integers(len(sizes)))]
        story = int(rng.choice(len(self._stories), p=self._weights))
        foreign = int(rng.random() < odds.foreign)
        shares = self._shares(story, n - foreign, rng)
        pages = [page(share, size, rng, odds) for share in shares]
        n = len(pages)
        if foreign:
            other = self._stories[int(rng.integers(len(self._stories)))]
            pages.append(page([other[int(i)] for i in rng.permutation(len(other))[:4]], size, rng, odds))
        return self._finish(pages, n, rng)

    def _shares(self, story: int, n: int, rng: np.random.Generator) -> list[list[Picture]]:
        """The story's pictures dealt to `n` pages, or fewer; no picture is on two pages."""
        pool = list(self._stories[story])
        kin = [k for k in self._kin[story] if k != story]
        if kin and (len(pool) < 2 * n or rng.random() < 0.3):
            for k in rng.permutation(kin)[:3]:
                pool += list(self._stories[int(k)])
        order = [pool[int(i)] for i in rng.permutation(len(pool))]
        n = max(1, min(n, len(order)))
        return [order[i::n][:6] for i in range(n)]

    def _finish(self, pages: list[Picture], own: int, rng: np.random.Generator) -> Group:
        odds, n = self._odds, len(pages)
        lumas = [luma_of(p).astype(np.float32) for p in pages]
        chromas = [chroma_of(p).transpose(2, 0, 1) / np.float32(CHROMA) for p in pages]
        under_light = rng.random() < odds.lit
        if under_light:
            hue = float(rng.uniform(0, 2 * np.pi))
            both = [lit(a, b, hue, rng) for a, b in zip(lumas, chromas, strict=True)]
            lumas, chromas = [a for a, _ in both], [b for _, b in both]
        gain = float(np.exp(rng.normal(0, 0.2)))
        angle, mirrored = (
            (float(rng.uniform(0, 2 * np.pi)), bool(rng.random() < 0.5)) if rng.random() < odds.turned else (0.0, False)
        )
        chromas = [turned(c, angle, mirrored, gain) for c in chromas]
        chromas = [fitted(a, c) for a, c in zip(lumas, chromas, strict=True)]
        looks = np.stack([look(a) for a in lumas])
        targets = None
        if not under_light and rng.random() < odds.degraded:
            targets = np.stack([look(degrade(p, rng).astype(np.float32)) for p in pages[: min(3, own)]])
        count = own if targets is None else len(targets)
        return Group(
            looks,
            targets,
            np.stack(chromas),
            np.stack([drawn_of(a) for a in lumas])[:, None],
            self._seen(count, own, n, rng),
        )

    def _seen(self, count: int, own: int, n: int, rng: np.random.Generator) -> Bool[np.ndarray, "t n"]:
        odds = self._odds
        seen = rng.random((count, n)) >= odds.dropped
        seen[np.arange(count), np.arange(count)] = False
        fate = rng.random(count)
        seen[fate < odds.none] = False
        strange = (fate >= odds.none) & (fate < odds.none + odds.strangers)
        seen[strange, :own] = False
        return seen
