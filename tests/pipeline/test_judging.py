"""Judging from common entries: who is excluded, for which reason, whatever the order."""

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline.judging import MIN_JUDGES, Evidence, JudgingRules, judge
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import FULL, Judgement
from skerry.protocol.standing import PeerStanding

RULES = JudgingRules(norm_limit=10.0, copy_overlap=0.5, direction_floor=0.25)
OFF = JudgingRules(0, 0, 0)
TRUSTED = PeerStanding(FULL)
SENT, SHARED = 10_000, 600
"""Entries of a contribution, and how many of them two honest ones share: 6 %."""


def evidence(number, agreement=0.9, pairs=None, squares=None):
    """Honest peers, but for ``pairs`` of (shared, balance) by two numbers."""
    shared = [[0 if i == j else SHARED for j in range(number)] for i in range(number)]
    balance = [[round(agreement * entry) for entry in row] for row in shared]
    for (i, j), (entries, net) in (pairs or {}).items():
        shared[i][j] = shared[j][i] = entries
        balance[i][j] = balance[j][i] = net
    return Evidence(
        authors=tuple(PeerId(f"p{i}") for i in range(number)),
        sent=[[SENT] * number for _ in range(number)],
        shared=shared,
        balance=balance,
        squares=[[square] * number for square in squares or [1.0] * number],
    )


def against(some, number, net):
    """Let ``some`` agree with all others to ``net``, and among each other as much as that says."""
    others = set(range(number)) - set(some)
    pairs = {(i, j): (SHARED, net) for i in some for j in others}
    return pairs | {pair: (SHARED, abs(net)) for pair in combinations(some, 2)}


def found(given_evidence, standings=None, rules=RULES):
    standings = standings or [TRUSTED] * len(given_evidence.authors)
    judgements = judge(given_evidence, standings, rules)
    assert [j.peer for j in judgements] == sorted(j.peer for j in judgements)
    return {judgement.peer: (judgement.influence, judgement.reason) for judgement in judgements}


@pytest.mark.parametrize("number", [0, 1, 2, 5, 10])
def test_honest_peers_count_in_full(number):
    assert found(evidence(number)) == {}


@pytest.mark.parametrize("hostile", [(0,), (3, 7), (0, 1, 2), (1, 4, 6, 9)])
def test_reversed_and_random_contributions_are_excluded(hostile):
    for net in (-540, 0, 30):
        judged = found(evidence(10, pairs=against(hostile, 10, net)))
        assert judged == {f"p{i}": (0, "direction") for i in hostile}


def test_too_few_judge_nobody():
    number = MIN_JUDGES - 1
    squares = [1e6] + [1.0] * (number - 1)
    assert found(evidence(number, pairs=against((0,), number, -540), squares=squares)) == {}


def test_a_run_without_a_common_direction_judges_nobody():
    """Late in a run, or on texts that have nothing in common, chance decides single signs."""
    assert found(evidence(10, agreement=0.01, pairs=against((0,), 10, -20))) == {}


def test_few_shared_entries_are_no_evidence():
    pairs = {(0, j): (int(j < 5), -int(j < 5)) for j in range(1, 10)}
    assert found(evidence(10, pairs=pairs)) == {}


def test_peers_of_no_reputation_do_not_outvote_those_who_have_one():
    """Six of ten reverse their updates, but three of them are new."""
    hostile = (0, 1, 2, 3, 4, 5)
    standings = [PeerStanding(50) if i < 5 else TRUSTED for i in range(10)]
    judged = found(evidence(10, pairs=against(hostile, 10, -540)), standings)
    assert {peer for peer, (influence, _) in judged.items() if not influence} == {
        f"p{i}" for i in hostile
    }


def test_a_norm_far_above_the_median_is_excluded():
    squares = [1.0] * 9 + [10.1**2]
    assert found(evidence(10, squares=squares)) == {"p9": (0, "norm")}
    assert found(evidence(10, squares=[1.0] * 9 + [9.9**2])) == {}


def test_norms_count_per_entry():
    """A ring's peer sends a tenth of the shards: its norm is smaller, its entries are not."""
    ring = evidence(10, squares=[1.0] * 9 + [0.1])
    ring.sent[9][:] = [SENT // 10] * 10
    assert found(ring) == {}


@given(st.lists(st.floats(0, 1e15), min_size=1, max_size=9))
def test_where_all_have_all_shards_the_lower_median_is_the_measure(norms):
    judged = found(evidence(len(norms), pairs=None, squares=[norm**2 for norm in norms]))
    sizes = [math.sqrt(norm**2 / SENT) for norm in norms]
    bound = 10.0 * sorted(sizes)[(len(sizes) - 1) // 2]
    large = {f"p{i}" for i, size in enumerate(sizes) if size > bound}
    assert {p for p, (_, why) in judged.items() if why == "norm"} == (
        large if len(norms) >= MIN_JUDGES else set()
    )


def of_shards(*norms: dict[str, float]) -> Evidence:
    """Contributions by the norm per entry of each of their shards, of a thousand entries each."""
    made = evidence(len(norms), pairs={pair: (0, 0) for pair in combinations(range(len(norms)), 2)})
    for i, mine in enumerate(norms):
        for j, theirs in enumerate(norms):
            common = mine.keys() & theirs.keys()
            made.sent[i][j] = 1000 * len(common)
            made.squares[i][j] = sum(1000 * mine[shard] ** 2 for shard in common)
    return made


WHOLE = {"embed": 0.2, "block.0": 1.0, "block.1": 1.0, "head": 1.0}


def test_a_ring_s_peer_is_measured_by_what_others_send_of_its_shards():
    """Entries of the embedding are smaller by nature here: eleven times too large, they hide."""
    for times, judged in ((9.0, {}), (11.0, {"p4": (0, "norm")})):
        assert found(of_shards(*[WHOLE] * 4, {"embed": times * 0.2})) == judged
    # And larger ones are not too large where they are so for everyone.
    large = WHOLE | {"head": 12.0, "embed": 0.1, "block.0": 0.1, "block.1": 0.1}
    assert found(of_shards(*[large] * 3, *[{"block.0": 0.1}] * 5, {"head": 12.0})) == {}


def test_who_alone_has_a_shard_is_measured_by_all():
    ring = [{"block.0": 1.0}, {"block.1": 1.0}, {"head": 1.0}]
    assert found(of_shards(*ring, {"embed": 9.0})) == {}
    assert found(of_shards(*ring, {"embed": 11.0})) == {"p3": (0, "norm")}


def test_copies_of_equal_reputation_count_once():
    pairs = {pair: (9000, 8900) for pair in combinations((1, 4, 6), 2)}
    assert found(evidence(10, pairs=pairs)) == {
        f"p{i}": (FULL // 3, "copy-shared") for i in (1, 4, 6)
    }


def test_what_all_share_makes_nobody_a_copier():
    pairs = {pair: (9000, 8900) for pair in combinations(range(10), 2)}
    assert found(evidence(10, pairs=pairs)) == {}
    assert found(evidence(2, pairs={(0, 1): (SENT, SENT)})) == {}
    assert found(evidence(10, pairs=pairs | {(0, 1): (9900, 9800)})) == {
        f"p{i}": (FULL // 2, "copy-shared") for i in (0, 1)
    }


def test_who_has_more_reputation_is_taken_for_the_original():
    standings = [TRUSTED] * 9 + [PeerStanding(999)]
    judged = found(evidence(10, pairs={(0, 9): (9000, 8900)}), standings)
    assert judged == {"p9": (0, "copy")}


def test_a_reversed_copy_does_not_convict_its_victim():
    pairs = against((9,), 10, -540) | {(0, 9): (10_000, -10_000)}
    assert found(evidence(10, pairs=pairs)) == {"p9": (0, "direction")}


def test_less_reputation_counts_less():
    standings = [TRUSTED] * 8 + [PeerStanding(250), PeerStanding(500, strikes=1)]
    assert found(evidence(10), standings) == {"p8": (250, "newcomer"), "p9": (500, "reputation")}
    assert found(evidence(10), [PeerStanding(250)] * 10) == {}


def test_rules_can_be_switched_off():
    pairs = against((0, 1), 10, -540) | {(2, 3): (9000, 8900)}
    assert found(evidence(10, pairs=pairs, squares=[1e6] + [1.0] * 9), rules=OFF) == {}


@st.composite
def any_evidence(draw):
    number = draw(st.integers(0, 7))
    counts = st.integers(0, 100)
    pairs = {
        pair: (shared, draw(st.integers(-shared, shared)))
        for pair in combinations(range(number), 2)
        if (shared := draw(counts)) >= 0
    }
    squares = draw(st.lists(st.floats(0, 1e30), min_size=number, max_size=number))
    made = evidence(number, pairs=pairs, squares=squares)
    for row in made.sent:
        row[:] = [draw(st.integers(0, 100))] * number
    reputations = st.builds(PeerStanding, st.integers(0, FULL), st.integers(0, 3))
    return made, draw(st.lists(reputations, min_size=number, max_size=number))


@settings(deadline=None)
@given(any_evidence(), st.randoms())
def test_any_evidence_gives_judgements_that_follow_from_it_alone(drawn, random):
    given_evidence, standings = drawn
    judgements = judge(given_evidence, standings, RULES)
    assert all(0 <= one.influence < FULL and one.reason for one in judgements)
    order = list(range(len(standings)))
    random.shuffle(order)
    shuffled = Evidence(
        authors=tuple(given_evidence.authors[i] for i in order),
        sent=[[given_evidence.sent[i][j] for j in order] for i in order],
        shared=[[given_evidence.shared[i][j] for j in order] for i in order],
        balance=[[given_evidence.balance[i][j] for j in order] for i in order],
        squares=[[given_evidence.squares[i][j] for j in order] for i in order],
    )
    again = judge(shuffled, [standings[i] for i in order], RULES)
    copied = {j.peer for j in (*judgements, *again) if j.reason in ("direction", "copy-shared")}
    if not copied:  # ties between equally bad ones are broken by place, which all peers share
        assert judgements == again
    assert judge(given_evidence, standings, RULES) == judgements


def test_a_judgement_is_what_a_commit_can_state():
    assert judge(evidence(10, squares=[1e6] + [1.0] * 9), [TRUSTED] * 10, RULES) == (
        Judgement(PeerId("p0"), 0, "norm"),
    )
