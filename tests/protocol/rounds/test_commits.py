"""Commits that are kept as bytes and decoded when somebody asks for them."""

import gc
import tracemalloc

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.protocol.codec import sign_message
from skerry.protocol.ids import Address, CommitHash, Digest, RunId
from skerry.protocol.messages import Announce, Commit, ShardPayload, Signed, SignedCommit
from skerry.protocol.rounds.commits import DECODED, Commits
from skerry.protocol.signing import Signer

SIGNERS = [Signer(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32)) for i in (1, 2, 3)]
TRIO = tuple(sorted(signer.peer_id for signer in SIGNERS))
RUN = RunId("ab" * 32)
STATE = Digest("cd" * 32)


def announced(signer: Signer, parent: CommitHash, number: int):
    shards = tuple(ShardPayload(f"block.{i}", Address("ef" * 32), 100) for i in range(4))
    message = Announce(RUN, number, parent, STATE, 64, 64, 3.0, shards)
    return sign_message(signer, message)


def committed(parent: CommitHash, number: int) -> SignedCommit:
    announces = tuple(announced(signer, parent, number) for signer in SIGNERS)
    message = Commit(
        run_id=RUN,
        round=number,
        view=0,
        parent=parent,
        state_digest=STATE,
        announces=announces,
        roster=tuple([*TRIO]),
        admissions=(),
        cursor=number,
        weight=192 * number,
    )
    signed = sign_message(SIGNERS[0], message)
    return Signed(message, signed.envelope)


def name(signed: SignedCommit) -> CommitHash:
    return CommitHash(signed.hash)


def chain_of(length: int) -> list[SignedCommit]:
    """Signed commits, each upon the one before."""
    found = [committed(CommitHash(RUN), 0)]
    while len(found) < length:
        found.append(committed(name(found[-1]), len(found)))
    return found


LONG = chain_of(DECODED + 10)


@pytest.fixture
def commits():
    kept = Commits()
    for signed in LONG:
        kept.add(name(signed), signed)
    return kept


def test_old_commits_are_decoded_anew_and_equal(commits):
    assert commits[name(LONG[0])] == LONG[0]
    assert commits[name(LONG[0])] is not LONG[0]


def test_new_commits_stay_decoded(commits):
    assert all(commits[name(signed)] is signed for signed in LONG[-DECODED:])


def test_what_was_asked_for_lately_stays_decoded(commits):
    again = commits[name(LONG[0])]
    for signed in LONG[1:DECODED]:
        assert commits[name(signed)] == signed
    assert commits[name(LONG[0])] is again


def test_links_are_there_for_all(commits):
    assert list(commits) == [name(signed) for signed in LONG]
    for signed in LONG:
        link = commits.link(name(signed))
        assert (link.parent, link.round) == (signed.message.parent, signed.message.round)
        assert (link.weight, link.roster) == (signed.message.weight, signed.message.roster)
        assert link.envelope is signed.envelope
    assert commits.get_link(CommitHash(RUN)) is None


def test_equal_rosters_are_kept_once(commits):
    assert len({id(commits.link(each).roster) for each in commits}) == 1
    assert commits.link(name(LONG[-1])).roster == TRIO


def test_an_old_commit_costs_little_more_than_its_bytes():
    def cost(length: int) -> int:
        kept = Commits()
        tracemalloc.start()
        try:
            parent = CommitHash(RUN)
            for number in range(length):
                signed = committed(parent, number)
                parent = name(signed)
                kept.add(parent, signed)
            del signed
            gc.collect()
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    old = 100
    per_commit = (cost(DECODED + old) - cost(DECODED)) / old
    assert per_commit < len(LONG[-1].envelope.body) + 800
