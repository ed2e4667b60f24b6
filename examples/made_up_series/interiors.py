"""The closed places of the series, the rooftop, and what falls or floats in front of figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from examples.made_up_series.canvas import RGB, SUPERSAMPLE, Canvas, Light, Pen, box, mixed, oval, smoothed
from examples.made_up_series.scenes import (
    ROOFS,
    WALLS,
    WEATHERS,
    Rng,
    Scene,
    Weather,
    cloud,
    draw_window,
    forest,
    grass,
    seaside,
    street,
)

JARS: tuple[RGB, ...] = ((196, 88, 84), (96, 158, 120), (88, 128, 188), (232, 184, 84), (160, 108, 168), (228, 140, 96))


def _crystal(canvas: Canvas, pen: Pen, x: float, base: float, size: float, colour: RGB) -> None:
    glowing = replace(pen, light=Light())
    middle = pen.place([(x, base - 40 * size)])[0]
    canvas.glow(float(middle[0]), float(middle[1]), 130 * size * pen.scale, colour, 0.45)
    for lean, tall, wide in ((-26, 66, 13), (24, 58, 12), (0, 104, 17)):
        tip = (x + lean * 1.6 * size, base - tall * size)
        left, right = x + (lean * 0.5 - wide) * size, x + (lean * 0.5 + wide) * size
        low = base - tall * 0.7 * size
        shape = [(left, base), (left + lean * 0.8 * size, low), tip, (right + lean * 0.8 * size, low), (right, base)]
        glowing.fill(shape, colour, smooth=False, ink=0.8)
        middle_x = (left + right) / 2
        glowing.fill(
            [
                (middle_x, base),
                (middle_x + lean * 0.8 * size, low),
                tip,
                (right + lean * 0.8 * size, low),
                (right, base),
            ],
            mixed(colour, (40, 60, 120), 0.3),
            ink=0,
            smooth=False,
        )


def cave(canvas: Canvas, pen: Pen, weather: Weather, rng: Rng) -> None:
    """Draws the cave under the hill, with its crystals."""
    canvas.wash(weather.sky[1], weather.sky[0], 0.0, 1.0)
    rock: RGB = (104, 98, 128)
    for depth in range(3):
        tone = mixed(weather.haze, rock, 0.2 + 0.35 * depth)
        count = 26 - 5 * depth
        xs = np.linspace(-950, 950, count)
        drops = (
            np.where(np.arange(count) % 2 == 0, -300.0 + 20 * depth, -440.0) + rng.uniform(-60, 60, count) - 60 * depth
        )
        pen.fill(
            np.concatenate([np.stack([xs, drops], axis=1), [(950, -1400), (-950, -1400)]]), tone, smooth=False, ink=0.8
        )
        rises = np.where(np.arange(count) % 2 == 0, -120.0, -40.0) + rng.uniform(-40, 20, count) + 24 * depth
        pen.fill(
            np.concatenate([np.stack([xs, rises], axis=1), [(950, 900), (-950, 900)]]), tone, smooth=False, ink=0.8
        )
        if depth == 1:
            for x, colour in zip(
                (-520, -250, 40, 330, 610),
                ((96, 226, 226), (190, 130, 250), (110, 210, 250), (240, 140, 210), (120, 240, 190)),
                strict=True,
            ):
                _crystal(canvas, pen, x + float(rng.uniform(-40, 40)), -36, float(rng.uniform(0.9, 1.5)), colour)
    pen.fill(box(-1000, -22, 1000, 900), mixed(rock, (60, 54, 80), 0.25), smooth=False)
    for x, y in zip(rng.uniform(-800, 800, 26), rng.uniform(-10, 150, 26), strict=True):
        pen.fill(
            oval(x, y, rng.uniform(10, 34), rng.uniform(3, 8)),
            mixed(rock, (40, 36, 66), rng.uniform(0, 0.5)),
            ink=0.4,
            smooth=False,
        )
    pen.fill(oval(130, 34, 150, 15), (84, 150, 176), ink=0.6, smooth=False)
    pen.fill(oval(110, 31, 90, 7), (132, 196, 214), ink=0, smooth=False)


def _gear(pen: Pen, x: float, y: float, size: float, colour: RGB) -> None:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = size * np.where(np.arange(48) % 4 < 2, 1.0, 0.8)
    pen.fill(
        np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1), colour, shade=3, smooth=False
    )
    pen.fill(oval(x, y, size * 0.34, size * 0.34), mixed(colour, (50, 40, 40), 0.6), smooth=False, ink=0.6)


def _shelf(pen: Pen, x: float, y: float, wide: float, rng: Rng) -> None:
    place = x - wide + 14
    while place < x + wide - 16:
        tall, half = float(rng.uniform(18, 46)), float(rng.uniform(7, 13))
        colour = JARS[rng.integers(len(JARS))]
        if rng.uniform() < 0.5:
            pen.fill(
                [(place - half, y), (place - half, y - tall), (place + half, y - tall), (place + half, y)],
                colour,
                ink=0.8,
                shade=2,
                smooth=False,
            )
            pen.stroke([(place - half, y - tall * 0.75), (place + half, y - tall * 0.75)], 2.4, (250, 234, 200), 0)
        else:
            pen.fill(
                [
                    (place - half, y),
                    (place - half, y - tall * 0.7),
                    (place - half * 0.5, y - tall),
                    (place + half * 0.5, y - tall),
                    (place + half, y - tall * 0.7),
                    (place + half, y),
                ],
                colour,
                ink=0.8,
                shade=3,
            )
        place += 2 * half + 5
    pen.fill(box(x - wide, y, x + wide, y + 9), (128, 82, 56), ink=0.8, smooth=False)


def workshop(canvas: Canvas, pen: Pen, weather: Weather, rng: Rng) -> None:
    """Draws the workshop: planks, shelves of jars, gears, a window and a lamp."""
    canvas.wash(*weather.sky)
    wall: RGB = (206, 160, 118)
    for plank in range(-16, 16):
        pen.fill(
            box(plank * 60, -900, plank * 60 + 60, -40),
            mixed(wall, (170, 120, 90), float(rng.uniform(0, 0.5))),
            ink=0.5,
            smooth=False,
        )
        x = plank * 60 + float(rng.uniform(15, 45))
        pen.stroke([(x, -420), (x + 6, -250), (x - 4, -60)], 1.4, (160, 112, 82))
    for x, y, wide in (
        (-520, -250, 120),
        (-500, -150, 140),
        (-120, -300, 110),
        (430, -180, 130),
        (460, -290, 110),
        (-110, -200, 100),
    ):
        _shelf(pen, x, y, wide, rng)
    for x, y, size, colour in (
        (170, -330, 46, (214, 164, 70)),
        (236, -286, 32, (170, 100, 66)),
        (-310, -330, 38, (150, 150, 150)),
        (640, -380, 50, (214, 164, 70)),
    ):
        _gear(pen, x, y, size, colour)
    pen.fill(box(86, -250, 226, -120), (120, 78, 54), smooth=False)
    for x0, x1 in ((96, 152), (160, 216)):
        outside = (
            (54, 66, 116) if weather.night or weather.cloud == WEATHERS["lamp"].cloud else mixed(*weather.sky, 0.6)
        )
        replace(pen, light=Light()).fill(box(x0, -240, x1, -130), outside, ink=0.6, smooth=False)
        for star in zip(rng.uniform(x0 + 6, x1 - 6, 7), rng.uniform(-232, -140, 7), strict=True):
            if outside[0] < 100:
                replace(pen, light=Light()).fill(oval(*star, 1.6, 1.6, count=8), (250, 244, 214), ink=0, smooth=False)
    pen.fill(box(-1000, -60, 1000, -34), (112, 72, 52), smooth=False)
    pen.fill(box(-1000, -34, 1000, 900), (160, 112, 78), ink=0, smooth=False)
    for row in range(8):
        seam = -34 + row * 14 + row * row * 2.4
        pen.stroke([(-1000, seam), (0, seam), (1000, seam)], 1.6, (104, 68, 52), 0)
        for end in rng.uniform(-900, 900, 4):
            pen.stroke([(end, seam), (end * 1.02, seam + 16 + row * 4.8)], 1.5, (104, 68, 52), 0)
    pen.fill(box(-420, -92, -190, -76), (176, 122, 76), smooth=False)
    for leg in (-408, -214):
        pen.fill(box(leg, -76, leg + 14, 8), (138, 90, 60), smooth=False)
    _gear(pen, -250, -110, 20, (220, 170, 66))
    pen.fill([(-380, -92), (-386, -124), (-350, -132), (-338, -92)], (104, 178, 156), ink=0.8, smooth=False)
    pen.stroke([(0, -900), (0, -420)], 2.4)
    pen.fill([(-34, -398), (-18, -424), (18, -424), (34, -398)], (72, 104, 96), smooth=False)
    replace(pen, light=Light()).fill(oval(0, -394, 13, 9), (255, 240, 170), smooth=False, ink=0.5)
    centre = pen.place([(0.0, -390.0)])[0]
    canvas.glow(float(centre[0]), float(centre[1]), 230 * pen.scale, (255, 230, 150), 0.5)


def rooftop(canvas: Canvas, pen: Pen, weather: Weather, rng: Rng) -> None:
    """Draws the roof above the town."""
    canvas.wash(*weather.sky, 0.0, 0.8)
    for x, y, size in zip(rng.uniform(-700, 700, 7), rng.uniform(-470, -300, 7), rng.uniform(0.9, 1.9, 7), strict=True):
        cloud(pen, x, y, size, weather.cloud)
    for depth in range(2):
        x = -900.0
        while x < 900:
            wide, tall = float(rng.uniform(44, 90)), float(rng.uniform(40, 130)) + 70 * (1 - depth)
            wall = mixed(WALLS[rng.integers(len(WALLS))], weather.haze, 0.6 - 0.35 * depth)
            roof = mixed(ROOFS[rng.integers(4)], weather.haze, 0.6 - 0.35 * depth)
            base = -70.0
            pen.fill(box(x, base - tall, x + 2 * wide, base + 90), wall, ink=0.7, smooth=False)
            pen.fill(
                [(x - 8, base - tall), (x + wide, base - tall - 56), (x + 2 * wide + 8, base - tall)],
                roof,
                ink=0.7,
                smooth=False,
            )
            for window in np.arange(x + wide * 0.5, x + wide * 1.6, wide):
                draw_window(pen, float(window), base - tall + 30, 8 + 2 * depth, 11 + 2 * depth, weather)
            if rng.uniform() < 0.5:
                pen.fill(
                    box(x + wide * 1.3, base - tall - 66, x + wide * 1.3 + 16, base - tall - 26),
                    roof,
                    ink=0.7,
                    smooth=False,
                )
            x += 2 * wide + float(rng.uniform(-6, 10))
    pen.fill([(-1000, -46), (1000, -46), (1000, 900), (-1000, 900)], (158, 84, 76), smooth=False)
    for row in range(9):
        y, size = -46 + row * 20 + row * row * 1.6, 1 + row * 0.16
        for x in np.arange(-900, 900, 46 * size) + row % 2 * 23 * size:
            tile = mixed((168, 88, 76), (120, 66, 78), float(rng.uniform(0, 0.8)))
            pen.fill(
                [
                    (x - 22 * size, y),
                    (x + 22 * size, y),
                    (x + 20 * size, y + 17 * size),
                    (x, y + 23 * size),
                    (x - 20 * size, y + 17 * size),
                ],
                tile,
                ink=0.5,
                smooth=False,
            )
    pen.fill(box(-1000, -56, 1000, -42), (132, 74, 74), smooth=False)
    for x in (-360, 380):
        pen.fill(box(x, -190, x + 76, -30), (176, 112, 96), shade=8, smooth=False)
        for brick in range(18):
            brick_x, brick_y = x + 6 + brick % 3 * 22 + brick // 3 % 2 * 9, -172 + brick // 3 * 24
            pen.fill(box(brick_x, brick_y, min(brick_x + 18, x + 72), brick_y + 9), (146, 84, 76), ink=0, smooth=False)
        pen.fill(box(x - 8, -206, x + 84, -186), (144, 92, 84), smooth=False)


def rain(canvas: Canvas, rng: Rng, unit: float, sparse: float) -> None:
    """Draws rain, a drop to each `sparse` square units; `unit` in supersampled pixels."""
    width, height = canvas.image.size
    count = int(width * height / (unit * unit) / sparse)
    for x, y, long in zip(
        rng.uniform(0, width * 1.2, count), rng.uniform(-20, height, count), rng.uniform(14, 34, count), strict=True
    ):
        line = [x, y, x - long * 0.28 * unit, y + long * unit]
        canvas.draw.line(line, fill=(222, 234, 244), width=max(1, round(unit * 0.9)))
        canvas.draw_shows.line([v / SUPERSAMPLE for v in line], fill=0, width=2)


def sparks(canvas: Canvas, rng: Rng, unit: float, colour: RGB) -> None:
    """Draws floating lights; `unit` in supersampled pixels."""
    width, height = canvas.image.size
    for x, y, size in zip(
        rng.uniform(0, width, 16), rng.uniform(height * 0.1, height, 16), rng.uniform(1.2, 3.0, 16), strict=True
    ):
        canvas.glow(x, y, size * 5 * unit, colour, 0.6)
        canvas.draw.ellipse([x - size * unit, y - size * unit, x + size * unit, y + size * unit], fill=(255, 252, 224))


def foreground(pen: Pen, scene: str, rng: Rng) -> None:
    """Draws something near the camera that hides feet; the pen's origin is the middle of the panel's lower edge."""
    side = float(rng.choice([-1, 1])) * float(rng.uniform(90, 150))
    if scene in ("forest", "seaside"):
        bush = oval(side, 12, 92, 46, count=12) + rng.uniform(-9, 9, (12, 2))
        pen.fill(bush, (66, 132, 82) if scene == "forest" else (150, 166, 104), shade=10)
        grass(pen.at(side, 0, 0.1), rng, -120, 160, ((46, 100, 66), (132, 184, 96)), 18)
    elif scene == "street":
        for barrel in (-32, 34):
            pen.fill(
                [
                    (side + barrel - 28, 20),
                    (side + barrel - 32, -18),
                    (side + barrel - 26, -52),
                    (side + barrel + 26, -52),
                    (side + barrel + 32, -18),
                    (side + barrel + 28, 20),
                ],
                (164, 108, 68),
                shade=7,
            )
            for y in (-38, -2):
                pen.stroke(
                    [(side + barrel - 30, y), (side + barrel, y + 5), (side + barrel + 30, y)], 4.5, (92, 92, 104), 0.1
                )
    elif scene == "workshop":
        pen.fill(box(side - 52, -58, side + 52, 20), (184, 132, 84), shade=8, smooth=False)
        pen.stroke([(side - 50, -56), (side + 50, 18)], 5, (140, 94, 62), 0)
        pen.stroke([(side - 52, -30), (side + 52, -30)], 2)
    elif scene == "cave":
        top = smoothed(
            [(side - 110, 20), (side - 80, -34), (side - 20, -56), (side + 50, -40), (side + 110, 20)], closed=False
        )
        pen.fill(np.concatenate([top, [(side, 60)]]), (84, 80, 112), shade=10, smooth=False)


SCENES: Mapping[str, Scene] = MappingProxyType(
    {"street": street, "forest": forest, "seaside": seaside, "cave": cave, "workshop": workshop, "rooftop": rooftop}
)
