"""The characters: their true colours, what a pose is, and the faces they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from examples.made_up_series.canvas import RGB, Pen, oval

CHARACTERS: Mapping[str, Mapping[str, RGB]] = MappingProxyType(
    {
        "wren": MappingProxyType(
            {
                "hair": (206, 66, 38),
                "scarf": (58, 158, 92),
                "coat": (52, 78, 140),
                "skin": (250, 212, 182),
                "leggings": (236, 224, 200),
                "boots": (134, 82, 52),
            }
        ),
        "pip": MappingProxyType(
            {
                "raincoat": (250, 204, 44),
                "skin": (172, 112, 74),
                "hair": (62, 42, 40),
                "trousers": (66, 120, 158),
                "boots": (214, 58, 62),
            }
        ),
        "mosk": MappingProxyType(
            {
                "fur": (78, 152, 226),
                "belly": (222, 240, 252),
                "stripes": (40, 92, 176),
                "ears": (246, 156, 178),
            }
        ),
        "tock": MappingProxyType(
            {
                "plates": (104, 178, 156),
                "brass": (220, 170, 66),
                "rust": (186, 92, 52),
                "lamp": (255, 226, 120),
                "joints": (96, 92, 104),
            }
        ),
        "oona": MappingProxyType(
            {
                "hair": (238, 236, 240),
                "shawl": (142, 78, 168),
                "skin": (234, 186, 156),
                "dress": (52, 112, 112),
                "boots": (80, 58, 60),
            }
        ),
        "fig": MappingProxyType(
            {
                "cap": (232, 74, 128),
                "dots": (255, 240, 228),
                "stem": (250, 228, 190),
            }
        ),
    }
)

MOODS = ("happy", "laugh", "calm", "sad", "shock", "angry", "sly", "sleepy")
HEIGHTS: Mapping[str, float] = MappingProxyType(  # centre of the head to the ground, own units
    {"wren": 206.0, "pip": 178.0, "mosk": 128.0, "tock": 212.0, "oona": 192.0, "fig": 92.0}
)
HEAD_RADII: Mapping[str, float] = MappingProxyType(  # what balloons keep clear of, own units
    {"wren": 58.0, "pip": 56.0, "mosk": 58.0, "tock": 58.0, "oona": 60.0, "fig": 66.0}
)


@dataclass(frozen=True)
class Pose:
    """How a character holds itself; angles in radians, arms measured outwards from hanging down."""

    mood: str = "happy"
    near_arm: tuple[float, float] = (0.35, 0.2)  # at the shoulder, at the elbow
    far_arm: tuple[float, float] = (0.35, 0.2)
    stride: float = 0.12  # 0 stands with feet together, 1 runs
    tilt: float = 0.0  # of the head
    look: tuple[float, float] = (0.25, 0.0)  # where the face points, each in [-1, 1]
    sway: float = 0.0  # of hair, scarf and tail, in [-1, 1]


ACTIONS: Mapping[str, Pose] = MappingProxyType(
    {
        "stand": Pose(),
        "wave": Pose(near_arm=(2.3, 0.5), tilt=0.08),
        "point": Pose(near_arm=(1.5, 0.05), look=(0.6, -0.05)),
        "run": Pose(near_arm=(0.9, 1.3), far_arm=(0.8, 1.2), stride=1.0, tilt=0.1, look=(0.6, 0.0), sway=1.0),
        "walk": Pose(near_arm=(0.5, 0.4), far_arm=(0.45, 0.4), stride=0.5, look=(0.5, 0.0), sway=0.5),
        "cheer": Pose(near_arm=(2.2, 0.35), far_arm=(2.2, 0.35), look=(0.1, -0.2), sway=0.3),
        "think": Pose(near_arm=(0.5, 1.75), tilt=0.12, look=(0.3, -0.3)),
        "hips": Pose(near_arm=(0.85, -1.5), far_arm=(0.85, -1.5), stride=0.3),
        "reach": Pose(near_arm=(1.15, 0.5), far_arm=(1.0, 0.6), look=(0.5, 0.2)),
        "down": Pose(near_arm=(0.12, 0.05), far_arm=(0.12, 0.05), tilt=0.14, look=(0.25, 0.5)),
    }
)


def eye(pen: Pen, x: float, y: float, size: float, mood: str, look: tuple[float, float], iris: RGB) -> None:
    """Draws one eye, about `size` units from its middle to its lid."""
    if mood == "laugh":
        pen.stroke([(x - size, y + 2), (x, y - size * 0.62), (x + size, y + 2)], size * 0.34)
        return
    if mood == "sleepy":
        pen.stroke([(x - size, y), (x, y + size * 0.6), (x + size, y)], size * 0.34)
        return
    tall = {"shock": 1.28, "angry": 0.92, "sly": 0.72, "sad": 1.0}.get(mood, 1.12) * size
    wide = size * 0.86
    pen.fill(oval(x, y, wide, tall), (255, 253, 250), ink=0, smooth=False)
    shift_x, shift_y = x + look[0] * size * 0.3, y + look[1] * size * 0.35
    share = 0.5 if mood == "shock" else 0.82
    pen.fill(oval(shift_x, shift_y, wide * share, tall * share), iris, ink=0, smooth=False)
    pen.fill(oval(shift_x, shift_y, wide * share * 0.58, tall * share * 0.62), (30, 22, 30), ink=0, smooth=False)
    pen.fill(
        oval(shift_x - size * 0.2, shift_y - tall * 0.34, size * 0.24, size * 0.27),
        (255, 255, 255),
        ink=0,
        smooth=False,
    )
    pen.stroke(
        [(x - wide * 1.1, y - tall * 0.5), (x, y - tall * 1.08), (x + wide * 1.15, y - tall * 0.45)], size * 0.36
    )
    if mood == "sly":
        pen.stroke([(x - wide, y + tall * 0.7), (x, y + tall * 0.95), (x + wide, y + tall * 0.7)], size * 0.14)


def brow(pen: Pen, x: float, y: float, size: float, mood: str, side: int) -> None:
    """Draws one eyebrow; `side` is -1 for the left one and 1 for the right one."""
    inner, outer = {"angry": (5, -4), "sly": (3, -4), "sad": (-6, 4), "shock": (-3, 1)}.get(mood, (-1, 0))
    lift = {"shock": -5, "laugh": -3, "angry": 3, "sly": 2}.get(mood, 0)
    middle = (inner + outer) / 2 - 2 + lift
    pen.stroke([(x - side * size, y + inner + lift), (x, y + middle), (x + side * size, y + outer + lift)], size * 0.32)


def mouth(pen: Pen, x: float, y: float, size: float, mood: str) -> None:
    """Draws a mouth about `size` units to each side."""
    if mood == "happy":
        shape = [
            (x - size, y - 2),
            (x, y),
            (x + size, y - 2),
            (x + size * 0.55, y + size * 0.7),
            (x - size * 0.55, y + size * 0.7),
        ]
        pen.fill(shape, (146, 40, 48), ink=0.7)
    elif mood == "laugh":
        low = y + size * 1.15
        shape = [
            (x - size * 1.1, y - 3),
            (x, y - 1),
            (x + size * 1.1, y - 3),
            (x + size * 0.6, low),
            (x - size * 0.6, low),
        ]
        pen.fill(shape, (146, 40, 48), ink=0.7)
        pen.inside(shape, oval(x, low, size * 0.7, size * 0.55), (240, 120, 120), smooth=False)
    elif mood == "shock":
        pen.fill(oval(x, y + 3, size * 0.5, size * 0.72), (120, 34, 44), ink=0.7, smooth=False)
    elif mood == "sad":
        pen.stroke([(x - size * 0.75, y + 5), (x, y - 1), (x + size * 0.75, y + 5)], 3.2)
    elif mood == "angry":
        shape = [
            (x - size * 0.85, y + 7),
            (x - size * 0.5, y - 2),
            (x, y - 3),
            (x + size * 0.5, y - 2),
            (x + size * 0.85, y + 7),
        ]
        pen.fill(shape, (128, 34, 44), ink=0.7)
        pen.inside(
            shape,
            [(x - size, y - 5), (x + size, y - 5), (x + size, y + 0.5), (x - size, y + 0.5)],
            (255, 252, 248),
            smooth=False,
        )
    elif mood == "sly":
        pen.stroke([(x - size * 0.7, y + 2), (x, y + 3), (x + size, y - 4)], 3.2)
    else:
        pen.stroke([(x - size * 0.65, y), (x, y + 3), (x + size * 0.65, y)], 3.0)


def blush(pen: Pen, x: float, y: float, skin: RGB) -> None:
    """Draws a rosy cheek."""
    red, green, blue = skin
    pen.fill(oval(x, y, 8.5, 5.0), (min(255, red + 8), int(green * 0.78), int(blue * 0.76)), ink=0, smooth=False)


Draw = Callable[[Pen, Pose], None]
