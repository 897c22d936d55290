"""Commits that are kept as bytes and decoded when somebody asks for them."""

import gc
import tracemalloc

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.protocol.codec import sign_message
from skerry.protocol.ids import Address, CommitHash, RunId
from skerry.protocol.messages import (
    Announce,
    Commit,
    Envelope,
    ShardPayload,
    ShardState,
    Signed,
    SignedCommit,
)
from skerry.protocol.rounds.commits import DECODED, LOOKED_AT, Commits
from skerry.protocol.signing import Signer

SIGNERS = [Signer(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32)) for i in (1, 2, 3)]
TRIO = tuple(sorted(signer.peer_id for signer in SIGNERS))
RUN = RunId("ab" * 32)
STATE = tuple(ShardState(f"block.{i}", Address("cd" * 32)) for i in range(4))


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
        state=STATE,
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


LONGER = chain_of(DECODED + 12)
LONG, NEXT = LONGER[:-2], LONGER[-2:]


@pytest.fixture
def commits():
    kept = Commits({})
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
        assert commits.envelope(name(signed)) == signed.envelope
    assert commits.get_link(CommitHash(RUN)) is None


def test_equal_rosters_are_kept_once(commits):
    assert len({id(commits.link(each).roster) for each in commits}) == 1
    assert commits.link(name(LONG[-1])).roster == TRIO


class Shelf(dict[CommitHash, Envelope]):
    """An archive that counts what is read from it."""

    def __init__(self) -> None:
        self.reads = 0

    def __getitem__(self, name: CommitHash) -> Envelope:
        self.reads += 1
        return super().__getitem__(name)


class TestArchive:
    def test_an_old_commit_is_read_from_it(self):
        shelf = Shelf()
        kept = Commits(shelf)
        for signed in LONG:
            shelf[name(signed)] = signed.envelope
            kept.add(name(signed), signed)
        assert shelf.reads == 0
        assert kept[name(LONG[0])] == LONG[0]
        assert kept.envelope(name(LONG[0])) == LONG[0].envelope
        assert shelf.reads == 2
        assert list(kept) == [name(signed) for signed in LONG]

    def test_what_it_never_got_stays(self):
        shelf = Shelf()
        kept = Commits(shelf)
        for number, signed in enumerate(LONG):
            if number != 3:
                shelf[name(signed)] = signed.envelope
            kept.add(name(signed), signed)
        assert [kept.envelope(name(signed)) for signed in LONG[:6]] == [
            signed.envelope for signed in LONG[:6]
        ]
        assert shelf.reads == 5

    def test_many_that_are_written_only_after_they_were_added_are_dropped_later(self):
        shelf = Shelf()
        kept = Commits(shelf)
        for signed in LONG:
            kept.add(name(signed), signed)
        shelf |= {name(signed): signed.envelope for signed in LONG}
        kept.add(name(NEXT[0]), NEXT[0])
        kept.add(name(NEXT[1]), NEXT[1])
        for signed in LONG:
            assert kept.envelope(name(signed)) == signed.envelope
        assert shelf.reads == 2 * LOOKED_AT


class HasAll:
    """An archive that has whatever is asked for."""

    def __contains__(self, name: CommitHash) -> bool:
        return True

    def __getitem__(self, name: CommitHash) -> Envelope:
        raise AssertionError("nobody asks for an old one here")


@pytest.mark.parametrize(
    ("archive", "most"),
    [({}, len(LONG[-1].envelope.body) + 1000), (HasAll(), 800)],
    ids=["bytes in memory", "archived"],
)
def test_an_old_commit_costs_little_more_than_what_must_be_kept_of_it(archive, most):
    def cost(length: int) -> int:
        kept = Commits(archive)
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
    assert per_commit < most
