"""The join token survives a round trip and nothing else; invites admit whom they should."""

import string
from dataclasses import replace
from hashlib import blake2b
from typing import Literal

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.codec import open_member, sign_message
from skerry.protocol.errors import ProtocolError, TokenError
from skerry.protocol.ids import RunId, content_hash
from skerry.protocol.messages import Envelope, Kind, MemberRecord, SignedMember
from skerry.protocol.signing import Signer, public_key_of
from skerry.protocol.token import (
    PREFIX,
    JoinToken,
    _from_text,
    _to_text,
    check_invite,
    check_member,
    decode_token,
    encode_token,
    make_invite,
    split_bootstrap,
)

OWNER, FRIEND, STRANGER, STANDBY = (
    Signer(Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))) for seed in (1, 2, 3, 4)
)
KEYS = (OWNER.peer_id, STANDBY.peer_id)
RUN, OTHER_RUN = RunId(content_hash(b"run")), RunId(content_hash(b"other"))
NOW = 1_800_000_000
NONCE = b"0123456789abcdef"
INVITE = make_invite(OWNER, RUN, NOW + 60, NONCE)
ADDRESS = f"/ip4/192.0.2.7/tcp/31330/p2p/{OWNER.peer_id}"
TOKEN = JoinToken((ADDRESS,), RUN, OWNER.peer_id, INVITE)
TEXT = encode_token(TOKEN)


def refusal(text: str) -> str:
    with pytest.raises(TokenError) as caught:
        decode_token(text)
    return caught.value.code


def sealed(body: bytes) -> str:
    """Return a token text with a valid length and checksum around any body."""
    data = (len(body) + 8).to_bytes(2, "big") + body
    checksum = blake2b(data, digest_size=8, person=b"skerry-token").digest()
    return PREFIX + _to_text(data + checksum)


@pytest.mark.parametrize(
    "token",
    [
        TOKEN,
        replace(TOKEN, invite=None),
        replace(TOKEN, invite=make_invite(STANDBY, RUN, NOW + 60, NONCE)),
        replace(TOKEN, invite=make_invite(OWNER, RUN, NOW + 60, NONCE, max_uses=3)),
        replace(TOKEN, bootstrap=(f"/ip4/192.0.2.1/tcp/1/p2p/{FRIEND.peer_id}", ADDRESS)),
        replace(TOKEN, bootstrap=(f"/dns4/{'x' * 240}/tcp/1/p2p/{OWNER.peer_id}",) * 16),
    ],
)
def test_decode_returns_what_was_encoded(token: JoinToken) -> None:
    assert decode_token(encode_token(token)) == token


def test_token_is_one_short_word() -> None:
    assert TEXT.startswith(PREFIX)
    assert len(TEXT) < 330
    assert set(TEXT) <= set(string.ascii_letters + string.digits + "-_")


def test_whitespace_does_not_matter() -> None:
    wrapped = "\n  ".join(TEXT[i : i + 60] for i in range(0, len(TEXT), 60))
    assert decode_token(f"  {wrapped}\r\n") == TOKEN


@given(st.integers(0, len(TEXT) - 1), st.characters())
def test_any_changed_character_is_refused(position: int, character: str) -> None:
    changed = TEXT[:position] + character + TEXT[position + 1 :]
    if changed == TEXT:
        return
    assert refusal(changed) in ("SK-TOK-001", "SK-TOK-002")


def test_every_position_refuses_every_token_character() -> None:
    for position, old in enumerate(TEXT):
        for new in "Az09-_+/=":
            if new != old:
                refusal(TEXT[:position] + new + TEXT[position + 1 :])


@given(st.integers(0, len(TEXT) - 1), st.integers(1, 40))
def test_any_missing_part_is_refused_as_malformed(start: int, count: int) -> None:
    refusal(TEXT[:start] + TEXT[start + count :])


@pytest.mark.parametrize("length", range(len(TEXT)))
def test_truncation_is_named_as_such(length: int) -> None:
    assert refusal(TEXT[:length]) == "SK-TOK-001"


@given(st.text(max_size=400))
def test_any_text_is_refused(text: str) -> None:
    assert refusal(text) == "SK-TOK-001"
    assert refusal(PREFIX + text) in ("SK-TOK-001", "SK-TOK-002")


@given(st.binary(max_size=400))
def test_any_sealed_bytes_are_refused_or_checked(body: bytes) -> None:
    refusal(sealed(body))
    refusal(sealed(_from_text(TEXT)[2:67] + body))


def test_huge_text_is_refused() -> None:
    assert refusal("skerry1" + "A" * 10**6) == "SK-TOK-001"
    assert refusal("skerry1" + "A" * 10_000) == "SK-TOK-001"


def test_checksum_names_a_changed_token() -> None:
    data = bytearray(_from_text(TEXT))
    data[10] ^= 1
    assert refusal(PREFIX + _to_text(bytes(data))) == "SK-TOK-002"


@pytest.mark.parametrize(
    "invite",
    [
        make_invite(OWNER, OTHER_RUN, NOW + 60, NONCE),
        replace(INVITE, signer=STANDBY.peer_id),
        OWNER.sign(Kind.HEARTBEAT, INVITE.body),
        OWNER.sign(Kind.INVITE, b"not an invite"),
        replace(INVITE, signature=bytes(64)),
    ],
)
def test_invite_that_does_not_hold_is_refused(invite: Envelope) -> None:
    assert refusal(encode_token(replace(TOKEN, invite=invite))) == "SK-TOK-002"


def test_owner_cannot_be_exchanged() -> None:
    body = bytearray(_from_text(TEXT)[2:-8])
    body[32:64] = public_key_of(STRANGER.peer_id)
    assert refusal(sealed(bytes(body))) == "SK-TOK-002"


def test_who_invites_is_the_owner_or_named_by_its_key() -> None:
    body = bytearray(_from_text(TEXT)[2:-8])
    assert body[-65] == 0
    body[-65] = 2
    assert refusal(sealed(bytes(body))) == "SK-TOK-001"


@pytest.mark.parametrize(
    "bootstrap",
    [(), (ADDRESS,) * 17, ("/ip4/127.0.0.1/tcp/1",), (ADDRESS + "\n",), ("/" * 400 + ADDRESS,)],
)
def test_bad_addresses_are_never_encoded(bootstrap: tuple[str, ...]) -> None:
    with pytest.raises(TokenError, match="SK-TOK-001"):
        encode_token(replace(TOKEN, bootstrap=bootstrap))


def test_split_bootstrap_takes_the_last_peer() -> None:
    relayed = f"/ip4/192.0.2.1/tcp/1/p2p/{STRANGER.peer_id}/p2p-circuit/p2p/{FRIEND.peer_id}"
    peer, rest = split_bootstrap(relayed)
    assert peer == FRIEND.peer_id
    assert rest == f"/ip4/192.0.2.1/tcp/1/p2p/{STRANGER.peer_id}/p2p-circuit"
    for wrong in ("", "/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/1/p2p/QmNobody"):
        with pytest.raises(ProtocolError):
            split_bootstrap(wrong)


def test_check_invite_knows_the_time() -> None:
    check_invite(TOKEN, NOW + 59.9)
    check_invite(replace(TOKEN, invite=None), NOW + 10**9)
    with pytest.raises(TokenError, match="SK-TOK-003"):
        check_invite(TOKEN, NOW + 60)


def test_make_invite_wants_a_whole_nonce() -> None:
    with pytest.raises(ValueError, match="nonce"):
        make_invite(OWNER, RUN, NOW, b"short")


def member(signer: Signer, invite: Envelope | None, run_id: RunId = RUN) -> SignedMember:
    record = MemberRecord(run_id, ("/ip4/192.0.2.9/tcp/1",), invite, NOW + 600, "skerry/0.1.0")
    return open_member(sign_message(signer, record).envelope)


@pytest.mark.parametrize(
    ("signer", "invite", "mode"),
    [
        (OWNER, None, "invite"),
        (FRIEND, INVITE, "invite"),
        (STANDBY, None, "invite"),
        (FRIEND, make_invite(STANDBY, RUN, NOW + 60, NONCE), "invite"),
        (STRANGER, None, "open"),
        (STRANGER, make_invite(STRANGER, RUN, NOW, NONCE), "open"),
        (STRANGER, None, "allow-list"),  # the chain knows the list
    ],
)
def test_member_is_admitted(
    signer: Signer, invite: Envelope | None, mode: Literal["open", "invite", "allow-list"]
) -> None:
    check_member(member(signer, invite), RUN, KEYS, mode, NOW)


@pytest.mark.parametrize(
    ("invite", "reason"),
    [
        (None, "invite-missing"),
        (make_invite(STRANGER, RUN, NOW + 60, NONCE), "invite-forged"),
        (replace(INVITE, signature=bytes(64)), "invite-forged"),
        (OWNER.sign(Kind.HEARTBEAT, INVITE.body), "invite-forged"),
        (OWNER.sign(Kind.INVITE, b"\x01"), "invite-forged"),
        (make_invite(OWNER, OTHER_RUN, NOW + 60, NONCE), "invite-other-run"),
        (make_invite(OWNER, RUN, NOW, NONCE), "invite-expired"),
    ],
)
def test_member_is_refused(invite: Envelope | None, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_member(member(STRANGER, invite), RUN, KEYS, "invite", NOW)
    assert (caught.value.code, caught.value.reason) == ("SK-PRO-003", reason)


def test_member_of_another_run_is_refused_even_if_open() -> None:
    with pytest.raises(ProtocolError, match="SK-PRO-002"):
        check_member(member(OWNER, None, OTHER_RUN), RUN, KEYS, "open", NOW)
