"""What the client says of a series: its fields, how it is kept and searched, its counts, the server that holds it.

Frozen dataclasses that mirror the contract; `panelhue.types` has them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class IndexKind(Enum):
    """The structure that is searched."""

    EXACT = 1
    IVF = 2
    HNSW = 3
    CAGRA = 4


class Precision(Enum):
    """Numbers of a vector in memory; the stored ones are float32 always."""

    FLOAT32 = 1
    FLOAT16 = 2


@dataclass(frozen=True)
class Swatch:
    """A named colour of a series."""

    name: str
    rgb: int  # 0xRRGGBB, sRGB


@dataclass(frozen=True)
class EmbeddingSpace:
    """What vectors mean; vectors of two spaces never meet."""

    id: str = ""
    model: str = ""
    weights_sha256: str = ""
    preprocessing: str = ""
    crop_recipe: str = ""
    dim: int = 0
    grey_twin: bool = False


@dataclass(frozen=True)
class IndexOptions:
    """How a series' vectors are kept and searched."""

    kind: IndexKind = IndexKind.EXACT  # an approximate kind serves once its recall was measured
    precision: Precision = Precision.FLOAT32
    recall_floor: float = 0.0  # least recall of an approximate kind, (0, 1]; 0: 0.95


@dataclass(frozen=True)
class Quota:
    """What a series may hold; 0: no limit."""

    max_references: int = 0
    max_bytes: int = 0  # of all pictures as they were added


@dataclass(frozen=True)
class Series:
    """One long-running work and its pool."""

    id: str
    display_name: str
    embedder: str
    embedding_space: EmbeddingSpace
    palette: tuple[Swatch, ...]
    labels: Mapping[str, str]
    generation: int
    reference_count: int
    create_time: datetime
    update_time: datetime
    etag: str
    index: IndexOptions = IndexOptions()
    quota: Quota = Quota()
    max_reference_depth: int | None = None  # references of a greater provenance depth are rejected
    default_max_depth: int | None = None  # Bound.max_depth of searches that set none


@dataclass(frozen=True)
class Migration:
    """A change of a series' embedding space that is under way."""

    embedder: str
    embedding_space: EmbeddingSpace
    done: int  # references that have vectors of the new space
    total: int
    start_time: datetime
    problem: str = ""  # why it does not go on; empty: it does


@dataclass(frozen=True)
class SeriesStats:
    """Counts and sizes of one series."""

    references: int
    patches: int
    disk_bytes: int
    index_bytes: int
    loaded: bool
    generation: int
    references_by_chapter: Mapping[int, int]  # chapter in thousandths to count
    references_by_depth: Mapping[int, int]
    references_without_chapter: int
    picture_bytes: int = 0
    history_from: int = 0  # the oldest generation that as_of_generation can name
    removed_references: int = 0  # kept for the history
    near_duplicates: int = 0
    dead_share: float = 0.0  # of the index's rows, [0, 1]
    serving_kind: IndexKind = IndexKind.EXACT
    measured_recall: float = 0.0  # of an approximate kind; 0: none was measured
    index_note: str = ""  # why the series is not searched as its options ask; empty: it is
    migration: Migration | None = None


@dataclass(frozen=True)
class RetrievalInfo:
    """Versions, embedders and limits of a retrieval server."""

    version: str
    faiss: str
    embedders: tuple[str, ...]
    default_embedder: str
    max_picture_bytes: int
    max_picture_pixels: int
    free_bytes: int = 0  # of the store's file system
    read_only: bool = False  # the store cannot be written to; searches go on
    index_bytes: int = 0
    max_index_bytes: int = 0
    gpu_bytes: int = 0
    max_gpu_bytes: int = 0
