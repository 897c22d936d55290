"""What a DHT node of a run stores: member records, each in the place of the peer that signed it.

Hivemind asks the validator about every record that others want stored here, and about every
record that others answer with. Without one, anyone could write anything. For one record that is
refused it drops the whole answer it came in: what was once valid must stay so until hivemind
itself lets it expire.
"""

import time
from collections.abc import Callable
from functools import lru_cache

from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord, RecordValidatorBase
from hivemind.utils import MSGPackSerializer

from skerry.protocol.codec import MAX_PEERS, decode_envelope, open_member
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.messages import SignedMember

MAX_RECORD_BYTES = 4096
"""Largest serialized envelope of a member record."""
MAX_LIFETIME_S = 86400.0
"""No record may occupy its place for longer than this from now on."""

Admit = Callable[[SignedMember], None]


def run_key(run_id: RunId) -> str:
    """Return the DHT key under which the members of a run lie."""
    return f"skerry/1/members/{run_id}"


class MemberValidator(RecordValidatorBase):  # type: ignore[misc]  # hivemind is untyped
    """Accepts under the run's key, and under no other, what peers sign about themselves.

    The DHT's own expiry must be the one that was signed: else anyone could store a peer's old
    record with a later expiry and so shut out its newer ones.
    """

    def __init__(self, run_id: RunId, admit: Admit | None = None) -> None:
        """Accept records of ``run_id`` from peers that ``admit`` does not refuse.

        ``admit`` raises ProtocolError and must not ask the clock: see above.
        """
        self._run_id, self._admit = run_id, admit
        self._key = DHTID.generate(source=run_key(run_id)).to_bytes()
        self._expiries: dict[PeerId, int] = {}
        self.refused: dict[str, int] = {}
        """How many records were refused, by reason."""

    def validate(self, record: DHTRecord) -> bool:
        """Say whether ``record`` may be stored or believed; called by hivemind."""
        try:
            self.examine(record)
        except ProtocolError as error:
            self.refused[error.reason] = self.refused.get(error.reason, 0) + 1
            return False
        return True

    def examine(self, record: DHTRecord) -> SignedMember:
        """Return the member that a DHT record holds. Raises: ProtocolError."""
        if record.key != self._key:
            raise ProtocolError("dht-key", "not the key of this run")
        member = _opened(_unpacked(record.value))
        if record.subkey != MSGPackSerializer.dumps(str(member.signer)):
            raise ProtocolError("dht-subkey", f"not the place of {member.signer}")
        if record.expiration_time != member.message.expires_at:
            raise ProtocolError("dht-expiry", "not the expiry that was signed")
        self.check(member)
        return member

    def open(self, data: object, subkey: object) -> SignedMember:
        """Return the member in a serialized envelope, found under ``subkey`` and not expired.

        Raises: ProtocolError.
        """
        if not isinstance(data, bytes):
            raise ProtocolError("malformed", "not bytes")
        member = _opened(data)
        if subkey != member.signer:
            raise ProtocolError("dht-subkey", f"not the place of {member.signer}")
        self.check(member)
        if member.message.expires_at <= time.time():
            raise ProtocolError("expired", f"the record of {member.signer} has expired")
        return member

    def check(self, member: SignedMember) -> None:
        """Check what a record says, not yet whether it has expired: hivemind drops those.

        Raises: ProtocolError.
        """
        record = member.message
        if record.run_id != self._run_id:
            raise ProtocolError("other-run", f"{member.signer} is in another run", "SK-PRO-002")
        if record.expires_at > time.time() + MAX_LIFETIME_S:
            raise ProtocolError("dht-expiry", f"the record of {member.signer} lives too long")
        if self._admit is not None:
            self._admit(member)
        self._take_place(member.signer, record.expires_at)

    def _take_place(self, peer: PeerId, expires_at: int) -> None:
        """Keep the number of peers bounded: an answer beyond 4 MiB would hang who asks."""
        if peer not in self._expiries and len(self._expiries) >= MAX_PEERS:
            now = time.time()
            self._expiries = {p: at for p, at in self._expiries.items() if at > now}
            if len(self._expiries) >= MAX_PEERS:
                raise ProtocolError("dht-full", f"there are {MAX_PEERS} members already")
        self._expiries[peer] = max(expires_at, self._expiries.get(peer, 0))


def _unpacked(value: object) -> bytes:
    """Return the bytes that hivemind packed with msgpack, without unpacking anything else.

    Raises: ProtocolError.
    """
    if not isinstance(value, bytes):  # in a dictionary that a peer sent, it may be anything
        raise ProtocolError("malformed", "not bytes")
    if len(value) > MAX_RECORD_BYTES + 8:
        raise ProtocolError("size", f"record of {len(value)} bytes, limit {MAX_RECORD_BYTES}")
    for header_bytes in (2, 3):  # msgpack's bin 8 and bin 16
        if MSGPackSerializer.dumps(value[header_bytes:]) == value:
            return value[header_bytes:]
    raise ProtocolError("malformed", "not packed as bytes")


@lru_cache(maxsize=2 * MAX_PEERS)
def _opened(data: bytes) -> SignedMember:
    # Cached: each search sees every record once per node that answers, and a record may hold
    # two signatures. The result depends on nothing but the bytes.
    if len(data) > MAX_RECORD_BYTES:
        raise ProtocolError("size", f"record of {len(data)} bytes, limit {MAX_RECORD_BYTES}")
    return open_member(decode_envelope(data))
