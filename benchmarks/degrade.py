"""Printed-looking versions of a colour page: grey, screentone, line art and a scan; all deterministic.

No freely licensed colour manga with screentone was found, so queries of that look are made from colour pages.
Lengths scale with the page, so that a page of twice the size gets the same picture at twice the size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from scipy import ndimage

PAGE_HEIGHT = 1400.0  # pixels; the height that lengths below are stated for
TONES = np.array([0.0, 0.22, 0.45, 0.65, 0.82, 0.93, 1.0], np.float32)  # printed reflectances: ink … six tones … paper
# Pixels between dots at PAGE_HEIGHT. Print has 50 to 65 dots an inch, 2.1 to 2.8 pixels on a B5 page of that height,
# which a page of this size can't show; 3 pixels is the finest that stays black on white.
SCREEN_PITCH = (3.0, 4.2)  # 33 to 46 dots an inch
COARSE_PITCH = (4.6, 6.2)  # 22 to 30 dots an inch: a harder case than print
SCREEN_EDGE = 3.0  # how hard a dot's rim is: 1 is a soft ramp, large is one-bit


def grey(page: UInt8[np.ndarray, "h w 3"], _seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """The page without its colour: PIL `convert("L")` in three channels. The seed has no effect."""
    return _rgb(_luma(page))


def screentone(
    page: UInt8[np.ndarray, "h w 3"], seed: int = 0, pitches: tuple[float, float] = SCREEN_PITCH
) -> UInt8[np.ndarray, "h w 3"]:
    """The page as black ink on white: flat tone levels as dots or lines of one screen each, and inked outlines.

    The tones are the page's smoothed luma, posterised to seven levels; every level is printed with its own pattern
    (dots, or parallel lines for one of them), whose share of black is the level's darkness.

    Args:
        page: RGB.
        seed: chooses the pitch and the angle of the screens and which level gets lines.
        pitches: shortest and longest distance between dots, in pixels of a page 1400 pixels high.
    """
    rng = np.random.default_rng(seed)
    unit = page.shape[0] / PAGE_HEIGHT
    tone = _smooth_tone(_luma(page), unit)
    level = np.abs(tone[..., None] - TONES).argmin(-1)
    pitch = max(rng.uniform(*pitches) * unit, 3.0)
    angle = rng.uniform(30, 60)
    lined = int(rng.integers(2, len(TONES) - 2))
    printed = TONES[level]
    dots = _screen(page.shape[:2], pitch, angle, lines=False)
    stripes = _screen(page.shape[:2], pitch, angle + 60, lines=True)
    threshold = np.where(level == lined, stripes, dots)
    ink = np.clip((printed - threshold) * SCREEN_EDGE * pitch / 2 + 0.5, 0, 1)
    ink = np.where(printed <= 0, 0, np.where(printed >= 1, 1, ink))
    return _rgb(np.minimum(ink, _lines(_luma(page), unit)).astype(np.float32))


def coarse_screentone(page: UInt8[np.ndarray, "h w 3"], seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """As `screentone`, with screens about twice as coarse as print."""
    return screentone(page, seed, COARSE_PITCH)


def line_art(page: UInt8[np.ndarray, "h w 3"], _seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """The page as dark outlines on white, by differences of Gaussians; tones are lost.

    The seed has no effect.


    Source: Winnemöller, Kyprianidis and Olsen, "XDoG", Computers & Graphics 2012; the soft threshold on a DoG.
    """
    return _rgb(_lines(_luma(page), page.shape[0] / PAGE_HEIGHT))


def scan(page: UInt8[np.ndarray, "h w 3"], seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """The grey page as a poor scan: up to 0.8° turned, blurred, uneven light, low contrast and grain.

    Args:
        page: RGB.
        seed: chooses the turn, the light and the grain.
    """
    rng = np.random.default_rng(seed)
    height, width = page.shape[:2]
    turned = (
        Image.fromarray(page)
        .convert("L")
        .rotate(float(rng.uniform(-0.8, 0.8)), Image.Resampling.BICUBIC, fillcolor=255)
    )
    value = ndimage.gaussian_filter(np.asarray(turned, np.float32) / 255, 0.8 * height / PAGE_HEIGHT)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
    light = 1 - float(rng.uniform(0.05, 0.15)) * (x if rng.random() < 0.5 else 1 - x) - 0.05 * y
    grain = rng.normal(0, 0.02, (height, width)).astype(np.float32)
    return _rgb(((0.12 + 0.8 * value) * light + grain).astype(np.float32))


DEGRADATIONS: Mapping[str, Callable[[UInt8[np.ndarray, "_ _ 3"], int], UInt8[np.ndarray, "_ _ 3"]]] = MappingProxyType(
    {
        "grey": grey,
        "screentone": screentone,
        "coarse-screentone": coarse_screentone,
        "line": line_art,
        "scan": scan,
    }
)


def _luma(page: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    return np.asarray(Image.fromarray(page).convert("L"), np.float32) / 255


def _rgb(value: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.repeat((np.clip(value, 0, 1) * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def _smooth_tone(value: Float32[np.ndarray, "h w"], unit: float) -> Float32[np.ndarray, "h w"]:
    """Luma without fine texture and ink lines but with its edges: closed and median-filtered small, then enlarged."""
    height, width = value.shape
    step = max(1, round(3 * unit))
    small = Image.fromarray(value).resize((-(-width // step), -(-height // step)), Image.Resampling.BOX)
    median = ndimage.median_filter(ndimage.grey_closing(np.asarray(small), size=(3, 3)), size=5)
    return np.asarray(Image.fromarray(median).resize((width, height), Image.Resampling.BICUBIC))


def _screen(shape: tuple[int, ...], pitch: float, degrees: float, *, lines: bool) -> Float32[np.ndarray, "h w"]:
    """Thresholds in [0, 1], evenly distributed, so that a tone t prints a share t of white."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    a, b = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    u = np.cos(2 * np.pi / pitch * (a * x + b * y))
    wave = u if lines else (u + np.cos(2 * np.pi / pitch * (a * y - b * x))) / 2
    levels = np.sort(wave[:: max(1, shape[0] // 64), :: max(1, shape[1] // 64)].ravel())
    return np.asarray(np.interp(wave, levels, np.linspace(0, 1, levels.size)), np.float32)


def _lines(value: Float32[np.ndarray, "h w"], unit: float) -> Float32[np.ndarray, "h w"]:
    """Ink in [0, 1] (0 is black) where a page is darker than what lies around it."""
    sigma = max(0.7, 1.1 * unit)
    fine, wide = (ndimage.gaussian_filter(value, s) for s in (sigma, 1.6 * sigma))
    darker = wide - fine - 0.006
    return np.asarray(1 - np.tanh(np.clip(darker, 0, None) * 60), np.float32)
