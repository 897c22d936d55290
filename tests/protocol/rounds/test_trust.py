"""Judgements and findings on their way through a node and into the chain."""

from dataclasses import replace

import pytest
from simulated_node import sign
from small_run import (
    BOB,
    CAROL,
    CHAIN_RULES,
    OWNER,
    RULES,
    RUN,
    STATES,
    TRIO,
    Peer,
    child,
    name,
    of,
)

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import CommitHash
from skerry.protocol.messages import FULL, Finding, Judgement
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.chain import Chain
from skerry.protocol.rounds.leader import leader_of
from skerry.protocol.rounds.machine import next_deadline
from skerry.protocol.rounds.trust import KEPT, VIEWS_TO_WAIT
from skerry.protocol.standing import PeerStanding, Ramp

BAD = (Judgement(CAROL, 0, "direction"),)
TRUSTING = replace(CHAIN_RULES, ramp=Ramp(250, 3), spot_checks=3)
CHECKED = replace(RULES, chain=TRUSTING)


def in_second_round(judgements=BAD, rules=RULES, me=BOB):
    """Return a peer that has applied the first round's contributions, and that commit."""
    peer = Peer(me, rules)
    start = peer.in_round()
    first = child(start)
    peer.commits(first)
    peer.take(ev.Gathered(name(first), True))
    peer.take(ev.Applied(name(first), STATES[1], judgements))
    return peer, first


def finding(subject, verifier, commit, about=None):
    return sign(Finding(RUN, about or name(commit), subject, -0.5), verifier)


def chain_with(*commits):
    chain = Chain(TRUSTING, lambda record: None, {})
    for commit in commits:
        chain.add(commit)
    return chain


def refused(chain, commit):
    with pytest.raises(ProtocolError) as caught:
        chain.add(commit)
    return caught.value.reason


def test_the_next_commit_states_what_was_judged():
    leader = leader_of(RUN, 2, 0, TRIO)
    peer, first = in_second_round(me=leader)
    peer.train(1.0)
    for author in TRIO:
        from_author = replace(child(first, (author,), STATES[1].digest).message.announces[0])
        actions = peer.announced(from_author)
    [publish] = of(act.PublishCommit, actions)
    assert publish.commit.judgements == BAD


def test_a_commit_that_judges_alike_is_followed():
    peer, first = in_second_round()
    actions = peer.commits(child(first, state=STATES[1].digest, judgements=BAD))
    assert of(act.Gather, actions)


@pytest.mark.parametrize("judgements", [(), (Judgement(CAROL, 0, "norm"),), (*BAD,) * 0])
def test_a_commit_that_judges_otherwise_is_not(judgements):
    peer, first = in_second_round()
    wrong = child(first, state=STATES[1].digest, judgements=judgements)
    actions = peer.commits(wrong)
    assert act.Refuse(wrong.signer, "judgements") in actions
    assert not of(act.Gather, actions)
    view = peer.s.view
    right = child(
        first,
        state=STATES[1].digest,
        judgements=BAD,
        view=view,
        signer=leader_of(RUN, 2, view, TRIO),
    )
    assert view > 0
    assert of(act.Gather, peer.commits(right))


def test_who_did_not_judge_follows_what_the_chain_states():
    peer, first = in_second_round()
    peer.s.judged.clear()  # as after a restart
    assert of(act.Gather, peer.commits(child(first, state=STATES[1].digest)))


def test_who_does_not_know_the_judgements_lets_others_lead_first():
    leader = leader_of(RUN, 2, 0, TRIO)
    peer, first = in_second_round(me=leader)
    peer.s.judged.clear()
    peer.train(1.0)
    for author in TRIO:
        actions = peer.announced(child(first, (author,), STATES[1].digest).message.announces[0])
        assert not of(act.PublishCommit, actions)
    commits = []
    while not commits and peer.s.view < 9:
        commits = of(act.PublishCommit, peer.take(ev.Tick(), next_deadline(peer.s)))
    assert commits[0].commit.judgements == ()
    assert commits[0].commit.view >= VIEWS_TO_WAIT


def test_who_diverged_heals_instead_of_refusing():
    peer, first = in_second_round(judgements=())
    actions = peer.commits(child(first, state=STATES[2].digest, judgements=BAD))
    assert not of(act.Refuse, actions)
    assert of(act.LoadState, actions)
    assert name(first) not in peer.s.judged


def test_reputations_follow_from_the_chain():
    peer, first = in_second_round(rules=CHECKED)
    second = child(first, state=STATES[1].digest, judgements=BAD)
    peer.commits(second)
    [apply] = of(act.Apply, peer.take(ev.Gathered(name(second), True)))
    told = {one.author: (one.reputation, one.strikes) for one in apply.contributions}
    assert told == {OWNER: (500, 0), BOB: (500, 0), CAROL: (125, 1)}


def test_old_standings_are_computed_anew():
    start = Peer(BOB).in_round()
    commits = [start]
    for _ in range(5):
        commits.append(child(commits[-1]))
    chain = chain_with(*commits)
    assert chain.standing(name(commits[-1])).of(BOB) == PeerStanding(FULL)
    assert chain.standing(name(commits[2])).of(BOB) == PeerStanding(500)
    assert chain.standing(name(start)).of(BOB) == PeerStanding(250)
    assert chain.standing(CommitHash(RUN)).of(BOB) == PeerStanding(250)


def test_judgements_concern_the_contributors_before_each_once():
    peer, first = in_second_round()
    start = peer.s.chain[name(first)].message.parent
    base = [peer.s.chain[start], first]
    for judgements in (BAD * 2, (Judgement(OWNER, 0, "x"), Judgement(BOB, 0, "x"))[::-1]):
        assert refused(chain_with(*base), child(first, judgements=judgements)) == "judgements"
    few = child(base[0], (OWNER, BOB))
    assert refused(chain_with(base[0], few), child(few, judgements=BAD)) == "judgements"


def test_findings_come_from_verifiers_and_of_all_of_them_cost_reputation():
    peer, first = in_second_round(judgements=(), rules=CHECKED)
    assigned = peer.s.chain.duties(name(first))
    assert set(assigned) == set(TRIO)
    found = [finding(CAROL, verifier, first) for verifier in assigned[CAROL]]
    assert [one.signer for one in found] == sorted({OWNER, BOB})
    base = [peer.s.chain[peer.s.chain[name(first)].message.parent], first]
    for findings, reputation in ((found[:1], 500), (found, 125)):
        second = child(first, findings=tuple(findings))
        standing = chain_with(*base, second).standing(name(second))
        assert standing.of(CAROL).reputation == reputation
    elsewhere = finding(CAROL, OWNER, first, about=CommitHash("0" * 64))
    for findings in ((found[1], found[0]), (finding(CAROL, CAROL, first),), (elsewhere,)):
        assert refused(chain_with(*base), child(first, findings=findings)) == "finding"


def test_a_verifier_tries_what_falls_to_it_before_it_applies():
    peer = Peer(BOB, CHECKED)
    first = child(peer.in_round())
    peer.commits(first)
    actions = peer.take(ev.Gathered(name(first), True))
    tries = of(act.Try, actions)
    assert sorted(one.contribution.author for one in tries) == sorted({OWNER, CAROL})
    assert actions.index(tries[-1]) < actions.index(of(act.Apply, actions)[0])


def test_harm_is_told_and_a_gain_is_not():
    peer, first = in_second_round(rules=CHECKED)
    assert peer.take(ev.Tried(name(first), CAROL, 0.0)) == []
    [_, publish] = peer.take(ev.Tried(name(first), CAROL, -0.25))
    assert publish == act.PublishFinding(Finding(RUN, name(first), CAROL, -0.25))
    assert peer.take(ev.Tried(CommitHash("0" * 64), CAROL, -1.0)) == []


def test_findings_of_others_are_kept_for_the_next_commit():
    leader = leader_of(RUN, 2, 0, TRIO)
    peer, first = in_second_round(judgements=(), rules=CHECKED, me=leader)
    found = [finding(CAROL, one, first) for one in (OWNER, BOB)]
    for one in reversed(found):
        assert peer.take(ev.FindingReceived(one)) == []
    stranger = finding(OWNER, OWNER, first)
    assert peer.take(ev.FindingReceived(stranger)) == [act.Refuse(OWNER, "finding")]
    peer.train(1.0)
    for author in TRIO:
        actions = peer.announced(child(first, (author,), STATES[1].digest).message.announces[0])
    [publish] = of(act.PublishCommit, actions)
    assert publish.commit.findings == tuple(found)


def test_what_is_remembered_is_bounded():
    peer, first = in_second_round()
    commits = [first]
    for number in range(2, 7):
        commits.append(child(commits[-1], state=STATES[number - 1].digest, judgements=()))
        peer.s.judged.pop(name(commits[-2]), None)
        peer.commits(commits[-1])
        peer.apply(commits[-1], STATES[number])
    assert len(peer.s.judged) <= KEPT


def test_who_catches_up_tries_nothing():
    peer = Peer(BOB, CHECKED)
    first = child(peer.in_round())
    second = child(first, state=STATES[1].digest)
    peer.commits(first, second)
    assert not of(act.Try, peer.take(ev.Gathered(name(first), True)))
