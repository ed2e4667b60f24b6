"""A palette as a rule: where each hue and saturation is drawn to, whatever the light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Float64
from scipy import ndimage

from colorizer.luma import WEIGHTS, chroma_of, luma_of
from colorizer.types import Swatch

GLOOM = 16.0  # luma added before chroma is divided by it, so that the noise of the dark has no hue
NEUTRAL = 10.0  # chroma, levels, up to which a swatch is paper, ink or grey, and draws nothing
_R, _G, _B = (w / 65536 for w in WEIGHTS)
_ANGLES, _SPANS, _LIGHTS = 96, 48, 12  # nodes of the table
_HALF = 0.5  # saturation in the middle of the table
_HUE, _STRENGTH, _PALE = 0.06, 0.5, 0.01  # OKLab; a factor e ** 0.5; OKLab
_LIGHT, _LIGHT_MOST = 0.4, 6.0  # a factor e ** 0.4 of luma; how far that parts at most
_NEAR = 4.0  # squared distance at which the pull has fallen to a half
_ALIKE, _APART = 0.5, 1.0  # radians up to which hues may be of one paint, and from which they are not; pale ones too
_MOST = 1.0  # of the logarithm of saturation, either way


@dataclass(frozen=True)
class Pull:
    """The rule, tabulated over hue, saturation and luma."""

    table: Float32[np.ndarray, "2 angles spans lights"]  # turn, radians, and stretch, as `__call__` gives them

    def __call__(
        self, saturation: Float32[np.ndarray, "2 n"], luma: Float32[np.ndarray, " n"]
    ) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """What would take chroma of this saturation (chroma over luma + GLOOM) at this luma all the way.

        Returns:
            Turn, radians, and the logarithm of the factor, in [-1, 1].
        """
        size = np.hypot(saturation[0], saturation[1])
        at = np.stack(
            [
                (np.arctan2(saturation[1], saturation[0]) / (2 * np.pi) + 0.5) * _ANGLES,
                size / (size + _HALF) * _SPANS,
                luma * ((_LIGHTS - 1) / 255.0),
            ]
        )
        turn, stretch = (ndimage.map_coordinates(t, at, np.float32, order=1, mode="nearest") for t in self.table)
        return turn, stretch


def pull_of(palette: Sequence[Swatch]) -> Pull | None:
    """The rule of a palette; None where it has only neutral colours.

    A swatch is a hue and a saturation: the same paint under other light keeps both, and its chroma goes with its luma.
    Colours are compared at full light in OKLab. Hue and saturation of a colour go towards those of the swatches near
    it, the nearer the more, and all the way at a swatch; far from all swatches nothing moves.

    Cost: 60,000 comparisons for each swatch, 1 ms; the rules of the palettes seen last are kept.
    Source: inverse distance weights, Shepard, 1968; OKLab, Ottosson, 2020.
    """
    return _pull(tuple(sorted({swatch.rgb for swatch in palette})))


@lru_cache(maxsize=8)
def _pull(colours: tuple[tuple[int, int, int], ...]) -> Pull | None:
    rgb = np.array(colours, np.uint8).reshape(1, -1, 3)
    chroma, luma = chroma_of(rgb)[0].astype(np.float64), luma_of(rgb)[0].astype(np.float64)
    kept = np.hypot(chroma[:, 0], chroma[:, 1]) > NEUTRAL
    if not kept.any():
        return None
    chroma, luma = chroma[kept], luma[kept]
    wanted = chroma / (luma + GLOOM)[:, None]
    nodes = _nodes()
    apart = _apart(nodes, wanted)  # nodes swatches
    lights = np.linspace(0, 255, _LIGHTS)
    planes = [_plane(nodes, wanted, apart + _dimmed(light, luma)) for light in lights]
    table = np.stack(planes, axis=-1).reshape(2, _ANGLES + 1, _SPANS + 1, _LIGHTS)
    return Pull(np.ascontiguousarray(table, np.float32))


def _nodes() -> Float64[np.ndarray, "n 2"]:
    """Saturations at the table's nodes; the first and the last angle are the same."""
    angle = (np.arange(_ANGLES + 1) / _ANGLES - 0.5) * 2 * np.pi
    share = np.minimum(np.arange(_SPANS + 1) / _SPANS, 0.98)
    size = _HALF * share / (1 - share)
    nodes = size[None, :, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None]  # angles spans 2
    return np.asarray(nodes.reshape(-1, 2))


def _dimmed(light: float, luma: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " k"]:
    """How much less a swatch is meant at this luma than at its own; bounded, because shadows may be deep."""
    ratio = np.log((light + GLOOM) / (luma + GLOOM)) / _LIGHT
    return np.asarray(_LIGHT_MOST * (1 - np.exp(-0.5 * ratio * ratio)))


def _apart(nodes: Float64[np.ndarray, "n 2"], wanted: Float64[np.ndarray, "k 2"]) -> Float64[np.ndarray, "n k"]:
    """Squared distance of hue and saturation."""
    a, b = _full_light(nodes)[:, None], _full_light(wanted)[None]
    one, other = np.hypot(a[..., 0], a[..., 1]), np.hypot(b[..., 0], b[..., 1])
    chord = ((a - b) ** 2).sum(axis=-1) - (one - other) ** 2  # squared difference of hue, at the mean strength
    strength = np.log((one + _PALE) / (other + _PALE)) / _STRENGTH
    return np.asarray(np.maximum(chord, 0) / _HUE**2 + strength**2)


def _full_light(saturation: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
    """OKLab's a and b of this saturation where its largest channel is full."""
    blue, red = saturation[:, 0], saturation[:, 1]
    rgb = np.stack([1 + red, 1 - (_R * red + _B * blue) / _G, 1 + blue], axis=-1).clip(0)
    rgb /= rgb.max(axis=-1, keepdims=True)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(np.einsum("nc,mc->nm", linear, _TO_CONES))
    return np.asarray(np.einsum("nc,mc->nm", cones, _TO_AB))


_TO_CONES = np.array(
    [
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    ]
)
_TO_AB = np.array([(1.9779984951, -2.4285922050, 0.4505937099), (0.0259040371, 0.7827717662, -0.8086757660)])


def _plane(
    nodes: Float64[np.ndarray, "n 2"], wanted: Float64[np.ndarray, "k 2"], apart: Float64[np.ndarray, "n k"]
) -> Float64[np.ndarray, "2 n"]:
    """Turn and logarithm of the gain at every node."""
    near = 1 / (apart + 1e-6) ** 2
    target = np.einsum("nk,kc->nc", near / near.sum(axis=1, keepdims=True), wanted)
    cross = nodes[:, 0] * target[:, 1] - nodes[:, 1] * target[:, 0]
    turn = np.arctan2(cross, (nodes * target).sum(axis=1))
    rule = ((_APART - np.abs(turn)) / (_APART - _ALIKE)).clip(0, 1) / (1 + (apart.min(axis=1) / _NEAR) ** 3)
    size, goal = (np.hypot(x[:, 0], x[:, 1]) for x in (nodes, target))
    stretch = np.log((goal + 1e-3) / (size + 1e-3)).clip(-_MOST, _MOST)
    return np.stack([rule * turn, rule * stretch])
