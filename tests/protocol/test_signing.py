"""Peer ids that carry their own key, and what is signed with it."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Kind
from skerry.protocol.signing import Signer, peer_id_of, public_key_of, verify

SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def reason(call, *args) -> str:
    with pytest.raises(ProtocolError) as caught:
        call(*args)
    return caught.value.reason


def test_the_peer_id_is_that_of_the_libp2p_specification():
    # The Ed25519 test vector of libp2p/specs, peer-ids/peer-ids.md.
    key = bytes.fromhex("1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")
    assert peer_id_of(key) == "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"


@given(st.binary(min_size=32, max_size=32))
def test_a_peer_id_carries_its_public_key(key):
    peer = peer_id_of(key)
    assert len(peer) == 52 and peer.startswith("12D3KooW")
    assert public_key_of(peer) == key


@pytest.mark.parametrize("text", ["", "x", "Qm" + "1" * 44, "z" * 52, "1" * 52, "é" * 52, "0" * 52])
def test_other_ids_are_refused(text):
    assert reason(public_key_of, PeerId(text)) == "peer-id"


@given(st.text(BASE58, min_size=52, max_size=52))
def test_any_base58_text_is_an_id_or_refused(text):
    try:
        key = public_key_of(PeerId(text))
    except ProtocolError as error:
        assert error.reason == "peer-id"
    else:
        assert peer_id_of(key) == text


@given(st.sampled_from(list(Kind)), st.binary(max_size=100))
def test_what_is_signed_verifies(kind, body):
    verify(SIGNER.sign(kind, body))


@given(st.sampled_from(list(Kind)), st.sampled_from(list(Kind)), st.binary(max_size=100))
def test_a_body_signed_as_one_kind_is_not_another(kind, other, body):
    envelope = replace(SIGNER.sign(kind, body), kind=other)
    if kind is other:
        verify(envelope)
    else:
        assert reason(verify, envelope) == "signature"


@given(st.binary(min_size=1, max_size=100), st.data())
def test_a_changed_body_or_signature_is_refused(body, data):
    envelope = SIGNER.sign(Kind.COMMIT, body)
    name = data.draw(st.sampled_from(["body", "signature"]))
    raw = bytearray(getattr(envelope, name))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    assert reason(verify, replace(envelope, **{name: bytes(raw)})) == "signature"


def test_another_signer_is_refused():
    other = Signer(Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32))
    envelope = SIGNER.sign(Kind.COMMIT, b"body")
    assert reason(verify, replace(envelope, signer=other.peer_id)) == "signature"
    assert reason(verify, replace(envelope, signer=PeerId("nobody"))) == "peer-id"
