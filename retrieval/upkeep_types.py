"""What upkeep of the pools hands to its callers: residency, snapshots, checks, compaction, migration, hygiene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from serving.errors import ServiceError
from serving.geometry import Box

Tier = Literal["disk", "memory", "gpu"]


@dataclass(frozen=True)
class Resident:
    """A series that is in memory."""

    series_id: str
    tier: Tier
    memory_bytes: int
    gpu_bytes: int
    pinned: bool
    as_of: int  # generation that was asked for; 0: the pool as it is
    last_use_ns: int  # nanoseconds since 1970, UTC


@dataclass(frozen=True)
class BackUpStep:
    """One series of a backup, or its end."""

    name: str  # of the backup's folder
    series_id: str  # "": the backup is complete
    done: int  # series copied so far
    total: int
    byte_size: int  # bytes written so far
    error: ServiceError | None = None  # why this series could not be copied


@dataclass(frozen=True)
class CheckStep:
    """One finding of a check, or its end."""

    finding: str  # "": none; the check is over
    reference_id: str
    references: int  # read so far
    byte_size: int  # read so far
    findings: int  # so far
    done: bool


@dataclass(frozen=True)
class Compacted:
    """What a compaction freed."""

    disk_bytes_before: int
    disk_bytes_after: int
    rows_dropped: int
    references_dropped: int


@dataclass(frozen=True)
class Reindexed:
    """An index that was made anew."""

    rows: int
    serving_kind: str  # as IndexOptions.kind
    measured_recall: float  # 0: the kind is exact
    note: str  # why the series is not searched as its options ask; "": it is


@dataclass(frozen=True)
class NearDuplicate:
    """A reference that nearly repeats an earlier one."""

    reference_id: str
    original_id: str
    score: float  # least cosine similarity of their patches
    colour_difference: float  # mean CIEDE2000


@dataclass(frozen=True)
class NearDuplicates:
    """All near duplicates of a pool."""

    found: Sequence[NearDuplicate]  # the most alike first
    generation: int  # of the pool after the marks


@dataclass(frozen=True)
class ChapterDrift:
    """How far a chapter's colours lie from those of the chapters before it."""

    chapter: int  # thousandths
    pairs: int
    mean: float  # CIEDE2000
    p95: float
    mean_depth: float


@dataclass(frozen=True)
class DriftPair:
    """Two patches of different chapters that show the same thing."""

    reference_id: str
    box: Box
    earlier_reference_id: str
    earlier_box: Box
    score: float  # cosine similarity
    colour_difference: float  # CIEDE2000


@dataclass(frozen=True)
class Drift:
    """The drift of a series."""

    chapters: Sequence[ChapterDrift]  # by chapter
    worst: Sequence[DriftPair]  # the worst first
    pairs: int
    mean: float
    generation: int
