"""The places of the series under changing weather; a place keeps its shapes and true colours from panel to panel.

World coordinates: y = 0 is the line where figures stand, up is negative, and about 165 units up are their eyes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from examples.made_up_series.canvas import RGB, Canvas, Light, Pen, box, mixed, oval, smoothed

Rng = np.random.Generator


@dataclass(frozen=True)
class Weather:
    """Light and sky of a panel."""

    sky: tuple[RGB, RGB]  # at the top, at the horizon
    light: Light  # on the scenery; figures get it softened
    cloud: RGB
    haze: RGB  # the colour that far things fade to
    ink: RGB = (62, 54, 74)  # of the scenery, paler than that of figures
    night: bool = False


WEATHERS: Mapping[str, Weather] = MappingProxyType(
    {
        "day": Weather(((104, 184, 232), (222, 243, 250)), Light(), (255, 255, 255), (176, 212, 226)),
        "morning": Weather(
            ((146, 196, 226), (255, 232, 196)), Light((1.0, 0.96, 0.88)), (255, 246, 232), (232, 214, 204)
        ),
        "dusk": Weather(((96, 82, 150), (255, 172, 104)), Light((1.0, 0.8, 0.7)), (252, 148, 124), (206, 124, 132)),
        "night": Weather(
            ((22, 28, 70), (70, 88, 150)), Light((0.52, 0.6, 0.88)), (62, 76, 130), (60, 76, 134), (26, 26, 52), True
        ),
        "rain": Weather(
            ((104, 120, 142), (178, 190, 200)), Light((0.78, 0.84, 0.92)), (142, 156, 172), (150, 164, 178)
        ),
        "lamp": Weather(((84, 62, 66), (150, 104, 76)), Light((1.0, 0.9, 0.74)), (255, 220, 160), (150, 110, 84)),
        "dark": Weather(
            ((30, 36, 74), (66, 104, 138)), Light((0.74, 0.82, 0.94)), (70, 90, 120), (64, 92, 130), (20, 20, 42), True
        ),
    }
)

Scene = Callable[[Canvas, Pen, Weather, Rng], None]


def strokes(pen: Pen, starts: np.ndarray, lean: np.ndarray, length: np.ndarray, colour: RGB, width: float) -> None:
    """Draws many short straight strokes upwards from their starts; grass, mostly."""
    feet = pen.place(starts)
    tips = pen.place(np.stack([starts[:, 0] + lean, starts[:, 1] - length], axis=1))
    paint, thick = pen.light.lit(colour), max(1, round(width * pen.scale))
    for foot, tip in zip(feet.tolist(), tips.tolist(), strict=True):
        pen.canvas.draw.line([*foot, *tip], fill=paint, width=thick)


def grass(pen: Pen, rng: Rng, low: float, high: float, colours: tuple[RGB, ...], count: int = 160) -> None:
    """Scatters tufts of grass over the ground between two heights, smaller farther off."""
    for colour in colours:
        y = np.sort(rng.uniform(low, high, count))
        near = 0.45 + 0.75 * (y - low) / (high - low)
        starts = np.stack([rng.uniform(-900, 900, count), y], axis=1)
        strokes(pen, starts, rng.uniform(-5, 5, count) * near, rng.uniform(8, 17, count) * near, colour, 1.8)


def cloud(pen: Pen, x: float, y: float, size: float, colour: RGB) -> None:
    """Draws a flat-bottomed cloud."""
    lumps = [(-60, 0), (-50, -20), (-28, -22), (-14, -42), (14, -42), (28, -26), (50, -22), (62, 0), (30, 5), (-30, 5)]
    pen.at(x, y, size).fill(lumps, colour, ink=0)


def hills(pen: Pen, rng: Rng, base: float, height: float, colour: RGB) -> None:
    """Draws a line of rounded hills across the world."""
    xs = np.linspace(-1000, 1000, 15)
    ridge = np.stack([xs, base - height * rng.uniform(0.2, 1.0, 15)], axis=1)
    top = smoothed(ridge, closed=False)
    pen.fill(np.concatenate([top, [(1000, base + 700), (-1000, base + 700)]]), colour, ink=0.8, smooth=False)


def stars(canvas: Canvas, rng: Rng) -> None:
    """Scatters stars over the upper part of the panel."""
    width, height = canvas.image.size
    for x, y, size in zip(
        rng.uniform(0, width, 50), rng.uniform(0, height * 0.7, 50), rng.uniform(0.8, 3.4, 50), strict=True
    ):
        canvas.draw.ellipse([x - size, y - size, x + size, y + size], fill=(250, 244, 214))


def _sky(canvas: Canvas, weather: Weather, rng: Rng, pen: Pen, clouds: int = 5, moon: bool = True) -> None:
    canvas.wash(*weather.sky, 0.0, 0.75)
    if weather.night:
        stars(canvas, rng)
    if weather.night and moon:
        plain = replace(pen, light=Light())
        plain.fill(oval(-260, -430, 38, 38), (255, 246, 206), ink=0, smooth=False)
        plain.fill(oval(-244, -438, 33, 33), weather.sky[0], ink=0, smooth=False)
    for x, y, size in zip(
        rng.uniform(-700, 700, clouds), rng.uniform(-480, -280, clouds), rng.uniform(0.6, 1.5, clouds), strict=True
    ):
        cloud(pen, x, y, size, mixed(weather.cloud, weather.sky[1], 0.15))


def draw_window(pen: Pen, x: float, y: float, wide: float, tall: float, weather: Weather) -> None:
    """Draws a framed window of half-width `wide` and half-height `tall`, lit from within after dark."""
    lit = weather.night or weather.sky == WEATHERS["dusk"].sky
    glass = (255, 222, 130) if lit else (166, 208, 222)
    lamp = replace(pen, light=Light()) if lit else pen
    pen.fill(box(x - wide - 4, y - tall - 4, x + wide + 4, y + tall + 4), (244, 234, 214), smooth=False, ink=0.8)
    lamp.fill(box(x - wide, y - tall, x + wide, y + tall), glass, smooth=False, ink=0.6)
    if not lit:
        pen.fill(
            [(x - wide, y + tall), (x - wide, y + tall * 0.2), (x + wide * 0.4, y - tall), (x + wide, y - tall)],
            (202, 230, 238),
            ink=0,
            smooth=False,
        )
    pen.stroke([(x, y - tall), (x, y + tall)], 2.4, (244, 234, 214), 0)
    pen.stroke([(x - wide, y), (x + wide, y)], 2.4, (244, 234, 214), 0)


WALLS: tuple[RGB, ...] = (
    (240, 196, 150),
    (222, 148, 128),
    (206, 214, 176),
    (236, 220, 176),
    (168, 196, 206),
    (226, 176, 168),
)
ROOFS: tuple[RGB, ...] = ((178, 78, 62), (112, 96, 128), (158, 98, 62), (84, 116, 122))


def _house(pen: Pen, x: float, wide: float, tall: float, rng: Rng, weather: Weather) -> None:
    wall, roof = WALLS[rng.integers(len(WALLS))], ROOFS[rng.integers(len(ROOFS))]
    base = -44.0
    pen.fill(box(x + wide * 0.2, base - tall - 92, x + wide * 0.2 + 26, base - tall - 20), (168, 108, 90), smooth=False)
    pen.fill(box(x - wide, base - tall, x + wide, base), wall, shade=7, smooth=False)
    for brick_x, brick_y in zip(
        rng.uniform(x - wide + 8, x + wide - 28, 16), rng.uniform(base - tall + 14, base - 12, 16), strict=True
    ):
        pen.fill(
            box(brick_x, brick_y, brick_x + 18, brick_y + 8), mixed(wall, (150, 86, 70), 0.35), ink=0, smooth=False
        )
    ridge = base - tall - 74
    pen.fill(
        [
            (x - wide - 16, base - tall + 6),
            (x - wide * 0.55, ridge),
            (x + wide * 0.55, ridge),
            (x + wide + 16, base - tall + 6),
        ],
        roof,
        shade=6,
        smooth=False,
    )
    for row in range(1, 4):
        y = ridge + row * 20
        half = wide * 0.55 + (wide * 0.45 + 16) * row / 4
        pen.stroke([(x - half + 8, y), (x, y + 2), (x + half - 8, y)], 1.6, mixed(roof, (40, 30, 40), 0.45), 0.2)
    for offset in (-0.52, 0.52):
        draw_window(pen, x + offset * wide, base - tall * 0.72, 17, 22, weather)
    door_x = x - wide * 0.5
    pen.fill(
        [
            (door_x - 20, base),
            (door_x - 20, base - 62),
            (door_x, base - 78),
            (door_x + 20, base - 62),
            (door_x + 20, base),
        ],
        ROOFS[rng.integers(4)],
        smooth=False,
    )
    pen.fill(oval(door_x + 12, base - 34, 3, 3), (240, 206, 110), ink=0.5, smooth=False)
    draw_window(pen, x + wide * 0.42, base - 52, 24, 20, weather)
    pen.fill(
        box(x + wide * 0.42 - 30, base - 30, x + wide * 0.42 + 30, base - 20), (140, 88, 60), ink=0.7, smooth=False
    )
    for flower in range(6):
        colour = ((232, 96, 110), (250, 210, 90), (240, 240, 250))[flower % 3]
        pen.fill(
            oval(x + wide * 0.42 - 25 + flower * 10, base - 33 - flower % 2 * 3, 5, 5), colour, ink=0.4, smooth=False
        )


def street(canvas: Canvas, pen: Pen, weather: Weather, rng: Rng) -> None:
    """Draws the village street."""
    _sky(canvas, weather, rng, pen)
    hills(pen, rng, -120, 240, mixed((120, 176, 130), weather.haze, 0.55))
    x = -880.0
    while x < 880:
        wide = float(rng.uniform(78, 112))
        _house(pen, x + wide, wide, float(rng.uniform(150, 230)), rng, weather)
        x += 2 * wide + float(rng.choice([6.0, 60.0]))
    pen.fill(box(-1000, -46, 1000, -26), (196, 186, 176), smooth=False)
    pen.fill(box(-1000, -26, 1000, 900), (170, 158, 156), smooth=False, ink=0)
    for row in range(7):
        y, size = -12 + row * 16 + row * row * 2.5, 0.7 + row * 0.22
        for stone in np.arange(-900, 900, 74 * size) + rng.uniform(-20, 20) + row % 2 * 37:
            tone = mixed((188, 176, 170), (140, 130, 138), float(rng.uniform(0, 1)))
            pen.fill(oval(stone, y, 24 * size, 6 * size, count=14), tone, ink=0.35, smooth=False)
    for post in (-420, 60, 520):
        pen.limb([(post, -30), (post, -120), (post, -214)], (10, 8, 7), (72, 82, 96), shade=2)
        pen.fill(
            [(post - 14, -218), (post + 14, -218), (post + 19, -252), (post - 19, -252)], (255, 230, 140), smooth=False
        )
        pen.fill([(post - 23, -252), (post + 23, -252), (post, -272)], (72, 82, 96), smooth=False)


def _tree(pen: Pen, x: float, base: float, size: float, bark: RGB, leaf: RGB, rng: Rng) -> None:
    tree = pen.at(x, base, size)
    tree.fill([(-26, 6), (-14, -60), (-16, -330), (16, -330), (15, -60), (30, 8), (8, 0)], bark, shade=6)
    for start in rng.uniform(-250, -20, 7):
        tree.stroke(
            [(rng.uniform(-9, 9), start), (rng.uniform(-9, 9), start - 26)], 2.0, mixed(bark, (30, 20, 30), 0.5)
        )
    for lump in range(4):
        lump_x, lump_y = (-60, 62, -6, 12)[lump] + rng.uniform(-12, 12), (-262, -280, -346, -236)[lump]
        knots = oval(lump_x, lump_y, 82, 62, count=17) * np.array([1.0, 1.0]) + rng.uniform(-9, 9, (17, 2))
        tree.fill(knots, mixed(leaf, (255, 240, 120), 0.07 * lump), shade=14)
        for leaf_x, leaf_y in rng.uniform(-1, 1, (9, 2)) * (54, 36) + (lump_x, lump_y):
            curl = [(leaf_x - 7, leaf_y), (leaf_x, leaf_y + 5), (leaf_x + 7, leaf_y)]
            tree.stroke(
                curl, 2.2, mixed(leaf, (24, 70, 60), 0.45) if leaf_y > lump_y else mixed(leaf, (250, 250, 150), 0.4)
            )


def forest(canvas: Canvas, pen: Pen, weather: Weather, rng: Rng) -> None:
    """Draws the wood: three depths of trees, a mossy floor."""
    _sky(canvas, weather, rng, pen, 2)
    for x in np.arange(-900, 900, 74) + rng.uniform(-26, 26, 25):
        far = mixed((86, 146, 110), weather.haze, 0.6)
        pen.fill(
            [(x - 9, -30), (x - 7, -560), (x + 7, -560), (x + 9, -30)],
            mixed(far, (60, 50, 70), 0.3),
            ink=0,
            smooth=False,
        )
        pen.fill(oval(x, -330 + rng.uniform(-60, 60), 60, 84), far, ink=0, smooth=False)
    hills(pen, rng, -60, 46, mixed((104, 164, 96), weather.haze, 0.3))
    for x in np.arange(-820, 900, 230) + rng.uniform(-50, 50, 8):
        _tree(pen, x, -46, float(rng.uniform(0.85, 1.15)), (132, 92, 72), (70, 148, 84), rng)
    ridge = np.stack([np.linspace(-1000, 1000, 13), -40 + rng.uniform(-10, 8, 13)], axis=1)
    pen.fill(np.concatenate([smoothed(ridge, closed=False), [(1000, 900), (-1000, 900)]]), (112, 168, 84), smooth=False)
    pen.fill(
        [(-60, -44), (20, -44), (60, 0), (190, 120), (260, 400), (-320, 400), (-150, 120), (-20, 10)],
        (206, 180, 128),
        ink=0,
    )
    grass(pen, rng, -36, 150, ((74, 130, 66), (150, 198, 98), (58, 112, 70)))
    for x, y in zip(rng.uniform(-700, 700, 14), rng.uniform(-20, 60, 14), strict=True):
        pen.fill(box(x - 4, y - 12, x + 4, y), (246, 232, 206), ink=0.6, smooth=False)
        pen.fill(
            [(x - 13, y - 11), (x - 8, y - 20), (x + 8, y - 20), (x + 13, y - 11)],
            ((228, 120, 70), (240, 200, 96), (190, 120, 190))[int(x) % 3],
            ink=0.6,
        )


def seaside(canvas: Canvas, pen: Pen, weather: Weather, rng: Rng) -> None:
    """Draws the beach, the sea and the lighthouse on its rock."""
    _sky(canvas, weather, rng, pen, 6, moon=False)
    sun = (255, 236, 170) if not weather.night else (250, 246, 224)
    glowing = replace(pen, light=Light())
    centre = pen.place([(150.0, -212.0)])[0]
    canvas.glow(float(centre[0]), float(centre[1]), 230 * pen.scale, sun, 0.75)
    glowing.fill(oval(150, -212, 42, 42), sun, ink=0, smooth=False)
    sea: RGB = (58, 142, 178)
    for band in range(9):
        tone = mixed(mixed(sea, weather.sky[1], 0.62), sea, band / 8)
        pen.fill(box(-1000, -176 + band * 13, 1000, -20), tone, ink=0.5 if band == 0 else 0, smooth=False)
    for x, y in zip(rng.uniform(-900, 900, 60), rng.uniform(-168, -66, 60), strict=True):
        half = 10 + (y + 176) * 0.22
        bright = abs(x - 150) < 70
        (glowing if bright else pen).stroke(
            [(x - half, y), (x, y - 3), (x + half, y)], 2.6, sun if bright else (196, 226, 234)
        )
    pen.fill(
        [(-460, -104), (-430, -160), (-380, -196), (-300, -200), (-230, -160), (-196, -104), (-330, -92)],
        (128, 116, 124),
        shade=9,
    )
    pen.fill([(-356, -190), (-346, -388), (-302, -388), (-292, -190)], (246, 240, 232), shade=9, smooth=False)
    for low, high in ((-236, -276), (-318, -356)):
        pen.fill(
            [(-353 + (236 + low) * -0.05, low), (-350, high), (-298, high), (-295 + (236 + low) * 0.05, low)],
            (206, 76, 70),
            smooth=False,
            ink=0.6,
        )
    pen.fill(box(-356, -398, -292, -386), (84, 92, 108), smooth=False)
    glowing.fill(box(-342, -430, -306, -398), (120, 146, 160) if weather.night else (214, 232, 236), smooth=False)
    pen.fill([(-350, -430), (-324, -458), (-298, -430)], (206, 76, 70), smooth=False)
    shore = np.stack([np.linspace(-1000, 1000, 15), -58 + rng.uniform(-8, 8, 15)], axis=1)
    foam = np.concatenate([smoothed(shore - (0, 10), closed=False), [(1000, 900), (-1000, 900)]])
    pen.fill(foam, (240, 248, 248), ink=0.4, smooth=False)
    pen.fill(
        np.concatenate([smoothed(shore, closed=False), [(1000, 900), (-1000, 900)]]),
        (240, 214, 160),
        ink=0,
        smooth=False,
    )
    for x, y, size in zip(
        rng.uniform(-800, 800, 90), rng.uniform(-40, 180, 90), rng.uniform(1.2, 3.4, 90), strict=True
    ):
        pen.fill(oval(x, y, size * 2, size, count=8), mixed((240, 214, 160), (160, 120, 90), 0.5), ink=0, smooth=False)
    for x, y, colour in ((-180, 30, (240, 130, 120)), (260, 10, (250, 226, 200)), (420, 50, (230, 120, 90))):
        pen.fill(
            [
                (x, y - 12),
                (x + 5, y - 3),
                (x + 14, y - 2),
                (x + 7, y + 4),
                (x + 9, y + 13),
                (x, y + 7),
                (x - 9, y + 13),
                (x - 7, y + 4),
                (x - 14, y - 2),
                (x - 5, y - 3),
            ],
            colour,
            ink=0.7,
            smooth=False,
        )
    pen.fill([(330, -50), (350, -14), (470, -14), (500, -58), (420, -46)], (150, 94, 62), shade=7)
    pen.stroke([(336, -44), (420, -36), (492, -48)], 3, (90, 60, 50))
