"""One panel: where the figures stand, how the camera sees the place, and what is drawn over both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from examples.made_up_series.balloons import Face, draw_sign, needs, place_lines
from examples.made_up_series.canvas import RGB, Canvas, Pen, mixed
from examples.made_up_series.cast import ACTIONS, HEAD_RADII, HEIGHTS, Pose
from examples.made_up_series.creatures import DRAWINGS, draw_light
from examples.made_up_series.interiors import SCENES, foreground, rain, sparks
from examples.made_up_series.scenes import WEATHERS, Rng, Weather
from examples.made_up_series.story import SERIES, Shot

FIGURE_TINT = 0.45  # share of the scenery's tint that figures get
TITLE_ROOM = 112.0  # what a chapter's title takes from its first panel, panel units
BURSTS: tuple[tuple[RGB, RGB], ...] = (
    ((255, 222, 120), (255, 244, 200)),
    ((150, 206, 236), (226, 244, 252)),
    ((246, 160, 140), (255, 226, 210)),
    ((178, 222, 160), (234, 248, 220)),
)


@dataclass(frozen=True)
class Standing:
    """A figure in its place; x, y of the middle of its head in panel units."""

    name: str
    x: float
    y: float
    size: float
    mirror: bool
    pose: Pose


@dataclass(frozen=True)
class Camera:
    """How the panel sees the world: panel units to a world unit, and where the world's origin falls."""

    zoom: float
    x: float
    y: float


def _pose(action: str, mood: str, rng: Rng) -> Pose:
    base = ACTIONS[action]
    wobble = rng.uniform(-1, 1, 6)
    return replace(
        base,
        mood=mood,
        near_arm=(base.near_arm[0] + 0.12 * wobble[0], base.near_arm[1] + 0.12 * wobble[1]),
        far_arm=(base.far_arm[0] + 0.12 * wobble[2], base.far_arm[1] + 0.12 * wobble[3]),
        tilt=base.tilt + 0.07 * float(wobble[4]),
        sway=base.sway + 0.3 * float(wobble[5]),
        look=(base.look[0] + 0.15 * float(wobble[4]), base.look[1]),
    )


def stage(shot: Shot, width: float, height: float, room: float, rng: Rng) -> tuple[list[Standing], Camera]:
    """Places a shot's figures in a panel of `width` by `height` units whose top `room` units are kept for words."""
    speakers = [line.speaker for line in shot.lines if line.speaker]
    cast = sorted(shot.figures, key=lambda figure: speakers.index(figure[0]) if figure[0] in speakers else 9)
    slot = width / len(cast)
    size = _size(shot, slot, height - room, rng)
    sizes = [size] * len(cast)
    if len(cast) == 2 and rng.uniform() < 0.5:  # one farther from the camera than the other
        sizes[int(rng.integers(2))] *= float(rng.uniform(0.78, 0.9))
    below = {"medium": 112.0, "close": 62.0}.get(shot.framing)  # head to the lower edge, own units; feet show without
    ground = height if below else height * (0.95 - 0.035 * float(rng.uniform()))
    placed = []
    for index, (name, action, mood) in enumerate(cast):
        own = sizes[index] * (1.12 if name == "fig" and shot.framing == "medium" else 1.0)
        centre = slot * (index + 0.5) + float(rng.uniform(-0.06, 0.06)) * slot
        centre = min(max(centre, 66 * own), width - 66 * own)
        drop = min(below, HEIGHTS[name] - 8) if below else HEIGHTS[name]
        depth = 0.0 if below else 130 * (own - size) + float(rng.uniform(-0.01, 0.01)) * height
        mirror = bool(rng.integers(2)) if len(cast) == 1 else index >= len(cast) / 2
        placed.append(Standing(name, centre, ground - drop * own + depth, own, mirror, _pose(action, mood, rng)))
    zoom = max(size * {"wide": 0.92, "full": 0.95, "medium": 0.72, "close": 0.6}[shot.framing], width / 1500)
    across = width / 2 + float(rng.uniform(-1, 1)) * min(max(0.0, 860 - width / 2 / zoom), 420) * zoom
    level = height - below * size + 190 * zoom if below else ground
    return placed, Camera(zoom, across, level)


def _size(shot: Shot, slot: float, free: float, rng: Rng) -> float:
    """Panel units to a figure's own unit, so that its head fits the free height and its arms its share of the width."""
    ears = 14 if any(name == "mosk" for name, _, _ in shot.figures) else 0
    if shot.framing == "medium":
        return min(free / (178 + ears), slot / 122)
    if shot.framing == "close":
        return min(free / (128 + ears), slot / 128)
    waving = len(shot.figures) > 1 and any(act in ("cheer", "reach", "point", "run") for _, act, _ in shot.figures)
    fill = float(rng.uniform(0.72, 0.94)) if shot.framing == "wide" else 1.0
    return min(free * fill / 268, slot / (146 if waving else 120))


def _burst(canvas: Canvas, pen: Pen, face: Standing, rng: Rng, extent: tuple[float, float]) -> None:
    outer, inner = BURSTS[int(rng.integers(len(BURSTS)))]
    canvas.wash(inner, outer)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 56))
    far = float(np.hypot(*extent)) * 1.2
    for angle, near, half in zip(
        angles, rng.uniform(78, 120, 56) * face.size, rng.uniform(0.006, 0.03, 56), strict=True
    ):
        ends = [(np.cos(angle + side * half) * far, np.sin(angle + side * half) * far) for side in (-1, 1)]
        wedge = [
            (face.x + np.cos(angle) * near, face.y + np.sin(angle) * near),
            *[(face.x + x, face.y + y) for x, y in ends],
        ]
        pen.fill(wedge, mixed(outer, (70, 50, 70), 0.12 if half < 0.018 else 0.3), ink=0, smooth=False)


def _backdrop(canvas: Canvas, pen: Pen, shot: Shot, camera: Camera, weather: Weather, seed: int, rng: Rng) -> None:
    place = np.random.default_rng([seed, list(SCENES).index(shot.scene)])
    world = replace(pen.at(camera.x, camera.y, camera.zoom), light=weather.light, ink=weather.ink, line=0.95)
    SCENES[shot.scene](canvas, world, weather, place)
    if shot.weather == "rain":
        rain(canvas, place, pen.base, 900)
    elif shot.scene == "cave":
        sparks(canvas, rng, pen.base, (150, 236, 240))
    elif shot.scene == "forest" and shot.weather == "dusk":
        sparks(canvas, rng, pen.base, (255, 236, 140))


def _shadow(canvas: Canvas, pen: Pen, figure: Standing) -> None:
    feet = figure.y + (HEIGHTS[figure.name] - 3) * figure.size
    spot = pen.place([(figure.x, feet)])[0]
    half = (int(54 * figure.size * pen.base), max(2, int(9 * figure.size * pen.base)))
    small = np.clip(1.15 - np.hypot(*np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 16))), 0, 0.62)
    canvas.darken((int(spot[0]), int(spot[1])), half, small)


def draw_shot(
    canvas: Canvas, pen: Pen, shot: Shot, extent: tuple[float, float], rng: Rng, seed: int, title: str = ""
) -> tuple[Face, ...]:
    """Draws a whole panel, its letters included.

    Args:
        canvas: the panel's canvas, blank.
        pen: over the canvas, in panel units.
        shot: what to draw.
        extent: width and height, panel units.
        rng: what varies from panel to panel.
        seed: of the series; what stays the same in a place depends on it alone.
        title: a chapter's title to letter across the top, or nothing.

    Returns:
        Where the heads are, panel units.
    """
    weather = WEATHERS[shot.weather]
    top = TITLE_ROOM if title else 0.0
    room = min(needs(shot.lines, extent[0], pen.base), extent[1] * 0.46) + top
    if shot.framing == "close" and any(line.kind == "sound" for line in shot.lines):
        room += 44
    figures, camera = stage(shot, *extent, room, rng)
    excited = shot.framing == "close" and figures[0].pose.mood in ("shock", "angry", "laugh")
    if excited:
        _burst(canvas, pen, figures[0], rng, extent)
    else:
        _backdrop(canvas, pen, shot, camera, weather, seed, rng)
    light = weather.light if not excited else replace(weather.light, tint=(1.0, 1.0, 1.0))
    lit = replace(pen, light=light.softened(FIGURE_TINT))
    for figure in sorted(figures, key=lambda one: one.y + HEIGHTS[one.name] * one.size):
        if shot.framing in ("wide", "full"):
            _shadow(canvas, pen, figure)
        own = replace(lit.at(figure.x, figure.y, figure.size, mirror=figure.mirror), owner=figure.name)
        DRAWINGS[figure.name](own, figure.pose)
    faces = tuple(_face(figure) for figure in figures)
    if shot.light:
        faces = (*faces, _add_light(pen, figures, extent, room))
    if not excited:
        _before(canvas, replace(pen, light=weather.light), shot, extent, rng)
    if title:
        _title(pen, title, extent)
    place_lines(pen, shot.lines, faces, extent, rng, top)
    return faces


def _add_light(pen: Pen, figures: list[Standing], extent: tuple[float, float], room: float) -> Face:
    """Draws the light between the first two heads, or beside the only one; what it covers is no place for balloons."""
    x = (figures[0].x + figures[1].x) / 2 if len(figures) > 1 else extent[0] * 0.84
    gap = min((abs(x - figure.x) - 50 * figure.size for figure in figures[:2]), default=0.0)
    size = max(0.3, min(1.2, 0.7 * figures[0].size, gap / 36))
    y = max(room + 46 * size, figures[0].y - 20 * size)
    draw_light(pen.at(x, y, size), "happy")
    return Face("light", x, y, 36 * size)


def _before(canvas: Canvas, pen: Pen, shot: Shot, extent: tuple[float, float], rng: Rng) -> None:
    if shot.framing in ("wide", "full") and rng.uniform() < 0.55:
        foreground(
            pen.at(extent[0] / 2, extent[1], extent[1] / 420 + 0.1).at(
                extent[0] * 0.28 * float(rng.choice([-1, 1])), 0
            ),
            shot.scene,
            rng,
        )
    if shot.weather == "rain":
        rain(canvas, rng, pen.base, 1100)


def _face(figure: Standing) -> Face:
    lower = 6 * figure.size if figure.name == "fig" else 0.0
    return Face(
        figure.name,
        figure.x,
        figure.y + lower - (0 if figure.name == "fig" else 4 * figure.size),
        HEAD_RADII[figure.name] * figure.size,
    )


def _title(pen: Pen, title: str, extent: tuple[float, float]) -> None:
    draw_sign(pen, SERIES.upper(), (extent[0] / 2, 48), 66, (255, 236, 150), rim=(38, 40, 84))
    draw_sign(pen, title, (extent[0] / 2, 96), 22, (255, 255, 255), rim=(38, 40, 84))
