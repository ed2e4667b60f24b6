import datetime

from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from panelhue.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EmbeddingSpace(_message.Message):
    __slots__ = ("id", "model", "weights_sha256", "preprocessing", "crop_recipe", "dim", "grey_twin")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    CROP_RECIPE_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    GREY_TWIN_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    weights_sha256: str
    preprocessing: str
    crop_recipe: str
    dim: int
    grey_twin: bool
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., preprocessing: _Optional[str] = ..., crop_recipe: _Optional[str] = ..., dim: _Optional[int] = ..., grey_twin: bool = ...) -> None: ...

class Series(_message.Message):
    __slots__ = ("id", "display_name", "embedder", "embedding_space", "palette", "labels", "generation", "reference_count", "create_time", "update_time", "etag", "index", "quota", "max_reference_depth", "default_max_depth")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_SPACE_FIELD_NUMBER: _ClassVar[int]
    PALETTE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    MAX_REFERENCE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MAX_DEPTH_FIELD_NUMBER: _ClassVar[int]
    id: str
    display_name: str
    embedder: str
    embedding_space: EmbeddingSpace
    palette: _containers.RepeatedCompositeFieldContainer[_common_pb2.Swatch]
    labels: _containers.ScalarMap[str, str]
    generation: int
    reference_count: int
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    etag: str
    index: IndexOptions
    quota: Quota
    max_reference_depth: int
    default_max_depth: int
    def __init__(self, id: _Optional[str] = ..., display_name: _Optional[str] = ..., embedder: _Optional[str] = ..., embedding_space: _Optional[_Union[EmbeddingSpace, _Mapping]] = ..., palette: _Optional[_Iterable[_Union[_common_pb2.Swatch, _Mapping]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., generation: _Optional[int] = ..., reference_count: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., index: _Optional[_Union[IndexOptions, _Mapping]] = ..., quota: _Optional[_Union[Quota, _Mapping]] = ..., max_reference_depth: _Optional[int] = ..., default_max_depth: _Optional[int] = ...) -> None: ...

class IndexOptions(_message.Message):
    __slots__ = ("kind", "precision", "recall_floor")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[IndexOptions.Kind]
        KIND_EXACT: _ClassVar[IndexOptions.Kind]
        KIND_IVF: _ClassVar[IndexOptions.Kind]
        KIND_HNSW: _ClassVar[IndexOptions.Kind]
        KIND_CAGRA: _ClassVar[IndexOptions.Kind]
    KIND_UNSPECIFIED: IndexOptions.Kind
    KIND_EXACT: IndexOptions.Kind
    KIND_IVF: IndexOptions.Kind
    KIND_HNSW: IndexOptions.Kind
    KIND_CAGRA: IndexOptions.Kind
    class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PRECISION_UNSPECIFIED: _ClassVar[IndexOptions.Precision]
        PRECISION_FLOAT32: _ClassVar[IndexOptions.Precision]
        PRECISION_FLOAT16: _ClassVar[IndexOptions.Precision]
    PRECISION_UNSPECIFIED: IndexOptions.Precision
    PRECISION_FLOAT32: IndexOptions.Precision
    PRECISION_FLOAT16: IndexOptions.Precision
    KIND_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    RECALL_FLOOR_FIELD_NUMBER: _ClassVar[int]
    kind: IndexOptions.Kind
    precision: IndexOptions.Precision
    recall_floor: float
    def __init__(self, kind: _Optional[_Union[IndexOptions.Kind, str]] = ..., precision: _Optional[_Union[IndexOptions.Precision, str]] = ..., recall_floor: _Optional[float] = ...) -> None: ...

class Quota(_message.Message):
    __slots__ = ("max_references", "max_bytes")
    MAX_REFERENCES_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_references: int
    max_bytes: int
    def __init__(self, max_references: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("id", "chapter", "page", "tags", "provenance", "width", "height", "media_type", "byte_size", "generation", "create_time", "near_duplicate_of")
    ID_FIELD_NUMBER: _ClassVar[int]
    CHAPTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    BYTE_SIZE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    NEAR_DUPLICATE_OF_FIELD_NUMBER: _ClassVar[int]
    id: str
    chapter: int
    page: int
    tags: _containers.RepeatedScalarFieldContainer[str]
    provenance: _common_pb2.Provenance
    width: int
    height: int
    media_type: str
    byte_size: int
    generation: int
    create_time: _timestamp_pb2.Timestamp
    near_duplicate_of: str
    def __init__(self, id: _Optional[str] = ..., chapter: _Optional[int] = ..., page: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ..., provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., media_type: _Optional[str] = ..., byte_size: _Optional[int] = ..., generation: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., near_duplicate_of: _Optional[str] = ...) -> None: ...

class CreateSeriesRequest(_message.Message):
    __slots__ = ("series", "request_id")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    series: Series
    request_id: str
    def __init__(self, series: _Optional[_Union[Series, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateSeriesResponse(_message.Message):
    __slots__ = ("series",)
    SERIES_FIELD_NUMBER: _ClassVar[int]
    series: Series
    def __init__(self, series: _Optional[_Union[Series, _Mapping]] = ...) -> None: ...

class GetSeriesRequest(_message.Message):
    __slots__ = ("series_id",)
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    def __init__(self, series_id: _Optional[str] = ...) -> None: ...

class GetSeriesResponse(_message.Message):
    __slots__ = ("series",)
    SERIES_FIELD_NUMBER: _ClassVar[int]
    series: Series
    def __init__(self, series: _Optional[_Union[Series, _Mapping]] = ...) -> None: ...

class ListSeriesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSeriesResponse(_message.Message):
    __slots__ = ("series", "next_page_token")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    series: _containers.RepeatedCompositeFieldContainer[Series]
    next_page_token: str
    def __init__(self, series: _Optional[_Iterable[_Union[Series, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateSeriesRequest(_message.Message):
    __slots__ = ("series", "update_mask")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    series: Series
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, series: _Optional[_Union[Series, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateSeriesResponse(_message.Message):
    __slots__ = ("series",)
    SERIES_FIELD_NUMBER: _ClassVar[int]
    series: Series
    def __init__(self, series: _Optional[_Union[Series, _Mapping]] = ...) -> None: ...

class DeleteSeriesRequest(_message.Message):
    __slots__ = ("series_id", "force", "etag")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    force: bool
    etag: str
    def __init__(self, series_id: _Optional[str] = ..., force: bool = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteSeriesResponse(_message.Message):
    __slots__ = ("references_deleted",)
    REFERENCES_DELETED_FIELD_NUMBER: _ClassVar[int]
    references_deleted: int
    def __init__(self, references_deleted: _Optional[int] = ...) -> None: ...

class AddReferencesRequest(_message.Message):
    __slots__ = ("options", "header", "chunk")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    options: AddReferencesOptions
    header: ReferenceHeader
    chunk: _common_pb2.PictureChunk
    def __init__(self, options: _Optional[_Union[AddReferencesOptions, _Mapping]] = ..., header: _Optional[_Union[ReferenceHeader, _Mapping]] = ..., chunk: _Optional[_Union[_common_pb2.PictureChunk, _Mapping]] = ...) -> None: ...

class AddReferencesOptions(_message.Message):
    __slots__ = ("series_id", "request_id")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    request_id: str
    def __init__(self, series_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ReferenceHeader(_message.Message):
    __slots__ = ("picture", "reference")
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    picture: _common_pb2.PictureHeader
    reference: Reference
    def __init__(self, picture: _Optional[_Union[_common_pb2.PictureHeader, _Mapping]] = ..., reference: _Optional[_Union[Reference, _Mapping]] = ...) -> None: ...

class AddReferencesResponse(_message.Message):
    __slots__ = ("key", "status", "reference", "failure", "generation", "timing", "notes")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[AddReferencesResponse.Status]
        STATUS_ADDED: _ClassVar[AddReferencesResponse.Status]
        STATUS_ALREADY_PRESENT: _ClassVar[AddReferencesResponse.Status]
        STATUS_REJECTED: _ClassVar[AddReferencesResponse.Status]
    STATUS_UNSPECIFIED: AddReferencesResponse.Status
    STATUS_ADDED: AddReferencesResponse.Status
    STATUS_ALREADY_PRESENT: AddReferencesResponse.Status
    STATUS_REJECTED: AddReferencesResponse.Status
    KEY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    key: str
    status: AddReferencesResponse.Status
    reference: Reference
    failure: _common_pb2.Failure
    generation: int
    timing: _common_pb2.Timing
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, key: _Optional[str] = ..., status: _Optional[_Union[AddReferencesResponse.Status, str]] = ..., reference: _Optional[_Union[Reference, _Mapping]] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., generation: _Optional[int] = ..., timing: _Optional[_Union[_common_pb2.Timing, _Mapping]] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class ListReferencesRequest(_message.Message):
    __slots__ = ("series_id", "bound", "page_size", "page_token")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    bound: _common_pb2.Bound
    page_size: int
    page_token: str
    def __init__(self, series_id: _Optional[str] = ..., bound: _Optional[_Union[_common_pb2.Bound, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListReferencesResponse(_message.Message):
    __slots__ = ("references", "next_page_token", "generation")
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    references: _containers.RepeatedCompositeFieldContainer[Reference]
    next_page_token: str
    generation: int
    def __init__(self, references: _Optional[_Iterable[_Union[Reference, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class GetReferenceRequest(_message.Message):
    __slots__ = ("series_id", "reference_id")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    reference_id: str
    def __init__(self, series_id: _Optional[str] = ..., reference_id: _Optional[str] = ...) -> None: ...

class GetReferenceResponse(_message.Message):
    __slots__ = ("reference",)
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    reference: Reference
    def __init__(self, reference: _Optional[_Union[Reference, _Mapping]] = ...) -> None: ...

class DownloadReferenceRequest(_message.Message):
    __slots__ = ("series_id", "reference_id")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    reference_id: str
    def __init__(self, series_id: _Optional[str] = ..., reference_id: _Optional[str] = ...) -> None: ...

class DownloadReferenceResponse(_message.Message):
    __slots__ = ("picture", "chunk")
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    picture: _common_pb2.PictureHeader
    chunk: _common_pb2.PictureChunk
    def __init__(self, picture: _Optional[_Union[_common_pb2.PictureHeader, _Mapping]] = ..., chunk: _Optional[_Union[_common_pb2.PictureChunk, _Mapping]] = ...) -> None: ...

class UpdateReferenceRequest(_message.Message):
    __slots__ = ("series_id", "reference", "update_mask")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    reference: Reference
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, series_id: _Optional[str] = ..., reference: _Optional[_Union[Reference, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateReferenceResponse(_message.Message):
    __slots__ = ("reference", "generation")
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    reference: Reference
    generation: int
    def __init__(self, reference: _Optional[_Union[Reference, _Mapping]] = ..., generation: _Optional[int] = ...) -> None: ...

class DeleteReferencesRequest(_message.Message):
    __slots__ = ("series_id", "reference_ids", "allow_missing", "purge")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_IDS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_MISSING_FIELD_NUMBER: _ClassVar[int]
    PURGE_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    reference_ids: _containers.RepeatedScalarFieldContainer[str]
    allow_missing: bool
    purge: bool
    def __init__(self, series_id: _Optional[str] = ..., reference_ids: _Optional[_Iterable[str]] = ..., allow_missing: bool = ..., purge: bool = ...) -> None: ...

class DeleteReferencesResponse(_message.Message):
    __slots__ = ("deleted", "generation")
    DELETED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    deleted: int
    generation: int
    def __init__(self, deleted: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class RetrieveContextRequest(_message.Message):
    __slots__ = ("options", "chunk")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    options: RetrieveContextOptions
    chunk: _common_pb2.PictureChunk
    def __init__(self, options: _Optional[_Union[RetrieveContextOptions, _Mapping]] = ..., chunk: _Optional[_Union[_common_pb2.PictureChunk, _Mapping]] = ...) -> None: ...

class RetrieveContextOptions(_message.Message):
    __slots__ = ("series_id", "page", "reference_id", "hits_per_corner", "bound", "pixels", "max_patch_side", "min_generation", "request_id", "as_of_generation", "max_hits_per_reference", "diversity")
    class Pixels(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PIXELS_UNSPECIFIED: _ClassVar[RetrieveContextOptions.Pixels]
        PIXELS_NONE: _ClassVar[RetrieveContextOptions.Pixels]
        PIXELS_PATCHES: _ClassVar[RetrieveContextOptions.Pixels]
        PIXELS_REFERENCES: _ClassVar[RetrieveContextOptions.Pixels]
    PIXELS_UNSPECIFIED: RetrieveContextOptions.Pixels
    PIXELS_NONE: RetrieveContextOptions.Pixels
    PIXELS_PATCHES: RetrieveContextOptions.Pixels
    PIXELS_REFERENCES: RetrieveContextOptions.Pixels
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    HITS_PER_CORNER_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_PATCH_SIDE_FIELD_NUMBER: _ClassVar[int]
    MIN_GENERATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_GENERATION_FIELD_NUMBER: _ClassVar[int]
    MAX_HITS_PER_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    page: _common_pb2.PictureHeader
    reference_id: str
    hits_per_corner: int
    bound: _common_pb2.Bound
    pixels: RetrieveContextOptions.Pixels
    max_patch_side: int
    min_generation: int
    request_id: str
    as_of_generation: int
    max_hits_per_reference: int
    diversity: float
    def __init__(self, series_id: _Optional[str] = ..., page: _Optional[_Union[_common_pb2.PictureHeader, _Mapping]] = ..., reference_id: _Optional[str] = ..., hits_per_corner: _Optional[int] = ..., bound: _Optional[_Union[_common_pb2.Bound, _Mapping]] = ..., pixels: _Optional[_Union[RetrieveContextOptions.Pixels, str]] = ..., max_patch_side: _Optional[int] = ..., min_generation: _Optional[int] = ..., request_id: _Optional[str] = ..., as_of_generation: _Optional[int] = ..., max_hits_per_reference: _Optional[int] = ..., diversity: _Optional[float] = ...) -> None: ...

class RetrieveContextResponse(_message.Message):
    __slots__ = ("summary", "picture", "chunk")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    summary: ContextSummary
    picture: _common_pb2.PictureHeader
    chunk: _common_pb2.PictureChunk
    def __init__(self, summary: _Optional[_Union[ContextSummary, _Mapping]] = ..., picture: _Optional[_Union[_common_pb2.PictureHeader, _Mapping]] = ..., chunk: _Optional[_Union[_common_pb2.PictureChunk, _Mapping]] = ...) -> None: ...

class ContextSummary(_message.Message):
    __slots__ = ("hits", "generation", "embedding_space", "timing", "candidates", "palette", "page_width", "page_height")
    HITS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_SPACE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    PALETTE_FIELD_NUMBER: _ClassVar[int]
    PAGE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    PAGE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[_common_pb2.Hit]
    generation: int
    embedding_space: EmbeddingSpace
    timing: _common_pb2.Timing
    candidates: int
    palette: _containers.RepeatedCompositeFieldContainer[_common_pb2.Swatch]
    page_width: int
    page_height: int
    def __init__(self, hits: _Optional[_Iterable[_Union[_common_pb2.Hit, _Mapping]]] = ..., generation: _Optional[int] = ..., embedding_space: _Optional[_Union[EmbeddingSpace, _Mapping]] = ..., timing: _Optional[_Union[_common_pb2.Timing, _Mapping]] = ..., candidates: _Optional[int] = ..., palette: _Optional[_Iterable[_Union[_common_pb2.Swatch, _Mapping]]] = ..., page_width: _Optional[int] = ..., page_height: _Optional[int] = ...) -> None: ...

class SearchVectorsRequest(_message.Message):
    __slots__ = ("series_id", "dim", "vectors", "k", "bound", "embedding_space_id", "min_generation", "as_of_generation", "max_hits_per_reference", "diversity")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    MIN_GENERATION_FIELD_NUMBER: _ClassVar[int]
    AS_OF_GENERATION_FIELD_NUMBER: _ClassVar[int]
    MAX_HITS_PER_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    dim: int
    vectors: bytes
    k: int
    bound: _common_pb2.Bound
    embedding_space_id: str
    min_generation: int
    as_of_generation: int
    max_hits_per_reference: int
    diversity: float
    def __init__(self, series_id: _Optional[str] = ..., dim: _Optional[int] = ..., vectors: _Optional[bytes] = ..., k: _Optional[int] = ..., bound: _Optional[_Union[_common_pb2.Bound, _Mapping]] = ..., embedding_space_id: _Optional[str] = ..., min_generation: _Optional[int] = ..., as_of_generation: _Optional[int] = ..., max_hits_per_reference: _Optional[int] = ..., diversity: _Optional[float] = ...) -> None: ...

class SearchVectorsResponse(_message.Message):
    __slots__ = ("hits", "generation", "timing")
    HITS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[_common_pb2.Hit]
    generation: int
    timing: _common_pb2.Timing
    def __init__(self, hits: _Optional[_Iterable[_Union[_common_pb2.Hit, _Mapping]]] = ..., generation: _Optional[int] = ..., timing: _Optional[_Union[_common_pb2.Timing, _Mapping]] = ...) -> None: ...

class SearchTextRequest(_message.Message):
    __slots__ = ("series_id", "text", "k", "bound", "min_generation", "as_of_generation", "max_hits_per_reference", "diversity")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    MIN_GENERATION_FIELD_NUMBER: _ClassVar[int]
    AS_OF_GENERATION_FIELD_NUMBER: _ClassVar[int]
    MAX_HITS_PER_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    text: str
    k: int
    bound: _common_pb2.Bound
    min_generation: int
    as_of_generation: int
    max_hits_per_reference: int
    diversity: float
    def __init__(self, series_id: _Optional[str] = ..., text: _Optional[str] = ..., k: _Optional[int] = ..., bound: _Optional[_Union[_common_pb2.Bound, _Mapping]] = ..., min_generation: _Optional[int] = ..., as_of_generation: _Optional[int] = ..., max_hits_per_reference: _Optional[int] = ..., diversity: _Optional[float] = ...) -> None: ...

class SearchTextResponse(_message.Message):
    __slots__ = ("hits", "generation", "timing")
    HITS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[_common_pb2.Hit]
    generation: int
    timing: _common_pb2.Timing
    def __init__(self, hits: _Optional[_Iterable[_Union[_common_pb2.Hit, _Mapping]]] = ..., generation: _Optional[int] = ..., timing: _Optional[_Union[_common_pb2.Timing, _Mapping]] = ...) -> None: ...

class ImportReferencesRequest(_message.Message):
    __slots__ = ("options", "batch")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    options: ImportReferencesOptions
    batch: ImportBatch
    def __init__(self, options: _Optional[_Union[ImportReferencesOptions, _Mapping]] = ..., batch: _Optional[_Union[ImportBatch, _Mapping]] = ...) -> None: ...

class ImportReferencesOptions(_message.Message):
    __slots__ = ("series_id", "embedding_space_id", "request_id")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    embedding_space_id: str
    request_id: str
    def __init__(self, series_id: _Optional[str] = ..., embedding_space_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ImportBatch(_message.Message):
    __slots__ = ("references",)
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    references: _containers.RepeatedCompositeFieldContainer[ImportedReference]
    def __init__(self, references: _Optional[_Iterable[_Union[ImportedReference, _Mapping]]] = ...) -> None: ...

class ImportedReference(_message.Message):
    __slots__ = ("key", "reference", "data", "vectors", "boxes")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    BOXES_FIELD_NUMBER: _ClassVar[int]
    key: str
    reference: Reference
    data: bytes
    vectors: bytes
    boxes: _containers.RepeatedCompositeFieldContainer[_common_pb2.Box]
    def __init__(self, key: _Optional[str] = ..., reference: _Optional[_Union[Reference, _Mapping]] = ..., data: _Optional[bytes] = ..., vectors: _Optional[bytes] = ..., boxes: _Optional[_Iterable[_Union[_common_pb2.Box, _Mapping]]] = ...) -> None: ...

class ImportReferencesResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[AddReferencesResponse]
    def __init__(self, results: _Optional[_Iterable[_Union[AddReferencesResponse, _Mapping]]] = ...) -> None: ...

class GetSeriesStatsRequest(_message.Message):
    __slots__ = ("series_id",)
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    def __init__(self, series_id: _Optional[str] = ...) -> None: ...

class GetSeriesStatsResponse(_message.Message):
    __slots__ = ("references", "patches", "disk_bytes", "index_bytes", "loaded", "generation", "references_by_chapter", "references_by_depth", "references_without_chapter", "picture_bytes", "history_from", "removed_references", "near_duplicates", "dead_share", "serving_kind", "measured_recall", "index_note", "migration")
    class ReferencesByChapterEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    class ReferencesByDepthEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    PATCHES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    INDEX_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_BY_CHAPTER_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_BY_DEPTH_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_WITHOUT_CHAPTER_FIELD_NUMBER: _ClassVar[int]
    PICTURE_BYTES_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FROM_FIELD_NUMBER: _ClassVar[int]
    REMOVED_REFERENCES_FIELD_NUMBER: _ClassVar[int]
    NEAR_DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    DEAD_SHARE_FIELD_NUMBER: _ClassVar[int]
    SERVING_KIND_FIELD_NUMBER: _ClassVar[int]
    MEASURED_RECALL_FIELD_NUMBER: _ClassVar[int]
    INDEX_NOTE_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    references: int
    patches: int
    disk_bytes: int
    index_bytes: int
    loaded: bool
    generation: int
    references_by_chapter: _containers.ScalarMap[int, int]
    references_by_depth: _containers.ScalarMap[int, int]
    references_without_chapter: int
    picture_bytes: int
    history_from: int
    removed_references: int
    near_duplicates: int
    dead_share: float
    serving_kind: IndexOptions.Kind
    measured_recall: float
    index_note: str
    migration: Migration
    def __init__(self, references: _Optional[int] = ..., patches: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., index_bytes: _Optional[int] = ..., loaded: bool = ..., generation: _Optional[int] = ..., references_by_chapter: _Optional[_Mapping[int, int]] = ..., references_by_depth: _Optional[_Mapping[int, int]] = ..., references_without_chapter: _Optional[int] = ..., picture_bytes: _Optional[int] = ..., history_from: _Optional[int] = ..., removed_references: _Optional[int] = ..., near_duplicates: _Optional[int] = ..., dead_share: _Optional[float] = ..., serving_kind: _Optional[_Union[IndexOptions.Kind, str]] = ..., measured_recall: _Optional[float] = ..., index_note: _Optional[str] = ..., migration: _Optional[_Union[Migration, _Mapping]] = ...) -> None: ...

class Migration(_message.Message):
    __slots__ = ("embedder", "embedding_space", "done", "total", "start_time", "problem")
    EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_SPACE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    embedder: str
    embedding_space: EmbeddingSpace
    done: int
    total: int
    start_time: _timestamp_pb2.Timestamp
    problem: str
    def __init__(self, embedder: _Optional[str] = ..., embedding_space: _Optional[_Union[EmbeddingSpace, _Mapping]] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., problem: _Optional[str] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "faiss", "embedders", "default_embedder", "max_picture_bytes", "max_picture_pixels", "free_bytes", "read_only", "index_bytes", "max_index_bytes", "gpu_bytes", "max_gpu_bytes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FAISS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDERS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    MAX_PICTURE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PICTURE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    INDEX_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_INDEX_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPU_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_GPU_BYTES_FIELD_NUMBER: _ClassVar[int]
    version: str
    faiss: str
    embedders: _containers.RepeatedScalarFieldContainer[str]
    default_embedder: str
    max_picture_bytes: int
    max_picture_pixels: int
    free_bytes: int
    read_only: bool
    index_bytes: int
    max_index_bytes: int
    gpu_bytes: int
    max_gpu_bytes: int
    def __init__(self, version: _Optional[str] = ..., faiss: _Optional[str] = ..., embedders: _Optional[_Iterable[str]] = ..., default_embedder: _Optional[str] = ..., max_picture_bytes: _Optional[int] = ..., max_picture_pixels: _Optional[int] = ..., free_bytes: _Optional[int] = ..., read_only: bool = ..., index_bytes: _Optional[int] = ..., max_index_bytes: _Optional[int] = ..., gpu_bytes: _Optional[int] = ..., max_gpu_bytes: _Optional[int] = ...) -> None: ...
