"""Printed looks of a colour picture, drawn at random: what a model learns to see through.

Independent of what the benchmarks make, on purpose: other formulas and wider ranges, so that no number is measured on
the very look that was trained on. Lengths are pixels of the picture at hand, whose longer side is 64 to 512 pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageFilter
from scipy import ndimage

from serving.colour import grey_of

_USUAL_SIDE = 336.0  # pixels; the longer side that pitches are stated for
_FINEST = 2.4  # pixels between dots; what is finer is grey at this size
_COARSEST = 6.0  # at the usual side


def grey(rgb: UInt8[np.ndarray, "h w 3"], _rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Luma alone, BT.601: the input that the benchmarks' first row has too. Draws nothing."""
    return grey_of(rgb)


def screentone(rgb: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Black ink on white in dots, lines, a grid or grain, under inked outlines.

    Drawn: the kind of screen, pitch (2.4 to 6 pixels at a longer side of 336), angle, number of tones (3 to 9, or
    continuous), how hard a dot's rim is, how far the picture is flattened first, and from which tone paper is white.
    """
    luma = _luma(rgb)
    flat = _flattened(luma, rng)
    tone = _tones(flat, rng)
    screen = _screen(luma.shape, _pitch(luma.shape, rng), rng)
    ink = np.clip((tone - screen) * rng.uniform(2, 10) + 0.5, 0, 1)
    white, black = rng.uniform(0.88, 0.99), rng.uniform(0.03, 0.15)
    printed = np.where(tone >= white, 1, np.where(tone <= black, 0, ink))
    return _bytes(np.minimum(printed, _outlines(luma, rng)))


def line_art(rgb: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Dark lines on white; tones are lost, but for deep black in half of the draws.

    Drawn: the width of the neighbourhood, the strength, whether edges between two colours count too, and whether solid
    black stays black.
    """
    luma = _luma(rgb)
    lines = _outlines(luma, rng)
    if rng.random() < 0.5:
        lines = np.minimum(lines, _edges(rgb, rng))
    if rng.random() < 0.5:
        lines = np.where(ndimage.gaussian_filter(luma, 1.0) < rng.uniform(0.08, 0.25), 0, lines)
    return _bytes(lines)


def scan(rgb: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Grey on paper, scanned: turned by up to 1.2°, soft, unevenly lit, with paper and ink off white and black.

    Drawn besides: gamma, grain, and JPEG at a quality of 30 to 90.
    """
    image = Image.fromarray(grey_of(rgb))
    turned = image.rotate(
        float(rng.uniform(-1.2, 1.2)), Image.Resampling.BICUBIC, fillcolor=int(rng.integers(225, 256))
    )
    value = np.asarray(turned, np.float32) / 255
    value = ndimage.gaussian_filter(value, rng.uniform(0.0, 0.9)) ** rng.uniform(0.75, 1.35)
    ink, paper = rng.uniform(0.0, 0.2), rng.uniform(0.82, 1.0)
    value = (ink + (paper - ink) * value) * _light(value.shape, rng)
    value = value + rng.normal(0, rng.uniform(0, 0.035), value.shape)
    return _pressed(_bytes(np.asarray(value, np.float32)), int(rng.integers(30, 91)))


def blend(rgb: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Grey and screen tone, mixed at a random strength: the published augmentation.

    Source: ColorFlow, arXiv:2412.11815, training data of the guider.
    """
    share = np.float32(rng.uniform(0, 1))
    mixed = (1 - share) * _luma(rgb) + share * (screentone(rgb, rng).astype(np.float32) / 255)
    return _bytes(mixed)


LOOKS: Mapping[str, Callable[[UInt8[np.ndarray, "h w 3"], np.random.Generator], UInt8[np.ndarray, "h w"]]] = (
    MappingProxyType({"grey": grey, "screentone": screentone, "line_art": line_art, "scan": scan, "blend": blend})
)
SHARES: Mapping[str, float] = MappingProxyType(
    {"grey": 0.3, "screentone": 0.2, "line_art": 0.15, "scan": 0.15, "blend": 0.2}
)
"""How often `degrade` draws each look; they sum to 1."""


def degrade(
    rgb: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, shares: Mapping[str, float] = SHARES
) -> UInt8[np.ndarray, "h w"]:
    """The picture in one look, drawn by `shares`.

    Args:
        rgb: sRGB.
        rng: the same state gives the same result.
        shares: by name of LOOKS; they sum to 1.

    Cost: 0.3 (grey) to 20 ms (screen tone) for 336 x 336 pixels on one core.
    """
    name = rng.choice(np.array(list(shares)), p=np.array(list(shares.values())))
    return LOOKS[str(name)](rgb, rng)


def _luma(rgb: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    return grey_of(rgb).astype(np.float32) / np.float32(255)


def _bytes(value: np.ndarray) -> UInt8[np.ndarray, "_h _w"]:
    return np.asarray(np.clip(value, 0, 1) * 255 + 0.5).astype(np.uint8)


def _pitch(shape: tuple[int, ...], rng: np.random.Generator) -> float:
    coarsest = max(_FINEST + 1, _COARSEST * max(shape) / _USUAL_SIDE)
    return float(np.exp(rng.uniform(np.log(_FINEST), np.log(coarsest))))


def _flattened(luma: Float32[np.ndarray, "h w"], rng: np.random.Generator) -> Float32[np.ndarray, "h w"]:
    """Without texture, which no hand would have screened: a median of 1 to 5 pixels, by the picture's size."""
    side = 1 + 2 * int(rng.integers(0, 3 if max(luma.shape) >= 128 else 2))
    if side == 1:
        return luma
    median = Image.fromarray(_bytes(luma)).filter(ImageFilter.MedianFilter(side))
    return np.asarray(median, np.float32) / np.float32(255)


def _tones(luma: Float32[np.ndarray, "h w"], rng: np.random.Generator) -> Float32[np.ndarray, "h w"]:
    """Continuous in a quarter of the draws, else in steps whose places are drawn."""
    bent = luma ** np.float32(rng.uniform(0.7, 1.4))
    if rng.random() < 0.25:
        return bent
    levels = int(rng.integers(3, 10))
    places = np.sort(np.concatenate([[0.0, 1.0], rng.uniform(0.05, 0.95, levels - 2)])).astype(np.float32)
    middles = (places[1:] + places[:-1]) / 2
    return places[np.searchsorted(middles, bent)].astype(np.float32)


def _screen(shape: tuple[int, ...], pitch: float, rng: np.random.Generator) -> Float32[np.ndarray, "h w"]:
    """Thresholds in [0, 1], each as frequent as any other, so that a tone t leaves a share t of paper."""
    kind = str(rng.choice(np.array(["dots", "lines", "grid", "grain"]), p=np.array([0.6, 0.2, 0.1, 0.1])))
    if kind == "grain":
        wave = ndimage.gaussian_filter(rng.standard_normal(shape), pitch / 5)
    else:
        angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 1, 2)
        y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float64)
        u = (np.cos(angle) * x + np.sin(angle) * y) / pitch + phase[0]
        v = (np.cos(angle) * y - np.sin(angle) * x) / pitch + phase[1]
        across, along = np.abs(u - np.floor(u) - 0.5), np.abs(v - np.floor(v) - 0.5)  # 0.5 at a cell's rim
        round_ = rng.uniform(0.7, 1.0)  # elliptical dots below 1
        wave = {"dots": np.hypot(across, along * round_), "lines": across, "grid": np.maximum(across, along)}[kind]
    sample = np.sort(wave.ravel()[:: max(1, wave.size // 5003)])  # a prime, which falls in step with no screen
    return np.asarray(np.interp(wave, sample, np.linspace(0, 1, sample.size)), np.float32)


def _outlines(luma: Float32[np.ndarray, "h w"], rng: np.random.Generator) -> Float32[np.ndarray, "h w"]:
    """Drawn lines, 0 black to 1 white: each pixel over the lightest of its surroundings, as a pencil sketch is made."""
    reach = 0.7 + 0.9 * max(luma.shape) / _USUAL_SIDE
    soft = ndimage.gaussian_filter(luma, rng.uniform(0.3, 0.8))
    around = ndimage.gaussian_filter(ndimage.maximum_filter(soft, size=round(reach) * 2 + 1), reach / 2)
    ratio = (soft + 0.02) / (around + 0.02)
    floor, strength = rng.uniform(0.72, 0.9), rng.uniform(2.0, 6.0)
    return np.asarray(np.clip(1 - (floor - ratio) * strength, 0, 1), np.float32)


def _edges(rgb: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> Float32[np.ndarray, "h w"]:
    """Thin lines where the colour changes, 0 black to 1 white."""
    smooth = ndimage.gaussian_filter(rgb.astype(np.float32) / 255, (*[rng.uniform(0.3, 0.7)] * 2, 0))
    steep = sum(np.abs(ndimage.sobel(smooth, axis=axis)).max(axis=2) for axis in (0, 1))
    return np.asarray(np.clip(1 - (steep - rng.uniform(0.8, 1.8)) * rng.uniform(1, 2.5), 0, 1), np.float32)


def _light(shape: tuple[int, ...], rng: np.random.Generator) -> Float32[np.ndarray, "h w"]:
    """A plane of light in (0, 1]: up to 20 % darker at one side."""
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    angle, loss = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.2)
    plane = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)  # in [-0.71, 0.71]
    return np.asarray(1 - loss * (plane + 0.71) / 1.42, np.float32)


def _pressed(value: UInt8[np.ndarray, "h w"], quality: int) -> UInt8[np.ndarray, "h w"]:
    """After a JPEG file of that quality."""
    file = io.BytesIO()
    Image.fromarray(value).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))
