"""Spot checks: who is drawn, and when harm counts."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.ids import CommitHash, PeerId, content_hash
from skerry.protocol.messages import FULL
from skerry.protocol.rounds.spotting import VERIFIERS, duties, harmful
from skerry.protocol.standing import PeerStanding, Ramp, Standing

PEERS = [PeerId(f"peer-{i}") for i in range(8)]
EVEN = Standing(Ramp(FULL, 1), {})


def commit(text):
    return CommitHash(content_hash(text.encode()))


@given(st.text(max_size=5), st.sets(st.sampled_from(PEERS)), st.integers(0, 5))
def test_verifiers_are_other_contributors(text, contributors, number):
    assigned = duties(commit(text), contributors, EVEN, number)
    assert len(assigned) == (min(number, len(contributors)) if len(contributors) >= 3 else 0)
    for subject, verifiers in assigned.items():
        assert subject in contributors
        assert set(verifiers) <= contributors - {subject}
        assert 2 <= len(verifiers) <= VERIFIERS
        assert list(verifiers) == sorted(set(verifiers))


def test_all_take_turns():
    drawn = [duties(commit(str(i)), PEERS, EVEN, 1) for i in range(200)]
    subjects = Counter(subject for one in drawn for subject in one)
    verifiers = Counter(peer for one in drawn for some in one.values() for peer in some)
    assert set(subjects) == set(verifiers) == set(PEERS)


def test_who_is_not_trusted_verifies_nobody_and_may_be_checked():
    low = Standing(EVEN.ramp, {peer: PeerStanding(100, 3) for peer in PEERS[:4]})
    drawn = [duties(commit(str(i)), PEERS, low, 2) for i in range(100)]
    assert {peer for one in drawn for some in one.values() for peer in some} == set(PEERS[4:])
    assert {subject for one in drawn for subject in one} == set(PEERS)


def test_who_hosts_a_part_verifies_nobody_and_may_be_checked():
    partial = frozenset(PEERS[:4])
    drawn = [duties(commit(str(i)), PEERS, EVEN, 2, partial) for i in range(100)]
    assert {peer for one in drawn for some in one.values() for peer in some} == set(PEERS[4:])
    assert {subject for one in drawn for subject in one} == set(PEERS)


def test_harm_needs_all_verifiers():
    one, two, three, subject, other = PEERS[:5]
    assigned = {subject: (one, two, three), other: (one, two)}
    found = [(one, subject), (two, subject), (one, other), (three, other)]
    assert harmful(assigned, found) == set()
    assert harmful(assigned, [*found, (three, subject)]) == {subject}
    assert harmful(assigned, [*found, (two, other)]) == {other}
