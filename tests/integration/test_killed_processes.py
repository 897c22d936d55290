"""A run survives SIGKILL of any of its processes, at any point of a round."""

from collections.abc import Callable

import psutil
import pytest
from swarm import Peer, Swarm

from skerry.proto import control_pb2 as pb

pytestmark = pytest.mark.integration

ROUNDS = 6
ROUND = 2
"""The round that is disturbed; not the first, so that there is a history to go on from."""


def _roles(swarm: Swarm, trio: list[Peer]) -> tuple[Peer, Peer, Peer]:
    """Return the leader of ROUND and the two others."""
    leader = swarm.leader(ROUND, trio)
    first, second = (peer for peer in trio if peer is not leader)
    return leader, first, second


def _waits_only_for(peer: Peer) -> Callable[[pb.RunStatus], bool]:
    def test(run: pb.RunStatus) -> bool:
        waited = list(run.round.waiting_for)
        return (run.round.phase, run.round.round, waited) == ("collecting", ROUND, [peer.peer_id])

    return test


def _comes_back(swarm: Swarm, victim: Peer, rest: list[Peer]) -> None:
    """The others reach the last round; the dead one, restarted on its home, ends like them."""
    victim.restart()
    swarm.finish(rest, ROUNDS)
    victim.ready()
    swarm.finish([victim, *rest], ROUNDS)


def test_leader_killed_while_it_trains(swarm: Swarm, trio: list[Peer]) -> None:
    swarm.begin(trio, ROUNDS, steps=200)
    leader, *rest = _roles(swarm, trio)
    leader.wait_for("phase", phase="training", round=ROUND)
    leader.kill()
    assert leader.last_phase() == "training"
    _comes_back(swarm, leader, rest)


def test_leader_killed_while_it_collects(swarm: Swarm, trio: list[Peer]) -> None:
    swarm.begin(trio, ROUNDS, steps=200)
    leader, slow, other = _roles(swarm, trio)
    slow.wait_for("phase", phase="fetching", round=ROUND - 1)
    with slow.frozen("compute"):  # whatever it is at, it has not trained ROUND
        leader.wait_for("phase", phase="collecting", round=ROUND)
        leader.kill()
    assert leader.last_phase() == "collecting"
    _comes_back(swarm, leader, [slow, other])


def test_leader_killed_while_another_has_yet_to_fetch(swarm: Swarm, trio: list[Peer]) -> None:
    """The frozen peer must have the dead leader's contribution from the third peer."""
    swarm.begin(trio, ROUNDS, steps=200)
    leader, frozen, other = _roles(swarm, trio)
    frozen.wait_for("phase", phase="training", round=ROUND)
    with frozen.frozen():
        leader.wait_for("commit", round=ROUND)
        other.wait_for("applied", round=ROUND)
        leader.kill()
    frozen.wait_for("phase", phase="fetching", round=ROUND)
    _comes_back(swarm, leader, [frozen, other])


def test_leader_killed_while_it_applies(swarm: Swarm, trio: list[Peer]) -> None:
    swarm.begin(trio, ROUNDS, steps=200)
    leader, slow, other = _roles(swarm, trio)
    slow.wait_for("phase", phase="fetching", round=ROUND - 1)
    with slow.frozen("compute"):  # whatever it is at, it has not trained ROUND
        leader.wait_until(_waits_only_for(slow), "waiting for the slow peer alone")
        with leader.frozen("compute"):
            leader.wait_for("phase", phase="applying", round=ROUND)
            leader.kill()
    assert leader.last_phase() == "applying"
    _comes_back(swarm, leader, [slow, other])


def test_compute_process_killed(swarm: Swarm, trio: list[Peer]) -> None:
    swarm.begin(trio, ROUNDS, steps=200)
    victim = trio[1]
    victim.wait_for("phase", phase="training", round=ROUND)
    dead = victim.kill_child("compute")
    victim.wait_for("phase", phase="starting")
    victim.wait_for("warning", text="the compute process ended; it is being restarted")
    assert victim.pid_of("compute") != dead
    swarm.finish(trio, ROUNDS)


def test_p2pd_killed(swarm: Swarm, trio: list[Peer]) -> None:
    swarm.begin(trio, ROUNDS, steps=200)
    victim = swarm.leader(ROUND, trio)
    victim.wait_for("phase", phase="training", round=ROUND)
    dead = victim.kill_child("p2pd")
    swarm.finish(trio, ROUNDS)
    assert victim.pid_of("p2pd") != dead
    assert not psutil.pid_exists(dead)
