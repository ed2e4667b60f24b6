"""How the three people of the series are drawn; the origin is the middle of the head, the ground is below it."""

from __future__ import annotations

import numpy as np

from examples.made_up_series.canvas import INK, RGB, Pen, oval
from examples.made_up_series.cast import CHARACTERS, Pose, blush, brow, eye, mouth

FACE = [(-40, -14), (-30, -40), (0, -48), (30, -40), (40, -14), (38, 12), (24, 34), (0, 43), (-24, 34), (-38, 12)]


def _arm(
    pen: Pen, side: int, pose: tuple[float, float], sleeve: RGB, part: str, skin: RGB, shoulder: tuple[float, float]
) -> None:
    upper, bend = pose
    x, y = shoulder[0] * side, shoulder[1]
    elbow = (x + side * np.sin(upper) * 34, y + np.cos(upper) * 34)
    hand = (elbow[0] + side * np.sin(upper + bend) * 33, elbow[1] + np.cos(upper + bend) * 33)
    pen.fill(oval(hand[0], hand[1], 9.5, 9.5), skin, "skin", shade=3, smooth=False)
    wrist = (elbow[0] + (hand[0] - elbow[0]) * 0.8, elbow[1] + (hand[1] - elbow[1]) * 0.8)
    pen.limb([(x, y), elbow, wrist], (21, 19, 21), sleeve, part)


def _legs(pen: Pen, stride: float, hip: float, ground: float, cloth: RGB, boots: RGB, part: str) -> None:
    for side in (-1, 1):
        reach = side * (12 + 26 * stride)
        lift = 30 * max(0.0, stride - 0.4) if side < 0 else 0.0
        knee = (side * 12 + reach * 0.45 + 6 * stride, (hip + ground) / 2 - lift * 0.3)
        foot = (reach + (-14 * stride if side < 0 else 0), ground - 10 - lift)
        pen.limb([(side * 11, hip), knee, foot], (24, 20, 17), cloth, part)
        ankle = (foot[0], foot[1] - 24)
        pen.limb([ankle, (foot[0], foot[1] - 8)], (20, 19), boots, "boots", shade=3)
        pen.fill(
            [
                (foot[0] - 11, foot[1] - 8),
                (foot[0] + 8, foot[1] - 8),
                (foot[0] + 21, foot[1] + 2),
                (foot[0] + 20, foot[1] + 10),
                (foot[0] - 11, foot[1] + 10),
            ],
            boots,
            "boots",
            shade=3,
        )


def _features(pen: Pen, pose: Pose, skin: RGB, iris: RGB) -> None:
    x, y = pose.look[0] * 11, pose.look[1] * 8
    for side in (-1, 1):
        narrow = 1 - 0.14 * max(0.0, side * pose.look[0])
        blush(pen, x + side * 25 * narrow, y + 18, skin)
        eye(pen, x + side * 16.5 * narrow, y + 3, 9.2 * narrow, pose.mood, pose.look, iris)
    pen.stroke([(x * 1.25 + 1, y + 12), (x * 1.25 + 4, y + 15), (x * 1.25, y + 16.5)], 2.2)
    mouth(pen, x * 1.1, y + 25, 10.5, pose.mood)


def _brows(pen: Pen, pose: Pose, height: float) -> None:
    for side in (-1, 1):
        brow(pen, pose.look[0] * 11 + side * 17.5, pose.look[1] * 8 + height, 8.5, pose.mood, side)


def _wren_back_hair(pen: Pen, hair: RGB, sway: float) -> None:
    swing = -26 * sway
    tail = [
        (-24, -34),
        (-58 + swing * 0.4, -30),
        (-82 + swing, 4),
        (-78 + swing * 1.7, 52 - 20 * sway),
        (-60 + swing * 1.5, 40 - 12 * sway),
        (-56 + swing, 20),
        (-44, 6),
        (-26, -4),
    ]
    pen.fill(tail, hair, "hair", shade=9)
    pen.stroke([(-40, -22), (-64 + swing * 0.6, -4), (-70 + swing * 1.3, 30 - 14 * sway)], 2.4)
    pen.fill(
        [
            (-46, -16),
            (-30, -50),
            (4, -60),
            (38, -48),
            (50, -12),
            (48, 22),
            (40, 44),
            (24, 34),
            (-24, 34),
            (-42, 44),
            (-50, 18),
        ],
        hair,
        "hair",
        shade=0,
    )


def draw_wren(pen: Pen, pose: Pose) -> None:
    """Draws Wren: red ponytail, green scarf, blue coat."""
    own = CHARACTERS["wren"]
    head = pen.at(0, 4, turn=pose.tilt)
    _wren_back_hair(head, own["hair"], pose.sway)
    _arm(pen, -1, pose.far_arm, own["coat"], "coat", own["skin"], (24, 64))
    _legs(pen, pose.stride, 126, 206, own["leggings"], own["boots"], "leggings")
    flare = 8 * pose.stride
    pen.fill(
        [
            (-20, 48),
            (20, 48),
            (29, 66),
            (31, 100),
            (44 + flare, 146),
            (14, 152),
            (-14, 152),
            (-44 - flare, 146),
            (-31, 100),
            (-29, 66),
        ],
        own["coat"],
        "coat",
        shade=9,
    )
    pen.stroke([(3, 70), (5, 110), (4, 150)], 2.2)
    for y in (84, 104, 124):
        pen.fill(oval(12, y, 3.4, 3.4), (240, 206, 120), ink=0.6, smooth=False)
    wave = 20 * pose.sway
    pen.fill(
        [
            (-22, 50),
            (-12, 58),
            (-24 - wave, 92),
            (-34 - wave * 1.7, 116 - 8 * abs(pose.sway)),
            (-48 - wave * 1.9, 108 - 10 * abs(pose.sway)),
            (-36 - wave, 78),
        ],
        own["scarf"],
        "scarf",
        shade=6,
    )
    _arm(pen, 1, pose.near_arm, own["coat"], "coat", own["skin"], (24, 64))
    pen.fill(
        [(-34, 44), (-18, 36), (18, 36), (34, 44), (34, 58), (16, 67), (-16, 67), (-34, 58)],
        own["scarf"],
        "scarf",
        shade=5,
    )
    pen.stroke([(-28, 52), (0, 59), (26, 51)], 2.0)
    head.fill(FACE, own["skin"], "skin", shade=5)
    _features(head, pose, own["skin"], (62, 120, 84))
    x = pose.look[0] * 6
    fringe = [
        (-44, 8),
        (-48, -22),
        (-32, -52),
        (0, -62),
        (32, -52),
        (48, -22),
        (45, 10),
        (37, -10),
        (26 + x, -22),
        (16 + x, -12),
        (4 + x, -28),
        (-14 + x, -12),
        (-22 + x, -24),
        (-36, -8),
    ]
    head.fill(fringe, own["hair"], "hair", shade=7)
    head.stroke([(4 + x, -28), (2, -44), (-8, -54)], 2.0)
    head.stroke([(26 + x, -22), (22, -38), (12, -50)], 1.8)
    head.stroke([(-26, -44), (-12, -50), (2, -50)], 4.0, (250, 142, 92))
    _brows(head, pose, -14)


def draw_pip(pen: Pen, pose: Pose) -> None:
    """Draws Pip: a small boy in a yellow raincoat, hood up, red boots."""
    own = CHARACTERS["pip"]
    head = pen.at(0, 2, turn=pose.tilt)
    _arm(pen, -1, pose.far_arm, own["raincoat"], "raincoat", own["skin"], (24, 66))
    _legs(pen, pose.stride, 118, 178, own["trousers"], own["boots"], "trousers")
    flare = 6 * pose.stride
    pen.fill(
        [(-22, 46), (22, 46), (34, 76), (46 + flare, 132), (0, 138), (-46 - flare, 132), (-34, 76)],
        own["raincoat"],
        "raincoat",
        shade=9,
    )
    pen.stroke([(1, 54), (3, 90), (2, 136)], 2.2)
    for y in (74, 96, 118):
        pen.stroke([(-6, y), (8, y)], 3.2)
    pen.fill([(16, 100), (34, 98), (37, 116), (18, 119)], own["raincoat"], "raincoat", ink=0.8, smooth=False)
    _arm(pen, 1, pose.near_arm, own["raincoat"], "raincoat", own["skin"], (24, 66))
    hood = [
        (-52, 0),
        (-46, -36),
        (-20, -58),
        (-2, -64),
        (24, -57),
        (46, -36),
        (52, 0),
        (46, 34),
        (24, 52),
        (-24, 52),
        (-46, 34),
    ]
    head.fill(hood, own["raincoat"], "raincoat", shade=9)
    x = pose.look[0] * 7
    opening = oval(x, 0, 40, 41)
    head.fill(opening, own["hair"], "hair", ink=0.8, smooth=False)
    head.fill(oval(x, 4, 37, 36), own["skin"], "skin", ink=0, shade=4, smooth=False)
    _features(head, pose, own["skin"], (58, 36, 30))
    head.fill(
        [
            (x - 34, -14),
            (x - 26, -32),
            (x, -40),
            (x + 26, -32),
            (x + 34, -14),
            (x + 20, -20),
            (x + 12, -10),
            (x + 2, -21),
            (x - 10, -9),
            (x - 20, -20),
        ],
        own["hair"],
        "hair",
        ink=0.5,
    )
    head.stroke([(-44, -24), (-30, -46), (-10, -57)], 3.4, (255, 236, 150))
    _brows(head, pose, -13)


def draw_oona(pen: Pen, pose: Pose) -> None:
    """Draws Oona: the old keeper with white hair, round glasses and a purple shawl."""
    own = CHARACTERS["oona"]
    head = pen.at(0, 2, turn=pose.tilt)
    head.fill(oval(-6, -58, 22, 19), own["hair"], "hair", shade=6, smooth=False)
    _arm(pen, -1, pose.far_arm, own["dress"], "dress", own["skin"], (24, 70))
    _legs(pen, pose.stride * 0.4, 150, 192, own["boots"], own["boots"], "boots")
    pen.fill(
        [(-24, 60), (24, 60), (36, 110), (54, 176), (0, 184), (-54, 176), (-36, 110)], own["dress"], "dress", shade=10
    )
    for x in (-26, 2, 28):
        pen.stroke([(x * 0.7, 120), (x, 150), (x * 1.15, 178)], 2.0)
    _arm(pen, 1, pose.near_arm, own["dress"], "dress", own["skin"], (24, 70))
    shawl = [(-22, 40), (22, 40), (42, 66), (46, 92), (22, 104), (2, 124), (-20, 104), (-46, 92), (-42, 66)]
    pen.fill(shawl, own["shawl"], "shawl", shade=8)
    pen.stroke([(-16, 46), (0, 72), (2, 120)], 2.2)
    pen.stroke([(18, 46), (8, 62), (0, 72)], 2.2)
    for x, y in ((-28, 84), (28, 84), (-12, 98), (16, 96), (-34, 68), (34, 66)):
        pen.fill(oval(x, y, 3, 3), (244, 206, 96), ink=0, smooth=False)
    pen.fill(oval(0, 74, 5.5, 5.5), (220, 170, 66), ink=0.7, smooth=False)
    head.fill([(-48, 0), (-42, -34), (0, -52), (42, -34), (48, 0), (40, 26), (-40, 26)], own["hair"], "hair", shade=0)
    head.fill(FACE, own["skin"], "skin", shade=5)
    _features(head, pose, own["skin"], (74, 84, 120))
    nose = (pose.look[0] * 11, pose.look[1] * 8)
    for side in (-1, 1):
        ring = oval(nose[0] + side * 17, nose[1] + 4, 15, 15, count=36)
        head.stroke(np.concatenate([ring, ring[:2]]), 2.6, INK, taper=0.0)
    head.stroke([(nose[0] - 3, nose[1] + 3), (nose[0], nose[1] + 1), (nose[0] + 3, nose[1] + 3)], 2.6)
    head.fill(
        [
            (-46, 2),
            (-44, -30),
            (-20, -50),
            (0, -53),
            (22, -49),
            (44, -30),
            (46, 2),
            (36, -20),
            (12, -33),
            (0, -40),
            (-14, -32),
            (-36, -18),
        ],
        own["hair"],
        "hair",
        shade=5,
    )
    head.stroke([(0, -40), (-2, -48), (-6, -54)], 1.8)
    _brows(head, pose, -17)
