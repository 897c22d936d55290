"""Fields of messages that come from elsewhere: what they must be before anyone looks at them."""

import math
from typing import TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import HASH_BYTES, PeerId
from skerry.protocol.signing import public_key_of

NONCE_BYTES = 16
MAX_COUNT = 2**62

T = TypeVar("T", bound=Protobuf)


def serialized(message: Protobuf) -> bytes:
    """Return a message as bytes, always the same ones."""
    return message.SerializeToString(deterministic=True)


def parsed(message_type: type[T], body: bytes) -> T:
    """Read a message. Raises: ProtocolError("malformed")."""
    message = message_type()
    try:
        message.ParseFromString(body)
    except (DecodeError, RecursionError):
        raise ProtocolError("malformed", f"not a {message_type.DESCRIPTOR.name}") from None
    return message


def hash_of(raw: bytes) -> str:
    """Return a hash as text. Raises: ProtocolError("malformed") if it is none."""
    if len(raw) != HASH_BYTES:
        raise ProtocolError("malformed", f"hash of {len(raw)} bytes, must be {HASH_BYTES}")
    return raw.hex()


def nonce(raw: bytes) -> bytes:
    """Return an invite's nonce. Raises: ProtocolError("nonce")."""
    if len(raw) != NONCE_BYTES:
        raise ProtocolError("nonce", f"nonce of {len(raw)} bytes, must be {NONCE_BYTES}")
    return raw


def peer_id(text: str) -> PeerId:
    """Return a peer id that holds a key. Raises: ProtocolError."""
    public_key_of(PeerId(text))
    return PeerId(text)


SLOWEST, FASTEST = 1e-6, 1e15
"""Of anything that has a speed: beyond them arithmetic would not hold."""


def bounded(value: int) -> int:
    """Return a count that fits into 64 bits with room. Raises: ProtocolError("range")."""
    if value > MAX_COUNT:
        raise ProtocolError("range", f"{value} exceeds {MAX_COUNT}")
    return value


def finite(value: float) -> float:
    """Return a number. Raises: ProtocolError("non-finite")."""
    if not math.isfinite(value):
        raise ProtocolError("non-finite", f"{value} where a finite number is due")
    return value


def speed(value: float) -> float:
    """Return so many of something per second; 0: not known. Raises: ProtocolError."""
    if finite(value) and not SLOWEST <= value <= FASTEST:
        raise ProtocolError("range", f"a speed of {value:g} per second")
    return value


def printable(value: str, limit: int) -> str:
    """Return a short text of printable characters. Raises: ProtocolError("malformed")."""
    if len(value) > limit or not value.isprintable():
        raise ProtocolError("malformed", f"text of {len(value)} characters, limit {limit}")
    return value
