"""How far a picture's colours are from the truth: CIEDE2000 and PSNR, in numpy alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, UInt8

WHITE = np.array([0.95047, 1.0, 1.08883])  # D65, 2 degrees
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
POW25_7 = 25.0**7


def lab_of(pixels: UInt8[np.ndarray, "... 3"]) -> Float64[np.ndarray, "... 3"]:
    """CIELAB under D65 of sRGB in [0, 255]."""
    values = pixels / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = linear @ TO_XYZ.T / WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(one: Float64[np.ndarray, "... 3"], other: Float64[np.ndarray, "... 3"]) -> Float64[np.ndarray, "..."]:
    """Colour difference of CIELAB values; 1 is about what an eye just sees.

    Source: Sharma, Wu and Dalal, "The CIEDE2000 Color-Difference Formula", 2005, whose test data the tests use.
    """
    light1, light2 = one[..., 0], other[..., 0]
    mean = (np.hypot(one[..., 1], one[..., 2]) + np.hypot(other[..., 1], other[..., 2])) / 2
    stretch = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + POW25_7))
    a1, a2 = one[..., 1] * stretch, other[..., 1] * stretch
    chroma1, chroma2 = np.hypot(a1, one[..., 2]), np.hypot(a2, other[..., 2])
    hue1 = np.degrees(np.arctan2(one[..., 2], a1)) % 360
    hue2 = np.degrees(np.arctan2(other[..., 2], a2)) % 360
    grey = chroma1 * chroma2 == 0

    turn = np.where(grey, 0.0, (hue2 - hue1 + 180) % 360 - 180)
    turn = np.where((turn == -180) & (hue2 > hue1), 180.0, turn)
    d_light, d_chroma = light2 - light1, chroma2 - chroma1
    d_hue = 2 * np.sqrt(chroma1 * chroma2) * np.sin(np.radians(turn) / 2)

    total = hue1 + hue2
    wide = np.abs(hue1 - hue2) > 180
    hue = np.where(grey, total, np.where(wide, np.where(total < 360, total + 360, total - 360) / 2, total / 2))
    light, chroma = (light1 + light2) / 2, (chroma1 + chroma2) / 2
    weight = (
        1
        - 0.17 * np.cos(np.radians(hue - 30))
        + 0.24 * np.cos(np.radians(2 * hue))
        + 0.32 * np.cos(np.radians(3 * hue + 6))
        - 0.20 * np.cos(np.radians(4 * hue - 63))
    )
    s_light = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    s_chroma, s_hue = 1 + 0.045 * chroma, 1 + 0.015 * chroma * weight
    swing = 2 * np.sqrt(chroma**7 / (chroma**7 + POW25_7)) * np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    light_term, chroma_term, hue_term = d_light / s_light, d_chroma / s_chroma, d_hue / s_hue
    squared: Float64[np.ndarray, "..."] = light_term**2 + chroma_term**2 + hue_term**2 - swing * chroma_term * hue_term
    return np.sqrt(squared)  # type: ignore[no-any-return]  # numpy's stubs lose the array's type here


def mean_ciede2000(result: UInt8[np.ndarray, "h w 3"], truth: UInt8[np.ndarray, "h w 3"]) -> float:
    """Mean CIEDE2000 over all pixels."""
    return float(ciede2000(lab_of(result), lab_of(truth)).mean())


def psnr(result: UInt8[np.ndarray, "h w 3"], truth: UInt8[np.ndarray, "h w 3"]) -> float:
    """Peak signal-to-noise ratio over all channels, dB; infinite where both are equal."""
    error = float(np.mean((result.astype(np.float64) - truth) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
