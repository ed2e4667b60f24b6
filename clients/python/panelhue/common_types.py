"""What both services speak of: pictures, where colour comes from, bounds, hits and a page's context.

Frozen dataclasses that mirror the contract; `panelhue.types` has them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from panelhue.series_types import EmbeddingSpace, Swatch

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
