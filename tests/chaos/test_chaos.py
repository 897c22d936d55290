"""Random faults against real daemons; whatever happens, the living end with one state.

CHAOS_SEED chooses other faults: CHAOS_SEED=7 pytest tests/chaos
"""

import os
import random
from pathlib import Path

import pytest
from swarm import Peer, Swarm

from skerry.proto import control_pb2 as pb

pytestmark = pytest.mark.chaos

ROUNDS = 24
FAULTS = 6
EVERY = 3
"""Rounds between two faults, if the fault itself does not take longer."""


def test_random_faults(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED", "1"))
    print(f"CHAOS_SEED={seed}")
    dice = random.Random(seed)
    with Swarm(tmp_path) as swarm:
        peers = swarm.start("a", "b", "c", "d")
        swarm.begin(peers, ROUNDS)
        for number in range(FAULTS):
            _fault(dice, peers, 2 + EVERY * number)
        end = swarm.finish(peers, ROUNDS)
        for peer in peers:
            chain = peer.chain(swarm.run_id)
            included = [announce for commit in chain for announce in commit.announces]
            assert sum(announce.message.text_tokens for announce in included) == end.text_tokens
        left = swarm.stop()
    assert not left, f"left behind: {left}"


def _fault(dice: random.Random, peers: list[Peer], round_number: int) -> None:
    """Hit one peer at some point of a round."""
    victim, witness = dice.sample(peers, 2)
    kind = dice.choice(["kill", "freeze", "compute", "p2pd"])
    phase = dice.choice(["training", "collecting", "applying"])
    print(f"round {round_number}, {phase}: {kind} {victim.name}")
    _reached(victim, round_number, phase)
    away = dice.randint(1, 5)
    match kind:
        case "kill":
            victim.kill()
            _goes_on(witness, away)
            victim.restart()
            victim.ready()
        case "freeze":
            with victim.frozen():
                _goes_on(witness, away)
        case process:
            victim.kill_child(process)


def _reached(victim: Peer, round_number: int, phase: str) -> None:
    """Wait for a phase of a round; a peer that has fallen behind may jump over both."""

    def reached(run: pb.RunStatus) -> bool:
        at = run.round
        later = at.round > round_number or at.phase == "done"
        return later or (at.round == round_number and at.phase == phase)

    victim.wait_until(reached, f"{phase} in round {round_number}")


def _goes_on(witness: Peer, rounds: int) -> None:
    """Wait until the others have applied some more rounds, or are done."""
    reached = witness.status().run.digest_round
    witness.wait_until(
        lambda run: run.digest_round >= min(ROUNDS, reached + rounds), f"{rounds} rounds further"
    )
