from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Envelope(_message.Message):
    __slots__ = ("kind", "body", "signer", "signature")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Envelope.Kind]
        MEMBER: _ClassVar[Envelope.Kind]
        HEARTBEAT: _ClassVar[Envelope.Kind]
        ANNOUNCE: _ClassVar[Envelope.Kind]
        COMMIT: _ClassVar[Envelope.Kind]
        MANIFEST: _ClassVar[Envelope.Kind]
        INVITE: _ClassVar[Envelope.Kind]
        ORDER: _ClassVar[Envelope.Kind]
        FINDING: _ClassVar[Envelope.Kind]
        SHADOW: _ClassVar[Envelope.Kind]
    KIND_UNSPECIFIED: Envelope.Kind
    MEMBER: Envelope.Kind
    HEARTBEAT: Envelope.Kind
    ANNOUNCE: Envelope.Kind
    COMMIT: Envelope.Kind
    MANIFEST: Envelope.Kind
    INVITE: Envelope.Kind
    ORDER: Envelope.Kind
    FINDING: Envelope.Kind
    SHADOW: Envelope.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    kind: Envelope.Kind
    body: bytes
    signer: str
    signature: bytes
    def __init__(self, kind: _Optional[_Union[Envelope.Kind, str]] = ..., body: _Optional[bytes] = ..., signer: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Invite(_message.Message):
    __slots__ = ("run_id", "expires_at", "nonce", "max_uses")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    MAX_USES_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    expires_at: int
    nonce: bytes
    max_uses: int
    def __init__(self, run_id: _Optional[bytes] = ..., expires_at: _Optional[int] = ..., nonce: _Optional[bytes] = ..., max_uses: _Optional[int] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("role", "memory", "forward", "backward")
    class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        AUTO: _ClassVar[Offer.Role]
        REPLICA: _ClassVar[Offer.Role]
        STAGE: _ClassVar[Offer.Role]
    AUTO: Offer.Role
    REPLICA: Offer.Role
    STAGE: Offer.Role
    ROLE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    BACKWARD_FIELD_NUMBER: _ClassVar[int]
    role: Offer.Role
    memory: int
    forward: float
    backward: float
    def __init__(self, role: _Optional[_Union[Offer.Role, str]] = ..., memory: _Optional[int] = ..., forward: _Optional[float] = ..., backward: _Optional[float] = ...) -> None: ...

class MemberRecord(_message.Message):
    __slots__ = ("run_id", "addresses", "invite", "expires_at", "agent", "offer")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    INVITE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    addresses: _containers.RepeatedScalarFieldContainer[str]
    invite: Envelope
    expires_at: int
    agent: str
    offer: Offer
    def __init__(self, run_id: _Optional[bytes] = ..., addresses: _Optional[_Iterable[str]] = ..., invite: _Optional[_Union[Envelope, _Mapping]] = ..., expires_at: _Optional[int] = ..., agent: _Optional[str] = ..., offer: _Optional[_Union[Offer, _Mapping]] = ...) -> None: ...

class ShardPayload(_message.Message):
    __slots__ = ("shard", "address", "size")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    shard: str
    address: bytes
    size: int
    def __init__(self, shard: _Optional[str] = ..., address: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...

class ShardState(_message.Message):
    __slots__ = ("shard", "address")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    shard: str
    address: bytes
    def __init__(self, shard: _Optional[str] = ..., address: _Optional[bytes] = ...) -> None: ...

class Announce(_message.Message):
    __slots__ = ("run_id", "round", "parent", "text_tokens", "round_tokens", "loss", "shards", "state", "norms")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    TEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROUND_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NORMS_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    round: int
    parent: bytes
    text_tokens: int
    round_tokens: int
    loss: float
    shards: _containers.RepeatedCompositeFieldContainer[ShardPayload]
    state: _containers.RepeatedCompositeFieldContainer[ShardState]
    norms: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, run_id: _Optional[bytes] = ..., round: _Optional[int] = ..., parent: _Optional[bytes] = ..., text_tokens: _Optional[int] = ..., round_tokens: _Optional[int] = ..., loss: _Optional[float] = ..., shards: _Optional[_Iterable[_Union[ShardPayload, _Mapping]]] = ..., state: _Optional[_Iterable[_Union[ShardState, _Mapping]]] = ..., norms: _Optional[_Iterable[float]] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("run_id", "round", "view", "parent", "announces", "roster", "admissions", "cursor", "weight", "orders", "judgements", "findings", "state", "plan")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ANNOUNCES_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    ADMISSIONS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    JUDGEMENTS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    round: int
    view: int
    parent: bytes
    announces: _containers.RepeatedCompositeFieldContainer[Envelope]
    roster: _containers.RepeatedScalarFieldContainer[str]
    admissions: _containers.RepeatedCompositeFieldContainer[Envelope]
    cursor: int
    weight: int
    orders: _containers.RepeatedCompositeFieldContainer[Envelope]
    judgements: _containers.RepeatedCompositeFieldContainer[Judgement]
    findings: _containers.RepeatedCompositeFieldContainer[Envelope]
    state: _containers.RepeatedCompositeFieldContainer[ShardState]
    plan: bytes
    def __init__(self, run_id: _Optional[bytes] = ..., round: _Optional[int] = ..., view: _Optional[int] = ..., parent: _Optional[bytes] = ..., announces: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ..., roster: _Optional[_Iterable[str]] = ..., admissions: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ..., cursor: _Optional[int] = ..., weight: _Optional[int] = ..., orders: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ..., judgements: _Optional[_Iterable[_Union[Judgement, _Mapping]]] = ..., findings: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ..., state: _Optional[_Iterable[_Union[ShardState, _Mapping]]] = ..., plan: _Optional[bytes] = ...) -> None: ...

class Judgement(_message.Message):
    __slots__ = ("peer", "influence", "reason")
    PEER_FIELD_NUMBER: _ClassVar[int]
    INFLUENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    peer: str
    influence: int
    reason: str
    def __init__(self, peer: _Optional[str] = ..., influence: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("run_id", "commit", "subject", "gain")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    GAIN_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    commit: bytes
    subject: str
    gain: float
    def __init__(self, run_id: _Optional[bytes] = ..., commit: _Optional[bytes] = ..., subject: _Optional[str] = ..., gain: _Optional[float] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("run_id", "sequence", "remove", "readmit", "outer_lr", "revoke", "allow")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    READMIT_FIELD_NUMBER: _ClassVar[int]
    OUTER_LR_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    sequence: int
    remove: RemovePeer
    readmit: str
    outer_lr: float
    revoke: RevokeInvite
    allow: str
    def __init__(self, run_id: _Optional[bytes] = ..., sequence: _Optional[int] = ..., remove: _Optional[_Union[RemovePeer, _Mapping]] = ..., readmit: _Optional[str] = ..., outer_lr: _Optional[float] = ..., revoke: _Optional[_Union[RevokeInvite, _Mapping]] = ..., allow: _Optional[str] = ...) -> None: ...

class RevokeInvite(_message.Message):
    __slots__ = ("nonce", "reason")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    reason: str
    def __init__(self, nonce: _Optional[bytes] = ..., reason: _Optional[str] = ...) -> None: ...

class RemovePeer(_message.Message):
    __slots__ = ("peer", "reason")
    PEER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    peer: str
    reason: str
    def __init__(self, peer: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("run_id", "head", "head_round", "weight", "phase", "step", "steps", "tokens_per_second", "loss", "block_rate", "links", "doubts")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HEAD_ROUND_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_RATE_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    DOUBTS_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    head: bytes
    head_round: int
    weight: int
    phase: str
    step: int
    steps: int
    tokens_per_second: float
    loss: float
    block_rate: float
    links: _containers.RepeatedCompositeFieldContainer[LinkFigures]
    doubts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run_id: _Optional[bytes] = ..., head: _Optional[bytes] = ..., head_round: _Optional[int] = ..., weight: _Optional[int] = ..., phase: _Optional[str] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., tokens_per_second: _Optional[float] = ..., loss: _Optional[float] = ..., block_rate: _Optional[float] = ..., links: _Optional[_Iterable[_Union[LinkFigures, _Mapping]]] = ..., doubts: _Optional[_Iterable[str]] = ...) -> None: ...

class LinkFigures(_message.Message):
    __slots__ = ("peer", "round_trip_us", "bytes_per_s")
    PEER_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_US_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    peer: str
    round_trip_us: int
    bytes_per_s: int
    def __init__(self, peer: _Optional[str] = ..., round_trip_us: _Optional[int] = ..., bytes_per_s: _Optional[int] = ...) -> None: ...

class HelloRequest(_message.Message):
    __slots__ = ("protocol", "run_id", "member")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    run_id: bytes
    member: Envelope
    def __init__(self, protocol: _Optional[int] = ..., run_id: _Optional[bytes] = ..., member: _Optional[_Union[Envelope, _Mapping]] = ...) -> None: ...

class HelloReply(_message.Message):
    __slots__ = ("protocol", "manifest", "members")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    manifest: Envelope
    members: _containers.RepeatedCompositeFieldContainer[Envelope]
    def __init__(self, protocol: _Optional[int] = ..., manifest: _Optional[_Union[Envelope, _Mapping]] = ..., members: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ...) -> None: ...

class DeliverReply(_message.Message):
    __slots__ = ("refused",)
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    refused: str
    def __init__(self, refused: _Optional[str] = ...) -> None: ...

class ChainRequest(_message.Message):
    __slots__ = ("run_id", "from_round", "limit")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_ROUND_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    from_round: int
    limit: int
    def __init__(self, run_id: _Optional[bytes] = ..., from_round: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class BlobRequest(_message.Message):
    __slots__ = ("run_id", "address", "first", "stop", "tree")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    TREE_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    address: bytes
    first: int
    stop: int
    tree: bool
    def __init__(self, run_id: _Optional[bytes] = ..., address: _Optional[bytes] = ..., first: _Optional[int] = ..., stop: _Optional[int] = ..., tree: bool = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("size", "data", "tree")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TREE_FIELD_NUMBER: _ClassVar[int]
    size: int
    data: bytes
    tree: bytes
    def __init__(self, size: _Optional[int] = ..., data: _Optional[bytes] = ..., tree: _Optional[bytes] = ...) -> None: ...

class ProbeRequest(_message.Message):
    __slots__ = ("run_id", "size")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    size: int
    def __init__(self, run_id: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...

class ShadowCopy(_message.Message):
    __slots__ = ("run_id", "shard", "round", "parts", "step")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    shard: str
    round: int
    parts: _containers.RepeatedCompositeFieldContainer[ShardPayload]
    step: int
    def __init__(self, run_id: _Optional[bytes] = ..., shard: _Optional[str] = ..., round: _Optional[int] = ..., parts: _Optional[_Iterable[_Union[ShardPayload, _Mapping]]] = ..., step: _Optional[int] = ...) -> None: ...

class ShadowChunk(_message.Message):
    __slots__ = ("copy", "data")
    COPY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    copy: Envelope
    data: bytes
    def __init__(self, copy: _Optional[_Union[Envelope, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ShadowReply(_message.Message):
    __slots__ = ("refused",)
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    refused: str
    def __init__(self, refused: _Optional[str] = ...) -> None: ...

class ShadowsRequest(_message.Message):
    __slots__ = ("run_id", "shards")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    shards: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run_id: _Optional[bytes] = ..., shards: _Optional[_Iterable[str]] = ...) -> None: ...

class MomentsRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    def __init__(self, run_id: _Optional[bytes] = ...) -> None: ...

class MomentsReply(_message.Message):
    __slots__ = ("moments", "steps")
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    moments: _containers.RepeatedCompositeFieldContainer[ShardPayload]
    steps: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, moments: _Optional[_Iterable[_Union[ShardPayload, _Mapping]]] = ..., steps: _Optional[_Iterable[int]] = ...) -> None: ...
