"""Which record of a member is kept: the newest, whoever passes it on and in whatever order."""

from itertools import permutations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.protocol.codec import sign_message
from skerry.protocol.manifest import parse_run_file
from skerry.protocol.messages import MemberRecord
from skerry.protocol.rounds.events import MemberLearned
from skerry.protocol.rounds.machine import apply
from skerry.protocol.rounds.state import RoundState, new_state, rules_of
from skerry.protocol.signing import Signer

OWNER = Signer(Ed25519PrivateKey.generate())
PEER = Signer(Ed25519PrivateKey.generate())
MANIFEST = parse_run_file("", OWNER.peer_id)


def record(port: int, expires_at: int):
    address = f"/ip4/127.0.0.1/tcp/{port}"
    message = MemberRecord(MANIFEST.run_id, (address,), None, expires_at, "test")
    return sign_message(PEER, message)


def state() -> RoundState:
    return new_state(OWNER.peer_id, rules_of(MANIFEST, ()), lambda member: None, 0.0)


@pytest.mark.parametrize("order", list(permutations((100, 200, 300))))
def test_newest_record_is_kept(order: tuple[int, ...]) -> None:
    s = state()
    for expires_at in order:
        apply(s, MemberLearned(record(expires_at, expires_at)), 0.0)
    assert s.members[PEER.peer_id].message.expires_at == 300


def test_first_of_two_equally_new_records_is_kept() -> None:
    s, first = state(), record(1, 100)
    apply(s, MemberLearned(first), 0.0)
    apply(s, MemberLearned(record(2, 100)), 0.0)
    assert s.members[PEER.peer_id] is first
