"""What makes a commit valid, and which of two chains wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_run import (
    BOB,
    CAROL,
    CHAIN_RULES,
    DAVE,
    FULL,
    OWNER,
    RUN,
    TRIO,
    announce,
    chain_of,
    child,
    digest,
    genesis,
    member,
    name,
    payload,
)

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import CommitHash, PeerId, RunId
from skerry.protocol.rounds.chain import Chain
from skerry.protocol.rounds.leader import MAX_VIEW, leader_of

START = genesis()
FIRST = child(START)
OTHER_RUN = RunId("00" * 32)


def reason(chain: Chain, commit) -> str:
    before = chain.best(set())
    with pytest.raises(ProtocolError) as caught:
        chain.add(commit)
    assert name(commit) not in chain
    assert chain.best(set()) == before
    return caught.value.reason


def test_a_chain_grows_from_the_root():
    chain = chain_of(START, FIRST)
    assert list(chain.path(name(FIRST))) == [name(FIRST), name(START)]
    assert chain.best(set()) == name(FIRST)
    assert (chain.round_of(name(FIRST)), chain.weight_of(name(FIRST))) == (1, 3 * FULL)
    assert chain[name(FIRST)] is FIRST
    assert CHAIN_RULES.root in chain and chain.get(CHAIN_RULES.root) is None
    assert (chain.round_of(CHAIN_RULES.root), chain.weight_of(CHAIN_RULES.root)) == (-1, 0)


@pytest.mark.parametrize(
    ("commit", "why"),
    [
        (genesis(signer=BOB), "leader"),
        (genesis(round=1), "round"),
        (genesis(view=1), "round"),
        (genesis(cursor=1), "weight"),
        (genesis(weight=1), "weight"),
        (genesis(announces=(announce(START, BOB),)), "announces"),
        (genesis(run_id=OTHER_RUN), "run"),
        (genesis(roster=()), "roster"),
        (genesis(roster=(BOB, OWNER)), "roster"),
        (genesis(admissions=()), "admission"),
        (genesis(roster=tuple(sorted([*TRIO, DAVE, PeerId("eve")]))), "roster"),
        (child(START), "unknown-parent"),
    ],
)
def test_a_run_starts_in_one_way_only(commit, why):
    assert reason(chain_of(), commit) == why


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"round": 2}, "round"),
        ({"run_id": OTHER_RUN}, "run"),
        ({"signer": DAVE}, "leader"),
        ({"view": 1, "signer": leader_of(RUN, 1, 0, TRIO)}, "leader"),
        ({"view": MAX_VIEW + 1}, "view"),
        ({"weight": 3 * FULL + 1}, "weight"),
        ({"weight": 3 * FULL - 1}, "weight"),
        ({"cursor": 0}, "cursor"),
        ({"announces": ()}, "announces"),
        ({"announces": tuple(announce(START, p) for p in (CAROL, BOB))}, "announces"),
        ({"announces": (announce(START, BOB),) * 2}, "announces"),
        ({"announces": (announce(FIRST, BOB),)}, "announces"),
        ({"announces": (announce(START, BOB, digest("x")),)}, "digest"),
        ({"announces": (announce(START, DAVE),)}, "not-in-roster"),
        ({"announces": (announce(START, BOB, run_id=OTHER_RUN),)}, "run"),
        ({"announces": (announce(START, BOB, round=2),)}, "stale-round"),
        ({"announces": (announce(START, BOB, round_tokens=0),)}, "tokens"),
        ({"announces": (announce(START, BOB, round_tokens=FULL + 1),)}, "tokens"),
        ({"announces": (announce(START, BOB, text_tokens=FULL - 1),)}, "tokens"),
        ({"announces": (announce(START, BOB, text_tokens=FULL + 1),)}, "tokens"),
        ({"announces": (announce(START, BOB, shards=()),)}, "shards"),
        ({"announces": (announce(START, BOB, shards=(payload("a"),) * 2),)}, "shards"),
        ({"roster": (OWNER, CAROL, BOB)}, "roster"),
        ({"roster": ()}, "roster"),
        ({"roster": (*TRIO, DAVE)}, "admission"),
        ({"admissions": (member(DAVE),)}, "admission"),
        ({"roster": (*TRIO, DAVE), "admissions": (member(CAROL),)}, "admission"),
    ],
)
def test_a_commit_must_follow_from_its_parent(changes, why):
    assert reason(chain_of(START), child(START, **changes)) == why


@pytest.mark.parametrize("size", [0, 101])
def test_a_payload_of_impossible_size_is_refused(size):
    wrong = payload("a")
    wrong = type(wrong)(wrong.shard, wrong.address, size)
    commit = child(START, announces=(announce(START, BOB, shards=(wrong,)),))
    assert reason(chain_of(START), commit) == "size"


@pytest.mark.parametrize("view", range(5))
def test_every_view_s_leader_may_commit(view):
    assert name(child(START, view=view)) in chain_of(START, child(START, view=view))


def test_carried_text_tokens_may_come_from_all_rounds_so_far():
    late = announce(FIRST, BOB, text_tokens=2 * FULL)
    chain = chain_of(START, FIRST, child(FIRST, announces=(late,)))
    assert chain.weight_of(chain.best(set())) == 5 * FULL


def test_a_newcomer_needs_an_admission_that_holds():
    def refuse(record):
        raise ProtocolError("admission", f"{record.signer} has no invite")

    commit = child(START, roster=(*TRIO, DAVE), admissions=(member(DAVE),))
    assert name(commit) in chain_of(START, commit)
    strict = chain_of(START)
    strict._admission = refuse
    assert reason(strict, commit) == "admission"


def test_the_run_ends_with_its_last_round():
    commits = [START]
    for _ in range(6):
        commits.append(child(commits[-1]))
    chain = chain_of(*commits)
    assert chain.round_of(chain.best(set())) == 6
    assert reason(chain, child(commits[-1])) == "round"


def takeover(**changes):
    usual = {"announces": (), "roster": (DAVE,), "admissions": (member(DAVE),), "signer": DAVE}
    return child(START, **{**usual, **changes})


def test_outsiders_may_pass_over_a_whole_roster_but_gain_no_weight():
    chain = chain_of(START, takeover())
    assert chain.best(set()) == name(takeover())
    chain.add(child(START, authors=(BOB,)))
    assert chain.best(set()) == name(child(START, authors=(BOB,)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"signer": BOB}, "leader"),
        ({"signer": PeerId("eve")}, "leader"),
        ({"roster": (BOB, DAVE), "signer": DAVE}, "announces"),
        ({"weight": 1}, "weight"),
        ({"admissions": ()}, "admission"),
    ],
)
def test_a_takeover_is_by_and_for_outsiders(changes, why):
    assert reason(chain_of(START), takeover(**changes)) == why


def test_more_text_tokens_win_over_more_rounds():
    light = child(child(START, authors=(BOB,)), authors=(BOB,))
    heavy = child(START)
    chain = chain_of(START, child(START, authors=(BOB,)), light, heavy)
    assert chain.best(set()) == name(heavy)


def test_of_equal_weight_the_longer_then_the_lower_hash_wins():
    siblings = [child(START, view=view) for view in range(4)]
    chain = chain_of(START, *siblings)
    assert chain.best(set()) == min(map(name, siblings))


@given(st.permutations(range(6)))
def test_the_winner_does_not_depend_on_the_order_of_arrival(order):
    ones = [child(START, authors=(p,), view=v) for v, p in enumerate((BOB, CAROL))]
    twos = [child(c, authors=pair) for c in ones for pair in ((BOB,), (BOB, CAROL))]
    commits = [*ones, *twos]
    chain, waiting = chain_of(START), [commits[i] for i in order]
    while waiting:
        ready = next(c for c in waiting if c.message.parent in chain)
        waiting.remove(ready)
        chain.add(ready)
    assert chain.best(set()) == max(map(name, commits), key=chain.rank)


def test_nothing_builds_on_a_banned_commit():
    heavy, light = child(START), child(START, authors=(BOB,))
    chain = chain_of(START, heavy, light, child(heavy))
    assert chain.best({name(heavy)}) == name(light)
    assert chain.best({name(heavy), name(light)}) == name(START)
    assert chain.best({name(START)}) == CHAIN_RULES.root


def test_ancestors_are_found_on_the_way_to_the_root():
    second, fork = child(FIRST), child(START, authors=(BOB,))
    chain = chain_of(START, FIRST, second, fork)
    assert all(chain.is_ancestor(name(c), name(second)) for c in (START, FIRST, second))
    assert chain.is_ancestor(CHAIN_RULES.root, name(second))
    assert not chain.is_ancestor(name(fork), name(second))
    assert not chain.is_ancestor(name(second), name(FIRST))
    assert not chain.is_ancestor(CommitHash("11" * 32), CHAIN_RULES.root)
