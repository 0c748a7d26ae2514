from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("version", "started_at_ns", "engines", "default_engine", "network_ready", "network_problem", "migration", "log_level", "settings")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_ENGINE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_READY_FIELD_NUMBER: _ClassVar[int]
    NETWORK_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    LOG_LEVEL_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    version: str
    started_at_ns: int
    engines: _containers.RepeatedCompositeFieldContainer[Engine]
    default_engine: str
    network_ready: bool
    network_problem: str
    migration: Migration
    log_level: str
    settings: str
    def __init__(self, version: _Optional[str] = ..., started_at_ns: _Optional[int] = ..., engines: _Optional[_Iterable[_Union[Engine, _Mapping]]] = ..., default_engine: _Optional[str] = ..., network_ready: _Optional[bool] = ..., network_problem: _Optional[str] = ..., migration: _Optional[_Union[Migration, _Mapping]] = ..., log_level: _Optional[str] = ..., settings: _Optional[str] = ...) -> None: ...

class Engine(_message.Message):
    __slots__ = ("name", "ready", "problem", "version", "root_dir", "pods_ready", "pods_not_ready", "containers_running", "containers_exited", "images", "tombstones")
    NAME_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROOT_DIR_FIELD_NUMBER: _ClassVar[int]
    PODS_READY_FIELD_NUMBER: _ClassVar[int]
    PODS_NOT_READY_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_EXITED_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    name: str
    ready: bool
    problem: str
    version: str
    root_dir: str
    pods_ready: int
    pods_not_ready: int
    containers_running: int
    containers_exited: int
    images: int
    tombstones: int
    def __init__(self, name: _Optional[str] = ..., ready: _Optional[bool] = ..., problem: _Optional[str] = ..., version: _Optional[str] = ..., root_dir: _Optional[str] = ..., pods_ready: _Optional[int] = ..., pods_not_ready: _Optional[int] = ..., containers_running: _Optional[int] = ..., containers_exited: _Optional[int] = ..., images: _Optional[int] = ..., tombstones: _Optional[int] = ...) -> None: ...

class SetLogLevelRequest(_message.Message):
    __slots__ = ("level",)
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: str
    def __init__(self, level: _Optional[str] = ...) -> None: ...

class SetLogLevelResponse(_message.Message):
    __slots__ = ("previous",)
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    previous: str
    def __init__(self, previous: _Optional[str] = ...) -> None: ...

class PlanOptions(_message.Message):
    __slots__ = ("target", "pods", "exclude", "last", "max_unavailable", "pods_json")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PODS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    MAX_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    PODS_JSON_FIELD_NUMBER: _ClassVar[int]
    target: str
    pods: _containers.RepeatedScalarFieldContainer[str]
    exclude: _containers.RepeatedScalarFieldContainer[str]
    last: _containers.RepeatedScalarFieldContainer[str]
    max_unavailable: int
    pods_json: str
    def __init__(self, target: _Optional[str] = ..., pods: _Optional[_Iterable[str]] = ..., exclude: _Optional[_Iterable[str]] = ..., last: _Optional[_Iterable[str]] = ..., max_unavailable: _Optional[int] = ..., pods_json: _Optional[str] = ...) -> None: ...

class MigratePlanRequest(_message.Message):
    __slots__ = ("options",)
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    options: PlanOptions
    def __init__(self, options: _Optional[_Union[PlanOptions, _Mapping]] = ...) -> None: ...

class MigrateImagesRequest(_message.Message):
    __slots__ = ("options",)
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    options: PlanOptions
    def __init__(self, options: _Optional[_Union[PlanOptions, _Mapping]] = ...) -> None: ...

class MigrateRunRequest(_message.Message):
    __slots__ = ("options", "settle_seconds", "return_within_seconds")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SETTLE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RETURN_WITHIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    options: PlanOptions
    settle_seconds: float
    return_within_seconds: float
    def __init__(self, options: _Optional[_Union[PlanOptions, _Mapping]] = ..., settle_seconds: _Optional[float] = ..., return_within_seconds: _Optional[float] = ...) -> None: ...

class MigrateStatusRequest(_message.Message):
    __slots__ = ("watch",)
    WATCH_FIELD_NUMBER: _ClassVar[int]
    watch: bool
    def __init__(self, watch: _Optional[bool] = ...) -> None: ...

class MigratePauseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MigrateResumeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MigrateAbortRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MigrateRollbackRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MigrateFinishRequest(_message.Message):
    __slots__ = ("engine",)
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    engine: str
    def __init__(self, engine: _Optional[str] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("source", "target", "moves", "stays", "images", "copy_bytes", "estimate_seconds", "max_unavailable")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    STAYS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    COPY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    moves: _containers.RepeatedCompositeFieldContainer[PlannedMove]
    stays: _containers.RepeatedCompositeFieldContainer[Stay]
    images: _containers.RepeatedCompositeFieldContainer[PlannedImage]
    copy_bytes: int
    estimate_seconds: float
    max_unavailable: int
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., moves: _Optional[_Iterable[_Union[PlannedMove, _Mapping]]] = ..., stays: _Optional[_Iterable[_Union[Stay, _Mapping]]] = ..., images: _Optional[_Iterable[_Union[PlannedImage, _Mapping]]] = ..., copy_bytes: _Optional[int] = ..., estimate_seconds: _Optional[float] = ..., max_unavailable: _Optional[int] = ...) -> None: ...

class PlannedMove(_message.Message):
    __slots__ = ("uid", "pod", "rank", "alone", "grace_seconds")
    UID_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    ALONE_FIELD_NUMBER: _ClassVar[int]
    GRACE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    uid: str
    pod: str
    rank: str
    alone: bool
    grace_seconds: int
    def __init__(self, uid: _Optional[str] = ..., pod: _Optional[str] = ..., rank: _Optional[str] = ..., alone: _Optional[bool] = ..., grace_seconds: _Optional[int] = ...) -> None: ...

class Stay(_message.Message):
    __slots__ = ("uid", "pod", "reason", "why")
    UID_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    uid: str
    pod: str
    reason: str
    why: str
    def __init__(self, uid: _Optional[str] = ..., pod: _Optional[str] = ..., reason: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class PlannedImage(_message.Message):
    __slots__ = ("id", "names", "size_bytes", "pods", "present", "missing_at_source")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PODS_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    MISSING_AT_SOURCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    names: _containers.RepeatedScalarFieldContainer[str]
    size_bytes: int
    pods: int
    present: bool
    missing_at_source: bool
    def __init__(self, id: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., size_bytes: _Optional[int] = ..., pods: _Optional[int] = ..., present: _Optional[bool] = ..., missing_at_source: _Optional[bool] = ...) -> None: ...

class ImageProgress(_message.Message):
    __slots__ = ("images_done", "images_total", "bytes_done", "bytes_total", "current", "seconds")
    IMAGES_DONE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    images_done: int
    images_total: int
    bytes_done: int
    bytes_total: int
    current: str
    seconds: float
    def __init__(self, images_done: _Optional[int] = ..., images_total: _Optional[int] = ..., bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., current: _Optional[str] = ..., seconds: _Optional[float] = ...) -> None: ...

class Migration(_message.Message):
    __slots__ = ("id", "source", "target", "state", "ended", "reason", "waiting", "is_rollback", "began_at_ns", "ended_at_ns", "max_unavailable", "images", "moves")
    ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    IS_ROLLBACK_FIELD_NUMBER: _ClassVar[int]
    BEGAN_AT_NS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    MAX_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    id: int
    source: str
    target: str
    state: str
    ended: bool
    reason: str
    waiting: str
    is_rollback: bool
    began_at_ns: int
    ended_at_ns: int
    max_unavailable: int
    images: ImageProgress
    moves: _containers.RepeatedCompositeFieldContainer[Move]
    def __init__(self, id: _Optional[int] = ..., source: _Optional[str] = ..., target: _Optional[str] = ..., state: _Optional[str] = ..., ended: _Optional[bool] = ..., reason: _Optional[str] = ..., waiting: _Optional[str] = ..., is_rollback: _Optional[bool] = ..., began_at_ns: _Optional[int] = ..., ended_at_ns: _Optional[int] = ..., max_unavailable: _Optional[int] = ..., images: _Optional[_Union[ImageProgress, _Mapping]] = ..., moves: _Optional[_Iterable[_Union[Move, _Mapping]]] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("uid", "pod", "state", "reason", "left_sandbox_id", "new_sandbox_id", "began_at_ns", "ended_at_ns")
    UID_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LEFT_SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    NEW_SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    BEGAN_AT_NS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    uid: str
    pod: str
    state: str
    reason: str
    left_sandbox_id: str
    new_sandbox_id: str
    began_at_ns: int
    ended_at_ns: int
    def __init__(self, uid: _Optional[str] = ..., pod: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., left_sandbox_id: _Optional[str] = ..., new_sandbox_id: _Optional[str] = ..., began_at_ns: _Optional[int] = ..., ended_at_ns: _Optional[int] = ...) -> None: ...

class FinishReport(_message.Message):
    __slots__ = ("engine", "other", "complete", "leftovers", "buried", "images", "images_bytes")
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    LEFTOVERS_FIELD_NUMBER: _ClassVar[int]
    BURIED_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    IMAGES_BYTES_FIELD_NUMBER: _ClassVar[int]
    engine: str
    other: str
    complete: bool
    leftovers: _containers.RepeatedCompositeFieldContainer[Leftover]
    buried: int
    images: int
    images_bytes: int
    def __init__(self, engine: _Optional[str] = ..., other: _Optional[str] = ..., complete: _Optional[bool] = ..., leftovers: _Optional[_Iterable[_Union[Leftover, _Mapping]]] = ..., buried: _Optional[int] = ..., images: _Optional[int] = ..., images_bytes: _Optional[int] = ...) -> None: ...

class Leftover(_message.Message):
    __slots__ = ("name", "why")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    name: str
    why: str
    def __init__(self, name: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...
