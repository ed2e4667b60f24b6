"""What the rooms of the retrieval server hand one another; frozen dataclasses without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Int32

from serving.errors import ServiceError
from serving.geometry import Box

OFFICIAL = "official"
GENERATED = "generated"
EXACT, IVF, HNSW, CAGRA = "exact", "ivf", "hnsw", "cagra"  # kinds of an index
FP32, FP16 = "fp32", "fp16"  # precisions of an index


@dataclass(frozen=True)
class Space:
    """The embedding space of a series, as it is stored."""

    id: str  # short stable text made of all the fields below
    model: str
    weights_sha256: str  # 64 hexadecimal digits; "" without weights
    preprocessing: str
    crop_recipe: str  # "native" or "fit:WxH"
    dim: int  # length of a vector
    grey_twin: bool


@dataclass(frozen=True)
class Swatch:
    """A named colour of a series."""

    name: str
    rgb: int  # 0xRRGGBB, sRGB


@dataclass(frozen=True)
class IndexOptions:
    """How a series' vectors are kept in memory and searched."""

    kind: str = EXACT  # or IVF, HNSW, CAGRA, which are approximate
    precision: str = FP32  # or FP16: the best are scored again in float32
    recall_floor: float = 0.95  # (0, 1]; least recall that an approximate kind must show before it serves


@dataclass(frozen=True)
class Quota:
    """What a series may hold."""

    max_references: int = 0  # 0: no limit
    max_bytes: int = 0  # of all pictures as they were added; 0: no limit


@dataclass(frozen=True)
class Migration:
    """Another embedding space that is being built for a series."""

    embedder: str
    space: Space
    database: str  # name of the database that holds its vectors
    after: int = 0  # greatest sequence number that has vectors in it
    done: int = 0  # references that have vectors in it
    start_ns: int = 0  # nanoseconds since 1970, UTC
    problem: str = ""  # why it does not go on; "": it does


@dataclass(frozen=True)
class Series:
    """A series' own fields, without what its pool counts."""

    id: str
    display_name: str
    embedder: str
    space: Space
    palette: tuple[Swatch, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: int = 1  # raised by one by every change of these fields
    create_ns: int = 0  # nanoseconds since 1970, UTC
    update_ns: int = 0
    index: IndexOptions = IndexOptions()
    quota: Quota = Quota()
    max_reference_depth: int | None = None  # references of a greater provenance depth are refused
    default_max_depth: int | None = None  # Bound.max_depth of searches that set none
    patches: str = "patches"  # name of the database that holds the vectors of `space`
    migration: Migration | None = None  # under way


@dataclass(frozen=True)
class SeriesDraft:
    """What a caller asks for when it makes a series; empty texts are filled in by the server."""

    id: str = ""
    display_name: str = ""
    embedder: str = ""
    palette: tuple[Swatch, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    space: Space | None = None  # with the embedder "vectors": the caller's own; its id is made by the server
    index: IndexOptions = IndexOptions()
    quota: Quota = Quota()
    max_reference_depth: int | None = None
    default_max_depth: int | None = None


@dataclass(frozen=True)
class SeriesChange:
    """What a caller changes of a series' own fields; None leaves one as it is."""

    display_name: str | None = None  # "": the id
    palette: tuple[Swatch, ...] | None = None
    labels: Mapping[str, str] | None = None
    etag: str = ""  # if set, must be the current one
    index: IndexOptions | None = None
    quota: Quota | None = None
    max_reference_depth: int | None = None  # -1: none any more
    default_max_depth: int | None = None  # -1: none any more


@dataclass(frozen=True)
class ReferenceChange:
    """What a caller changes of a reference: the named fields take these values, also where they are empty."""

    names: frozenset[str]  # of "chapter", "page", "tags"
    chapter: int | None = None
    page: int | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class PoolState:
    """What a pool counts; changed by every transaction that changes the pool."""

    generation: int = 0  # changes of the pool so far
    references: int = 0
    patches: int = 0
    update_ns: int = 0  # nanoseconds since 1970, UTC, of the last change
    byte_size: int = 0  # of all pictures as they were added
    history_from: int = 0  # oldest generation at which the pool is still known exactly
    removed: int = 0  # references that were removed and are kept for the history
    near_duplicates: int = 0  # references that are marked as such


@dataclass(frozen=True)
class SeriesView:
    """A series with its pool's counts, as callers see it."""

    series: Series
    pool: PoolState
    etag: str  # changes with every change of the series' own fields


@dataclass(frozen=True)
class Provenance:
    """Where a reference's colour comes from."""

    origin: str = OFFICIAL  # or GENERATED
    depth: int = 0  # 0 for given colour, n + 1 for a page made from references of depth n at most
    parent_ids: tuple[str, ...] = ()
    backend: str = ""
    source: str = ""


@dataclass(frozen=True)
class Draft:
    """What a caller says about a reference that it adds."""

    chapter: int | None = None  # thousandths, at least 0
    page: int | None = None
    tags: tuple[str, ...] = ()
    provenance: Provenance = Provenance()  # depth 0 with GENERATED: to be worked out from the parents


@dataclass(frozen=True)
class Reference:
    """One colour picture of a pool, without its bytes."""

    id: str  # SHA-256 of its bytes, 64 lower-case hexadecimal digits
    chapter: int | None
    page: int | None
    tags: tuple[str, ...]
    provenance: Provenance
    width: int  # pixels, orientation applied
    height: int
    media_type: str
    byte_size: int
    generation: int  # the generation that it made; also its place in the order of insertion
    create_ns: int  # nanoseconds since 1970, UTC
    near_duplicate_of: str = ""  # id of the reference that it nearly repeats; "": none is known
    digest: bytes = b""  # coarse colours of its patches; b"" where unknown


@dataclass(frozen=True)
class Prepared:
    """A picture decoded, cut and embedded: all of a new reference but its bytes and what the caller says."""

    width: int  # pixels, orientation applied
    height: int
    media_type: str
    vectors: Float32[np.ndarray, "n dim"]  # unit rows
    boxes: Int32[np.ndarray, "n 4"]  # x0, y0, x1, y1 in the picture's pixels
    digest: bytes = b""  # as Reference.digest
    space_id: str = ""  # of the space in which the vectors were made; "": not checked
    notes: tuple[str, ...] = ()  # what was left out or guessed when it was decoded


@dataclass(frozen=True)
class NewReference:
    """One reference to be stored."""

    draft: Draft
    data: bytes  # the picture's file
    prepared: Prepared


@dataclass(frozen=True)
class Stored:
    """What became of a `NewReference`: stored or there already, or the error that kept it out."""

    reference: Reference | None  # None with an error
    new: bool  # False: the same bytes were there already, or there is an error
    generation: int  # of the pool after it
    error: ServiceError | None = None


@dataclass(frozen=True)
class ImportItem:
    """A reference whose vectors the caller has made."""

    draft: Draft
    data: bytes  # the picture's file, which is not decoded
    vectors: Float32[np.ndarray, "n dim"]  # any length but zero
    boxes: Int32[np.ndarray, "n 4"]  # x0, y0, x1, y1 in the picture's pixels
    width: int  # pixels, orientation applied
    height: int
    media_type: str


@dataclass(frozen=True)
class StoredPatches:
    """The patches of one reference as they come from the store."""

    reference_id: str
    sequence: int  # the generation that the reference made
    vectors: Float32[np.ndarray, "n dim"]
    boxes: Int32[np.ndarray, "n 4"]


@dataclass(frozen=True)
class Bound:
    """Which references may answer; None and empty bound nothing."""

    max_chapter: int | None = None  # thousandths
    min_chapter: int | None = None
    max_depth: int | None = None
    all_tags: tuple[str, ...] = ()
    any_tags: tuple[str, ...] = ()
    none_tags: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()  # reference ids
    exclude_near_duplicates: bool = False


@dataclass(frozen=True)
class SearchOptions:
    """What is asked of a search beside its vectors."""

    k: int  # hits per query
    bound: Bound = Bound()
    min_generation: int = 0  # the pool must have reached it
    as_of: int = 0  # generation at which the pool is searched; 0: as it is now
    per_reference: int = 0  # hits of one query that may come from one reference; 0: any number
    diversity: float = 0.0  # [0, 1]; 0: by score alone


@dataclass(frozen=True)
class SnapshotInfo:
    """A verified copy of a series at one moment."""

    series_id: str
    name: str
    generation: int  # of the pool that it holds
    references: int
    byte_size: int  # on disk
    sha256: str  # of its store file, 64 lower-case hexadecimal digits
    create_ns: int  # nanoseconds since 1970, UTC


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with what is stored."""

    text: str  # a sentence that states expected and actual
    reference_id: str = ""  # the reference concerned; "": none in particular


@dataclass(frozen=True)
class Timing:
    """Where a call's time went, nanoseconds."""

    queue_ns: int = 0
    decode_ns: int = 0
    embed_ns: int = 0
    search_ns: int = 0
    store_ns: int = 0
    encode_ns: int = 0
    total_ns: int = 0


@dataclass(frozen=True)
class Hit:
    """One stored patch that was found."""

    query: int  # row of the query
    rank: int  # 0 is best
    score: float  # cosine similarity, [-1, 1]
    reference: Reference
    box: Box  # in the reference's pixels


@dataclass(frozen=True)
class Found:
    """The answer of a search."""

    hits: tuple[Hit, ...]  # by query, then rank
    generation: int  # of the pool that was searched
    candidates: int  # patches that passed the bound
    timing: Timing


@dataclass(frozen=True)
class Page:
    """A page to find context for: its bytes, or a reference of the same pool."""

    data: bytes = b""
    reference_id: str = ""


@dataclass(frozen=True)
class Context:
    """The hits of a page's four corners."""

    found: Found
    space: Space
    palette: tuple[Swatch, ...]
    page_width: int  # pixels
    page_height: int


@dataclass(frozen=True)
class Wanted:
    """A picture to be shown: a patch of a reference, or the whole of it."""

    key: str
    reference: Reference
    box: Box | None  # None: the whole file as it was added


@dataclass(frozen=True)
class Shown:
    """A picture that hits point to."""

    data: bytes  # an encoded file
    media_type: str
    width: int  # pixels
    height: int


@dataclass(frozen=True)
class Added:
    """What became of a picture that was added."""

    reference: Reference
    new: bool  # False: the same bytes were there already
    generation: int  # of the pool after it
    timing: Timing
    notes: tuple[str, ...] = ()  # what was left out or guessed when it was decoded; none for one that was there already


@dataclass(frozen=True)
class Stats:
    """Counts and sizes of a series."""

    pool: PoolState
    disk_bytes: int
    index_bytes: int  # 0 while it is not loaded
    loaded: bool
    by_chapter: Mapping[int, int]
    by_depth: Mapping[int, int]
    without_chapter: int
    dead_share: float = 0.0  # of the index's rows, [0, 1]
    serving_kind: str = EXACT  # what is searched now
    measured_recall: float = 0.0  # of an approximate kind, [0, 1]; 0: none was measured
    index_note: str = ""  # why the series is not searched as its options ask; "": it is
    migration: Migration | None = None  # under way
