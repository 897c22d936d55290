"""A full replica and a ring of three peers too small for the model, in one run of real daemons.

A body peer of the ring is killed in the middle of an inner step: the others train the whole round
nonetheless, what was on its way included, and each of its microbatches counts once.
"""

import time
from pathlib import Path

import pytest
from rings import MOST_TOKENS, PATIENCE_S, SETTINGS, STAGE, check_agreement, roles
from swarm import Event, Peer, Swarm

from skerry.proto import control_pb2 as pb
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Commit

pytestmark = pytest.mark.chaos

RING = """
[ring]
outliers = false    # of so little text some is unlike the rest
hop_min = "8s"      # a slow machine is not to cause detours, nor to end a round early
hop_max = "1m"
attempt_min = "1m"
attempt_max = "2m"
"""
DEADLINES = {"deadline_min": "5m", "deadline_max": "5m", "grace": "10s"}


def test_a_ring_beside_a_replica_survives_the_death_of_a_member(tmp_path: Path) -> None:
    with Swarm(tmp_path) as swarm:
        [replica] = swarm.start("replica")
        ring = swarm.start("ring-1", "ring-2", "ring-3", config=STAGE)
        swarm.begin([replica, *ring], 0, sections=RING, **SETTINGS, **DEADLINES)
        replica.wait_for("applied", patience=PATIENCE_S, contributions=4)
        run = replica.status().run
        origin, *bodies = roles(run, ring)
        shards = {peer.peer_id: len(peer.shards) for peer in run.peers}
        # Two stages of one peer would be more than a microbatch may miss.
        victim, other = sorted(bodies, key=lambda peer: shards[peer.peer_id])
        killed_in = _kill_while_it_trains(victim)

        def is_beyond(event: Event) -> bool:
            return event["event"] == "applied" and event["round"] > killed_in + 1

        assert replica.log.wait(is_beyond, 0, time.monotonic() + PATIENCE_S), replica.story()
        chain = replica.chain(swarm.run_id)
        left = swarm.stop()
    [trained] = _told(origin, "trained", killed_in)
    assert trained["steps"] == SETTINGS["steps"]
    told = origin.recorded()
    notes = [event["text"] for event in told[: told.index(trained)] if event["event"] == "note"]
    troubles = [text for text in notes if text.startswith("ring: microbatch")]
    assert all(victim.peer_id in text for text in troubles), troubles
    _check(chain, killed_in, {replica.peer_id, origin.peer_id}, other.peer_id, victim.peer_id)
    assert not left, f"left behind: {left}"


def _kill_while_it_trains(victim: Peer) -> int:
    """Kill a member that has trained a part of a round; return the round.

    It stands still meanwhile, so that the round is not over by the time it is killed.
    """
    while True:
        victim.wait_until(_is_within_a_step, "within an inner step", PATIENCE_S)
        with victim.frozen():
            phase = [event for event in victim.recorded() if event["event"] == "phase"][-1]
            number = int(phase["round"])
            if phase["phase"] == "training" and _told(victim, "first-step", number):
                victim.kill()
                return number


def _is_within_a_step(run: pb.RunStatus) -> bool:
    at = run.round
    return at.phase == "training" and 0 < at.step < at.steps


def _told(peer: Peer, name: str, number: int) -> list[Event]:
    """Return what a peer's log says under a name of a round."""
    return [e for e in peer.recorded() if e["event"] == name and e["round"] == number]


def _check(
    chain: list[Commit], killed_in: int, readers: set[PeerId], other: PeerId, victim: PeerId
) -> None:
    """Check that the ring has lost nothing and counted nothing twice in the round of the kill.

    The hosts of the stages that were left have trained on each of its microbatches exactly once,
    also on those that were with the killed one, and so they do in the rounds after it.
    """
    check_agreement(chain)
    commits = {commit.round: {a.signer: a.message for a in commit.announces} for commit in chain}
    assert {*readers, other, victim} == commits[killed_in - 1].keys()
    for number in (killed_in, killed_in + 1):
        found = commits[number]
        assert found.keys() == {*readers, other}
        tokens = {peer: (one.text_tokens, one.round_tokens) for peer, one in found.items()}
        whole = dict.fromkeys(readers, (MOST_TOKENS, MOST_TOKENS))
        assert tokens == whole | {other: (0, MOST_TOKENS)}
