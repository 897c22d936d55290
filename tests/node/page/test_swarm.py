"""How each peer is, as this peer knows it."""

import time

import pytest
import run_world

from skerry.node.page.header import Moment
from skerry.node.page.rates import Rate
from skerry.node.page.swarm import Observed, peers_of, role_of, state_of
from skerry.node.run.facts import Seen
from skerry.node.run.state import LEAVING
from skerry.protocol.messages import Heartbeat
from skerry.recovery.standing import Evidence, Sign


@pytest.fixture
async def pair(tmp_path):
    """A member and the id of another that it knows."""
    async with run_world.World(tmp_path) as world:
        one = await world.member(1)
        record = run_world.record_of(run_world.signer_of(2), world.manifest)
        one.context.state.rounds.members[record.signer] = record
        yield one.context, record.signer


def now(after: float = 0.0) -> Moment:
    return Moment(time.monotonic() + after, time.time() + after)


def hear(context, peer, **changes: object) -> None:
    fields = {"phase": "training", "step": 3, "steps": 9, "tokens_per_second": 5.0, "loss": 2.0}
    place = {"run_id": context.run_id, "head": context.state.rounds.at, "head_round": 0}
    beat = Heartbeat(**{**fields, **place, "weight": 0, **changes})
    context.facts.seen[peer] = Seen(beat, time.monotonic())
    context.state.detector.heard(peer, time.monotonic())
    context.state.rounds.alive.add(peer)


async def test_member_that_was_never_heard_is_joining(pair) -> None:
    context, peer = pair
    assert state_of(context, peer, now()) == "joining"
    row = peers_of(context, now(), Observed())[1]
    assert (row.role, row.phase, row.behind, row.last_seen_s) == ("member", None, None, None)


async def test_heard_peer_outside_the_roster_is_joining(pair) -> None:
    context, peer = pair
    hear(context, peer)
    assert state_of(context, peer, now()) == "joining"
    assert peers_of(context, now(), Observed())[1].role == "newcomer"


async def test_peer_that_trained_before_is_returning_not_new(pair) -> None:
    context, peer = pair
    hear(context, peer)
    row = peers_of(context, now(), Observed(veterans={peer}))[1]
    assert (row.state, row.role) == ("joining", "returning")


async def test_paused_peer_waits_for_nothing(pair) -> None:
    context, peer = pair
    hear(context, peer, phase="paused")
    context.state.rounds.resting.add(peer)
    row = peers_of(context, now(), Observed(veterans={peer}))[1]
    assert (row.state, row.role, row.phase) == ("alive", "member", "paused")


async def test_own_role_is_told_as_that_of_others(pair, monkeypatch) -> None:
    context, _ = pair
    me, rounds = context.me, context.state.rounds
    assert role_of(context, me, frozenset()) == "newcomer"
    assert role_of(context, me, {me}) == "returning"
    rounds.paused = True
    assert role_of(context, me, {me}) == "member"
    monkeypatch.setattr(type(rounds), "roster", (me,))
    assert role_of(context, me, {me}) == "replica"


async def test_silence_is_shown_before_it_counts(pair, monkeypatch) -> None:
    context, peer = pair
    hear(context, peer)
    monkeypatch.setattr(type(context.state.rounds), "roster", (context.me, peer))
    patience = context.state.detector.patience_s(peer)
    assert state_of(context, peer, now()) == "alive"
    assert state_of(context, peer, now(0.9 * patience)) == "suspect"
    context.state.rounds.alive.clear()
    assert state_of(context, peer, now()) == "dead"


async def test_suspect_is_dead_only_once_it_is_given_up_and_heals_when_it_is_back(pair) -> None:
    context, peer = pair
    hear(context, peer)
    register, at = context.state.register, now().monotonic
    register.heard(peer, True, at)
    register.doubted(peer, Evidence(Sign.CLOSED, at, context.me, "the connection to it broke"))
    row = peers_of(context, now(), Observed())[1]
    assert (row.state, row.evidence) == ("suspect", ("the connection to it broke",))
    context.state.rounds.alive.clear()
    assert state_of(context, peer, now()) == "suspect"
    register.turns(at + 1000.0)
    assert state_of(context, peer, now()) == "dead"
    hear(context, peer)
    assert state_of(context, peer, now()) == "joining"


async def test_peer_that_said_goodbye_has_left(pair) -> None:
    context, peer = pair
    hear(context, peer, phase=LEAVING)
    context.state.rounds.alive.clear()
    assert state_of(context, peer, now()) == "left"


async def test_of_who_is_gone_it_is_not_said_what_it_does(pair) -> None:
    context, peer = pair
    hear(context, peer, head_round=2)
    context.state.rounds.alive.clear()
    row = peers_of(context, now(), Observed())[1]
    assert (row.state, row.phase, row.step, row.steps) == ("dead", None, None, None)
    assert (row.text_tokens_per_s, row.head_round, row.loss) == (None, 2, 2.0)


async def test_row_is_what_the_peer_says_and_what_was_measured(pair) -> None:
    context, peer = pair
    hear(context, peer, head_round=2)
    context.facts.received_from(peer, 500)
    context.facts.answered(peer, 0.025)
    context.refuse(peer, "size")
    row = peers_of(context, now(), Observed({peer: Rate(1.0, 2.0)}, {peer: "relayed"}))[1]
    assert (row.phase, row.step, row.steps, row.head_round) == ("training", 3, 9, 2)
    assert (row.up_bytes_per_s, row.down_bytes_per_s) == (1.0, 2.0)
    assert (row.received_bytes, row.refused, row.link) == (500, 1, "relayed")
    assert row.round_trip_ms == pytest.approx(25)
    assert row.behind == -2


@pytest.mark.parametrize("value", [-5.0, -0.1])
async def test_numbers_that_make_no_sense_are_left_out(pair, value) -> None:
    context, peer = pair
    hear(context, peer, tokens_per_second=value)
    assert peers_of(context, now(), Observed())[1].text_tokens_per_s is None


async def test_refusals_of_strangers_take_no_room(pair) -> None:
    context, _ = pair
    for number in range(100):
        context.refuse(f"12D3KooWstranger{number}", "size")
    assert len(context.facts.traffic) == 0
