"""What the client tells the colouriser and hears from it: back-ends, pages, options, events.

Frozen dataclasses that mirror the contract; `panelhue.types` has them too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from panelhue.common_types import Bound, Context, Failure, Hit, Picture, Source, Timing
from panelhue.series_types import Swatch


class ColourPages(Enum):
    """What becomes of a page that is in colour already."""

    KEEP = 1
    RECOLOUR = 2
    REJECT = 3


class Luma(Enum):
    """Whose luma a result has."""

    KEEP = 1
    BACKEND = 2


class Determinism(Enum):
    """How sure the same seed gives the same picture."""

    UNSPECIFIED = 0
    NONE = 1
    TOLERANCE = 2
    EXACT = 3


@dataclass(frozen=True)
class Backend:
    """A back-end's card."""

    name: str
    version: str
    description: str
    inputs: tuple[str, ...]
    min_side: int
    max_pixels: int
    hits_per_corner: int
    memory_bytes: int
    device: str
    determinism: Determinism
    code_licence: str
    weights_licence: str
    weights_sha256: Mapping[str, str]
    default_steps: int
    keeps_luma: bool
    parameters: Mapping[str, str]
    available: bool
    unavailable_reason: str
    is_default: bool = False


@dataclass(frozen=True)
class ColorizerInfo:
    """Versions, limits and load of a colouriser server."""

    version: str
    queue_length: int
    queue_capacity: int
    workers: int
    has_retrieval: bool
    max_picture_bytes: int
    max_picture_pixels: int


@dataclass(frozen=True)
class Hint:
    """A colour that a person wants at a place."""

    x: float  # pixels
    y: float  # pixels
    rgb: int  # 0xRRGGBB
    radius: float = 0.0  # pixels; 0 means 4


@dataclass(frozen=True)
class PageFile:
    """A page to colourise."""

    key: str  # names it in all its events; unique among a call's pages, 1 to 256 bytes
    data: Source
    hints: tuple[Hint, ...] = ()
    seed: int | None = None  # None: the call's
    bound: Bound | None = None  # None: the call's
    # Given by the caller, or made from the page's bytes; for an asyncio client it may be awaitable.
    context: Context | Callable[[bytes], Context | Awaitable[Context]] | None = None


@dataclass(frozen=True)
class SeriesContext:
    """Where the server fetches contexts itself."""

    series: str
    bound: Bound = Bound()
    hits_per_corner: int = 0  # 0: what the back-end's card wants
    min_generation: int = 0


@dataclass(frozen=True)
class ColorizeOptions:
    """What holds for all pages of a call. Unset fields leave the choice to the server."""

    backend: str = ""
    series: SeriesContext | None = None
    media_type: str = ""  # "image/png", "image/jpeg" or "image/webp"
    jpeg_quality: int = 0
    chroma_only: bool = False
    colour_pages: ColourPages = ColourPages.KEEP
    luma: Luma = Luma.KEEP
    seed: int = 0
    steps: int = 0
    preview_every: int = 0
    preview_side: int = 0
    palette: tuple[Swatch, ...] = ()
    page_timeout: float | None = None  # seconds
    parameters: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""


@dataclass(frozen=True)
class PageResult:
    """How a page was made."""

    backend: str
    backend_version: str
    seed: int
    references: tuple[Hit, ...]
    generation: int
    timing: Timing
    already_colour: bool
    sha256: str
    weights_licence: str
    depth: int
    confidence: float | None = None
    notes: tuple[str, ...] = ()  # what was left out or guessed when the page was decoded, a sentence each


@dataclass(frozen=True)
class Accepted:
    """The page was read and has a place."""

    key: str
    width: int
    height: int
    position: int


@dataclass(frozen=True)
class Queued:
    """The page waits behind `position` others."""

    key: str
    position: int


@dataclass(frozen=True)
class Progress:
    """The page is being worked on."""

    key: str
    step: int
    steps: int


@dataclass(frozen=True)
class Preview:
    """What the page looks like so far."""

    key: str
    picture: Picture


@dataclass(frozen=True)
class Finished:
    """The page is done."""

    key: str
    picture: Picture
    result: PageResult


@dataclass(frozen=True)
class Failed:
    """The page failed; the others go on."""

    key: str
    failure: Failure


Event: TypeAlias = Accepted | Queued | Progress | Preview | Finished | Failed
