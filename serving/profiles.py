"""ICC profiles: what a picture's numbers mean, brought to sRGB."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}


def to_srgb(image: Image.Image, icc: bytes | None, notes: list[str]) -> Image.Image:
    """RGB by the profile; without one, or with one that is of no use, by the plain formulas.

    Args:
        image: L, RGB, CMYK or LAB with 8 bits a channel.
        icc: its profile, from a stranger; None: it has none.
        notes: gets a sentence where the profile was ignored.
    """
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return converted if converted is not None else image
    if icc:
        try:
            return _by_profile(image, icc, notes)
        except Exception:  # lcms and Pillow raise several kinds on a damaged profile
            notes.append("the ICC profile is damaged and was ignored; colours are taken as sRGB")
    return _rgb(image)


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")  # of which Pillow would make a copy


def _by_profile(image: Image.Image, icc: bytes, notes: list[str]) -> Image.Image:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = profile.profile.xcolor_space.strip()
    if space != _SPACES[image.mode]:
        notes.append(f"the ICC profile is for {space}, the picture is {_SPACES[image.mode]}; it was ignored")
        return _rgb(image)
    srgb = ImageCms.createProfile("sRGB")
    if image.mode == "L":
        return _by_table(image, ImageCms.buildTransform(profile, srgb, "L", "RGB", flags=ImageCms.Flags.NOOPTIMIZE))
    transform = ImageCms.buildTransform(profile, srgb, image.mode, "RGB")
    if image.mode == "RGB" and _is_identity(transform):
        return image
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        raise ValueError("no picture came out of the ICC transform")
    return converted


def _by_table(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    """A grey picture by what becomes of the 256 levels: lcms's own quick way is up to 10 levels off in the dark."""
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    made = ImageCms.applyTransform(levels, transform)
    if made is None:
        raise ValueError("no picture came out of the ICC transform")
    table: UInt8[np.ndarray, "256 3"] = np.asarray(made)[0]
    if np.abs(table.astype(np.int16) - np.arange(256, dtype=np.int16)[:, None]).max() <= 2:
        return image.convert("RGB")  # but for rounding it is sRGB's own grey; the exact bytes are kept
    return Image.merge("RGB", [image.point(channel.tolist()) for channel in table.T])


def _is_identity(transform: ImageCms.ImageCmsTransform) -> bool:
    """True if the profile is sRGB but for rounding; then the exact bytes are kept, and the time is saved."""
    steps = np.linspace(0, 255, 9, dtype=np.uint8)
    probe = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 3)
    before = Image.fromarray(probe)
    after = ImageCms.applyTransform(before, transform)
    if after is None:
        return False
    return bool(np.abs(np.asarray(after, np.int16) - np.asarray(before.convert("RGB"), np.int16)).max() <= 2)
