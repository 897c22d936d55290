from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InitRequest(_message.Message):
    __slots__ = ("manifest_toml", "resume")
    MANIFEST_TOML_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    manifest_toml: str
    resume: str
    def __init__(self, manifest_toml: _Optional[str] = ..., resume: _Optional[str] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class RunReply(_message.Message):
    __slots__ = ("run_id", "name", "token", "invite")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    INVITE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    name: str
    token: str
    invite: str
    def __init__(self, run_id: _Optional[str] = ..., name: _Optional[str] = ..., token: _Optional[str] = ..., invite: _Optional[str] = ...) -> None: ...

class PeerStatus(_message.Message):
    __slots__ = ("peer_id", "self", "alive", "in_roster", "phase", "head_round", "step", "steps", "tokens_per_second", "loss", "seen_seconds_ago", "addresses", "removed", "removed_reason", "link", "role", "shards", "admission", "reputation", "strikes", "influence", "doubt", "standing", "evidence")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    SELF_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    IN_ROSTER_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    HEAD_ROUND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    SEEN_SECONDS_AGO_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_REASON_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    ADMISSION_FIELD_NUMBER: _ClassVar[int]
    REPUTATION_FIELD_NUMBER: _ClassVar[int]
    STRIKES_FIELD_NUMBER: _ClassVar[int]
    INFLUENCE_FIELD_NUMBER: _ClassVar[int]
    DOUBT_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    self: bool
    alive: bool
    in_roster: bool
    phase: str
    head_round: int
    step: int
    steps: int
    tokens_per_second: float
    loss: float
    seen_seconds_ago: float
    addresses: _containers.RepeatedScalarFieldContainer[str]
    removed: bool
    removed_reason: str
    link: str
    role: str
    shards: _containers.RepeatedScalarFieldContainer[str]
    admission: AdmissionStatus
    reputation: int
    strikes: int
    influence: int
    doubt: str
    standing: str
    evidence: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self_, peer_id: _Optional[str] = ..., self: bool = ..., alive: bool = ..., in_roster: bool = ..., phase: _Optional[str] = ..., head_round: _Optional[int] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., tokens_per_second: _Optional[float] = ..., loss: _Optional[float] = ..., seen_seconds_ago: _Optional[float] = ..., addresses: _Optional[_Iterable[str]] = ..., removed: bool = ..., removed_reason: _Optional[str] = ..., link: _Optional[str] = ..., role: _Optional[str] = ..., shards: _Optional[_Iterable[str]] = ..., admission: _Optional[_Union[AdmissionStatus, _Mapping]] = ..., reputation: _Optional[int] = ..., strikes: _Optional[int] = ..., influence: _Optional[int] = ..., doubt: _Optional[str] = ..., standing: _Optional[str] = ..., evidence: _Optional[_Iterable[str]] = ...) -> None: ...

class AdmissionStatus(_message.Message):
    __slots__ = ("right", "invite", "inviter", "expires_at", "max_uses", "uses", "refusal")
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    INVITE_FIELD_NUMBER: _ClassVar[int]
    INVITER_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    MAX_USES_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    right: str
    invite: str
    inviter: str
    expires_at: int
    max_uses: int
    uses: int
    refusal: str
    def __init__(self, right: _Optional[str] = ..., invite: _Optional[str] = ..., inviter: _Optional[str] = ..., expires_at: _Optional[int] = ..., max_uses: _Optional[int] = ..., uses: _Optional[int] = ..., refusal: _Optional[str] = ...) -> None: ...

class RoundStatus(_message.Message):
    __slots__ = ("round", "rounds", "view", "phase", "step", "steps", "waiting_for", "leader", "phase_seconds")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    PHASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    round: int
    rounds: int
    view: int
    phase: str
    step: int
    steps: int
    waiting_for: _containers.RepeatedScalarFieldContainer[str]
    leader: str
    phase_seconds: float
    def __init__(self, round: _Optional[int] = ..., rounds: _Optional[int] = ..., view: _Optional[int] = ..., phase: _Optional[str] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., waiting_for: _Optional[_Iterable[str]] = ..., leader: _Optional[str] = ..., phase_seconds: _Optional[float] = ...) -> None: ...

class RunStatus(_message.Message):
    __slots__ = ("run_id", "name", "state_digest", "head", "text_tokens", "loss", "val_loss", "val_loss_start", "unigram_entropy", "params", "payload_bytes_sent", "dense_bytes", "refused", "round", "peers", "refused_by_reason", "finished", "sent_bytes", "received_bytes", "digest_round", "outer_lr", "may_order", "pending_orders", "shard_digests", "plan", "ring_sent_bytes", "ring_text_tokens")
    class RefusedByReasonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class SentBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ReceivedBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ShardDigestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class RingSentBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    TEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    VAL_LOSS_FIELD_NUMBER: _ClassVar[int]
    VAL_LOSS_START_FIELD_NUMBER: _ClassVar[int]
    UNIGRAM_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    DENSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_BY_REASON_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_ROUND_FIELD_NUMBER: _ClassVar[int]
    OUTER_LR_FIELD_NUMBER: _ClassVar[int]
    MAY_ORDER_FIELD_NUMBER: _ClassVar[int]
    PENDING_ORDERS_FIELD_NUMBER: _ClassVar[int]
    SHARD_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    RING_SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RING_TEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    name: str
    state_digest: str
    head: str
    text_tokens: int
    loss: float
    val_loss: float
    val_loss_start: float
    unigram_entropy: float
    params: int
    payload_bytes_sent: int
    dense_bytes: int
    refused: int
    round: RoundStatus
    peers: _containers.RepeatedCompositeFieldContainer[PeerStatus]
    refused_by_reason: _containers.ScalarMap[str, int]
    finished: bool
    sent_bytes: _containers.ScalarMap[str, int]
    received_bytes: _containers.ScalarMap[str, int]
    digest_round: int
    outer_lr: float
    may_order: bool
    pending_orders: int
    shard_digests: _containers.ScalarMap[str, str]
    plan: int
    ring_sent_bytes: _containers.ScalarMap[str, int]
    ring_text_tokens: int
    def __init__(self, run_id: _Optional[str] = ..., name: _Optional[str] = ..., state_digest: _Optional[str] = ..., head: _Optional[str] = ..., text_tokens: _Optional[int] = ..., loss: _Optional[float] = ..., val_loss: _Optional[float] = ..., val_loss_start: _Optional[float] = ..., unigram_entropy: _Optional[float] = ..., params: _Optional[int] = ..., payload_bytes_sent: _Optional[int] = ..., dense_bytes: _Optional[int] = ..., refused: _Optional[int] = ..., round: _Optional[_Union[RoundStatus, _Mapping]] = ..., peers: _Optional[_Iterable[_Union[PeerStatus, _Mapping]]] = ..., refused_by_reason: _Optional[_Mapping[str, int]] = ..., finished: bool = ..., sent_bytes: _Optional[_Mapping[str, int]] = ..., received_bytes: _Optional[_Mapping[str, int]] = ..., digest_round: _Optional[int] = ..., outer_lr: _Optional[float] = ..., may_order: bool = ..., pending_orders: _Optional[int] = ..., shard_digests: _Optional[_Mapping[str, str]] = ..., plan: _Optional[int] = ..., ring_sent_bytes: _Optional[_Mapping[str, int]] = ..., ring_text_tokens: _Optional[int] = ...) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("peer_id", "version", "pid", "uptime_seconds", "addresses", "home", "run", "compute", "warning", "page_url", "reach")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    HOME_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    PAGE_URL_FIELD_NUMBER: _ClassVar[int]
    REACH_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    version: str
    pid: int
    uptime_seconds: float
    addresses: _containers.RepeatedScalarFieldContainer[str]
    home: str
    run: RunStatus
    compute: str
    warning: str
    page_url: str
    reach: ReachStatus
    def __init__(self, peer_id: _Optional[str] = ..., version: _Optional[str] = ..., pid: _Optional[int] = ..., uptime_seconds: _Optional[float] = ..., addresses: _Optional[_Iterable[str]] = ..., home: _Optional[str] = ..., run: _Optional[_Union[RunStatus, _Mapping]] = ..., compute: _Optional[str] = ..., warning: _Optional[str] = ..., page_url: _Optional[str] = ..., reach: _Optional[_Union[ReachStatus, _Mapping]] = ...) -> None: ...

class ReachStatus(_message.Message):
    __slots__ = ("verdict", "nat", "open", "relays", "observers", "summary", "advice")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    NAT_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    RELAYS_FIELD_NUMBER: _ClassVar[int]
    OBSERVERS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    verdict: str
    nat: str
    open: _containers.RepeatedScalarFieldContainer[str]
    relays: _containers.RepeatedScalarFieldContainer[str]
    observers: int
    summary: str
    advice: str
    def __init__(self, verdict: _Optional[str] = ..., nat: _Optional[str] = ..., open: _Optional[_Iterable[str]] = ..., relays: _Optional[_Iterable[str]] = ..., observers: _Optional[int] = ..., summary: _Optional[str] = ..., advice: _Optional[str] = ...) -> None: ...

class RemoveRequest(_message.Message):
    __slots__ = ("peer", "reason")
    PEER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    peer: str
    reason: str
    def __init__(self, peer: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class OrderRequest(_message.Message):
    __slots__ = ("remove", "readmit", "outer_lr", "revoke", "allow")
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    READMIT_FIELD_NUMBER: _ClassVar[int]
    OUTER_LR_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    remove: RemoveRequest
    readmit: str
    outer_lr: float
    revoke: RevokeRequest
    allow: str
    def __init__(self, remove: _Optional[_Union[RemoveRequest, _Mapping]] = ..., readmit: _Optional[str] = ..., outer_lr: _Optional[float] = ..., revoke: _Optional[_Union[RevokeRequest, _Mapping]] = ..., allow: _Optional[str] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("invite", "reason")
    INVITE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    invite: str
    reason: str
    def __init__(self, invite: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class OrderReply(_message.Message):
    __slots__ = ("sequence", "peer", "invite")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    INVITE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    peer: str
    invite: str
    def __init__(self, sequence: _Optional[int] = ..., peer: _Optional[str] = ..., invite: _Optional[str] = ...) -> None: ...

class InviteRequest(_message.Message):
    __slots__ = ("lifetime_seconds", "max_uses")
    LIFETIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_USES_FIELD_NUMBER: _ClassVar[int]
    lifetime_seconds: float
    max_uses: int
    def __init__(self, lifetime_seconds: _Optional[float] = ..., max_uses: _Optional[int] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("directory",)
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    directory: str
    def __init__(self, directory: _Optional[str] = ...) -> None: ...

class ExportReply(_message.Message):
    __slots__ = ("directory", "state_digest")
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    STATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    directory: str
    state_digest: str
    def __init__(self, directory: _Optional[str] = ..., state_digest: _Optional[str] = ...) -> None: ...

class SampleRequest(_message.Message):
    __slots__ = ("prompt", "text_tokens", "temperature", "seed")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    text_tokens: int
    temperature: float
    seed: int
    def __init__(self, prompt: _Optional[str] = ..., text_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class SampleReply(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class LogsRequest(_message.Message):
    __slots__ = ("follow", "last")
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    follow: bool
    last: int
    def __init__(self, follow: bool = ..., last: _Optional[int] = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: str
    def __init__(self, json: _Optional[str] = ...) -> None: ...
