"""Lettering: balloons, captions, sound effects and titles, each set where it hides no face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from examples.made_up_series.canvas import INK, RGB, SUPERSAMPLE, Pen, box
from examples.made_up_series.story import Line

LETTERS = 15.5  # height of the lettering, panel units
SOUNDS: tuple[RGB, ...] = ((255, 214, 60), (255, 128, 64), (120, 220, 236), (255, 120, 150))

GOOD = 900.0  # a balloon's cost under which no other place is looked for
BESIDE = 250.0  # panels at least this wide, panel units, set two balloons side by side

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Face:
    """Where a character's head is, panel units."""

    name: str
    x: float
    y: float
    radius: float

    @property
    def box(self) -> Box:
        """What balloons keep clear of: the head without its outermost hair."""
        reach = self.radius * 0.94
        return (self.x - reach, self.y - reach, self.x + reach, self.y + reach)


@lru_cache(maxsize=64)
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=max(4, pixels))
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("lettering needs Pillow's scalable built-in font, got its bitmap one: Pillow lacks FreeType")
    return font


@dataclass(frozen=True)
class Block:
    """Words broken into lines, with their size in panel units."""

    rows: tuple[str, ...]
    wide: float
    tall: float
    size: float  # height of the lettering


def _broken(words: str, limit: float, font: ImageFont.FreeTypeFont) -> list[str]:
    rows = [""]
    for word in words.upper().split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and font.getlength(longer) > limit:
            rows.append(word)
        else:
            rows[-1] = longer
    return rows


def block(words: str, limit: float, unit: float, size: float = LETTERS) -> Block:
    """The words in capitals, broken into even rows, none wider than `limit` panel units where a word allows it.

    `unit` is supersampled pixels to a panel unit.
    """
    font = _font(round(size * unit))
    rows = _broken(words, limit * unit, font)
    for share in (0.9, 0.8, 0.7, 0.6, 0.5):  # as few rows as `limit` needs, as narrow as that many can be
        tighter = _broken(words, limit * unit * share, font)
        if len(tighter) > len(rows):
            break
        rows = tighter
    return Block(tuple(rows), max(font.getlength(row) for row in rows) / unit, len(rows) * size * 1.16, size)


def letter(pen: Pen, text: Block, x: float, y: float, colour: RGB = INK) -> None:
    """Draws a block centred on (x, y), panel units."""
    unit = pen.base
    font = _font(round(text.size * unit))
    step = text.size * 1.16
    for row, words in enumerate(text.rows):
        middle = pen.place([(x, y + (row - (len(text.rows) - 1) / 2) * step)])[0]
        weight = max(0, round(text.size * unit * 0.022))
        spot = (float(middle[0]), float(middle[1]))
        pen.canvas.draw.text(spot, words, font=font, fill=colour, anchor="mm", stroke_width=weight, stroke_fill=colour)


def needs(lines: Sequence[Line], width: float, unit: float) -> float:
    """How much of the panel's top the lines ask for, panel units."""
    spoken = [line for line in lines if line.kind in ("say", "shout", "think")]
    captions = [line for line in lines if line.kind == "caption"]
    tall = sum(block(line.words, width * 0.8, unit).tall + 14 for line in captions)
    if spoken:
        beside = len(spoken) > 1 and width >= BESIDE
        limit = _limit(width, len(spoken) if beside else 1)
        talls = [(block(line.words, limit, unit).tall + 34) * _growth(line.kind) for line in spoken]
        tall += max(talls) + 8 if beside else sum(talls)
    return tall + (8 if tall else 0)


def _growth(kind: str) -> float:
    return 1.2 if kind == "shout" else 1.0


def _limit(width: float, across: int) -> float:
    return min(width * 0.86 / across - 44, 170.0)


def _overlap(one: Box, two: Box) -> float:
    wide = min(one[2], two[2]) - max(one[0], two[0])
    tall = min(one[3], two[3]) - max(one[1], two[1])
    return max(0.0, wide) * max(0.0, tall)


def place_lines(
    pen: Pen,
    lines: Sequence[Line],
    faces: Sequence[Face],
    extent: tuple[float, float],
    rng: np.random.Generator,
    top: float = 0.0,
) -> None:
    """Letters a panel of `extent` panel units: captions, then balloons, then sounds, all under `top`."""
    taken = [_caption(pen, line, extent, top) for line in lines if line.kind == "caption"]
    spoken = [line for line in lines if line.kind in ("say", "shout", "think")]
    for order, line in enumerate(spoken):
        across = len(spoken) if extent[0] >= BESIDE else 1
        _balloon(pen, line, faces, taken, extent, (order, across, top))
    for line in (line for line in lines if line.kind == "sound"):
        _sound(pen, line, faces, taken, extent, rng)


def _caption(pen: Pen, line: Line, extent: tuple[float, float], top: float) -> Box:
    text = block(line.words, extent[0] * 0.8, pen.base, LETTERS * 0.94)
    left, upper = 9.0, 9.0 + top
    area = (left, upper, left + text.wide + 20, upper + text.tall + 11)
    pen.fill(box(*area), (255, 244, 206), ink=0.9, smooth=False)
    letter(pen, text, (area[0] + area[2]) / 2, (area[1] + area[3]) / 2 - 0.5)
    return area


def _balloon(
    pen: Pen,
    line: Line,
    faces: Sequence[Face],
    taken: list[Box],
    extent: tuple[float, float],
    slot: tuple[int, int, float],
) -> None:
    order, across, top = slot
    speaker = next((face for face in faces if face.name == line.speaker), None)
    target = (speaker.x, speaker.y) if speaker else (extent[0] / 2, extent[1])
    limits = (_limit(extent[0], across), _limit(extent[0], across) * 0.72, _limit(extent[0], 1))
    best: tuple[float, Block, Box] | None = None
    for shrink, limit in [(shrink, limit) for shrink in (1.0, 0.9, 0.8, 0.7) for limit in limits]:
        text = block(line.words, max(limit, 40), pen.base, LETTERS * shrink)
        found = _best_spot(text, line.kind, target, faces, taken, extent, (order, top))
        if found and (best is None or found[0] < best[0] - 1):
            best = (found[0], text, found[1])
        if best and best[0] < GOOD:
            break
    if best is None:
        return
    _, text, area = best
    taken.append(area)
    _draw_balloon(pen, line.kind, area, speaker)
    letter(pen, text, (area[0] + area[2]) / 2, (area[1] + area[3]) / 2)


def _best_spot(
    text: Block,
    kind: str,
    target: tuple[float, float],
    faces: Sequence[Face],
    taken: Sequence[Box],
    extent: tuple[float, float],
    slot: tuple[int, float],
) -> tuple[float, Box] | None:
    grow = _growth(kind)
    half_x, half_y = (text.wide / 2 + 19) * grow, (text.tall / 2 + 15) * grow
    best: tuple[float, Box] | None = None
    for x in np.linspace(half_x + 7, extent[0] - half_x - 7, 15) if extent[0] > 2 * half_x + 14 else []:
        for y in np.linspace(half_y + 7 + slot[1], max(half_y + 8, extent[1] - half_y - 7), 16):
            area = (float(x) - half_x, float(y) - half_y, float(x) + half_x, float(y) + half_y)
            if area[3] > extent[1] - 5:
                continue
            padded = (area[0] - 5, area[1] - 5, area[2] + 5, area[3] + 5)
            cost = 480 * sum(_overlap(area, face.box) for face in faces)
            cost += 400 * sum(_overlap(padded, other) for other in taken)
            cost += abs(float(x) - target[0]) * 0.7 + float(y) * 1.1 + (9000 if y > target[1] else 0)
            for other in taken:  # a later balloon stands lower or further right
                if area[0] < (other[0] + other[2]) / 2 - 10 and area[1] < (other[1] + other[3]) / 2:
                    cost += 5000
            if best is None or cost < best[0]:
                best = (cost, area)
    return best


def _draw_balloon(pen: Pen, kind: str, area: Box, speaker: Face | None) -> None:
    x, y, rx, ry = (area[0] + area[2]) / 2, (area[1] + area[3]) / 2, (area[2] - area[0]) / 2, (area[3] - area[1]) / 2
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    power = 0.62  # between an ellipse (1) and a box (0)
    reach = np.ones(72)
    if kind == "shout":
        reach = np.where(np.arange(72) % 4 == 0, 1.1, 0.93)
    elif kind == "think":
        reach = 1.0 + 0.05 * np.abs(np.sin(angles * 6))
    shape = np.stack(
        [
            x + rx * reach * np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** power,
            y + ry * reach * np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** power,
        ],
        axis=1,
    )
    white: RGB = (255, 255, 255)
    paper = _unlit(pen)
    if speaker is None:
        paper.fill(shape, white, ink=0.85, smooth=False)
        return
    toward = np.array([speaker.x, speaker.y + speaker.radius * 0.2]) - (x, y)
    distance = float(np.hypot(*toward))
    toward /= max(distance, 1.0)
    root = np.array([x + np.clip(toward[0] * rx, -rx * 0.55, rx * 0.55), y + np.sign(toward[1]) * ry * 0.8])
    edge = np.array([speaker.x, speaker.y]) - toward * speaker.radius * 0.98
    length = float(np.hypot(*(edge - root)))
    tip = root + (edge - root) * min(1.0, 84 / max(length, 1.0))
    if kind == "think":
        paper.fill(shape, white, ink=0.85, smooth=False)
        for share, size in ((0.55, 6.5), (0.8, 4.6), (1.0, 3.2)):
            spot = root + (tip - root) * share
            paper.fill(
                np.stack([spot[0] + size * np.cos(angles), spot[1] + size * np.sin(angles)], axis=1),
                white,
                ink=0.85,
                smooth=False,
            )
        return
    across = (
        np.array([-(tip - root)[1], (tip - root)[0]]) / max(float(np.hypot(*(tip - root))), 1.0) * min(9.0, rx * 0.3)
    )
    bend = (root + tip) / 2 + across * 0.5
    tail = np.array([root + across, bend + across * 0.35, tip, bend - across * 0.55, root - across])
    paper.fill(tail, white, ink=0.85, smooth=False)
    paper.fill(shape, white, ink=0.85, smooth=False)
    paper.fill(tail * 0.9 + root * 0.1, white, ink=0, smooth=False)


def _unlit(pen: Pen) -> Pen:
    return Pen(pen.canvas, pen.matrix, pen.origin, pen.base)


def _sound(
    pen: Pen, line: Line, faces: Sequence[Face], taken: list[Box], extent: tuple[float, float], rng: np.random.Generator
) -> None:
    largest = min(46.0, extent[0] / (0.75 * len(line.words) + 0.5))
    choices = [_sound_spot(pen.base, line.words, largest * share, faces, taken, extent) for share in (1.0, 0.8, 0.64)]
    _, spot, size = next((choice for choice in choices if choice[0] < 1), min(choices))
    colour = SOUNDS[int(rng.integers(len(SOUNDS)))]
    draw_sign(pen, line.words, spot, size, colour, float(rng.uniform(4, 8)) * float(rng.choice([-1, 1])))


def _sound_spot(
    unit: float, words: str, size: float, faces: Sequence[Face], taken: Sequence[Box], extent: tuple[float, float]
) -> tuple[float, tuple[float, float], float]:
    bounds = _font(round(size * unit)).getbbox(words, anchor="mm", stroke_width=round(size * 0.13 * unit))
    wide, tall = (bounds[2] - bounds[0]) / unit + 8, (bounds[3] - bounds[1]) / unit * 1.15 + 8
    best = (np.inf, (extent[0] / 2, extent[1] / 2), size)
    for x in np.linspace(wide / 2 + 4, extent[0] - wide / 2 - 4, 15):
        for y in np.linspace(tall / 2 + 4, extent[1] - tall / 2 - 4, 18):
            area = (float(x) - wide / 2, float(y) - tall / 2, float(x) + wide / 2, float(y) + tall / 2)
            cost = 8 * sum(_overlap(area, face.box) for face in faces) + 12 * sum(
                _overlap(area, other) for other in taken
            )
            cost -= 0.05 * float(y)
            if cost < best[0]:
                best = (cost, (float(x), float(y)), size)
    return best


def draw_sign(
    pen: Pen, words: str, centre: tuple[float, float], size: float, colour: RGB, degrees: float = 0.0, rim: RGB = INK
) -> None:
    """Draws big letters with an ink rim, turned; `centre` and `size` in panel units."""
    unit = pen.base
    font = _font(round(size * unit))
    stroke, inner = round(size * 0.13 * unit), round(size * 0.04 * unit)
    bounds = font.getbbox(words, anchor="mm", stroke_width=stroke)
    half = (int(max(-bounds[0], bounds[2])) + 8, int(max(-bounds[1], bounds[3])) + 8 + int(unit * 14))
    spot = pen.place([centre])[0]
    corner = tuple(int(v - h) // SUPERSAMPLE * SUPERSAMPLE for v, h in zip(spot, half, strict=True))
    for paint, weight in ((rim, stroke), (colour, inner)):
        mask = Image.new("L", (half[0] * 2, half[1] * 2))
        ImageDraw.Draw(mask).text(half, words, font=font, fill=255, anchor="mm", stroke_width=weight)
        if degrees:
            mask = mask.rotate(degrees, Image.Resampling.BICUBIC)
        pen.canvas.paste(paint, mask, (corner[0], corner[1]))
