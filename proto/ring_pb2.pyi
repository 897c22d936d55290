from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Plan(_message.Message):
    __slots__ = ("version", "microbatch_tokens", "stages", "rings", "spares", "shadows")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MICROBATCH_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    RINGS_FIELD_NUMBER: _ClassVar[int]
    SPARES_FIELD_NUMBER: _ClassVar[int]
    SHADOWS_FIELD_NUMBER: _ClassVar[int]
    version: int
    microbatch_tokens: int
    stages: _containers.RepeatedCompositeFieldContainer[Stage]
    rings: _containers.RepeatedCompositeFieldContainer[Ring]
    spares: _containers.RepeatedScalarFieldContainer[str]
    shadows: _containers.RepeatedCompositeFieldContainer[Shadow]
    def __init__(self, version: _Optional[int] = ..., microbatch_tokens: _Optional[int] = ..., stages: _Optional[_Iterable[_Union[Stage, _Mapping]]] = ..., rings: _Optional[_Iterable[_Union[Ring, _Mapping]]] = ..., spares: _Optional[_Iterable[str]] = ..., shadows: _Optional[_Iterable[_Union[Shadow, _Mapping]]] = ...) -> None: ...

class Stage(_message.Message):
    __slots__ = ("shards",)
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, shards: _Optional[_Iterable[str]] = ...) -> None: ...

class Ring(_message.Message):
    __slots__ = ("members", "paths", "in_flight")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    paths: _containers.RepeatedCompositeFieldContainer[Path]
    in_flight: int
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., paths: _Optional[_Iterable[_Union[Path, _Mapping]]] = ..., in_flight: _Optional[int] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("peer", "stages", "slots", "rate")
    PEER_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    peer: str
    stages: _containers.RepeatedScalarFieldContainer[int]
    slots: int
    rate: float
    def __init__(self, peer: _Optional[str] = ..., stages: _Optional[_Iterable[int]] = ..., slots: _Optional[int] = ..., rate: _Optional[float] = ...) -> None: ...

class Path(_message.Message):
    __slots__ = ("hops", "quota")
    HOPS_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    hops: _containers.RepeatedCompositeFieldContainer[Hop]
    quota: int
    def __init__(self, hops: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ..., quota: _Optional[int] = ...) -> None: ...

class Hop(_message.Message):
    __slots__ = ("member", "stages")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    member: int
    stages: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, member: _Optional[int] = ..., stages: _Optional[_Iterable[int]] = ...) -> None: ...

class Shadow(_message.Message):
    __slots__ = ("stage", "source", "holder")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    stage: int
    source: str
    holder: str
    def __init__(self, stage: _Optional[int] = ..., source: _Optional[str] = ..., holder: _Optional[str] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("run_id", "plan", "ring", "round", "step", "microbatch", "attempt", "hop", "payload_bytes", "activation", "gradient", "reserve", "grant", "refuse", "release", "passed", "rerouted", "failed", "step_begin", "step_end", "stepped", "rebuilt")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    MICROBATCH_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    HOP_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    REFUSE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    REROUTED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    STEP_BEGIN_FIELD_NUMBER: _ClassVar[int]
    STEP_END_FIELD_NUMBER: _ClassVar[int]
    STEPPED_FIELD_NUMBER: _ClassVar[int]
    REBUILT_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    plan: int
    ring: int
    round: int
    step: int
    microbatch: int
    attempt: int
    hop: int
    payload_bytes: int
    activation: Activation
    gradient: Gradient
    reserve: Reserve
    grant: Grant
    refuse: Refuse
    release: Release
    passed: Passed
    rerouted: Rerouted
    failed: Failed
    step_begin: StepBegin
    step_end: StepEnd
    stepped: Stepped
    rebuilt: Rebuilt
    def __init__(self, run_id: _Optional[bytes] = ..., plan: _Optional[int] = ..., ring: _Optional[int] = ..., round: _Optional[int] = ..., step: _Optional[int] = ..., microbatch: _Optional[int] = ..., attempt: _Optional[int] = ..., hop: _Optional[int] = ..., payload_bytes: _Optional[int] = ..., activation: _Optional[_Union[Activation, _Mapping]] = ..., gradient: _Optional[_Union[Gradient, _Mapping]] = ..., reserve: _Optional[_Union[Reserve, _Mapping]] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ..., refuse: _Optional[_Union[Refuse, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., passed: _Optional[_Union[Passed, _Mapping]] = ..., rerouted: _Optional[_Union[Rerouted, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., step_begin: _Optional[_Union[StepBegin, _Mapping]] = ..., step_end: _Optional[_Union[StepEnd, _Mapping]] = ..., stepped: _Optional[_Union[Stepped, _Mapping]] = ..., rebuilt: _Optional[_Union[Rebuilt, _Mapping]] = ...) -> None: ...

class Pace(_message.Message):
    __slots__ = ("queued_us", "bottleneck_us")
    QUEUED_US_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_US_FIELD_NUMBER: _ClassVar[int]
    queued_us: int
    bottleneck_us: int
    def __init__(self, queued_us: _Optional[int] = ..., bottleneck_us: _Optional[int] = ...) -> None: ...

class Activation(_message.Message):
    __slots__ = ("path", "text_tokens", "pace")
    PATH_FIELD_NUMBER: _ClassVar[int]
    TEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedCompositeFieldContainer[Hop]
    text_tokens: int
    pace: Pace
    def __init__(self, path: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ..., text_tokens: _Optional[int] = ..., pace: _Optional[_Union[Pace, _Mapping]] = ...) -> None: ...

class Gradient(_message.Message):
    __slots__ = ("pace",)
    PACE_FIELD_NUMBER: _ClassVar[int]
    pace: Pace
    def __init__(self, pace: _Optional[_Union[Pace, _Mapping]] = ...) -> None: ...

class Reserve(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedCompositeFieldContainer[Hop]
    def __init__(self, path: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Refuse(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("done",)
    DONE_FIELD_NUMBER: _ClassVar[int]
    done: bool
    def __init__(self, done: bool = ...) -> None: ...

class Passed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Rerouted(_message.Message):
    __slots__ = ("path", "culprit")
    PATH_FIELD_NUMBER: _ClassVar[int]
    CULPRIT_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedCompositeFieldContainer[Hop]
    culprit: int
    def __init__(self, path: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ..., culprit: _Optional[int] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("culprit", "reason")
    CULPRIT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    culprit: int
    reason: str
    def __init__(self, culprit: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class StageVisits(_message.Message):
    __slots__ = ("stage", "text_tokens", "microbatches")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MICROBATCHES_FIELD_NUMBER: _ClassVar[int]
    stage: int
    text_tokens: int
    microbatches: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, stage: _Optional[int] = ..., text_tokens: _Optional[int] = ..., microbatches: _Optional[_Iterable[int]] = ...) -> None: ...

class StepBegin(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StepEnd(_message.Message):
    __slots__ = ("visits", "last")
    VISITS_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    visits: _containers.RepeatedCompositeFieldContainer[StageVisits]
    last: bool
    def __init__(self, visits: _Optional[_Iterable[_Union[StageVisits, _Mapping]]] = ..., last: bool = ...) -> None: ...

class Stepped(_message.Message):
    __slots__ = ("visits", "reason")
    VISITS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    visits: _containers.RepeatedCompositeFieldContainer[StageVisits]
    reason: str
    def __init__(self, visits: _Optional[_Iterable[_Union[StageVisits, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class StageAge(_message.Message):
    __slots__ = ("stage", "steps")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    stage: int
    steps: int
    def __init__(self, stage: _Optional[int] = ..., steps: _Optional[int] = ...) -> None: ...

class Rebuilt(_message.Message):
    __slots__ = ("stages",)
    STAGES_FIELD_NUMBER: _ClassVar[int]
    stages: _containers.RepeatedCompositeFieldContainer[StageAge]
    def __init__(self, stages: _Optional[_Iterable[_Union[StageAge, _Mapping]]] = ...) -> None: ...
