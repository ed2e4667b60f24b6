"""Grey and colour: a page's luma, whether it is in colour already, and how far two colours are apart."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image


def grey_of(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """Luma in [0, 255]: Pillow's `convert("L")`, ITU-R BT.601."""
    return np.array(Image.fromarray(pixels).convert("L"))


_LOOK_SIDE = 256  # about the longer side, in pixels, at which colour is judged; averaging takes JPEG's noise away
_KNOTS = (0.0, 64.0, 128.0, 192.0, 230.0, 246.0, 255.0)  # luma at which the tint bends; sepia does where red clips
_SAMPLE = 20_000  # pixels that the tint is fitted to
_ROUNDS = 12  # of reweighting
_AWAY = 10.0  # chroma levels (of 255) off the tint from which a pixel has a colour of its own
_ALONG = 0.45  # weight of what is off along the page's hue: paper yellows unevenly, but in one hue
_VIVID = 50.0  # chroma levels that no paper and no sepia reaches; the strongest of the tried ones had 43
_COLOUR_SHARE = 0.01  # of the page
_NEUTRAL = 8  # levels between the channels that rounding and JPEG leave on a grey page


def has_colour(pixels: UInt8[np.ndarray, "h w 3"]) -> bool:
    """True if any pixel at all is off neutral by more than rounding: its channels differ by more than 8 levels."""
    small = np.asarray(Image.fromarray(pixels).reduce(max(1, max(pixels.shape[:2]) // _LOOK_SIDE)), np.int16)
    return bool((small.max(axis=2) - small.min(axis=2)).max() > _NEUTRAL)


def is_in_colour(pixels: UInt8[np.ndarray, "h w 3"]) -> bool:
    """True if at least 1 % of the page shows colours, and not just one ink on one paper; see `colour_share`."""
    return colour_share(pixels) >= _COLOUR_SHARE


def colour_share(pixels: UInt8[np.ndarray, "h w 3"]) -> float:
    """Share of the page, in [0, 1], that has a colour of its own.

    The page is reduced to about 256 pixels and split into luma and chroma (Cb, Cr). The chroma that most pixels have
    at each luma is the page's tint: none on grey, a yellow that fades into the ink on an old scan, brown on sepia. A
    pixel has a colour of its own if its chroma is more than 10 levels off the tint, where the part along the page's
    main hue counts 0.45 (paper yellows more at its edges), or if its chroma is above 50 anywhere. So grey, sepia and
    yellowed pages, one pale ink on one paper, and a stamp below 1 % of the page are not in colour; muted night
    scenes are. A page printed in one strong ink, such as green line art, counts as colour; in one pale ink, it
    doesn't, and neither does a page of white and brown with less than 1 % of anything else.

    Cost: about 16 ms a page of 1.4 megapixels.
    """
    luma, chroma = _luma_and_chroma(pixels)
    off = chroma - _tint(luma, chroma)
    _, hues = np.linalg.eigh(chroma.T @ chroma)  # columns: across the main hue, along it
    across, along = (off @ hues).T
    own = (np.hypot(across, _ALONG * along) > _AWAY) | (np.hypot(chroma[:, 0], chroma[:, 1]) > _VIVID)
    return float(own.mean())


def _luma_and_chroma(
    pixels: UInt8[np.ndarray, "h w 3"],
) -> tuple[Float32[np.ndarray, "n"], Float32[np.ndarray, "n 2"]]:
    image = Image.fromarray(pixels)
    small = np.asarray(image.reduce(max(1, max(image.size) // _LOOK_SIDE)), np.float32).reshape(-1, 3)
    luma = small @ np.array([0.299, 0.587, 0.114], np.float32)
    chroma = np.stack([0.564 * (small[:, 2] - luma), 0.713 * (small[:, 0] - luma)], axis=1)  # Cb, Cr around 0
    return luma, chroma.astype(np.float32)


def _tint(luma: Float32[np.ndarray, "n"], chroma: Float32[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 2"]:
    """For each pixel the chroma that the page's paper and ink have at its luma: a few straight pieces.

    A stiff curve, because a free one would take every flat colour for the tint of its own grey level; least absolute
    deviations by reweighting, because what has a colour of its own must not bend it.
    """
    parts = np.stack([np.interp(luma, _KNOTS, hat) for hat in np.eye(len(_KNOTS))], axis=1).astype(np.float32)  # "n k"
    sample = slice(None, None, max(1, len(luma) // _SAMPLE))
    x, y = parts[sample].astype(np.float64), chroma[sample].astype(np.float64)
    weight = np.ones(len(x))
    curve: Float64[np.ndarray, "k 2"] = np.zeros((len(_KNOTS), 2))
    for _ in range(_ROUNDS):
        curve = np.linalg.solve((x.T * weight) @ x + 1e-3 * np.eye(len(_KNOTS)), (x.T * weight) @ y)  # "k 2"
        weight = 1.0 / np.maximum(np.hypot(*(y - x @ curve).T), 1.0)
    tint: Float32[np.ndarray, "n 2"] = parts @ curve.astype(np.float32)
    return tint


_WHITE = np.array([0.95047, 1.0, 1.08883])  # D65, 2 degrees
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_POW25_7 = 25.0**7


def lab_of(pixels: UInt8[np.ndarray, "... 3"]) -> Float64[np.ndarray, "... 3"]:
    """CIELAB under D65 of sRGB in [0, 255]."""
    values = pixels / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(one: Float64[np.ndarray, "... 3"], other: Float64[np.ndarray, "... 3"]) -> Float64[np.ndarray, "..."]:
    """Colour difference of CIELAB values; 1 is about what an eye just sees.

    Source: Sharma, Wu and Dalal, "The CIEDE2000 Color-Difference Formula", 2005, whose test data the tests use.
    """
    light1, light2 = one[..., 0], other[..., 0]
    mean = (np.hypot(one[..., 1], one[..., 2]) + np.hypot(other[..., 1], other[..., 2])) / 2
    stretch = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + _POW25_7))
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
    swing = (
        2 * np.sqrt(chroma**7 / (chroma**7 + _POW25_7)) * np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    )
    light_term, chroma_term, hue_term = d_light / s_light, d_chroma / s_chroma, d_hue / s_hue
    squared: Float64[np.ndarray, "..."] = light_term**2 + chroma_term**2 + hue_term**2 - swing * chroma_term * hue_term
    return np.asarray(np.sqrt(np.maximum(squared, 0)))  # an array also for one pair
