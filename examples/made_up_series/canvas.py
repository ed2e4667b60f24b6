"""One panel's canvas and the pen that draws on it: inked shapes, cel shading, brush lines, a map of what shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageChops, ImageDraw

SUPERSAMPLE = 3  # panels are drawn at three times their final size and reduced, which smooths every edge
INK = (34, 28, 38)

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]] | Float[np.ndarray, "n 2"]


@dataclass(frozen=True)
class Light:
    """What falls on flat colours: a multiplier per channel, and one more for the side in shadow."""

    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)  # 1 leaves the true colour as it is
    shade: tuple[float, float, float] = (0.76, 0.74, 0.84)

    def lit(self, colour: RGB) -> RGB:
        """The colour on the lit side, RGB in [0, 255]."""
        return _scaled(colour, self.tint)

    def shaded(self, colour: RGB) -> RGB:
        """The colour on the side in shadow, RGB in [0, 255]."""
        return _scaled(_scaled(colour, self.tint), self.shade)

    def softened(self, share: float) -> Light:
        """The same light with only `share` in [0, 1] of its tint, as figures get it so that they stay recognisable."""
        red, green, blue = (1 + (value - 1) * share for value in self.tint)
        return replace(self, tint=(red, green, blue))


def _scaled(colour: RGB, factors: tuple[float, float, float]) -> RGB:
    red, green, blue = (min(255, max(0, round(c * f))) for c, f in zip(colour, factors, strict=True))
    return red, green, blue


def mixed(first: RGB, second: RGB, share: float) -> RGB:
    """The colour `share` in [0, 1] of the way from `first` to `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def smoothed(points: Points, closed: bool = True, steps: int = 6) -> Float[np.ndarray, "m 2"]:
    """A Catmull-Rom curve through the points, `steps` points for each of theirs."""
    knots = np.asarray(points, float)
    ends = (knots[-1:], knots[:2]) if closed else (2 * knots[:1] - knots[1:2], 2 * knots[-1:] - knots[-2:-1])
    padded = np.concatenate([ends[0], knots, ends[1]])
    before, here, there, after = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * here
        + (there - before) * t
        + (2 * before - 5 * here + 4 * there - after) * t**2
        + (3 * here - before - 3 * there + after) * t**3
    )
    path: Float[np.ndarray, "m 2"] = curve.reshape(-1, 2)  # from knots, steps, 2
    return path if closed else np.concatenate([path, knots[-1:]])


def oval(x: float, y: float, rx: float, ry: float, turn: float = 0.0, count: int = 28) -> Float[np.ndarray, "n 2"]:
    """Points round an ellipse; `turn` in radians."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    flat = np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=1)
    cosine, sine = np.cos(turn), np.sin(turn)
    turned: Float[np.ndarray, "n 2"] = flat @ np.array([[cosine, sine], [-sine, cosine]]) + (x, y)
    return turned


def box(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    """The corners of a rectangle."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _outwards(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    following = np.concatenate([points[1:], points[:1]])
    edges = following - points
    lengths = np.maximum(np.hypot(edges[:, 0], edges[:, 1]), 1e-6)[:, None]
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / lengths
    area = np.sum(points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1])
    before = np.concatenate([normals[-1:], normals[:-1]])
    mitre = (normals + before) / np.maximum(1 + np.sum(normals * before, axis=1), 0.5)[:, None]
    outwards: Float[np.ndarray, "n 2"] = mitre * np.sign(area)
    return outwards


def _flat(points: Float[np.ndarray, "n 2"]) -> list[float]:
    values: list[float] = points.ravel().tolist()
    return values


class Canvas:
    """One panel's pixels at SUPERSAMPLE size, and at final size a map of which character's part shows at each pixel."""

    def __init__(self, width: int, height: int) -> None:
        """An empty panel of `width` by `height` final pixels."""
        self.image = Image.new("RGB", (width * SUPERSAMPLE, height * SUPERSAMPLE), (255, 255, 255))
        self.shows = Image.new("L", (width, height), 0)
        self.draw = ImageDraw.Draw(self.image)
        self.draw_shows = ImageDraw.Draw(self.shows)
        self.labels: dict[str, int] = {}  # "character/part" -> value in `shows`; 0 is anything else

    def label(self, part: str) -> int:
        """The value that stands for a part in `shows`."""
        return self.labels.setdefault(part, len(self.labels) + 1) if part else 0

    def polygon(self, points: Float[np.ndarray, "n 2"], colour: RGB, part: str = "") -> None:
        """Fills a polygon given in supersampled pixels."""
        self.draw.polygon(_flat(points), fill=colour)
        self.draw_shows.polygon(_flat(points / SUPERSAMPLE), fill=self.label(part))

    def paste(self, colour: RGB, mask: Image.Image, corner: tuple[int, int], part: str = "") -> None:
        """Fills where `mask` is set; `corner` is in supersampled pixels, a multiple of SUPERSAMPLE."""
        self.image.paste(colour, corner, mask)
        small = mask.reduce(SUPERSAMPLE).point([0] + [255] * 255)
        self.shows.paste(self.label(part), (corner[0] // SUPERSAMPLE, corner[1] // SUPERSAMPLE), small)

    def wash(self, top: RGB, bottom: RGB, start: float = 0.0, end: float = 1.0) -> None:
        """Covers the panel with a vertical gradient that runs between `start` and `end`, shares of its height."""
        width, height = self.image.size
        share = np.clip((np.linspace(0, 1, height) - start) / max(end - start, 1e-3), 0, 1)[:, None]
        column = (np.asarray(top) * (1 - share) + np.asarray(bottom) * share + 0.5).astype(np.uint8)
        self.image.paste(Image.fromarray(column[:, None, :]).resize((width, height), Image.Resampling.NEAREST))

    def glow(self, x: float, y: float, radius: float, colour: RGB, strength: float) -> None:
        """Adds a soft disc of light; x, y and radius in supersampled pixels, `strength` in [0, 1]."""
        left, top = max(0, int(x - radius)), max(0, int(y - radius))
        right, bottom = min(self.image.width, int(x + radius)), min(self.image.height, int(y + radius))
        if right - left < 2 or bottom - top < 2:
            return
        rows, columns = np.mgrid[top:bottom, left:right].astype(np.float32)
        near = np.clip(1 - np.hypot(columns - x, rows - y) / radius, 0, 1) ** 2
        mask = Image.fromarray((near * 255 * strength).astype(np.uint8))
        self.image.paste(colour, (left, top), mask)

    def darken(self, centre: tuple[int, int], half: tuple[int, int], amount: Float[np.ndarray, "h w"]) -> None:
        """Lays a soft shadow of `half` width and height round `centre`, supersampled pixels; `amount` in [0, 1]."""
        mask = Image.fromarray((amount * 255).astype(np.uint8)).resize((2 * half[0] + 1, 2 * half[1] + 1))
        self.image.paste((40, 32, 56), (centre[0] - half[0], centre[1] - half[1]), mask)

    def pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        """The panel at final size."""
        return np.asarray(self.image.resize(self.shows.size, Image.Resampling.LANCZOS))


@dataclass(frozen=True)
class Pen:
    """Draws on a canvas in its own coordinates, under one light."""

    canvas: Canvas
    matrix: Float[np.ndarray, "2 2"]  # own coordinates to supersampled pixels, for points as rows
    origin: tuple[float, float]  # where (0, 0) falls, supersampled pixels
    base: float  # supersampled pixels to a panel unit
    light: Light = Light()
    line: float = 1.5  # width of outlines at scale 1, panel units; it grows with the root of the scale
    owner: str = ""  # the character drawn, which leads its parts' names
    ink: RGB = INK

    @classmethod
    def over(cls, canvas: Canvas, unit: float) -> Pen:
        """A pen whose unit is `unit` final pixels and whose origin is the panel's top left corner."""
        return cls(canvas, np.eye(2) * unit * SUPERSAMPLE, (0.0, 0.0), unit * SUPERSAMPLE)

    @property
    def scale(self) -> float:
        """Supersampled pixels to a unit."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    def at(self, x: float, y: float, size: float = 1.0, turn: float = 0.0, mirror: bool = False) -> Pen:
        """A pen moved to (x, y), then scaled by `size`, turned clockwise by `turn` radians, and mirrored if asked."""
        cosine, sine = np.cos(turn) * size, np.sin(turn) * size
        local = np.array([[cosine, sine], [-sine, cosine]])
        if mirror:
            local = np.array([[-1.0, 0.0], [0.0, 1.0]]) @ local
        moved = np.array([x, y]) @ self.matrix + self.origin
        return replace(self, matrix=local @ self.matrix, origin=(float(moved[0]), float(moved[1])))

    def place(self, points: Points) -> Float[np.ndarray, "n 2"]:
        """The points in supersampled pixels."""
        placed: Float[np.ndarray, "n 2"] = np.asarray(points, float) @ self.matrix + self.origin
        return placed

    def fill(
        self,
        points: Points,
        colour: RGB,
        part: str = "",
        *,
        ink: float = 1.0,
        shade: float = 0.0,
        smooth: bool = True,
    ) -> None:
        """Fills a closed shape, inked round its outside and shaded on the side away from the light.

        Args:
            points: the outline, or its knots when `smooth`.
            colour: the true colour; the light is applied here.
            part: the character's part that this is, for probes; empty for anything else.
            ink: outline width in units of the pen's line; 0 draws none.
            shade: how far the lit side reaches inwards, own units; 0 leaves the shape flat.
            smooth: draw a curve through the points.
        """
        placed = self.place(points)
        if self._unseen(placed):
            return
        if smooth:
            placed = smoothed(placed)
        if ink:
            outwards = _outwards(placed)
            weight = 0.62 + 0.75 * np.maximum(0, outwards @ np.array([0.45, 0.8]))
            self.canvas.polygon(placed + outwards * (weight * ink * self._width())[:, None], self.ink)
        name = f"{self.owner}/{part}" if part else ""
        self.canvas.polygon(placed, self.light.lit(colour), name)
        if shade:
            self._paint_inside(placed, placed - np.array([0.5, 0.85]) * shade * self.scale, colour, outside=True)

    def inside(self, outline: Points, points: Points, colour: RGB, part: str = "", smooth: bool = True) -> None:
        """Fills a shape only where it lies inside the smoothed `outline`, with no ink."""
        shape = self.place(smoothed(points) if smooth else points)
        name = f"{self.owner}/{part}" if part else ""
        self._paint_inside(self.place(smoothed(outline)), shape, colour, outside=False, part=name)

    def stroke(self, points: Points, width: float = 2.0, colour: RGB | None = None, taper: float = 0.75) -> None:
        """Draws a brush line through the points, thinner towards its ends by the share `taper`."""
        placed = self.place(points)
        if self._unseen(placed):
            return
        path = smoothed(placed, closed=False, steps=5)
        steps = np.gradient(path, axis=0)
        steps /= np.maximum(np.hypot(steps[:, 0], steps[:, 1]), 1e-6)[:, None]
        profile = 1 - taper * np.abs(np.linspace(-1, 1, len(path))) ** 2
        side = np.stack([-steps[:, 1], steps[:, 0]], axis=1) * (profile * max(width * self.scale / 2, 0.6))[:, None]
        paint = self.ink if colour is None else self.light.lit(colour)
        self.canvas.polygon(np.concatenate([path + side, (path - side)[::-1]]), paint)

    def limb(self, points: Points, widths: Sequence[float], colour: RGB, part: str = "", shade: float = 4.0) -> None:
        """Draws an arm, leg or tail: a thick curve, as wide at each knot as `widths` says, with round ends."""
        path = smoothed(points, closed=False, steps=6)
        steps = np.gradient(path, axis=0)
        steps /= np.maximum(np.hypot(steps[:, 0], steps[:, 1]), 1e-6)[:, None]
        half = np.interp(np.linspace(0, 1, len(path)), np.linspace(0, 1, len(widths)), widths)[:, None] / 2
        side = np.stack([-steps[:, 1], steps[:, 0]], axis=1) * half
        caps = [
            end + turn * 0.8 * width
            for end, turn, width in ((path[-1], steps[-1], half[-1]), (path[0], -steps[0], half[0]))
        ]
        outline = np.concatenate([path + side, caps[0][None], (path - side)[::-1], caps[1][None]])
        self.fill(outline, colour, part, shade=shade, smooth=False)
        name = f"{self.owner}/{part}" if part else ""
        for (x, y), width in zip(points[1:-1], widths[1:-1], strict=False):  # a sharp bend would leave a hole there
            self.canvas.polygon(
                self.place(oval(x, y, width * 0.44, width * 0.44, count=12)), self.light.lit(colour), name
            )

    def _unseen(self, placed: Float[np.ndarray, "n 2"]) -> bool:
        low, high = placed.min(axis=0), placed.max(axis=0)
        slack = 0.3 * (high - low) + 8 * self._width()  # a curve leaves the box of its knots; an outline goes round it
        width, height = self.canvas.image.size
        inside = np.all(high + slack > 0) and low[0] - slack[0] < width and low[1] - slack[1] < height
        return not inside

    def _width(self) -> float:
        return max(1.0, self.line * float(np.sqrt(self.base * self.scale)))

    def _paint_inside(
        self,
        outline: Float[np.ndarray, "n 2"],
        shape: Float[np.ndarray, "m 2"],
        colour: RGB,
        *,
        outside: bool,
        part: str = "",
    ) -> None:
        size = np.array(self.canvas.image.size)
        low = np.maximum(np.floor(outline.min(axis=0)).astype(int) // SUPERSAMPLE * SUPERSAMPLE, 0)
        high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 1, size)
        if np.any(high - low < SUPERSAMPLE):
            return
        extent = (int(high[0] - low[0]), int(high[1] - low[1]))
        mask, other = Image.new("L", extent), Image.new("L", extent)
        ImageDraw.Draw(mask).polygon(_flat(outline - low), fill=255)
        ImageDraw.Draw(other).polygon(_flat(shape - low), fill=255)
        region = ImageChops.subtract(mask, other) if outside else ImageChops.multiply(mask, other)
        paint = self.light.shaded(colour) if outside else self.light.lit(colour)
        self.canvas.paste(paint, region, (int(low[0]), int(low[1])), part)
