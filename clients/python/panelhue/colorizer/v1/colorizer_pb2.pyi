import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from panelhue.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Backend(_message.Message):
    __slots__ = ("name", "version", "description", "inputs", "min_side", "max_pixels", "hits_per_corner", "memory_bytes", "device", "determinism", "code_licence", "weights_licence", "weights_sha256", "default_steps", "keeps_luma", "parameters", "available", "unavailable_reason")
    class Determinism(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DETERMINISM_UNSPECIFIED: _ClassVar[Backend.Determinism]
        DETERMINISM_NONE: _ClassVar[Backend.Determinism]
        DETERMINISM_TOLERANCE: _ClassVar[Backend.Determinism]
        DETERMINISM_EXACT: _ClassVar[Backend.Determinism]
    DETERMINISM_UNSPECIFIED: Backend.Determinism
    DETERMINISM_NONE: Backend.Determinism
    DETERMINISM_TOLERANCE: Backend.Determinism
    DETERMINISM_EXACT: Backend.Determinism
    class WeightsSha256Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    MIN_SIDE_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    HITS_PER_CORNER_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DETERMINISM_FIELD_NUMBER: _ClassVar[int]
    CODE_LICENCE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_LICENCE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_STEPS_FIELD_NUMBER: _ClassVar[int]
    KEEPS_LUMA_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    description: str
    inputs: _containers.RepeatedScalarFieldContainer[str]
    min_side: int
    max_pixels: int
    hits_per_corner: int
    memory_bytes: int
    device: str
    determinism: Backend.Determinism
    code_licence: str
    weights_licence: str
    weights_sha256: _containers.ScalarMap[str, str]
    default_steps: int
    keeps_luma: bool
    parameters: _containers.ScalarMap[str, str]
    available: bool
    unavailable_reason: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., description: _Optional[str] = ..., inputs: _Optional[_Iterable[str]] = ..., min_side: _Optional[int] = ..., max_pixels: _Optional[int] = ..., hits_per_corner: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., device: _Optional[str] = ..., determinism: _Optional[_Union[Backend.Determinism, str]] = ..., code_licence: _Optional[str] = ..., weights_licence: _Optional[str] = ..., weights_sha256: _Optional[_Mapping[str, str]] = ..., default_steps: _Optional[int] = ..., keeps_luma: bool = ..., parameters: _Optional[_Mapping[str, str]] = ..., available: bool = ..., unavailable_reason: _Optional[str] = ...) -> None: ...

class ListBackendsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListBackendsResponse(_message.Message):
    __slots__ = ("backends", "default_backend")
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_BACKEND_FIELD_NUMBER: _ClassVar[int]
    backends: _containers.RepeatedCompositeFieldContainer[Backend]
    default_backend: str
    def __init__(self, backends: _Optional[_Iterable[_Union[Backend, _Mapping]]] = ..., default_backend: _Optional[str] = ...) -> None: ...

class GetBackendRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetBackendResponse(_message.Message):
    __slots__ = ("backend",)
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    backend: Backend
    def __init__(self, backend: _Optional[_Union[Backend, _Mapping]] = ...) -> None: ...

class ColorizePagesRequest(_message.Message):
    __slots__ = ("options", "page", "chunk", "context", "context_picture", "end")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_PICTURE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    options: ColorizeOptions
    page: PageHeader
    chunk: _common_pb2.PictureChunk
    context: PageContext
    context_picture: _common_pb2.PictureHeader
    end: PageEnd
    def __init__(self, options: _Optional[_Union[ColorizeOptions, _Mapping]] = ..., page: _Optional[_Union[PageHeader, _Mapping]] = ..., chunk: _Optional[_Union[_common_pb2.PictureChunk, _Mapping]] = ..., context: _Optional[_Union[PageContext, _Mapping]] = ..., context_picture: _Optional[_Union[_common_pb2.PictureHeader, _Mapping]] = ..., end: _Optional[_Union[PageEnd, _Mapping]] = ...) -> None: ...

class SeriesContext(_message.Message):
    __slots__ = ("series_id", "bound", "hits_per_corner", "min_generation")
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    HITS_PER_CORNER_FIELD_NUMBER: _ClassVar[int]
    MIN_GENERATION_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    bound: _common_pb2.Bound
    hits_per_corner: int
    min_generation: int
    def __init__(self, series_id: _Optional[str] = ..., bound: _Optional[_Union[_common_pb2.Bound, _Mapping]] = ..., hits_per_corner: _Optional[int] = ..., min_generation: _Optional[int] = ...) -> None: ...

class ColorizeOptions(_message.Message):
    __slots__ = ("backend", "series", "output_media_type", "jpeg_quality", "chroma_only", "colour_pages", "luma", "seed", "steps", "preview_every", "preview_side", "palette", "page_timeout", "parameters", "request_id")
    class ColourPages(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        COLOUR_PAGES_UNSPECIFIED: _ClassVar[ColorizeOptions.ColourPages]
        COLOUR_PAGES_KEEP: _ClassVar[ColorizeOptions.ColourPages]
        COLOUR_PAGES_RECOLOUR: _ClassVar[ColorizeOptions.ColourPages]
        COLOUR_PAGES_REJECT: _ClassVar[ColorizeOptions.ColourPages]
    COLOUR_PAGES_UNSPECIFIED: ColorizeOptions.ColourPages
    COLOUR_PAGES_KEEP: ColorizeOptions.ColourPages
    COLOUR_PAGES_RECOLOUR: ColorizeOptions.ColourPages
    COLOUR_PAGES_REJECT: ColorizeOptions.ColourPages
    class Luma(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LUMA_UNSPECIFIED: _ClassVar[ColorizeOptions.Luma]
        LUMA_KEEP: _ClassVar[ColorizeOptions.Luma]
        LUMA_BACKEND: _ClassVar[ColorizeOptions.Luma]
    LUMA_UNSPECIFIED: ColorizeOptions.Luma
    LUMA_KEEP: ColorizeOptions.Luma
    LUMA_BACKEND: ColorizeOptions.Luma
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    JPEG_QUALITY_FIELD_NUMBER: _ClassVar[int]
    CHROMA_ONLY_FIELD_NUMBER: _ClassVar[int]
    COLOUR_PAGES_FIELD_NUMBER: _ClassVar[int]
    LUMA_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_EVERY_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_SIDE_FIELD_NUMBER: _ClassVar[int]
    PALETTE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    backend: str
    series: SeriesContext
    output_media_type: str
    jpeg_quality: int
    chroma_only: bool
    colour_pages: ColorizeOptions.ColourPages
    luma: ColorizeOptions.Luma
    seed: int
    steps: int
    preview_every: int
    preview_side: int
    palette: _containers.RepeatedCompositeFieldContainer[_common_pb2.Swatch]
    page_timeout: _duration_pb2.Duration
    parameters: _containers.ScalarMap[str, str]
    request_id: str
    def __init__(self, backend: _Optional[str] = ..., series: _Optional[_Union[SeriesContext, _Mapping]] = ..., output_media_type: _Optional[str] = ..., jpeg_quality: _Optional[int] = ..., chroma_only: bool = ..., colour_pages: _Optional[_Union[ColorizeOptions.ColourPages, str]] = ..., luma: _Optional[_Union[ColorizeOptions.Luma, str]] = ..., seed: _Optional[int] = ..., steps: _Optional[int] = ..., preview_every: _Optional[int] = ..., preview_side: _Optional[int] = ..., palette: _Optional[_Iterable[_Union[_common_pb2.Swatch, _Mapping]]] = ..., page_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., parameters: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class Hint(_message.Message):
    __slots__ = ("x", "y", "radius", "rgb")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    RGB_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    radius: float
    rgb: int
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., radius: _Optional[float] = ..., rgb: _Optional[int] = ...) -> None: ...

class PageHeader(_message.Message):
    __slots__ = ("picture", "hints", "seed", "bound")
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    picture: _common_pb2.PictureHeader
    hints: _containers.RepeatedCompositeFieldContainer[Hint]
    seed: int
    bound: _common_pb2.Bound
    def __init__(self, picture: _Optional[_Union[_common_pb2.PictureHeader, _Mapping]] = ..., hints: _Optional[_Iterable[_Union[Hint, _Mapping]]] = ..., seed: _Optional[int] = ..., bound: _Optional[_Union[_common_pb2.Bound, _Mapping]] = ...) -> None: ...

class PageContext(_message.Message):
    __slots__ = ("page_key", "hits", "generation")
    PAGE_KEY_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    page_key: str
    hits: _containers.RepeatedCompositeFieldContainer[_common_pb2.Hit]
    generation: int
    def __init__(self, page_key: _Optional[str] = ..., hits: _Optional[_Iterable[_Union[_common_pb2.Hit, _Mapping]]] = ..., generation: _Optional[int] = ...) -> None: ...

class PageEnd(_message.Message):
    __slots__ = ("page_key",)
    PAGE_KEY_FIELD_NUMBER: _ClassVar[int]
    page_key: str
    def __init__(self, page_key: _Optional[str] = ...) -> None: ...

class ColorizePagesResponse(_message.Message):
    __slots__ = ("accepted", "queued", "progress", "preview", "picture", "chunk", "result", "error")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    accepted: PageAccepted
    queued: PageQueued
    progress: PageProgress
    preview: _common_pb2.PictureHeader
    picture: _common_pb2.PictureHeader
    chunk: _common_pb2.PictureChunk
    result: PageResult
    error: PageError
    def __init__(self, accepted: _Optional[_Union[PageAccepted, _Mapping]] = ..., queued: _Optional[_Union[PageQueued, _Mapping]] = ..., progress: _Optional[_Union[PageProgress, _Mapping]] = ..., preview: _Optional[_Union[_common_pb2.PictureHeader, _Mapping]] = ..., picture: _Optional[_Union[_common_pb2.PictureHeader, _Mapping]] = ..., chunk: _Optional[_Union[_common_pb2.PictureChunk, _Mapping]] = ..., result: _Optional[_Union[PageResult, _Mapping]] = ..., error: _Optional[_Union[PageError, _Mapping]] = ...) -> None: ...

class PageAccepted(_message.Message):
    __slots__ = ("page_key", "width", "height", "queue_position")
    PAGE_KEY_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    page_key: str
    width: int
    height: int
    queue_position: int
    def __init__(self, page_key: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., queue_position: _Optional[int] = ...) -> None: ...

class PageQueued(_message.Message):
    __slots__ = ("page_key", "position")
    PAGE_KEY_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    page_key: str
    position: int
    def __init__(self, page_key: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class PageProgress(_message.Message):
    __slots__ = ("page_key", "step", "steps")
    PAGE_KEY_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    page_key: str
    step: int
    steps: int
    def __init__(self, page_key: _Optional[str] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ...) -> None: ...

class PageResult(_message.Message):
    __slots__ = ("page_key", "backend", "backend_version", "seed", "references", "generation", "timing", "already_colour", "sha256", "weights_licence", "depth", "confidence", "notes")
    PAGE_KEY_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    BACKEND_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    ALREADY_COLOUR_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_LICENCE_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    page_key: str
    backend: str
    backend_version: str
    seed: int
    references: _containers.RepeatedCompositeFieldContainer[_common_pb2.Hit]
    generation: int
    timing: _common_pb2.Timing
    already_colour: bool
    sha256: str
    weights_licence: str
    depth: int
    confidence: float
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, page_key: _Optional[str] = ..., backend: _Optional[str] = ..., backend_version: _Optional[str] = ..., seed: _Optional[int] = ..., references: _Optional[_Iterable[_Union[_common_pb2.Hit, _Mapping]]] = ..., generation: _Optional[int] = ..., timing: _Optional[_Union[_common_pb2.Timing, _Mapping]] = ..., already_colour: bool = ..., sha256: _Optional[str] = ..., weights_licence: _Optional[str] = ..., depth: _Optional[int] = ..., confidence: _Optional[float] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class PageError(_message.Message):
    __slots__ = ("page_key", "failure")
    PAGE_KEY_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    page_key: str
    failure: _common_pb2.Failure
    def __init__(self, page_key: _Optional[str] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "queue_length", "queue_capacity", "workers", "has_retrieval", "max_picture_bytes", "max_picture_pixels")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    QUEUE_CAPACITY_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    HAS_RETRIEVAL_FIELD_NUMBER: _ClassVar[int]
    MAX_PICTURE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PICTURE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    version: str
    queue_length: int
    queue_capacity: int
    workers: int
    has_retrieval: bool
    max_picture_bytes: int
    max_picture_pixels: int
    def __init__(self, version: _Optional[str] = ..., queue_length: _Optional[int] = ..., queue_capacity: _Optional[int] = ..., workers: _Optional[int] = ..., has_retrieval: bool = ..., max_picture_bytes: _Optional[int] = ..., max_picture_pixels: _Optional[int] = ...) -> None: ...
