"""What the maintenance client gives: frozen dataclasses that mirror the contract."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from panelhue.series_types import IndexKind
from panelhue.types import Box, Failure


class Tier(Enum):
    """Where the rows of a series' index lie."""

    DISK = 1
    MEMORY = 2
    GPU = 3


@dataclass(frozen=True)
class Resident:
    """A series in memory."""

    series: str
    tier: Tier
    memory_bytes: int
    gpu_bytes: int
    pinned: bool
    as_of_generation: int  # 0: the pool as it is
    last_use_time: datetime


@dataclass(frozen=True)
class Residents:
    """The series that are in memory, the most recently used first."""

    residents: tuple[Resident, ...]
    total: int  # how many there are in all


@dataclass(frozen=True)
class Unloaded:
    """What was freed, bytes."""

    memory_bytes: int
    gpu_bytes: int


@dataclass(frozen=True)
class Snapshot:
    """A copy of a series at one moment."""

    series: str
    name: str
    generation: int
    references: int
    byte_size: int
    sha256: str  # of its store file
    create_time: datetime


@dataclass(frozen=True)
class BackupStep:
    """One series of a backup, or its end."""

    name: str  # of the backup's folder
    series: str  # empty: the backup is complete
    done: int  # series copied so far
    total: int
    byte_size: int  # written so far
    failure: Failure | None = None  # why this series could not be copied


@dataclass(frozen=True)
class CheckStep:
    """One finding of a check, or its end."""

    finding: str  # empty: none; the check is over
    reference_id: str  # empty: none in particular
    references: int  # read so far
    byte_size: int  # read so far
    findings: int  # so far
    done: bool  # True in the last one


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
    serving_kind: IndexKind
    measured_recall: float  # 0: the kind is exact
    index_note: str  # why the series is not searched as its options ask; empty: it is


@dataclass(frozen=True)
class NearDuplicate:
    """Two references that nearly repeat each other."""

    reference_id: str  # the later one
    original_id: str
    score: float  # least cosine similarity of their patches
    colour_difference: float  # mean CIEDE2000


@dataclass(frozen=True)
class NearDuplicates:
    """Near duplicates of a pool."""

    duplicates: tuple[NearDuplicate, ...]  # at most 1000, the most alike first
    total: int
    generation: int  # of the pool after the marks


@dataclass(frozen=True)
class ChapterDrift:
    """Drift of one chapter from the chapters before it."""

    chapter: int  # thousandths
    pairs: int
    mean: float  # CIEDE2000
    p95: float
    mean_depth: float


@dataclass(frozen=True)
class DriftPair:
    """Two patches that show the same thing."""

    reference_id: str  # the later one
    box: Box
    earlier_reference_id: str
    earlier_box: Box
    score: float  # cosine similarity
    colour_difference: float  # CIEDE2000


@dataclass(frozen=True)
class Drift:
    """How far the colour of a series has drifted."""

    chapters: tuple[ChapterDrift, ...]  # by chapter
    worst: tuple[DriftPair, ...]  # at most 100, the worst first
    pairs: int
    mean: float  # CIEDE2000
    generation: int
