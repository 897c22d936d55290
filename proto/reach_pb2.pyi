from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReachRequest(_message.Message):
    __slots__ = ("look", "punch")
    LOOK_FIELD_NUMBER: _ClassVar[int]
    PUNCH_FIELD_NUMBER: _ClassVar[int]
    look: LookRequest
    punch: PunchRequest
    def __init__(self, look: _Optional[_Union[LookRequest, _Mapping]] = ..., punch: _Optional[_Union[PunchRequest, _Mapping]] = ...) -> None: ...

class LookRequest(_message.Message):
    __slots__ = ("ports",)
    PORTS_FIELD_NUMBER: _ClassVar[int]
    ports: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ports: _Optional[_Iterable[int]] = ...) -> None: ...

class PunchRequest(_message.Message):
    __slots__ = ("outer", "nonce")
    OUTER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    outer: str
    nonce: bytes
    def __init__(self, outer: _Optional[str] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class ReachReply(_message.Message):
    __slots__ = ("look", "punch", "refused")
    LOOK_FIELD_NUMBER: _ClassVar[int]
    PUNCH_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    look: LookReply
    punch: PunchReply
    refused: str
    def __init__(self, look: _Optional[_Union[LookReply, _Mapping]] = ..., punch: _Optional[_Union[PunchReply, _Mapping]] = ..., refused: _Optional[str] = ...) -> None: ...

class LookReply(_message.Message):
    __slots__ = ("seen", "answered", "mirror")
    SEEN_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    MIRROR_FIELD_NUMBER: _ClassVar[int]
    seen: _containers.RepeatedScalarFieldContainer[str]
    answered: _containers.RepeatedScalarFieldContainer[int]
    mirror: int
    def __init__(self, seen: _Optional[_Iterable[str]] = ..., answered: _Optional[_Iterable[int]] = ..., mirror: _Optional[int] = ...) -> None: ...

class PunchReply(_message.Message):
    __slots__ = ("outer", "nonce")
    OUTER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    outer: str
    nonce: bytes
    def __init__(self, outer: _Optional[str] = ..., nonce: _Optional[bytes] = ...) -> None: ...
