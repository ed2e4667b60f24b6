from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Corner(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CORNER_UNSPECIFIED: _ClassVar[Corner]
    CORNER_TOP_LEFT: _ClassVar[Corner]
    CORNER_TOP_RIGHT: _ClassVar[Corner]
    CORNER_BOTTOM_LEFT: _ClassVar[Corner]
    CORNER_BOTTOM_RIGHT: _ClassVar[Corner]

class Origin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORIGIN_UNSPECIFIED: _ClassVar[Origin]
    ORIGIN_OFFICIAL: _ClassVar[Origin]
    ORIGIN_GENERATED: _ClassVar[Origin]
CORNER_UNSPECIFIED: Corner
CORNER_TOP_LEFT: Corner
CORNER_TOP_RIGHT: Corner
CORNER_BOTTOM_LEFT: Corner
CORNER_BOTTOM_RIGHT: Corner
ORIGIN_UNSPECIFIED: Origin
ORIGIN_OFFICIAL: Origin
ORIGIN_GENERATED: Origin

class Box(_message.Message):
    __slots__ = ("x0", "y0", "x1", "y1")
    X0_FIELD_NUMBER: _ClassVar[int]
    Y0_FIELD_NUMBER: _ClassVar[int]
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    x0: int
    y0: int
    x1: int
    y1: int
    def __init__(self, x0: _Optional[int] = ..., y0: _Optional[int] = ..., x1: _Optional[int] = ..., y1: _Optional[int] = ...) -> None: ...

class PictureHeader(_message.Message):
    __slots__ = ("key", "media_type", "byte_size", "width", "height")
    KEY_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    BYTE_SIZE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    key: str
    media_type: str
    byte_size: int
    width: int
    height: int
    def __init__(self, key: _Optional[str] = ..., media_type: _Optional[str] = ..., byte_size: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class PictureChunk(_message.Message):
    __slots__ = ("key", "data", "last")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    key: str
    data: bytes
    last: bool
    def __init__(self, key: _Optional[str] = ..., data: _Optional[bytes] = ..., last: bool = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("origin", "depth", "parent_ids", "backend", "source")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    PARENT_IDS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    origin: Origin
    depth: int
    parent_ids: _containers.RepeatedScalarFieldContainer[str]
    backend: str
    source: str
    def __init__(self, origin: _Optional[_Union[Origin, str]] = ..., depth: _Optional[int] = ..., parent_ids: _Optional[_Iterable[str]] = ..., backend: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class Bound(_message.Message):
    __slots__ = ("max_chapter", "min_chapter", "max_depth", "all_tags", "any_tags", "none_tags", "exclude_reference_ids", "exclude_near_duplicates")
    MAX_CHAPTER_FIELD_NUMBER: _ClassVar[int]
    MIN_CHAPTER_FIELD_NUMBER: _ClassVar[int]
    MAX_DEPTH_FIELD_NUMBER: _ClassVar[int]
    ALL_TAGS_FIELD_NUMBER: _ClassVar[int]
    ANY_TAGS_FIELD_NUMBER: _ClassVar[int]
    NONE_TAGS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_REFERENCE_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_NEAR_DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    max_chapter: int
    min_chapter: int
    max_depth: int
    all_tags: _containers.RepeatedScalarFieldContainer[str]
    any_tags: _containers.RepeatedScalarFieldContainer[str]
    none_tags: _containers.RepeatedScalarFieldContainer[str]
    exclude_reference_ids: _containers.RepeatedScalarFieldContainer[str]
    exclude_near_duplicates: bool
    def __init__(self, max_chapter: _Optional[int] = ..., min_chapter: _Optional[int] = ..., max_depth: _Optional[int] = ..., all_tags: _Optional[_Iterable[str]] = ..., any_tags: _Optional[_Iterable[str]] = ..., none_tags: _Optional[_Iterable[str]] = ..., exclude_reference_ids: _Optional[_Iterable[str]] = ..., exclude_near_duplicates: bool = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("corner", "rank", "score", "reference_id", "box", "reference_width", "reference_height", "chapter", "page", "provenance", "tags", "picture_key", "picture_box", "used", "query")
    CORNER_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CHAPTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    PICTURE_KEY_FIELD_NUMBER: _ClassVar[int]
    PICTURE_BOX_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    corner: Corner
    rank: int
    score: float
    reference_id: str
    box: Box
    reference_width: int
    reference_height: int
    chapter: int
    page: int
    provenance: Provenance
    tags: _containers.RepeatedScalarFieldContainer[str]
    picture_key: str
    picture_box: Box
    used: bool
    query: int
    def __init__(self, corner: _Optional[_Union[Corner, str]] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ..., reference_id: _Optional[str] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., reference_width: _Optional[int] = ..., reference_height: _Optional[int] = ..., chapter: _Optional[int] = ..., page: _Optional[int] = ..., provenance: _Optional[_Union[Provenance, _Mapping]] = ..., tags: _Optional[_Iterable[str]] = ..., picture_key: _Optional[str] = ..., picture_box: _Optional[_Union[Box, _Mapping]] = ..., used: bool = ..., query: _Optional[int] = ...) -> None: ...

class Swatch(_message.Message):
    __slots__ = ("name", "rgb")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RGB_FIELD_NUMBER: _ClassVar[int]
    name: str
    rgb: int
    def __init__(self, name: _Optional[str] = ..., rgb: _Optional[int] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("queue_ns", "decode_ns", "embed_ns", "search_ns", "store_ns", "compute_ns", "encode_ns", "total_ns")
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    DECODE_NS_FIELD_NUMBER: _ClassVar[int]
    EMBED_NS_FIELD_NUMBER: _ClassVar[int]
    SEARCH_NS_FIELD_NUMBER: _ClassVar[int]
    STORE_NS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_NS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_NS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    queue_ns: int
    decode_ns: int
    embed_ns: int
    search_ns: int
    store_ns: int
    compute_ns: int
    encode_ns: int
    total_ns: int
    def __init__(self, queue_ns: _Optional[int] = ..., decode_ns: _Optional[int] = ..., embed_ns: _Optional[int] = ..., search_ns: _Optional[int] = ..., store_ns: _Optional[int] = ..., compute_ns: _Optional[int] = ..., encode_ns: _Optional[int] = ..., total_ns: _Optional[int] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "reason", "message", "retryable", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    retryable: bool
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., retryable: bool = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...
