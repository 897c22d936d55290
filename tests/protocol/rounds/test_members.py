"""Which record of a member is kept: the newest, whoever passes it on and in whatever order."""

from itertools import permutations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from test_machine_simulation import swarm

from skerry.protocol.codec import sign_message
from skerry.protocol.ids import CommitHash
from skerry.protocol.manifest import parse_run_file
from skerry.protocol.messages import MemberRecord, SignedMember
from skerry.protocol.rounds import membership
from skerry.protocol.rounds.events import MemberLearned
from skerry.protocol.rounds.machine import apply
from skerry.protocol.rounds.membership import has_room
from skerry.protocol.rounds.state import Position, RoundState, new_state, rules_of
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


def peers(count: int) -> list[SignedMember]:
    """Return records, each valid for longer than the one before."""
    found = []
    for number in range(count):
        signer = Signer(Ed25519PrivateKey.generate())
        message = MemberRecord(MANIFEST.run_id, ("/ip4/127.0.0.1/tcp/1",), None, number, "test")
        found.append(sign_message(signer, message))
    return found


def full(monkeypatch: pytest.MonkeyPatch, count: int) -> tuple[RoundState, list[SignedMember]]:
    monkeypatch.setattr(membership, "MAX_MEMBERS", count)
    s, known = state(), peers(count)
    for member in known:
        apply(s, MemberLearned(member), 0.0)
    return s, known


def test_who_comes_takes_the_place_of_whoever_has_been_away_for_longest(monkeypatch) -> None:
    s, known = full(monkeypatch, 3)
    s.alive.add(known[0].signer)
    s.lost.add(known[1].signer)
    s.positions[known[1].signer] = Position(CommitHash("aa"), 1, 1)
    [new] = peers(1)
    apply(s, MemberLearned(new), 0.0)
    assert s.members.keys() == {known[0].signer, known[2].signer, new.signer}
    assert known[1].signer not in s.lost | s.positions.keys()


def test_what_others_tell_pushes_out_nobody_and_nobody_that_is_here_is_pushed_out(
    monkeypatch,
) -> None:
    s, known = full(monkeypatch, 3)
    apply(s, MemberLearned(peers(1)[0], hearsay=True), 0.0)
    assert s.members.keys() == {one.signer for one in known}
    s.alive.update(s.members)
    assert not has_room(s)
    apply(s, MemberLearned(peers(1)[0]), 0.0)
    assert s.members.keys() == {one.signer for one in known}


def test_who_trains_is_kept_though_it_is_silent(monkeypatch) -> None:
    world, _ = swarm(3)
    world.run_until(lambda: any(node.s.round > 2 for node in world.live), 600.0)
    s = world.live[0].s
    monkeypatch.setattr(membership, "MAX_MEMBERS", len(s.members))
    s.alive.clear()
    assert set(s.roster) == s.members.keys()
    apply(s, MemberLearned(peers(1)[0]), world.now)
    assert set(s.roster) == s.members.keys()
