"""A full replica and a ring of three peers too small for the model, in one run of real daemons.

A body peer of the ring is killed in the middle of an inner step: the others train on, and no text
token counts twice.
"""

from pathlib import Path

import pytest
from rings import PATIENCE_S, SETTINGS, STAGE, check_agreement, roles
from swarm import Swarm

from skerry.proto import control_pb2 as pb
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Commit

pytestmark = pytest.mark.chaos


def test_a_ring_beside_a_replica_survives_the_death_of_a_member(tmp_path: Path) -> None:
    with Swarm(tmp_path) as swarm:
        [replica] = swarm.start("replica")
        ring = swarm.start("ring-1", "ring-2", "ring-3", config=STAGE)
        swarm.begin([replica, *ring], 0, deadline_max="60s", **SETTINGS)
        replica.wait_for("applied", patience=PATIENCE_S, contributions=4)
        origin, victim, _ = roles(replica.status().run, ring)
        victim.wait_until(_is_within_a_step, "within an inner step", PATIENCE_S)
        heard, seen = origin.mark(), replica.mark()
        victim.kill()
        assert origin.wait_for("trained", heard, PATIENCE_S)["steps"] > 0
        for _ in range(3):
            found = replica.wait_for("applied", seen, PATIENCE_S)
            seen = replica.log.events.index(found) + 1
        chain = replica.chain(swarm.run_id)
        left = swarm.stop()
    _check(chain, replica.peer_id, origin.peer_id, victim.peer_id)
    assert not left, f"left behind: {left}"


def _is_within_a_step(run: pb.RunStatus) -> bool:
    at = run.round
    return at.phase == "training" and 0 < at.step < at.steps


def _check(chain: list[Commit], replica: PeerId, origin: PeerId, victim: PeerId) -> None:
    """Check that all hosts of a shard agree, and that no text token was counted twice."""
    authors = [{announce.signer for announce in commit.announces} for commit in chain]
    both = [i for i, some in enumerate(authors) if {replica, origin, victim} <= some]
    assert both and len(chain) > max(both) + 1
    check_agreement(chain)
