"""What the client gives and takes: frozen dataclasses that mirror the contract. No behaviour worth a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from panelhue.series_types import EmbeddingSpace as EmbeddingSpace
from panelhue.series_types import IndexKind as IndexKind
from panelhue.series_types import IndexOptions as IndexOptions
from panelhue.series_types import Migration as Migration
from panelhue.series_types import Precision as Precision
from panelhue.series_types import Quota as Quota
from panelhue.series_types import RetrievalInfo as RetrievalInfo
from panelhue.series_types import Series as Series
from panelhue.series_types import SeriesStats as SeriesStats
from panelhue.series_types import Swatch as Swatch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NO_SPACE = EmbeddingSpace()
Source: TypeAlias = (
    bytes | Path | Callable[[], bytes]
)  # a picture's bytes, or where they come from when it is their turn


def read_source(source: Source) -> bytes:
    """The bytes of a source; a path is read and a function called only now."""
    if isinstance(source, bytes):
        return source
    return source.read_bytes() if isinstance(source, Path) else source()


class Corner(Enum):
    """One of the four overlapping 3/4-size corners in which a page is searched."""

    UNSPECIFIED = 0
    TOP_LEFT = 1
    TOP_RIGHT = 2
    BOTTOM_LEFT = 3
    BOTTOM_RIGHT = 4


class Origin(Enum):
    """Where a reference's colour comes from."""

    OFFICIAL = 1
    GENERATED = 2


class Pixels(Enum):
    """Which pixels come with the hits of a context."""

    NONE = 1
    PATCHES = 2
    REFERENCES = 3


class AddStatus(Enum):
    """What became of a picture that was to be added."""

    ADDED = 1
    ALREADY_PRESENT = 2
    REJECTED = 3


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
class Box:
    """A rectangle in pixels; x1 and y1 lie outside."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Provenance:
    """Where a reference comes from, and how far it is from given colour."""

    origin: Origin = Origin.OFFICIAL
    depth: int = 0  # 0 for given colour
    parent_ids: tuple[str, ...] = ()  # references whose colour went in, at most 256
    backend: str = ""  # empty for given colour
    source: str = ""  # free text, at most 1024 bytes


@dataclass(frozen=True)
class Bound:
    """Which references may answer. None and empty bound nothing."""

    max_chapter: int | None = None  # thousandths
    min_chapter: int | None = None  # thousandths
    max_depth: int | None = None  # 0 allows given colour only
    all_tags: tuple[str, ...] = ()
    any_tags: tuple[str, ...] = ()
    none_tags: tuple[str, ...] = ()
    exclude_reference_ids: tuple[str, ...] = ()
    exclude_near_duplicates: bool = False


@dataclass(frozen=True)
class Timing:
    """Where a call's time went, nanoseconds; 0 where a stage took no part."""

    queue_ns: int = 0
    decode_ns: int = 0
    embed_ns: int = 0
    search_ns: int = 0
    store_ns: int = 0
    compute_ns: int = 0
    encode_ns: int = 0
    total_ns: int = 0


@dataclass(frozen=True)
class Failure:
    """Why one picture of a stream failed."""

    reason: str  # stable UPPER_SNAKE_CASE
    message: str  # a sentence
    status: str = "INVALID_ARGUMENT"  # name of a google.rpc.Code
    retryable: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hit:
    """One patch of a reference, found for one corner of a page, a vector or a text."""

    corner: Corner
    rank: int  # 0 is best
    score: float  # cosine similarity, [-1, 1]
    reference_id: str
    box: Box  # in the reference's pixels
    reference_width: int
    reference_height: int
    chapter: int | None = None  # thousandths
    page: int | None = None
    provenance: Provenance = Provenance()
    tags: tuple[str, ...] = ()
    picture_key: str = ""  # names a picture of the same context; empty: no pixels came
    picture_box: Box | None = None  # where the patch lies in that picture; None: the picture is the patch
    used: bool | None = None  # whether the back-end took colour from it; None: not told
    query: int = 0  # in a search by raw vectors: which of them


@dataclass(frozen=True)
class Reference:
    """One colour picture in a pool."""

    id: str  # SHA-256 of its bytes
    chapter: int | None
    page: int | None
    tags: tuple[str, ...]
    provenance: Provenance
    width: int
    height: int
    media_type: str
    byte_size: int
    generation: int
    create_time: datetime
    near_duplicate_of: str = ""  # the reference that this one nearly repeats; empty: none is known


@dataclass(frozen=True)
class ReferenceFile:
    """A picture to add to a pool."""

    name: str  # names it in its result; not stored
    data: Source
    chapter: int | None = None  # thousandths
    page: int | None = None
    tags: tuple[str, ...] = ()
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class ImportedReference:
    """A picture whose vectors are made already."""

    name: str  # names it in its result; not stored
    data: Source  # the file as it is to be stored; it is not decoded
    vectors: NDArray[np.floating] = field(repr=False, compare=False)  # 1 to 64 rows; of any length but zero
    boxes: tuple[Box, ...]  # where each row's patch lies in the picture
    width: int  # pixels, orientation applied
    height: int
    media_type: str = ""  # empty: found out from the bytes
    chapter: int | None = None  # thousandths
    page: int | None = None
    tags: tuple[str, ...] = ()
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class AddResult:
    """What became of one picture."""

    name: str  # the ReferenceFile's or ImportedReference's
    status: AddStatus
    reference: Reference | None = None  # None if rejected
    failure: Failure | None = None  # set if rejected
    generation: int = 0
    timing: Timing = Timing()
    notes: tuple[str, ...] = ()  # what was left out or guessed when it was decoded, a sentence each


@dataclass(frozen=True)
class Picture:
    """An encoded picture."""

    key: str
    media_type: str
    data: bytes = field(repr=False)
    width: int = 0
    height: int = 0

    def _repr_mimebundle_(self, **_: object) -> dict[str, bytes]:
        """What a notebook shows."""
        return {self.media_type: self.data}


@dataclass(frozen=True)
class Context:
    """All hits of a page, and the pictures that they point to."""

    hits: tuple[Hit, ...]  # by corner, then rank
    pictures: Mapping[str, Picture]  # by key
    generation: int = 0
    embedding_space: EmbeddingSpace = NO_SPACE
    candidates: int = 0  # patches that passed the bound
    palette: tuple[Swatch, ...] = ()
    page_width: int = 0
    page_height: int = 0
    timing: Timing = Timing()


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
