"""A run survives SIGKILL of any of its processes, at any point of a round."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import psutil
import pytest
from swarm import UNHURRIED, Peer, Swarm

from skerry.proto import control_pb2 as pb

pytestmark = pytest.mark.integration

ROUNDS = 6
FIRST = 2
"""The first round that may be disturbed: not the first of all, for a history to go on from."""
LAST = 4
"""The last one: the others go on without the victim, which then has rounds to catch up with."""


def _roles(swarm: Swarm, trio: list[Peer], number: int) -> tuple[Peer, Peer, Peer]:
    """Return the leader of a round and the two others."""
    leader = swarm.leader(number, trio)
    first, second = (peer for peer in trio if peer is not leader)
    return leader, first, second


def _waits_only_for(peer: Peer, number: int) -> Callable[[pb.RunStatus], bool]:
    def test(run: pb.RunStatus) -> bool:
        waited = list(run.round.waiting_for)
        return (run.round.phase, run.round.round, waited) == ("collecting", number, [peer.peer_id])

    return test


def _comes_back(swarm: Swarm, victim: Peer, rest: list[Peer]) -> None:
    """The others reach the last round; the dead one, restarted on its home, ends like them."""
    victim.restart()
    swarm.finish(rest, ROUNDS)
    victim.ready()
    swarm.finish([victim, *rest], ROUNDS)


def test_leader_killed_while_it_trains(swarm: Swarm, trio: list[Peer]) -> None:
    swarm.begin(trio, ROUNDS, steps=200, **UNHURRIED)

    def leader_of(number: int) -> Peer:
        return swarm.leader(number, trio)

    with swarm.held_in_training(leader_of, FIRST, LAST) as number:
        leader, *rest = _roles(swarm, trio, number)
        leader.kill()
    assert leader.last_phase() == "training"
    _comes_back(swarm, leader, rest)


def _slow(swarm: Swarm, trio: list[Peer]) -> AbstractContextManager[int]:
    """Hold a peer in the training of a round that another leads; the second of the roles."""
    return swarm.held_in_training(lambda number: _roles(swarm, trio, number)[1], FIRST, LAST)


def test_leader_killed_while_it_collects(swarm: Swarm, trio: list[Peer]) -> None:
    swarm.begin(trio, ROUNDS, steps=200, **UNHURRIED)
    with _slow(swarm, trio) as number:
        leader, slow, other = _roles(swarm, trio, number)
        leader.wait_for("phase", phase="collecting", round=number)
        leader.kill()
    assert leader.last_phase() == "collecting"
    _comes_back(swarm, leader, [slow, other])


def test_leader_killed_while_another_has_yet_to_fetch(swarm: Swarm, trio: list[Peer]) -> None:
    """The frozen peer must have the dead leader's contribution from the third peer."""
    swarm.begin(trio, ROUNDS, steps=200, **UNHURRIED)
    with _slow(swarm, trio) as number:
        leader, frozen, other = _roles(swarm, trio, number)
        with frozen.frozen():
            leader.wait_for("commit", round=number)
            other.wait_for("applied", round=number)
            leader.kill()
    frozen.wait_for("phase", phase="fetching", round=number)
    _comes_back(swarm, leader, [frozen, other])


def test_leader_killed_while_it_applies(swarm: Swarm, trio: list[Peer]) -> None:
    swarm.begin(trio, ROUNDS, steps=200, **UNHURRIED)
    with _slow(swarm, trio) as number:
        leader, slow, other = _roles(swarm, trio, number)
        leader.wait_until(_waits_only_for(slow, number), "waiting for the slow peer alone")
        with leader.frozen("compute"), slow.frozen():  # silent, so nobody waits for it
            leader.wait_for("phase", phase="applying", round=number)
            leader.kill()
    assert leader.last_phase() == "applying"
    _comes_back(swarm, leader, [slow, other])


def test_compute_process_killed(swarm: Swarm, trio: list[Peer]) -> None:
    swarm.begin(trio, ROUNDS, steps=200)
    victim = trio[1]
    training = victim.wait_for("phase", phase="training", round=FIRST)
    mark = victim.log.events.index(training)
    dead = victim.kill_child("compute")
    victim.wait_for("phase", mark, phase="starting")
    victim.wait_for("warning", text="the compute process ended; it is being restarted")
    assert victim.pid_of("compute") != dead
    swarm.finish(trio, ROUNDS)


def test_p2pd_killed(swarm: Swarm, trio: list[Peer]) -> None:
    swarm.begin(trio, ROUNDS, steps=200)
    victim = swarm.leader(FIRST, trio)
    victim.wait_for("phase", phase="training", round=FIRST)
    dead = victim.kill_child("p2pd")
    swarm.finish(trio, ROUNDS)
    assert victim.pid_of("p2pd") != dead
    assert not psutil.pid_exists(dead)
