"""Reputation: a slow rise, a fast fall, and nothing that depends on order."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import AggregationSection
from skerry.protocol.messages import FULL, Judgement
from skerry.protocol.standing import (
    FLAT,
    MAX_KNOWN,
    PeerStanding,
    Ramp,
    Standing,
    doubt,
    influence_of,
    is_fault,
    ramp_of,
)

ALICE, BOB, CAROL = (PeerId(name) for name in ("alice", "bob", "carol"))
RAMP = Ramp(250, 8)
NEW = Standing(RAMP, {})


def rounds(standing, number, *contributors):
    for _ in range(number):
        standing = standing.after(contributors, (), set())
    return standing


def test_a_newcomer_is_trusted_after_the_ramp():
    assert NEW.of(ALICE) == PeerStanding(250)
    assert rounds(NEW, 7, ALICE).of(ALICE).reputation < FULL
    assert rounds(NEW, 8, ALICE).of(ALICE) == PeerStanding(FULL)
    assert rounds(NEW, 99, ALICE).of(BOB) == PeerStanding(250)


def test_a_fault_halves_and_is_remembered():
    trusted = rounds(NEW, 8, ALICE, BOB)
    for judgements, harmful in (((Judgement(ALICE, 0, "direction"),), set()), ((), {ALICE})):
        after = trusted.after((ALICE, BOB), judgements, harmful)
        assert after.of(ALICE) == PeerStanding(500, 1)
        assert after.of(BOB) == PeerStanding(FULL)
        assert doubt(after.of(ALICE)) == "reputation"
    assert doubt(NEW.of(ALICE)) == "newcomer"


def test_harm_counts_once_beside_another_fault():
    after = rounds(NEW, 8, ALICE).after((ALICE,), (Judgement(ALICE, 0, "norm"),), {ALICE})
    assert after.of(ALICE) == PeerStanding(500, 1)


def test_a_shared_copy_neither_gains_nor_loses():
    after = NEW.after((ALICE, BOB), (Judgement(ALICE, 500, "copy-shared"),), set())
    assert after.of(ALICE) == PeerStanding(250)
    assert after.of(BOB) == PeerStanding(344)


def test_who_counts_less_for_being_new_still_rises():
    after = NEW.after((ALICE,), (Judgement(ALICE, 250, "newcomer"),), set())
    assert after.of(ALICE).reputation == 344


def test_without_a_ramp_all_are_trusted():
    assert Standing(FLAT, {}).of(ALICE) == PeerStanding(FULL)
    assert ramp_of(AggregationSection(newcomer_trust=1.0)).newcomer == FULL
    assert ramp_of(AggregationSection(newcomer_trust=0.001, ramp_rounds=3)) == Ramp(1, 3)


def test_a_standing_that_does_not_change_is_the_same_object():
    """So that the standings of a long run take the memory of one."""
    settled = rounds(NEW, 8, ALICE)
    assert rounds(settled, 1, ALICE) is settled


def test_influence_is_relative_to_the_best():
    assert influence_of(250, 250) == FULL
    assert influence_of(250, FULL) == 250
    assert influence_of(0, FULL) == 1


def test_forgetting_clears_nobody_of_a_fault():
    crowd = [PeerId(f"peer-{i:04}") for i in range(MAX_KNOWN + 50)]
    faults = tuple(Judgement(peer, 0, "norm") for peer in crowd[-20:])
    standing = NEW.after(crowd, faults, set())
    assert len(standing.peers) == MAX_KNOWN
    assert all(standing.of(peer).strikes == 1 for peer in crowd[-20:])


REASONS = st.sampled_from(["direction", "norm", "copy", "newcomer", "reputation", "copy-shared"])
PEERS = st.sampled_from([ALICE, BOB, CAROL])
ROUNDS = st.lists(
    st.tuples(st.sets(PEERS), st.dictionaries(PEERS, REASONS), st.sets(PEERS)), max_size=30
)


@given(ROUNDS, st.integers(1, FULL), st.integers(1, 20))
def test_reputation_stays_in_range_and_falls_only_by_faults(history, newcomer, length):
    standing = Standing(Ramp(newcomer, length), {})
    for contributors, reasons, harmful in history:
        judgements = tuple(Judgement(peer, 1, reason) for peer, reason in reasons.items())
        after = standing.after(contributors, judgements, harmful)
        backwards = standing.after(sorted(contributors)[::-1], judgements[::-1], harmful)
        assert after == backwards
        for peer in (ALICE, BOB, CAROL):
            before, now = standing.of(peer), after.of(peer)
            assert 0 <= now.reputation <= FULL
            at_fault = peer in harmful or (peer in contributors and is_fault(reasons.get(peer, "")))
            assert now.strikes == before.strikes + at_fault
            assert at_fault == (now.strikes > before.strikes)
            assert at_fault or now.reputation >= before.reputation
        standing = after
