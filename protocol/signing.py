"""Ed25519 signatures and the libp2p peer ids that go with them.

An Ed25519 peer id is the identity multihash of the protobuf-encoded public key, so whoever
knows the id can verify its signatures without asking anyone (libp2p peer-ids specification).
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Envelope, Kind

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# Identity multihash of 36 bytes: a PublicKey message {Type: Ed25519 (1), Data: 32 bytes}.
_PREFIX = bytes([0x00, 0x24, 0x08, 0x01, 0x12, 0x20])
_ID_LENGTH = 52
_DOMAIN = b"skerry/1/"


def peer_id_of(public_key: bytes) -> PeerId:
    """Return the base58 peer id of a raw 32-byte Ed25519 public key."""
    number = int.from_bytes(_PREFIX + public_key, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _ALPHABET[digit] + digits
    return PeerId("1" + digits)  # the multihash starts with one zero byte


def public_key_of(peer: PeerId) -> bytes:
    """Return the raw public key inside an Ed25519 peer id.

    Raises: ProtocolError("peer-id") if ``peer`` is not such an id.
    """
    if len(peer) != _ID_LENGTH or any(c not in _ALPHABET for c in peer):
        raise ProtocolError("peer-id", f"{peer[:60]!r} is not an Ed25519 peer id")
    number = 0
    for character in peer:
        number = number * 58 + _ALPHABET.index(character)
    try:
        raw = number.to_bytes(len(_PREFIX) + 32, "big")
    except OverflowError:
        raise ProtocolError("peer-id", f"{peer!r} is not an Ed25519 peer id") from None
    if not raw.startswith(_PREFIX):
        raise ProtocolError("peer-id", f"{peer!r} is not an Ed25519 peer id")
    return raw[len(_PREFIX) :]


class Signer:
    """A node's private key, as the only thing that can make its envelopes."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Hold ``key``; the peer id follows from it."""
        self._key = key
        self.peer_id = peer_id_of(key.public_key().public_bytes_raw())

    def sign(self, kind: Kind, body: bytes) -> Envelope:
        """Wrap ``body`` so that nobody can read it as a message of another kind."""
        return Envelope(kind, body, self.peer_id, self._key.sign(_signed_bytes(kind, body)))


def verify(envelope: Envelope) -> None:
    """Check that the envelope's signer signed its body as its kind.

    Raises: ProtocolError("signature") or ProtocolError("peer-id").
    """
    key = Ed25519PublicKey.from_public_bytes(public_key_of(envelope.signer))
    try:
        key.verify(envelope.signature, _signed_bytes(envelope.kind, envelope.body))
    except InvalidSignature:
        what = envelope.kind.name.lower()
        detail = f"the {what} of {envelope.signer} is not signed by it"
        raise ProtocolError("signature", detail) from None


def _signed_bytes(kind: Kind, body: bytes) -> bytes:
    return _DOMAIN + kind.name.encode() + b"\0" + body
