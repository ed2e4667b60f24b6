"""What travels between service, engine and worker process; frozen and picklable, no behaviour, no array."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from colorizer.types import Hint, Swatch
from serving.errors import ServiceError
from serving.geometry import Box

ColourPages = Literal["keep", "recolour", "reject"]
Luma = Literal["keep", "backend"]


@dataclass(frozen=True)
class FoundHit:
    """One hit of a context, its pixels still inside an encoded picture."""

    corner: int  # index into serving.geometry.CORNERS
    rank: int  # 0 is best
    score: float  # [-1, 1]
    reference_id: str
    picture: str  # key in Context.pictures
    picture_box: Box | None  # the patch within that picture; None: all of it
    box: Box | None  # the patch within the reference; None: as `picture_box`
    reference_size: tuple[int, int] | None  # width, height; None: the picture's own
    depth: int = 0
    chapter: int = 0
    echo: bytes = b""  # the message it came in; goes back to the caller unread


@dataclass(frozen=True)
class Context:
    """The hits of one page with their encoded pictures."""

    hits: tuple[FoundHit, ...] = ()  # by corner, then rank
    pictures: dict[str, bytes] = field(default_factory=dict)
    generation: int = 0
    palette: tuple[Swatch, ...] = ()  # of the series
    embed_ns: int = 0
    search_ns: int = 0


@dataclass(frozen=True)
class SeriesQuery:
    """Where to fetch contexts, and whose references may answer."""

    series_id: str
    bound: bytes = b""  # panelhue.common.v1.Bound, serialised; passed on unread
    hits_per_corner: int = 0  # 0: what the back-end's card wants
    min_generation: int = 0


@dataclass(frozen=True)
class Options:
    """What holds for all pages of a stream."""

    backend: str = ""  # "": the server's default
    series: SeriesQuery | None = None
    media_type: str = "image/png"
    jpeg_quality: int = 92
    chroma_only: bool = False
    colour_pages: ColourPages = "keep"
    luma: Luma = "keep"
    seed: int = 0
    steps: int | None = None
    preview_every: int = 0
    preview_side: int = 512  # pixels
    palette: tuple[Swatch, ...] = ()
    page_timeout: float | None = None  # seconds; None: the server's limit
    parameters: dict[str, str] = field(default_factory=dict)
    request_id: str = ""


@dataclass(frozen=True)
class PageRequest:
    """One page as it came in."""

    key: str
    data: bytes
    hints: tuple[Hint, ...] = ()
    seed: int | None = None
    bound: bytes | None = None  # in place of the series' own
    context: Context | None = None  # the caller's own
    failure: ServiceError | None = None  # it did not come in whole; only the key counts then


@dataclass(frozen=True)
class PageTask:
    """What a worker process is given."""

    backend: str
    data: bytes
    hits: tuple[FoundHit, ...]
    pictures: dict[str, bytes]
    hints: tuple[Hint, ...]
    palette: tuple[Swatch, ...]
    seed: int
    options: Options
    spare: bool = False  # whether references that cannot be used are left out: the caller did not choose them


@dataclass(frozen=True)
class PageBatch:
    """Pages of one back-end under the same options, which a worker process is given together."""

    tasks: tuple[PageTask, ...]


@dataclass(frozen=True)
class Started:
    """The event that a page is begun, or goes on after a back-end was loaded; its clock runs."""


@dataclass(frozen=True)
class Loading:
    """The event that a back-end is loaded or started first; that time is not the page's."""


@dataclass(frozen=True)
class Held:
    """The event that a page waits again, for others of its batch; its clock stands still until it is started."""

    position: int  # pages before it


@dataclass(frozen=True)
class Trouble:
    """The event that a back-end's code failed; for the server's log, never for the wire."""

    backend: str
    trace: str


@dataclass(frozen=True)
class Stepped:
    """A worker has done a step."""

    step: int
    steps: int


@dataclass(frozen=True)
class Preview:
    """A small picture on the way."""

    data: bytes
    media_type: str
    width: int
    height: int


@dataclass(frozen=True)
class PageOutcome:
    """What a worker process gives back."""

    data: bytes
    media_type: str
    width: int
    height: int
    sha256: str
    already_colour: bool
    used: tuple[bool, ...]  # one for each hit of the task
    confidence: float | None  # mean, [0, 1]
    decode_ns: int
    compute_ns: int
    encode_ns: int
    notes: tuple[str, ...] = ()  # what was left out or guessed when the page was decoded


@dataclass(frozen=True)
class OfPage:
    """An event, the outcome or the failure of one page of a batch."""

    index: int
    what: Started | Loading | Held | Trouble | Stepped | Preview | PageOutcome | Exception


@dataclass(frozen=True)
class Accepted:
    """A page was read and has a place."""

    key: str
    width: int
    height: int
    position: int  # pages before it


@dataclass(frozen=True)
class Queued:
    """A page waits."""

    key: str
    position: int


@dataclass(frozen=True)
class Progressed:
    """A page is being worked on."""

    key: str
    step: int
    steps: int


@dataclass(frozen=True)
class Previewed:
    """A page can be looked at on the way."""

    key: str
    preview: Preview


@dataclass(frozen=True)
class Finished:
    """A page is done."""

    key: str
    backend: str
    backend_version: str
    weights_licence: str
    seed: int
    outcome: PageOutcome
    context: Context
    depth: int
    queue_ns: int
    total_ns: int


@dataclass(frozen=True)
class Failed:
    """A page is lost; the others are not."""

    key: str
    error: Exception


Event = Accepted | Queued | Progressed | Previewed | Finished | Failed
