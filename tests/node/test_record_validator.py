"""What a DHT node lets in, without any network."""

import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord
from hivemind.utils import MSGPackSerializer
from hypothesis import given
from hypothesis import strategies as st

from skerry.node.net.record_validator import MAX_RECORD_BYTES, MemberValidator, run_key
from skerry.protocol.codec import MAX_PEERS, encode_envelope, open_member, sign_message
from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import RunId, content_hash
from skerry.protocol.messages import MemberRecord, SignedMember
from skerry.protocol.signing import Signer

RUN = RunId(content_hash(b"run"))
KEY = DHTID.generate(source=run_key(RUN)).to_bytes()


def signer(number: int) -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


def member(number: int = 1, lifetime_s: float = 600.0, addresses: int = 1) -> SignedMember:
    expires_at = int(time.time() + lifetime_s)
    where = ("/ip4/192.0.2.1/tcp/1" + "0" * 200,) * addresses
    record = MemberRecord(RUN, where, None, expires_at, "skerry/0.1.0")
    return open_member(sign_message(signer(number), record).envelope)


def stored(signed: SignedMember) -> DHTRecord:
    return DHTRecord(
        KEY,
        MSGPackSerializer.dumps(str(signed.signer)),
        MSGPackSerializer.dumps(encode_envelope(signed.envelope)),
        float(signed.message.expires_at),
    )


GOOD = stored(member())


@pytest.mark.parametrize("addresses", [0, 1, 2, 10])  # short and long forms of msgpack
def test_own_records_are_let_in(addresses: int) -> None:
    signed = member(addresses=addresses)
    assert MemberValidator(RUN).validate(stored(signed))
    assert MemberValidator(RUN).examine(stored(signed)) == signed


def test_a_record_that_expires_stays_valid_until_hivemind_drops_it() -> None:
    late = member(lifetime_s=-5.0)
    validator = MemberValidator(RUN)
    assert validator.validate(stored(late))
    with pytest.raises(ProtocolError, match="has expired"):
        validator.open(encode_envelope(late.envelope), late.signer)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"key": DHTID.generate(source="else").to_bytes()}, "dht-key"),
        ({"subkey": MSGPackSerializer.dumps(None)}, "dht-subkey"),
        ({"subkey": MSGPackSerializer.dumps(str(signer(2).peer_id))}, "dht-subkey"),
        ({"subkey": b""}, "dht-subkey"),
        ({"expiration_time": GOOD.expiration_time + 1}, "dht-expiry"),
        ({"expiration_time": float("nan")}, "dht-expiry"),
        ({"value": GOOD.value[:-1] + bytes([GOOD.value[-1] ^ 1])}, "signature"),
        ({"value": GOOD.value + b"\0"}, "malformed"),
        ({"value": MSGPackSerializer.dumps([1, 2])}, "malformed"),
        ({"value": MSGPackSerializer.dumps(bytes(MAX_RECORD_BYTES + 1))}, "size"),
        ({"value": bytes(10**6)}, "size"),
        ({"value": 7}, "malformed"),
        ({"value": b""}, "malformed"),
    ],
)
def test_anything_else_is_refused_and_counted(changed: dict[str, object], reason: str) -> None:
    validator = MemberValidator(RUN)
    assert not validator.validate(replace(GOOD, **changed))
    assert validator.refused == {reason: 1}


def test_other_runs_and_endless_records_are_refused() -> None:
    validator = MemberValidator(RUN)
    with pytest.raises(ProtocolError, match="SK-PRO-002"):
        MemberValidator(RunId(content_hash(b"other"))).check(member())
    with pytest.raises(ProtocolError, match="too long"):
        validator.check(member(lifetime_s=10**6))


def test_open_wants_the_signer_under_its_own_name() -> None:
    data = encode_envelope(member().envelope)
    validator = MemberValidator(RUN)
    assert validator.open(data, member().signer).signer == signer(1).peer_id
    for subkey in (signer(2).peer_id, None, 7, b"x"):
        with pytest.raises(ProtocolError, match="not the place"):
            validator.open(data, subkey)
    with pytest.raises(ProtocolError, match="not bytes"):
        validator.open("text", member().signer)


def test_the_number_of_members_is_bounded_and_places_become_free() -> None:
    validator = MemberValidator(RUN)
    assert validator.validate(stored(member(1, lifetime_s=-5.0)))
    for number in range(2, MAX_PEERS + 1):
        assert validator.validate(stored(member(number)))
    assert validator.validate(stored(member(1000)))  # takes the place of the expired one
    assert not validator.validate(stored(member(1001)))
    assert validator.validate(stored(member(1000)))
    assert validator.refused == {"dht-full": 1}


@given(st.binary(max_size=300), st.one_of(st.binary(max_size=80), st.none(), st.integers()))
def test_no_bytes_are_let_in_or_break_it(value: bytes, subkey: object) -> None:
    validator = MemberValidator(RUN)
    for data in (value, MSGPackSerializer.dumps(value), GOOD.value[:-1] + value):
        record = replace(GOOD, value=data, subkey=subkey)
        assert not validator.validate(record)


@given(st.integers(0, len(GOOD.value) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(position: int, change: int) -> None:
    value = bytearray(GOOD.value)
    value[position] ^= change
    assert not MemberValidator(RUN).validate(replace(GOOD, value=bytes(value)))
