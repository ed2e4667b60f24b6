"""Pictures as a browser can show them: of a bounded size, as WebP, and kept for a while."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from PIL import Image, ImageOps

from panelhue.errors import BookError
from panelhue.sheet import opened

PAGE_SIDE = 2000  # longer side of a page on the desk, pixels
LARGE_SIDE = 1600  # of a reference that is looked at
THUMB_SIDE = 360  # of a reference on the wall
QUALITY = 88  # of WebP
KEPT_BYTES = 96 * 1024**2  # of shown pictures in memory


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of a picture, pixels, orientation applied; only its header is read.

    Raises:
        BookError: it is no picture.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else (image.width, image.height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BookError(f"a picture cannot be read: {error}", reason="IMAGE_UNREADABLE") from error


def shown(data: bytes, side: int) -> bytes:
    """A picture as WebP whose longer side is at most `side` pixels.

    Raises:
        BookError: it cannot be read.
    """
    image = opened(data)
    if max(image.size) > side:
        image = ImageOps.contain(image, (side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY, method=2)
    return stream.getvalue()


class Kept:
    """Shown pictures by what they are, the least recently asked for out first. Safe to use from several threads.

    Args:
        most: bytes that are kept.
    """

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._most, self._bytes = most, 0
        self._lock = threading.Lock()
        self._pictures: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The picture of that key, made if it is not there; two who ask at once may both make it."""
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key]
        made = make()
        with self._lock:
            self._bytes += len(made) - len(self._pictures.pop(key, b""))
            self._pictures[key] = made
            while self._bytes > self._most and len(self._pictures) > 1:
                self._bytes -= len(self._pictures.popitem(last=False)[1])
        return made
