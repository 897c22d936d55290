"""The join token, and the admission that its invite buys.

A token is ``skerry1`` followed by unpadded base64url of these bytes (integers big-endian):

    u16   length of all that follows, checksum included: tells "cut short" from "changed"
    32 B  run id
    32 B  owner's Ed25519 public key; the peer id follows from it
    u8    number of bootstrap addresses, 1 to 16
          each: u8 1 if the address ends in /p2p/<owner>, which is then left out, else 0;
          u16 length; that many bytes of ASCII
    u8    length of the invite's body; 0 if there is no invite (an open run)
          the body, then u8 0 if the owner invites, 1 if a standby owner does: then its 32 B
          Ed25519 public key; then 64 B signature by who invites
    8 B   BLAKE2b-64 of everything before

About 300 characters with one address and an invite.
"""

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from skerry.protocol.codec import (
    MAX_ADDRESS_CHARS,
    MAX_ADDRESSES,
    MAX_BODY_BYTES,
    SIGNATURE_BYTES,
    decode_invite,
    encode_invite,
)
from skerry.protocol.errors import ProtocolError, TokenError
from skerry.protocol.fields import NONCE_BYTES
from skerry.protocol.ids import HASH_BYTES, PeerId, RunId, short
from skerry.protocol.messages import Envelope, Invite, Kind, SignedMember
from skerry.protocol.signing import Signer, peer_id_of, public_key_of, verify

PREFIX = "skerry1"
MAX_TOKEN_CHARS = 8192
# A dialable address and "/p2p/" with an id; a relayed one holds the relay's id as well.
MAX_BOOTSTRAP_CHARS = MAX_ADDRESS_CHARS + 64
_LENGTH_BYTES = 2
_CHECKSUM_BYTES = 8


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What a joiner needs to find a run and to verify everything it downloads."""

    bootstrap: tuple[str, ...]
    """Full multiaddrs with ``/p2p/ID``, 1 to 16."""
    run_id: RunId
    owner: PeerId
    invite: Envelope | None
    """Signed by the owner or by a standby owner; None where the run is open."""


def encode_token(token: JoinToken) -> str:
    """Return the one line of text that ``skerry join`` takes.

    Raises: TokenError("SK-TOK-001") if there is no address, or too many or too long ones.
    """
    _check_bootstrap(token.bootstrap)
    body = bytes.fromhex(token.run_id) + public_key_of(token.owner)
    body += bytes([len(token.bootstrap)])
    body += b"".join(_pack_address(address, token.owner) for address in token.bootstrap)
    body += _pack_invite(token.invite, token.owner)
    data = (len(body) + _CHECKSUM_BYTES).to_bytes(_LENGTH_BYTES, "big") + body
    return PREFIX + _to_text(data + _checksum(data))


def decode_token(text: str) -> JoinToken:
    """Read a token; spaces and line breaks that a terminal put into it do not matter.

    Raises: TokenError("SK-TOK-001") if it is malformed or cut short, TokenError("SK-TOK-002")
    if its checksum or the signature on the invite does not hold. Whether its signer may invite
    is for the manifest to say.
    """
    reader = _Reader(_checked_body(_from_text(text)))
    run_id = RunId(reader.take(HASH_BYTES).hex())
    owner = peer_id_of(reader.take(32))
    bootstrap = tuple(_unpack_address(reader, owner) for _ in range(reader.integer(1)))
    invite = _unpack_invite(reader, owner)
    if reader.left:
        raise _malformed(f"{reader.left} bytes too many")
    _check_bootstrap(bootstrap)
    token = JoinToken(bootstrap, run_id, owner, invite)
    if invite is not None:
        try:
            open_invite(invite, run_id, (invite.signer,))
        except ProtocolError as error:
            raise TokenError("SK-TOK-002", f"the invite does not hold: {error.detail}") from error
    return token


def check_invite(token: JoinToken, now: float) -> None:
    """Check the invite's expiry; ``now`` in Unix seconds. Raises: TokenError("SK-TOK-003")."""
    if token.invite is None:
        return
    expires_at = decode_invite(token.invite.body).expires_at
    if expires_at <= now:
        raise TokenError("SK-TOK-003", f"the invite expired {int(now) - expires_at} s ago")


def split_bootstrap(address: str) -> tuple[PeerId, str]:
    """Split a full multiaddr into the peer's id and the address without its last ``/p2p/ID``.

    Raises: ProtocolError("peer-id") if it does not end in an Ed25519 peer id.
    """
    rest, _, name = address.rpartition("/p2p/")
    public_key_of(PeerId(name))
    return PeerId(name), rest


def make_invite(
    signer: Signer, run_id: RunId, expires_at: int, nonce: bytes, max_uses: int = 0
) -> Envelope:
    """Return the owner's permission to join for ``max_uses`` peers, 0: for any number.

    ``expires_at`` in Unix seconds, nonce 16 bytes.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"nonce of {len(nonce)} bytes, must be {NONCE_BYTES}")
    return signer.sign(Kind.INVITE, encode_invite(Invite(run_id, expires_at, nonce, max_uses)))


def open_invite(envelope: Envelope, run_id: RunId, inviters: Collection[PeerId]) -> Invite:
    """Return the invite in an envelope, if one of ``inviters`` signed it for this run.

    Raises: ProtocolError with code SK-PRO-003; says nothing about expiry.
    """
    try:
        if envelope.kind is not Kind.INVITE or envelope.signer not in inviters:
            raise ProtocolError("invite-forged", "not an invite by an owner of the run")
        verify(envelope)
        invite = decode_invite(envelope.body)
    except ProtocolError as error:
        raise _refused("invite-forged", error.detail) from error
    if invite.run_id != run_id:
        raise _refused("invite-other-run", f"it is for run {short(invite.run_id)}")
    return invite


def check_member(
    member: SignedMember,
    run_id: RunId,
    owner_keys: Collection[PeerId],
    mode: Literal["open", "invite", "allow-list"],
    now: float,
) -> None:
    """Check a peer's right as far as it follows from run and record alone.

    Owners may take part, anyone in an open run, or the invited. What the commit chain knows is
    for rounds/settings.py: who is on the run's list, which invites are used up or revoked. The
    record's own signature is checked where it is opened, its expiry by who keeps it.

    Args:
        now: Unix seconds.
    Raises: ProtocolError with code SK-PRO-003, or SK-PRO-002 for a record of another run.
    """
    record = member.message
    if record.run_id != run_id:
        detail = f"{member.signer} is in run {short(record.run_id)}, this is {short(run_id)}"
        raise ProtocolError("other-run", detail, "SK-PRO-002")
    if mode != "invite" or member.signer in owner_keys:
        return
    if record.invite is None:
        raise _refused("invite-missing", f"{member.signer} has no invite")
    invite = open_invite(record.invite, run_id, owner_keys)
    if invite.expires_at <= now:
        late = int(now) - invite.expires_at
        raise _refused("invite-expired", f"the invite of {member.signer} expired {late} s ago")


class _Reader:
    """Takes bytes from the front; running out is a malformed token."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise _malformed("it ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def integer(self, num_bytes: int) -> int:
        return int.from_bytes(self.take(num_bytes), "big")


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_text(text: str) -> bytes:
    if len(text) > 2 * MAX_TOKEN_CHARS:
        raise _malformed(f"{len(text)} characters, limit {MAX_TOKEN_CHARS}")
    text = "".join(text.split())
    if not text.startswith(PREFIX):
        raise _malformed(f"it must start with {PREFIX!r}")
    digits = text.removeprefix(PREFIX)
    if len(digits) > MAX_TOKEN_CHARS:
        raise _malformed(f"{len(digits)} characters, limit {MAX_TOKEN_CHARS}")
    try:
        data = base64.urlsafe_b64decode(digits.encode("ascii") + b"=" * (-len(digits) % 4))
    except (UnicodeEncodeError, binascii.Error):
        raise _malformed("it holds characters that no token has, or was cut short") from None
    if _to_text(data) != digits:  # base64 skips what it does not know, and some last bits
        raise _malformed("it holds characters that no token has, or was cut short")
    return data


def _checked_body(data: bytes) -> bytes:
    announced = int.from_bytes(data[:_LENGTH_BYTES], "big") + _LENGTH_BYTES
    if len(data) != announced or announced < _LENGTH_BYTES + _CHECKSUM_BYTES:
        raise _malformed(f"{len(data)} bytes, should be {announced}")
    if _checksum(data[:-_CHECKSUM_BYTES]) != data[-_CHECKSUM_BYTES:]:
        raise TokenError("SK-TOK-002", "the token's checksum does not hold")
    return data[_LENGTH_BYTES:-_CHECKSUM_BYTES]


def _checksum(data: bytes) -> bytes:
    return blake2b(data, digest_size=_CHECKSUM_BYTES, person=b"skerry-token").digest()


def _check_bootstrap(bootstrap: tuple[str, ...]) -> None:
    if not 1 <= len(bootstrap) <= MAX_ADDRESSES:
        raise _malformed(f"{len(bootstrap)} bootstrap addresses, must be 1 to {MAX_ADDRESSES}")
    for address in bootstrap:
        printable = address.isascii() and address.isprintable()
        if len(address) > MAX_BOOTSTRAP_CHARS or not printable:
            raise _malformed(f"{address[:80]!r} is not a multiaddr")
        try:
            split_bootstrap(address)
        except ProtocolError as error:
            raise _malformed(f"{address[:80]!r}: {error.detail}") from error


def _pack_address(address: str, owner: PeerId) -> bytes:
    rest = address.removesuffix(f"/p2p/{owner}")
    flag = bytes([rest != address])
    return flag + len(rest).to_bytes(2, "big") + rest.encode("ascii")


def _unpack_address(reader: _Reader, owner: PeerId) -> str:
    flag = reader.integer(1)
    try:
        rest = reader.take(reader.integer(2)).decode("ascii")
    except UnicodeDecodeError:
        raise _malformed("an address is not text") from None
    return rest + f"/p2p/{owner}" if flag else rest


def _pack_invite(invite: Envelope | None, owner: PeerId) -> bytes:
    if invite is None:
        return b"\0"
    if not 1 <= len(invite.body) < MAX_BODY_BYTES[Kind.INVITE]:
        raise _malformed(f"invite of {len(invite.body)} bytes")
    inviter = b"\0" if invite.signer == owner else b"\1" + public_key_of(invite.signer)
    return bytes([len(invite.body)]) + invite.body + inviter + invite.signature


def _unpack_invite(reader: _Reader, owner: PeerId) -> Envelope | None:
    size = reader.integer(1)
    if not size:
        return None
    body = reader.take(size)
    signer = peer_id_of(reader.take(32)) if _flag(reader) else owner
    return Envelope(Kind.INVITE, body, signer, reader.take(SIGNATURE_BYTES))


def _flag(reader: _Reader) -> bool:
    value = reader.integer(1)
    if value > 1:
        raise _malformed(f"a flag is {value}")
    return bool(value)


def _malformed(detail: str) -> TokenError:
    return TokenError("SK-TOK-001", f"not a whole join token: {detail}")


def _refused(reason: str, detail: str) -> ProtocolError:
    return ProtocolError(reason, detail, "SK-PRO-003")
