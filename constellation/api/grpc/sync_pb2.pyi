from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EmbeddingFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EMBEDDING_FORMAT_UNSPECIFIED: _ClassVar[EmbeddingFormat]
    EMBEDDING_FORMAT_F32: _ClassVar[EmbeddingFormat]
    EMBEDDING_FORMAT_F16: _ClassVar[EmbeddingFormat]
    EMBEDDING_FORMAT_I8: _ClassVar[EmbeddingFormat]
    EMBEDDING_FORMAT_COMPACT: _ClassVar[EmbeddingFormat]

class Origin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORIGIN_UNSPECIFIED: _ClassVar[Origin]
    ORIGIN_DEVICE: _ClassVar[Origin]
    ORIGIN_PROTOTYPE: _ClassVar[Origin]
EMBEDDING_FORMAT_UNSPECIFIED: EmbeddingFormat
EMBEDDING_FORMAT_F32: EmbeddingFormat
EMBEDDING_FORMAT_F16: EmbeddingFormat
EMBEDDING_FORMAT_I8: EmbeddingFormat
EMBEDDING_FORMAT_COMPACT: EmbeddingFormat
ORIGIN_UNSPECIFIED: Origin
ORIGIN_DEVICE: Origin
ORIGIN_PROTOTYPE: Origin

class PushRequest(_message.Message):
    __slots__ = ("device_id", "delta", "options")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    device_id: bytes
    delta: Delta
    options: ReplyOptions
    def __init__(self, device_id: _Optional[bytes] = ..., delta: _Optional[_Union[Delta, _Mapping]] = ..., options: _Optional[_Union[ReplyOptions, _Mapping]] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("device_id", "local_version", "options", "content_ids")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    LOCAL_VERSION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_IDS_FIELD_NUMBER: _ClassVar[int]
    device_id: bytes
    local_version: int
    options: ReplyOptions
    content_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, device_id: _Optional[bytes] = ..., local_version: _Optional[int] = ..., options: _Optional[_Union[ReplyOptions, _Mapping]] = ..., content_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ReplyOptions(_message.Message):
    __slots__ = ("similar", "trending", "embedding", "codebook")
    SIMILAR_FIELD_NUMBER: _ClassVar[int]
    TRENDING_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    CODEBOOK_FIELD_NUMBER: _ClassVar[int]
    similar: int
    trending: int
    embedding: EmbeddingFormat
    codebook: int
    def __init__(self, similar: _Optional[int] = ..., trending: _Optional[int] = ..., embedding: _Optional[_Union[EmbeddingFormat, str]] = ..., codebook: _Optional[int] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("patterns_added", "patterns_updated", "patterns_removed", "local_version", "sequence")
    PATTERNS_ADDED_FIELD_NUMBER: _ClassVar[int]
    PATTERNS_UPDATED_FIELD_NUMBER: _ClassVar[int]
    PATTERNS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    LOCAL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    patterns_added: _containers.RepeatedCompositeFieldContainer[Pattern]
    patterns_updated: _containers.RepeatedCompositeFieldContainer[RateUpdate]
    patterns_removed: _containers.RepeatedScalarFieldContainer[bytes]
    local_version: int
    sequence: int
    def __init__(self, patterns_added: _Optional[_Iterable[_Union[Pattern, _Mapping]]] = ..., patterns_updated: _Optional[_Iterable[_Union[RateUpdate, _Mapping]]] = ..., patterns_removed: _Optional[_Iterable[bytes]] = ..., local_version: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class Pattern(_message.Message):
    __slots__ = ("id", "embedding", "success_rate", "sample_count", "context", "created_at", "updated_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_RATE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    embedding: bytes
    success_rate: float
    sample_count: int
    context: Context
    created_at: int
    updated_at: int
    def __init__(self, id: _Optional[bytes] = ..., embedding: _Optional[bytes] = ..., success_rate: _Optional[float] = ..., sample_count: _Optional[int] = ..., context: _Optional[_Union[Context, _Mapping]] = ..., created_at: _Optional[int] = ..., updated_at: _Optional[int] = ...) -> None: ...

class Context(_message.Message):
    __slots__ = ("time_of_day", "day_of_week", "content_type", "genre_hints")
    TIME_OF_DAY_FIELD_NUMBER: _ClassVar[int]
    DAY_OF_WEEK_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    GENRE_HINTS_FIELD_NUMBER: _ClassVar[int]
    time_of_day: str
    day_of_week: str
    content_type: str
    genre_hints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, time_of_day: _Optional[str] = ..., day_of_week: _Optional[str] = ..., content_type: _Optional[str] = ..., genre_hints: _Optional[_Iterable[str]] = ...) -> None: ...

class RateUpdate(_message.Message):
    __slots__ = ("id", "new_success_rate", "additional_samples")
    ID_FIELD_NUMBER: _ClassVar[int]
    NEW_SUCCESS_RATE_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    new_success_rate: float
    additional_samples: int
    def __init__(self, id: _Optional[bytes] = ..., new_success_rate: _Optional[float] = ..., additional_samples: _Optional[int] = ...) -> None: ...

class PushReply(_message.Message):
    __slots__ = ("accepted", "last_sequence", "next_sync")
    GLOBAL_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NEXT_SYNC_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    last_sequence: int
    next_sync: NextSync
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., last_sequence: _Optional[int] = ..., next_sync: _Optional[_Union[NextSync, _Mapping]] = ..., **kwargs) -> None: ...

class PullReply(_message.Message):
    __slots__ = ("last_sequence", "next_sync", "content")
    GLOBAL_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NEXT_SYNC_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    last_sequence: int
    next_sync: NextSync
    content: _containers.RepeatedCompositeFieldContainer[Content]
    def __init__(self, last_sequence: _Optional[int] = ..., next_sync: _Optional[_Union[NextSync, _Mapping]] = ..., content: _Optional[_Iterable[_Union[Content, _Mapping]]] = ..., **kwargs) -> None: ...

class StreamReply(_message.Message):
    __slots__ = ("reply", "problem")
    REPLY_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    reply: PushReply
    problem: Problem
    def __init__(self, reply: _Optional[_Union[PushReply, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class Global(_message.Message):
    __slots__ = ("similar", "trending", "global_version", "reset", "removed", "digest", "compact")
    SIMILAR_FIELD_NUMBER: _ClassVar[int]
    TRENDING_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_VERSION_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    COMPACT_FIELD_NUMBER: _ClassVar[int]
    similar: _containers.RepeatedCompositeFieldContainer[SimilarPattern]
    trending: Trends
    global_version: int
    reset: bool
    removed: _containers.RepeatedScalarFieldContainer[bytes]
    digest: str
    compact: Compact
    def __init__(self, similar: _Optional[_Iterable[_Union[SimilarPattern, _Mapping]]] = ..., trending: _Optional[_Union[Trends, _Mapping]] = ..., global_version: _Optional[int] = ..., reset: _Optional[bool] = ..., removed: _Optional[_Iterable[bytes]] = ..., digest: _Optional[str] = ..., compact: _Optional[_Union[Compact, _Mapping]] = ...) -> None: ...

class SimilarPattern(_message.Message):
    __slots__ = ("id", "embedding", "success_rate", "sample_count", "context", "created_at", "updated_at", "origin", "quality", "source_count", "device_count")
    ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_RATE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_COUNT_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    embedding: bytes
    success_rate: float
    sample_count: int
    context: Context
    created_at: int
    updated_at: int
    origin: Origin
    quality: float
    source_count: int
    device_count: int
    def __init__(self, id: _Optional[bytes] = ..., embedding: _Optional[bytes] = ..., success_rate: _Optional[float] = ..., sample_count: _Optional[int] = ..., context: _Optional[_Union[Context, _Mapping]] = ..., created_at: _Optional[int] = ..., updated_at: _Optional[int] = ..., origin: _Optional[_Union[Origin, str]] = ..., quality: _Optional[float] = ..., source_count: _Optional[int] = ..., device_count: _Optional[int] = ...) -> None: ...

class Trends(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Trend]
    def __init__(self, items: _Optional[_Iterable[_Union[Trend, _Mapping]]] = ...) -> None: ...

class Trend(_message.Message):
    __slots__ = ("content_id", "trending_score", "region")
    CONTENT_ID_FIELD_NUMBER: _ClassVar[int]
    TRENDING_SCORE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    content_id: str
    trending_score: float
    region: str
    def __init__(self, content_id: _Optional[str] = ..., trending_score: _Optional[float] = ..., region: _Optional[str] = ...) -> None: ...

class Compact(_message.Message):
    __slots__ = ("similar", "trending", "removed")
    SIMILAR_FIELD_NUMBER: _ClassVar[int]
    TRENDING_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    similar: bytes
    trending: bytes
    removed: bytes
    def __init__(self, similar: _Optional[bytes] = ..., trending: _Optional[bytes] = ..., removed: _Optional[bytes] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("added", "filtered", "evicted", "updated", "removed", "rejected", "duplicate")
    ADDED_FIELD_NUMBER: _ClassVar[int]
    FILTERED_FIELD_NUMBER: _ClassVar[int]
    EVICTED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    added: int
    filtered: int
    evicted: int
    updated: int
    removed: int
    rejected: int
    duplicate: bool
    def __init__(self, added: _Optional[int] = ..., filtered: _Optional[int] = ..., evicted: _Optional[int] = ..., updated: _Optional[int] = ..., removed: _Optional[int] = ..., rejected: _Optional[int] = ..., duplicate: _Optional[bool] = ...) -> None: ...

class NextSync(_message.Message):
    __slots__ = ("after_s", "within_s")
    AFTER_S_FIELD_NUMBER: _ClassVar[int]
    WITHIN_S_FIELD_NUMBER: _ClassVar[int]
    after_s: int
    within_s: int
    def __init__(self, after_s: _Optional[int] = ..., within_s: _Optional[int] = ...) -> None: ...

class Content(_message.Message):
    __slots__ = ("content_id", "title", "embedding", "metadata")
    CONTENT_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    content_id: str
    title: str
    embedding: bytes
    metadata: Metadata
    def __init__(self, content_id: _Optional[str] = ..., title: _Optional[str] = ..., embedding: _Optional[bytes] = ..., metadata: _Optional[_Union[Metadata, _Mapping]] = ...) -> None: ...

class Metadata(_message.Message):
    __slots__ = ("genre", "year", "duration_min")
    GENRE_FIELD_NUMBER: _ClassVar[int]
    YEAR_FIELD_NUMBER: _ClassVar[int]
    DURATION_MIN_FIELD_NUMBER: _ClassVar[int]
    genre: str
    year: int
    duration_min: int
    def __init__(self, genre: _Optional[str] = ..., year: _Optional[int] = ..., duration_min: _Optional[int] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("status", "code", "detail", "path", "retry_after_s", "last_sequence", "shard_url")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SHARD_URL_FIELD_NUMBER: _ClassVar[int]
    status: int
    code: str
    detail: str
    path: str
    retry_after_s: int
    last_sequence: int
    shard_url: str
    def __init__(self, status: _Optional[int] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ..., path: _Optional[str] = ..., retry_after_s: _Optional[int] = ..., last_sequence: _Optional[int] = ..., shard_url: _Optional[str] = ...) -> None: ...
