"""How the three who are not people are drawn; the origin is the middle of the head, the ground is below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from examples.made_up_series.canvas import Light, Pen, box, oval
from examples.made_up_series.cast import CHARACTERS, Draw, Pose, brow, eye, mouth
from examples.made_up_series.people import draw_oona, draw_pip, draw_wren


def _mosk_tail(pen: Pen, sway: float) -> None:
    own = CHARACTERS["mosk"]
    lean = 12 * sway
    path = [(-14, 104), (-48, 112), (-70 - lean, 84), (-62 - lean, 50), (-80 - lean, 32)]
    pen.limb(path, (20, 19, 18, 17, 14), own["fur"], "fur")
    for x, y, turn in ((-58 - lean * 0.5, 104, 0.9), (-71 - lean, 76, 0.1), (-64 - lean, 56, -0.1)):
        pen.fill(oval(x, y, 8.6, 4.2, turn), own["stripes"], "stripes", ink=0, smooth=False)


def draw_mosk(pen: Pen, pose: Pose) -> None:
    """Draws Mosk: a blue creature, something like a cat, with big ears and a striped tail."""
    own = CHARACTERS["mosk"]
    head = pen.at(0, 2, turn=pose.tilt)
    _mosk_tail(pen, pose.sway)
    spread = 8 * pose.stride
    for side in (-1, 1):
        pen.fill(oval(side * (20 + spread), 122, 15, 8), own["fur"], "fur", shade=3, smooth=False)
    body = [(-20, 34), (20, 34), (32, 74), (32, 108), (16, 122), (-16, 122), (-32, 108), (-32, 74)]
    pen.fill(body, own["fur"], "fur", shade=7)
    pen.fill([(-12, 50), (12, 50), (19, 82), (14, 110), (-14, 110), (-19, 82)], own["belly"], "belly", ink=0)
    for side, arm in ((-1, pose.far_arm), (1, pose.near_arm)):
        turn = min(arm[0] + arm[1] * 0.4, 2.7)
        hand = (side * (24 + np.sin(turn) * 32), 62 + np.cos(turn) * 32)
        pen.limb(
            [(side * 22, 60), ((side * 24 + hand[0]) / 2 + side * 3, (62 + hand[1]) / 2), hand],
            (17, 16, 18),
            own["fur"],
            "fur",
            3,
        )
    for side in (-1, 1):
        tip = (side * 56, -72 + 5 * pose.sway * side)
        head.fill(
            [(side * 16, -40), (side * 34, -62), tip, (side * 60, -40), (side * 46, -6)], own["fur"], "fur", shade=4
        )
        head.fill(
            [(side * 30, -42), (side * 42, -54), (side * 53, -62), (side * 53, -40), (side * 46, -20)],
            own["ears"],
            "ears",
            ink=0,
        )
    skull = [(-54, 6), (-46, -26), (-20, -42), (20, -42), (46, -26), (54, 6), (40, 32), (16, 42), (-16, 42), (-40, 32)]
    head.fill(skull, own["fur"], "fur", shade=7)
    for middle, half in ((-13, 3), (0, 3.5), (13, 3)):
        stripe = [(middle - half, -46), (middle + half, -46), (middle + 1, -24), (middle - 1, -24)]
        head.inside(skull, stripe, own["stripes"], "stripes", smooth=False)
    x, y = pose.look[0] * 12, pose.look[1] * 8
    head.inside(skull, oval(x, y + 28, 27, 19), own["belly"], "belly", smooth=False)
    for side in (-1, 1):
        eye(head, x + side * 22, y + 1, 12, pose.mood, pose.look, (240, 190, 40))
        if pose.mood in ("angry", "sly", "sad", "shock"):
            brow(head, x + side * 22, y - 17, 9, pose.mood, side)
        for drop in (-2, 5):
            head.stroke([(x + side * 24, y + 22 + drop * 0.5), (x + side * 48, y + 20 + drop * 1.6)], 1.6)
    head.fill([(x * 1.1 - 5, y + 14), (x * 1.1 + 5, y + 14), (x * 1.1, y + 19)], (70, 50, 90), ink=0)
    mouth(head, x * 1.05, y + 26, 8.5, pose.mood)


def draw_tock(pen: Pen, pose: Pose) -> None:
    """Draws Tock: an old robot of verdigris plates, brass rims and a rusty patch, with a lamp in his chest."""
    own = CHARACTERS["tock"]
    head = pen.at(0, 4, turn=pose.tilt * 0.6)
    for side, arm in ((-1, pose.far_arm), (1, pose.near_arm)):
        upper, bend = arm
        elbow = (side * (46 + np.sin(upper) * 32), 72 + np.cos(upper) * 32)
        hand = (elbow[0] + side * np.sin(upper + bend) * 30, elbow[1] + np.cos(upper + bend) * 30)
        pen.limb([(side * 44, 70), elbow], (13, 12), own["joints"], "joints", 3)
        for turn in (-0.6, 0.6):
            angle = upper + bend + turn
            finger = (hand[0] + side * np.sin(angle) * 15, hand[1] + np.cos(angle) * 15)
            pen.limb([hand, finger], (8, 7), own["brass"], "brass", 2)
        pen.limb([elbow, hand], (22, 24), own["plates"], "plates", 5)
        pen.fill(oval(elbow[0], elbow[1], 9, 9), own["brass"], "brass", shade=3, smooth=False)
        reach = side * (20 + 14 * pose.stride)
        lift = 16 * max(0.0, pose.stride - 0.3) if side < 0 else 0.0
        pen.limb([(side * 18, 138), (reach, 172), (reach, 192 - lift)], (13, 12, 13), own["joints"], "joints", 3)
        pen.fill(
            [(reach - 20, 212 - lift), (reach - 16, 192 - lift), (reach + 14, 190 - lift), (reach + 24, 212 - lift)],
            own["plates"],
            "plates",
            shade=4,
            smooth=False,
        )
    pen.fill(box(-14, 34, 14, 56), own["joints"], "joints", smooth=False)
    trunk = [(-38, 54), (38, 54), (46, 66), (46, 124), (34, 146), (-34, 146), (-46, 124), (-46, 66)]
    pen.fill(trunk, own["plates"], "plates", shade=9, smooth=False)
    pen.fill([(18, 122), (42, 116), (42, 128), (32, 142), (16, 142)], own["rust"], "rust", ink=0.6, smooth=False)
    pen.fill(oval(0, 94, 24, 24), own["brass"], "brass", shade=4, smooth=False)
    pen.fill(oval(0, 94, 16, 16), own["lamp"], "lamp", ink=0.7, smooth=False)
    pen.stroke([(-9, 90), (-3, 83), (4, 82)], 3, (255, 255, 240))
    for x, y in ((-36, 64), (36, 64), (-38, 120)):
        pen.fill(oval(x, y, 3, 3), own["brass"], ink=0.5, smooth=False)
    _tock_head(head, pose)


def _tock_head(head: Pen, pose: Pose) -> None:
    own = CHARACTERS["tock"]
    head.stroke([(14, -40), (18, -58), (14, -70)], 4)
    head.fill(oval(14, -72, 6.5, 6.5), own["lamp"], "lamp", smooth=False)
    for side in (-1, 1):
        head.fill(
            box(min(side * 42, side * 54), -12, max(side * 42, side * 54), 14), own["brass"], "brass", smooth=False
        )
    skull = [(-44, 30), (-46, -10), (-34, -36), (0, -46), (34, -36), (46, -10), (44, 30), (30, 38), (-30, 38)]
    head.fill(skull, own["plates"], "plates", shade=8)
    head.inside(skull, [(-50, -26), (-30, -40), (-18, -34), (-26, -16), (-50, -10)], own["rust"], "rust", smooth=False)
    x, y = pose.look[0] * 9, pose.look[1] * 6
    for side in (-1, 1):
        head.fill(oval(x + side * 18, y - 4, 15, 15), own["brass"], "brass", shade=3, smooth=False)
        eye(head, x + side * 18, y - 4, 9.6, pose.mood, pose.look, own["lamp"])
        brow(head, x + side * 18, y - 24, 9, pose.mood, side)
    open_by = {"laugh": 9.0, "happy": 6.0, "shock": 10.0}.get(pose.mood, 3.5)
    curve = {"sad": -4.0, "angry": -3.0, "calm": 0.0, "sleepy": 0.0}.get(pose.mood, 3.0)
    grille = [
        (x - 20, y + 18 - curve),
        (x, y + 18),
        (x + 20, y + 18 - curve),
        (x + 18, y + 18 + open_by - curve),
        (x, y + 18 + open_by),
        (x - 18, y + 18 + open_by - curve),
    ]
    head.fill(grille, (62, 60, 74), ink=0.8, smooth=False)
    for slot in (-9, 0, 9):
        head.stroke([(x + slot, y + 16), (x + slot, y + 18 + open_by)], 2, own["brass"], taper=0)


def draw_fig(pen: Pen, pose: Pose) -> None:
    """Draws Fig: a mushroom sprite with a pink dotted cap."""
    own = CHARACTERS["fig"]
    for side in (-1, 1):
        pen.fill(oval(side * (16 + 8 * pose.stride), 86, 12, 7), own["stem"], "stem", shade=2, smooth=False)
    stem = [(-30, -6), (30, -6), (36, 30), (40, 66), (22, 86), (-22, 86), (-40, 66), (-36, 30)]
    for side, arm in ((-1, pose.far_arm), (1, pose.near_arm)):
        turn = min(arm[0] + arm[1] * 0.3, 2.4)
        hand = (side * (34 + np.sin(turn) * 26), 44 + np.cos(turn) * 26)
        pen.limb([(side * 32, 42), hand], (14, 13), own["stem"], "stem", 2)
    pen.fill(stem, own["stem"], "stem", shade=7)
    x, y = pose.look[0] * 10, pose.look[1] * 6 + 38
    for side in (-1, 1):
        eye(pen, x + side * 15, y - 4, 8.6, pose.mood, pose.look, (150, 70, 110))
        pen.fill(oval(x + side * 25, y + 9, 6.5, 4), (246, 178, 150), ink=0, smooth=False)
        if pose.mood in ("angry", "sly", "sad", "shock"):
            brow(pen, x + side * 15, y - 18, 7, pose.mood, side)
    mouth(pen, x, y + 13, 7.5, pose.mood)
    crown = pen.at(0, 2, turn=pose.tilt)
    cap = [(-66, 0), (-56, -34), (-28, -58), (4, -64), (34, -56), (58, -32), (66, 0), (36, 12), (0, 16), (-36, 12)]
    crown.fill(cap, own["cap"], "cap", shade=9)
    for dot_x, dot_y, size in ((-34, -22, 12), (4, -42, 11), (36, -20, 13), (0, -8, 8), (-58, -6, 8), (60, -2, 7)):
        crown.inside(cap, oval(dot_x, dot_y, size, size * 0.86), own["dots"], "dots", smooth=False)


def draw_light(pen: Pen, mood: str) -> None:
    """Draws the runaway light: a glowing drop with a face, about 30 units across."""
    lit = replace(pen, light=Light())
    pen.canvas.glow(pen.origin[0], pen.origin[1], 120 * pen.scale, (255, 240, 170), 0.95)
    for index, turn in enumerate(np.arange(0, 2 * np.pi, np.pi / 4)):
        ray = [(np.cos(turn) * reach, np.sin(turn) * reach) for reach in (31, 36, 41 + 5 * (index % 2))]
        lit.stroke(ray, 4, (255, 214, 90))
    lit.fill([(0, -34), (12, -14), (22, 4), (13, 21), (-13, 21), (-22, 4), (-12, -14)], (255, 250, 206), shade=4)
    for side in (-1, 1):
        lit.fill(oval(side * 8, 2, 3, 4.4), (70, 50, 60), ink=0, smooth=False)
        lit.fill(oval(side * 13, 9, 3.6, 2.2), (255, 196, 130), ink=0, smooth=False)
    mouth(lit, 0, 9, 4.5, mood)


DRAWINGS: Mapping[str, Draw] = MappingProxyType(
    {
        "wren": draw_wren,
        "pip": draw_pip,
        "mosk": draw_mosk,
        "tock": draw_tock,
        "oona": draw_oona,
        "fig": draw_fig,
    }
)
