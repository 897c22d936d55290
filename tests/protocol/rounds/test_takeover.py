"""Observers go on when the whole roster is gone."""

from simulated_node import sign
from small_run import (
    BOB,
    CAROL,
    DAVE,
    GRACE,
    OWNER,
    RULES,
    RUN,
    Peer,
    chain_of,
    child,
    genesis,
    heartbeat,
    member,
    name,
    of,
)

from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.leader import succession
from skerry.protocol.rounds.machine import next_deadline
from skerry.protocol.rounds.state import Phase

START = genesis(roster=(OWNER,))
FIRST, SECOND = succession(RUN, 1, (BOB, CAROL))
DUE = RULES.deadline_max + 4 * GRACE


def observer(me) -> Peer:
    """Return a peer that watches the owner train alone, with another one in step."""
    peer = Peer(me)
    peer.boot()
    peer.meet(OWNER)
    peer.commits(START)
    other = CAROL if me == BOB else BOB
    peer.meet(other)
    peer.take(heartbeat(other, START))
    assert peer.s.phase is Phase.OBSERVING
    return peer


def test_while_one_of_the_roster_lives_its_commit_is_awaited():
    peer = observer(FIRST)
    assert next_deadline(peer.s) is None
    assert peer.take(ev.Tick(), 10 * DUE) == []


def test_the_first_in_line_takes_all_in_step_into_the_roster():
    peer = observer(FIRST)
    peer.meet(DAVE)  # not in step
    peer.take(ev.PeerDown(OWNER))
    assert next_deadline(peer.s) == DUE
    assert peer.take(ev.Tick(), DUE - 0.1) == []
    note, publish = peer.take(ev.Tick(), DUE)
    assert note.warning
    commit = publish.commit
    assert commit.roster == tuple(sorted([BOB, CAROL]))
    assert commit.admissions == tuple(member(p) for p in commit.roster)
    assert (commit.weight, commit.announces) == (0, ())
    signed = sign(commit, FIRST)
    assert name(signed) in chain_of(START, signed)
    assert peer.take(ev.Tick(), DUE + 1) == []
    actions = peer.commits(signed, source=FIRST)
    assert of(act.Train, actions)[0].round == 2
    assert peer.s.held == START.message.state


def test_the_next_in_line_waits_one_grace_longer():
    peer = observer(SECOND)
    peer.take(ev.PeerDown(OWNER))
    assert next_deadline(peer.s) == DUE + GRACE
    assert peer.take(ev.Tick(), DUE) == []
    assert of(act.PublishCommit, peer.take(ev.Tick(), DUE + GRACE))


def test_a_returning_owner_goes_on_until_the_others_have_committed_more():
    """A claim that it is gone does not end its round: anyone admitted could make one."""
    owner = Peer(OWNER)
    owner.boot()
    owner.commits(START)
    assert owner.s.phase is Phase.TRAINING
    watcher = observer(FIRST)
    watcher.take(ev.PeerDown(OWNER))
    [publish] = of(act.PublishCommit, watcher.take(ev.Tick(), DUE))
    taken = sign(publish.commit, FIRST)
    assert of(act.Encode, owner.commits(taken)) == []
    assert owner.s.phase is Phase.TRAINING
    trained = child(taken, authors=(BOB, CAROL))
    actions = owner.commits(trained)
    assert of(act.Encode, actions) == [act.Encode(name(START), False)]
    assert owner.s.goal == name(trained)


def test_a_roster_that_goes_on_beats_a_claim_that_it_is_gone():
    watcher = observer(FIRST)
    watcher.take(ev.PeerDown(OWNER))
    [publish] = of(act.PublishCommit, watcher.take(ev.Tick(), DUE))
    chain = chain_of(START, sign(publish.commit, FIRST))
    commit = child(START, authors=(OWNER,))
    chain.add(commit)
    assert chain.best(set()) == name(commit)
