import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from panelhue.common.v1 import common_pb2 as _common_pb2
from panelhue.retrieval.v1 import retrieval_pb2 as _retrieval_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_DISK: _ClassVar[Tier]
    TIER_MEMORY: _ClassVar[Tier]
    TIER_GPU: _ClassVar[Tier]
TIER_UNSPECIFIED: Tier
TIER_DISK: Tier
TIER_MEMORY: Tier
TIER_GPU: Tier

class LoadSeriesRequest(_message.Message):
    __slots__ = ("series_id", "tier", "pin", "prefetch")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    tier: Tier
    pin: bool
    prefetch: bool
    def __init__(self, series_id: _Optional[str] = ..., tier: _Optional[_Union[Tier, str]] = ..., pin: bool = ..., prefetch: bool = ...) -> None: ...

class LoadSeriesResponse(_message.Message):
    __slots__ = ("resident",)
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    resident: Resident
    def __init__(self, resident: _Optional[_Union[Resident, _Mapping]] = ...) -> None: ...

class Resident(_message.Message):
    __slots__ = ("series_id", "tier", "memory_bytes", "gpu_bytes", "pinned", "as_of_generation", "last_use_time")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPU_BYTES_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    AS_OF_GENERATION_FIELD_NUMBER: _ClassVar[int]
    LAST_USE_TIME_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    tier: Tier
    memory_bytes: int
    gpu_bytes: int
    pinned: bool
    as_of_generation: int
    last_use_time: _timestamp_pb2.Timestamp
    def __init__(self, series_id: _Optional[str] = ..., tier: _Optional[_Union[Tier, str]] = ..., memory_bytes: _Optional[int] = ..., gpu_bytes: _Optional[int] = ..., pinned: bool = ..., as_of_generation: _Optional[int] = ..., last_use_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class UnloadSeriesRequest(_message.Message):
    __slots__ = ("series_id",)
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    def __init__(self, series_id: _Optional[str] = ...) -> None: ...

class UnloadSeriesResponse(_message.Message):
    __slots__ = ("memory_bytes", "gpu_bytes")
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPU_BYTES_FIELD_NUMBER: _ClassVar[int]
    memory_bytes: int
    gpu_bytes: int
    def __init__(self, memory_bytes: _Optional[int] = ..., gpu_bytes: _Optional[int] = ...) -> None: ...

class ListResidentsRequest(_message.Message):
    __slots__ = ("page_size",)
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    def __init__(self, page_size: _Optional[int] = ...) -> None: ...

class ListResidentsResponse(_message.Message):
    __slots__ = ("residents", "total")
    RESIDENTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    residents: _containers.RepeatedCompositeFieldContainer[Resident]
    total: int
    def __init__(self, residents: _Optional[_Iterable[_Union[Resident, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("series_id", "name", "generation", "references", "byte_size", "sha256", "create_time")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    BYTE_SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    name: str
    generation: int
    references: int
    byte_size: int
    sha256: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, series_id: _Optional[str] = ..., name: _Optional[str] = ..., generation: _Optional[int] = ..., references: _Optional[int] = ..., byte_size: _Optional[int] = ..., sha256: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateSnapshotRequest(_message.Message):
    __slots__ = ("series_id", "name")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    name: str
    def __init__(self, series_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class CreateSnapshotResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ...) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ("series_id", "page_size", "page_token")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    page_size: int
    page_token: str
    def __init__(self, series_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSnapshotsResponse(_message.Message):
    __slots__ = ("snapshots", "next_page_token")
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[Snapshot]
    next_page_token: str
    def __init__(self, snapshots: _Optional[_Iterable[_Union[Snapshot, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteSnapshotRequest(_message.Message):
    __slots__ = ("series_id", "name")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    name: str
    def __init__(self, series_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteSnapshotResponse(_message.Message):
    __slots__ = ("byte_size",)
    BYTE_SIZE_FIELD_NUMBER: _ClassVar[int]
    byte_size: int
    def __init__(self, byte_size: _Optional[int] = ...) -> None: ...

class RestoreSnapshotRequest(_message.Message):
    __slots__ = ("series_id", "name", "into_series_id", "replace")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    INTO_SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    name: str
    into_series_id: str
    replace: bool
    def __init__(self, series_id: _Optional[str] = ..., name: _Optional[str] = ..., into_series_id: _Optional[str] = ..., replace: bool = ...) -> None: ...

class RestoreSnapshotResponse(_message.Message):
    __slots__ = ("series",)
    SERIES_FIELD_NUMBER: _ClassVar[int]
    series: _retrieval_pb2.Series
    def __init__(self, series: _Optional[_Union[_retrieval_pb2.Series, _Mapping]] = ...) -> None: ...

class BackUpRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class BackUpResponse(_message.Message):
    __slots__ = ("name", "series_id", "done", "total", "byte_size", "failure")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTE_SIZE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    name: str
    series_id: str
    done: int
    total: int
    byte_size: int
    failure: _common_pb2.Failure
    def __init__(self, name: _Optional[str] = ..., series_id: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., byte_size: _Optional[int] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ...) -> None: ...

class CheckSeriesRequest(_message.Message):
    __slots__ = ("series_id",)
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    def __init__(self, series_id: _Optional[str] = ...) -> None: ...

class CheckSeriesResponse(_message.Message):
    __slots__ = ("finding", "reference_id", "references", "byte_size", "findings", "done")
    FINDING_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    BYTE_SIZE_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    finding: str
    reference_id: str
    references: int
    byte_size: int
    findings: int
    done: bool
    def __init__(self, finding: _Optional[str] = ..., reference_id: _Optional[str] = ..., references: _Optional[int] = ..., byte_size: _Optional[int] = ..., findings: _Optional[int] = ..., done: bool = ...) -> None: ...

class CompactSeriesRequest(_message.Message):
    __slots__ = ("series_id", "drop_history")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    DROP_HISTORY_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    drop_history: bool
    def __init__(self, series_id: _Optional[str] = ..., drop_history: bool = ...) -> None: ...

class CompactSeriesResponse(_message.Message):
    __slots__ = ("disk_bytes_before", "disk_bytes_after", "rows_dropped", "references_dropped")
    DISK_BYTES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_AFTER_FIELD_NUMBER: _ClassVar[int]
    ROWS_DROPPED_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_DROPPED_FIELD_NUMBER: _ClassVar[int]
    disk_bytes_before: int
    disk_bytes_after: int
    rows_dropped: int
    references_dropped: int
    def __init__(self, disk_bytes_before: _Optional[int] = ..., disk_bytes_after: _Optional[int] = ..., rows_dropped: _Optional[int] = ..., references_dropped: _Optional[int] = ...) -> None: ...

class ReindexSeriesRequest(_message.Message):
    __slots__ = ("series_id",)
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    def __init__(self, series_id: _Optional[str] = ...) -> None: ...

class ReindexSeriesResponse(_message.Message):
    __slots__ = ("rows", "serving_kind", "measured_recall", "index_note")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SERVING_KIND_FIELD_NUMBER: _ClassVar[int]
    MEASURED_RECALL_FIELD_NUMBER: _ClassVar[int]
    INDEX_NOTE_FIELD_NUMBER: _ClassVar[int]
    rows: int
    serving_kind: _retrieval_pb2.IndexOptions.Kind
    measured_recall: float
    index_note: str
    def __init__(self, rows: _Optional[int] = ..., serving_kind: _Optional[_Union[_retrieval_pb2.IndexOptions.Kind, str]] = ..., measured_recall: _Optional[float] = ..., index_note: _Optional[str] = ...) -> None: ...

class MigrateSeriesRequest(_message.Message):
    __slots__ = ("series_id", "embedder")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    embedder: str
    def __init__(self, series_id: _Optional[str] = ..., embedder: _Optional[str] = ...) -> None: ...

class MigrateSeriesResponse(_message.Message):
    __slots__ = ("migration",)
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    migration: _retrieval_pb2.Migration
    def __init__(self, migration: _Optional[_Union[_retrieval_pb2.Migration, _Mapping]] = ...) -> None: ...

class CancelMigrationRequest(_message.Message):
    __slots__ = ("series_id",)
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    def __init__(self, series_id: _Optional[str] = ...) -> None: ...

class CancelMigrationResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FindNearDuplicatesRequest(_message.Message):
    __slots__ = ("series_id", "min_score", "max_colour_difference", "dry_run")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    MAX_COLOUR_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    min_score: float
    max_colour_difference: float
    dry_run: bool
    def __init__(self, series_id: _Optional[str] = ..., min_score: _Optional[float] = ..., max_colour_difference: _Optional[float] = ..., dry_run: bool = ...) -> None: ...

class FindNearDuplicatesResponse(_message.Message):
    __slots__ = ("duplicates", "total", "generation")
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    duplicates: _containers.RepeatedCompositeFieldContainer[NearDuplicate]
    total: int
    generation: int
    def __init__(self, duplicates: _Optional[_Iterable[_Union[NearDuplicate, _Mapping]]] = ..., total: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class NearDuplicate(_message.Message):
    __slots__ = ("reference_id", "original_id", "score", "colour_difference")
    REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    COLOUR_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    reference_id: str
    original_id: str
    score: float
    colour_difference: float
    def __init__(self, reference_id: _Optional[str] = ..., original_id: _Optional[str] = ..., score: _Optional[float] = ..., colour_difference: _Optional[float] = ...) -> None: ...

class GetDriftRequest(_message.Message):
    __slots__ = ("series_id", "min_score", "bound")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    min_score: float
    bound: _common_pb2.Bound
    def __init__(self, series_id: _Optional[str] = ..., min_score: _Optional[float] = ..., bound: _Optional[_Union[_common_pb2.Bound, _Mapping]] = ...) -> None: ...

class GetDriftResponse(_message.Message):
    __slots__ = ("chapters", "worst", "pairs", "mean", "generation")
    CHAPTERS_FIELD_NUMBER: _ClassVar[int]
    WORST_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    chapters: _containers.RepeatedCompositeFieldContainer[ChapterDrift]
    worst: _containers.RepeatedCompositeFieldContainer[DriftPair]
    pairs: int
    mean: float
    generation: int
    def __init__(self, chapters: _Optional[_Iterable[_Union[ChapterDrift, _Mapping]]] = ..., worst: _Optional[_Iterable[_Union[DriftPair, _Mapping]]] = ..., pairs: _Optional[int] = ..., mean: _Optional[float] = ..., generation: _Optional[int] = ...) -> None: ...

class ChapterDrift(_message.Message):
    __slots__ = ("chapter", "pairs", "mean", "p95", "mean_depth")
    CHAPTER_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    P95_FIELD_NUMBER: _ClassVar[int]
    MEAN_DEPTH_FIELD_NUMBER: _ClassVar[int]
    chapter: int
    pairs: int
    mean: float
    p95: float
    mean_depth: float
    def __init__(self, chapter: _Optional[int] = ..., pairs: _Optional[int] = ..., mean: _Optional[float] = ..., p95: _Optional[float] = ..., mean_depth: _Optional[float] = ...) -> None: ...

class DriftPair(_message.Message):
    __slots__ = ("reference_id", "box", "earlier_reference_id", "earlier_box", "score", "colour_difference")
    REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    EARLIER_REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    EARLIER_BOX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    COLOUR_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    reference_id: str
    box: _common_pb2.Box
    earlier_reference_id: str
    earlier_box: _common_pb2.Box
    score: float
    colour_difference: float
    def __init__(self, reference_id: _Optional[str] = ..., box: _Optional[_Union[_common_pb2.Box, _Mapping]] = ..., earlier_reference_id: _Optional[str] = ..., earlier_box: _Optional[_Union[_common_pb2.Box, _Mapping]] = ..., score: _Optional[float] = ..., colour_difference: _Optional[float] = ...) -> None: ...
