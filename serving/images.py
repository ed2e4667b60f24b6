"""Pictures in and out: bytes from strangers become upright sRGB pixels, or one sentence about what is wrong.

Only PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF are opened, each by its own Pillow plugin and told apart by its first
bytes, never by a name. The size in the header is checked before a pixel is decoded, against our own limit: Pillow's
global `MAX_IMAGE_PIXELS` is neither set nor relied on.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from serving.anatomy import look
from serving.colour import is_in_colour
from serving.errors import InvalidInput
from serving.profiles import to_srgb
from serving.strangers import guess

UNREADABLE, TOO_LARGE, TOO_SMALL = "IMAGE_UNREADABLE", "IMAGE_TOO_LARGE", "IMAGE_TOO_SMALL"

PNG_COMPRESS_LEVEL = 1
"""Of zlib's 0 to 9; see `encode_picture` for what the others cost."""


@dataclass(frozen=True)
class ImageLimits:
    """What is accepted; the defaults hold a 600 dpi double page."""

    max_bytes: int = 64 * 1024 * 1024  # of the file
    max_pixels: int = 100_000_000  # width x height; a decoded pixel takes 3 to 8 bytes while it is worked on
    min_side: int = 16  # pixels of the shorter side; four corner patches need them


@dataclass(frozen=True)
class Picture:
    """A decoded picture."""

    pixels: UInt8[np.ndarray, "h w 3"]  # sRGB, upright, alpha composited on white
    media_type: str  # of the file it came from, such as "image/png"
    in_colour: bool  # see `is_in_colour`
    notes: tuple[str, ...]  # what was left out or guessed, one sentence each


@dataclass(frozen=True)
class _Format:
    name: str
    media_type: str
    opener: Callable[[io.BytesIO], ImageFile.ImageFile]
    accepts: Callable[[bytes], bool]


_FORMATS = (
    _Format("PNG", "image/png", PngImagePlugin.PngImageFile, lambda b: b.startswith(b"\x89PNG\r\n\x1a\n")),
    _Format("JPEG", "image/jpeg", JpegImagePlugin.JpegImageFile, lambda b: b.startswith(b"\xff\xd8\xff")),
    _Format("WebP", "image/webp", WebPImagePlugin.WebPImageFile, lambda b: b[:4] == b"RIFF" and b[8:12] == b"WEBP"),
    _Format("GIF", "image/gif", GifImagePlugin.GifImageFile, lambda b: b[:6] in (b"GIF87a", b"GIF89a")),
    _Format("BMP", "image/bmp", BmpImagePlugin.BmpImageFile, lambda b: b.startswith(b"BM")),
    _Format(
        "TIFF",
        "image/tiff",
        TiffImagePlugin.TiffImageFile,
        lambda b: b[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ),
    _Format(
        "AVIF",
        "image/avif",
        AvifImagePlugin.AvifImageFile,
        lambda b: b[4:8] == b"ftyp" and (b"avif" in b[8:48] or b"avis" in b[8:48]) and bool(features.check("avif")),
    ),
)


def decode_picture(data: bytes, limits: ImageLimits | None = None) -> Picture:
    """The first picture in `data`, upright, in sRGB, on white.

    Args:
        data: a whole file; only the formats in this module's first lines.
        limits: what is accepted; the defaults of `ImageLimits` when None.

    Returns:
        Pixels with EXIF orientation applied, an embedded ICC profile converted to sRGB (relative colorimetric
        where the profile allows), 16-bit values scaled to [0, 255], transparency composited on white. Of an
        animation, a multi-page or a multi-picture file the first one. Notes say what was left out or guessed.

    Raises:
        InvalidInput: IMAGE_UNREADABLE (not one of the formats, damaged, or cut short: never half a picture),
            IMAGE_TOO_LARGE (bytes, pixels or parts), IMAGE_TOO_SMALL (shorter side).

    Cost: about 8 bytes of memory a pixel at the peak; 20 to 40 ms a megapixel, more for AVIF and for ICC profiles.
    """
    limits = limits or ImageLimits()
    kind = _format_of(data, limits)
    look(data)
    notes: list[str] = []
    try:
        with _quiet_pillow(), contextlib.closing(kind.opener(io.BytesIO(data))) as image:
            _check_size(image, limits)
            _check_planes(image)
            pixels = _upright_srgb(image, notes)
    except InvalidInput:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        message = f"the picture must hold at most {limits.max_pixels} pixels, and this {kind.name} needs more: {error}"
        raise InvalidInput(message, reason=TOO_LARGE) from error
    except Exception as error:  # Pillow's plugins raise nearly anything on a damaged file
        detail = str(error) or type(error).__name__
        message = f"the file must be a complete {kind.name} picture, and this one can't be decoded: {detail[:200]}"
        raise InvalidInput(message, reason=UNREADABLE) from error
    return Picture(pixels, kind.media_type, is_in_colour(pixels), tuple(notes))


def _format_of(data: bytes, limits: ImageLimits) -> _Format:
    if len(data) > limits.max_bytes:
        raise InvalidInput(f"the file must have at most {limits.max_bytes} bytes, got {len(data)}", reason=TOO_LARGE)
    head = bytes(data[:64])
    for kind in _FORMATS:
        if kind.accepts(head):
            return kind
    names = ", ".join(kind.name for kind in _FORMATS)
    raise InvalidInput(f"the file must be one of {names}, got {guess(head)}", reason=UNREADABLE)


def media_type_of(data: bytes) -> str:
    """The MIME type that a picture file's first bytes tell; the rest is not looked at.

    Raises:
        InvalidInput: IMAGE_UNREADABLE, it is none of this module's formats.
    """
    return _format_of(data, ImageLimits(max_bytes=len(data))).media_type


def _check_size(image: ImageFile.ImageFile, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        message = f"the picture must hold at most {limits.max_pixels} pixels, got {width} x {height}"
        raise InvalidInput(message, reason=TOO_LARGE)
    if min(width, height) < limits.min_side:
        message = f"the picture must be at least {limits.min_side} pixels on each side, got {width} x {height}"
        raise InvalidInput(message, reason=TOO_SMALL)
    tags = getattr(image, "tag_v2", {})
    tile_width, tile_height = _number(tags.get(322)), _number(tags.get(323))  # one tile is decoded as a whole
    if tile_width * tile_height > max(limits.max_pixels, 2**20):
        message = f"a TIFF tile must hold at most {limits.max_pixels} pixels, got {tile_width} x {tile_height}"
        raise InvalidInput(message, reason=TOO_LARGE)


def _check_planes(image: ImageFile.ImageFile) -> None:
    """Refuses TIFFs with channels of other than 8 bits stored one after the other: Pillow reads rubbish there."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (1,))
    if tags.get(284) == 2 and len(bits) > 1 and set(bits) != {8}:
        message = (
            f"a TIFF with {bits[0]} bits a channel must have them pixel by pixel, and this one has plane after plane"
        )
        raise InvalidInput(f"{message}; save it anew without planes", reason=UNREADABLE)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _upright_srgb(image: ImageFile.ImageFile, notes: list[str]) -> UInt8[np.ndarray, "h w 3"]:
    if getattr(image, "is_animated", False):
        what = "pages" if isinstance(image, TiffImagePlugin.TiffImageFile) else "frames"
        notes.append(f"the file holds several {what}; the first one is used")
    if "mp" in image.info:
        notes.append("the file holds several pictures (MPO); the first one is used")
    icc = image.info.get("icc_profile")
    image.load()
    orientation = _orientation(image, notes)  # after load: PNG has it at the end, and TIFF turns itself
    flat, alpha = _eight_bit(image, notes)
    rgb = to_srgb(flat, icc, notes)
    if alpha is not None:
        white = Image.new("RGB", rgb.size, (255, 255, 255))
        white.paste(rgb, mask=alpha)
        rgb = white
    if orientation is not None:
        rgb = rgb.transpose(orientation)
    return np.array(rgb)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: ImageFile.ImageFile, notes: list[str]) -> Image.Transpose | None:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return None  # Pillow turns it while loading
    try:
        return _TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged EXIF block fails in many ways, and the picture is good without it
        notes.append("the EXIF block is damaged and was ignored; the orientation is taken as upright")
        return None


def _eight_bit(image: ImageFile.ImageFile, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """The picture as L, RGB, CMYK or LAB with 8 bits a channel, and its alpha channel if it has one."""
    mode = image.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return _scaled_grey(image, notes)
    if mode == "CMYK" and isinstance(image, JpegImagePlugin.JpegImageFile) and "adobe" not in image.info:
        return ImageChops.invert(image), None  # Pillow takes every CMYK JPEG as Adobe's inverted kind
    if mode in ("L", "RGB", "CMYK", "LAB") and "transparency" not in image.info:
        return image, None
    if mode in ("1", "YCbCr", "HSV", "RGBX") and "transparency" not in image.info:
        return image.convert("L" if mode == "1" else "RGB"), None
    if mode == "P" and "transparency" not in image.info:
        return image.convert("RGB"), None
    if mode == "LA":  # stays grey, as its profile is for grey
        return image.getchannel("L"), image.getchannel("A")
    rgba = image if mode == "RGBA" else image.convert("RGBA")
    return rgba.convert("RGB"), rgba.getchannel("A")


def _scaled_grey(image: ImageFile.ImageFile, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    alpha = None
    if image.mode.startswith("I;16"):
        values: Shaped[np.ndarray, "h w"] = np.asarray(image)
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        top: float = 4095.0 if getattr(image, "tag_v2", {}).get(258) == (12,) else 65535.0
    else:
        values = np.array(image, np.float32)
        np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        top = _likely_white(float(values.min()), float(values.max()))
        if top == 0:
            low, top = float(values.min()), max(float(np.ptp(values)), 1e-30)
            values -= np.float32(low)
        notes.append(f"the picture has {'32-bit' if image.mode == 'I' else 'float'} samples; white is taken as {top:g}")
    grey = _scale(values, top)
    if getattr(image, "tag_v2", {}).get(262) == 0:  # WhiteIsZero; Pillow turns only 8-bit and 1-bit pictures
        grey = 255 - grey
    return Image.fromarray(grey), alpha


def _likely_white(low: float, high: float) -> float:
    """The value that means white: the full scale of the smallest usual kind of sample that holds them all, or 0."""
    if low < 0:
        return 0.0
    return next((top for top in (1.0, 255.0, 65535.0) if high <= top), 0.0)


def _scale(values: Shaped[np.ndarray, "h w"], top: float) -> UInt8[np.ndarray, "h w"]:
    out = np.empty(values.shape, np.uint8)
    for row in range(0, len(values), 256):  # in bands, so that a big scan needs no second float copy
        band = values[row : row + 256].astype(np.float32) * np.float32(255.0 / top)
        out[row : row + 256] = np.clip(np.rint(band), 0, 255).astype(np.uint8)
    return out


class _Quiet:
    """Pillow's warnings about damaged files, kept from the caller: notes and errors say the same.

    `warnings.catch_warnings` belongs to the process, not to a thread, so the first decoder of several that run at
    once sets the filter and the last one takes it back.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.catcher = warnings.catch_warnings()


_quiet = _Quiet()


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    with _quiet.lock:
        _quiet.users += 1
        if _quiet.users == 1:
            _quiet.catcher = warnings.catch_warnings()
            _quiet.catcher.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
    try:
        yield
    finally:
        with _quiet.lock:
            _quiet.users -= 1
            if _quiet.users == 0:
                _quiet.catcher.__exit__(None, None, None)


_LONGEST_SIDE = {"image/png": 2**31 - 1, "image/jpeg": 65500, "image/webp": 16383}


def encode_picture(
    pixels: UInt8[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w"], media_type: str, quality: int = 92
) -> bytes:
    """The file of these sRGB or grey pixels; the same bytes for the same pixels.

    Args:
        pixels: sRGB, or grey.
        media_type: "image/png" (lossless), "image/jpeg" (4:4:4, no chroma subsampling) or "image/webp" (lossless).
        quality: 1 to 100, of JPEG alone.

    Cost: on comic pages 56 ms a megapixel for PNG at level 1 (level 6: 169 ms and 10 % smaller), 3 ms for JPEG at 92,
        33 ms for WebP, whose files are a quarter smaller than PNG's.

    Raises:
        InvalidInput: another media type, a quality outside its range, or a side longer than the format allows.
    """
    if media_type not in _LONGEST_SIDE:
        raise InvalidInput(f"media_type must be one of {', '.join(_LONGEST_SIDE)}, got {media_type!r}")
    if not 1 <= quality <= 100:
        raise InvalidInput(f"quality must be 1 to 100, got {quality}")
    height, width = pixels.shape[:2]
    if max(width, height) > _LONGEST_SIDE[media_type] or min(width, height) < 1:
        limit = _LONGEST_SIDE[media_type]
        raise InvalidInput(f"{media_type} holds 1 to {limit} pixels a side, got {width} x {height}")
    image, out = Image.fromarray(pixels), io.BytesIO()
    if media_type == "image/png":
        image.save(out, "PNG", compress_level=PNG_COMPRESS_LEVEL)
    elif media_type == "image/jpeg":
        image.save(out, "JPEG", quality=quality, subsampling="4:4:4")
    else:
        image.save(
            out, "WEBP", lossless=True, quality=0, method=0
        )  # the fastest: a quarter of method 1's time, 6 % larger
    return out.getvalue()
