"""What of a decision is written into the event log."""

import json
from dataclasses import replace

import pytest
import run_world

from skerry.node.run.facts import Facts
from skerry.node.run.notable import MAX_COMMITS, Notables
from skerry.node.run.record import initial_state
from skerry.node.run.replay import Step, replay
from skerry.node.run.state import LEAVING, Unreachable, apply
from skerry.protocol.codec import sign_message
from skerry.protocol.ids import Digest, PeerId
from skerry.protocol.messages import Heartbeat, Signed
from skerry.protocol.rings.plan import Member, Plan, Ring
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.hosting import Hosts
from skerry.protocol.rounds.settings import Removal, Settings
from skerry.protocol.rounds.slowness import SlowPeer
from skerry.recovery.standing import Standing

WRITTEN = {
    "peer-up",
    "peer-down",
    "peer-left",
    "peer-suspect",
    "peer-dead",
    "peer-evicted",
    "peer-alive",
    "compute-lost",
    "compute-ready",
    "committed",
    "diverged",
    "began",
    "ended",
    "view",
    "announced",
    "checked",
    "phase",
    "removed",
    "readmitted",
    "outer-lr",
    "invite-revoked",
    "allowed",
}


def retold(recording) -> list[tuple[str, dict]]:
    """What a recording's events would have written."""
    start = json.loads(recording.read_text().splitlines()[0])["start"]
    state = initial_state(start)
    notables, lines = Notables(state, Facts()), []
    for step in replay(recording):
        if isinstance(step, Step):
            actions = apply(state, step.event, step.time - start["time"] + start["now"])
            lines += notables.after(step.event, actions)
    return lines


class TestRealRun:
    def test_log_says_what_the_recording_holds(self, trained) -> None:
        for outcome in trained:
            told = [
                (name, {k: v for k, v in details.items() if k not in ("sent", "received")})
                for name, details in retold(outcome.recording)
            ]
            log = [
                (line["event"], {k: v for k, v in line.items() if k not in LEFT_OUT})
                for line in outcome.journal
                if line["event"] in WRITTEN
            ]
            assert json.loads(json.dumps(told)) == json.loads(json.dumps(log))

    def test_each_round_is_begun_announced_checked_and_committed(self, trained) -> None:
        for outcome in trained:
            for number in range(1, run_world.ROUNDS + 1):
                lines = [line for line in outcome.journal if line.get("round") == number]
                peers = {
                    name: {line["peer"] for line in lines if line["event"] == name}
                    for name in ("announced", "checked")
                }
                (began,) = [line for line in lines if line["event"] == "began"]
                (commit,) = [line for line in lines if line["event"] == "committed"]
                included = {part["peer"] for part in commit["included"]}
                assert set(began["roster"]) == peers["announced"] == peers["checked"] == included
                assert commit["late"] == []
                assert commit["parent"] == began["parent"]

    def test_run_that_is_over_begins_no_further_round(self, trained) -> None:
        for outcome in trained:
            assert [line["round"] for line in outcome.journal if line["event"] == "began"][-1] == 3
            assert [line["event"] for line in outcome.journal].count("ended") == 1


LEFT_OUT = ("time", "event", "sent", "received")


@pytest.fixture
def told(trained):
    """A state after a real run, and a function that gives it an event and returns the lines."""
    start = json.loads(trained[0].recording.read_text().splitlines()[0])["start"]
    state = initial_state(start)
    for step in replay(trained[0].recording):
        if isinstance(step, Step):
            apply(state, step.event, now := step.time - start["time"] + start["now"])
    notables = Notables(state, Facts())

    def feed(event, after: float = 0.0) -> dict[str, dict]:
        return dict(notables.after(event, apply(state, event, now + after)))

    return state, feed


def goodbye(state, phase: str):
    rounds = state.rounds
    beat = Heartbeat(
        run_id=rounds.rules.chain.run_id,
        head=rounds.at,
        head_round=3,
        weight=0,
        phase=phase,
        step=0,
        steps=0,
        tokens_per_second=0.0,
        loss=0.0,
    )
    other = run_world.signer_of(2)
    return ev.HeartbeatReceived(Signed(beat, sign_message(other, beat).envelope))


def test_leaving_is_told_from_falling_silent(told) -> None:
    state, feed = told
    other = run_world.signer_of(2).peer_id
    feed(goodbye(state, "done"))
    assert feed(goodbye(state, LEAVING)) == {"peer-left": {"peer": other}}
    assert feed(goodbye(state, "done"))["peer-up"] == {"peer": other}
    assert feed(ev.Tick(), after=1000.0)["peer-down"] == {"peer": other}


def test_who_falls_silent_is_told_with_the_evidence_from_suspect_to_evicted(told) -> None:
    state, feed = told
    other = run_world.signer_of(2).peer_id
    feed(goodbye(state, "done"))
    suspect = feed(ev.Tick(), after=1000.0)["peer-suspect"]
    assert suspect["peer"] == other
    assert any(text.startswith("silent: nothing heard") for text in suspect["evidence"])
    assert feed(ev.Tick(), after=1010.0) == {"peer-dead": suspect}
    assert feed(ev.Tick(), after=2000.0) == {"peer-evicted": suspect}
    assert feed(goodbye(state, "done"), after=2001.0)["peer-alive"] == suspect


def test_a_failed_request_alone_is_no_news(told) -> None:
    state, feed = told
    other = run_world.signer_of(2).peer_id
    feed(goodbye(state, "done"))
    assert feed(Unreachable(other)) == {}
    assert state.register.standing(other) is Standing.ALIVE
    assert feed(goodbye(state, "done")) == {}


def test_removed_peer_that_falls_silent_is_no_news(told) -> None:
    state, feed = told
    rounds, other = state.rounds, run_world.signer_of(2).peer_id
    feed(goodbye(state, "done"))
    removed = {other: Removal(run_world.OWNER.peer_id, "slow")}
    rounds.chain._settings[rounds.at] = Settings(removed=removed)
    assert "peer-down" not in feed(ev.Tick(), after=1000.0)
    assert other not in rounds.alive


def test_what_the_owner_changes_is_told_and_what_a_branch_takes_back(told) -> None:
    state, _ = told
    rounds, other = state.rounds, run_world.signer_of(2).peer_id
    notables, before = Notables(state, Facts()), rounds.settings
    removed = {other: Removal(run_world.OWNER.peer_id, "slow")}
    rounds.chain._settings[rounds.at] = Settings(outer_lr=0.5, removed=removed)
    lines = dict(notables.after(ev.Tick(), []))
    by = run_world.OWNER.peer_id
    assert lines["removed"] == {"round": rounds.round, "peer": other, "by": by, "reason": "slow"}
    assert lines["outer-lr"] == {"round": rounds.round, "outer_lr": 0.5}
    assert dict(notables.after(ev.Tick(), [])) == {}
    rounds.chain._settings[rounds.at] = before
    lines = dict(notables.after(ev.Tick(), []))
    assert lines["readmitted"] == {"round": rounds.round, "peer": other}
    assert lines["outer-lr"]["outer_lr"] is None


def test_a_plan_and_whose_slowness_it_follows_from_is_told_once(told) -> None:
    state, _ = told
    rounds, other = state.rounds, run_world.signer_of(2).peer_id
    notables, me = Notables(state, Facts()), run_world.OWNER.peer_id
    members = tuple(Member(peer, (i,), 1) for i, peer in enumerate((me, other)))
    plan = Plan(7, 32, (), (Ring(members, (), 1),), (PeerId("idle"),))
    hosts = Hosts(("embed",), plan)
    rounds.chain._settings[rounds.at] = replace(rounds.settings, hosts=hosts)
    rounds.slowness.due = (SlowPeer(other, 100.0, 40.0, 2.5),)
    lines = dict(notables.after(ev.Tick(), []))
    found = {"version": 7, "rings": [[me, other]], "spares": ["idle"]}
    assert lines["planned"] == {"round": rounds.round, **found}
    speeds = {"planned": 100.0, "measured": 40.0, "times": 2.5}
    assert lines["slow"] == {"round": rounds.round, "peer": other, **speeds}
    assert dict(notables.after(ev.Tick(), [])) == {}


def test_who_may_come_is_told_when_it_changes(told) -> None:
    state, _ = told
    rounds, other = state.rounds, run_world.signer_of(2).peer_id
    notables, by = Notables(state, Facts()), run_world.OWNER.peer_id
    rounds.chain._settings[rounds.at] = Settings(
        revoked={b"n" * 16: Removal(by, "leaked")}, allowed=frozenset([other])
    )
    lines = dict(notables.after(ev.Tick(), []))
    name = (b"n" * 16).hex()
    found = {"round": rounds.round, "invite": name, "by": by, "reason": "leaked"}
    assert lines["invite-revoked"] == found
    assert lines["allowed"] == {"round": rounds.round, "peer": other}


def test_end_of_the_compute_process_is_told(told) -> None:
    _, feed = told
    lost = feed(ev.ComputeLost())
    assert "compute-lost" in lost and lost["phase"]["phase"] == "starting"
    assert "compute-ready" in feed(ev.ComputeReady(()))


def test_own_state_that_is_not_the_agreed_one_is_told(told) -> None:
    state, _ = told
    notables, mine, agreed = Notables(state, Facts()), Digest("b" * 64), Digest("a" * 64)
    actions = [act.Diverged(True, "healing", 4, mine, agreed), act.LoadState(agreed, None, ())]
    lines = dict(notables.after(ev.Tick(), actions))
    assert lines["diverged"] == {"round": 4, "mine": mine, "agreed": agreed}
    assert dict(notables.after(ev.Tick(), [act.LoadState(agreed, None, ())])) == {}


def test_of_a_long_chain_only_the_newest_commits_are_told(told) -> None:
    state, _ = told
    rounds = state.rounds
    chain = [rounds.chain[name] for name in reversed(list(rounds.chain.path(rounds.at)))]
    many = tuple(chain * 10)
    lines = list(Notables(state, Facts()).after(ev.Tick(), [act.StoreCommits(many)]))
    assert [details["commit"] for _, details in lines] == [c.hash for c in many[-MAX_COMMITS:]]


def test_leader_that_is_passed_over_is_told(told) -> None:
    state, _ = told
    notables, rounds = Notables(state, Facts()), state.rounds
    before = rounds.leader
    rounds.view += 1
    lines = dict(notables.after(ev.Tick(), []))
    assert lines["view"]["passed_over"] == before
    assert (lines["view"]["view"], lines["view"]["leader"]) == (rounds.view, rounds.leader)
