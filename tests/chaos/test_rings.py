"""A full replica and a ring of three peers too small for the model, in one run of real daemons.

A body peer of the ring is killed in the middle of an inner step: the others train on, and no text
token counts twice.
"""

from pathlib import Path

import pytest
from swarm import Peer, Swarm

from skerry.proto import control_pb2 as pb
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Commit

pytestmark = pytest.mark.chaos

STEPS, BATCH, CONTEXT = 20, 4, 32
STAGE = '[compute]\nrole = "stage"\nmemory = "800KB"\n'
"""Room for two of the model's four blocks, or for one beside embedding and head: three peers are
needed, and two cannot go on alone."""
PATIENCE_S = 300.0
"""For processes that import torch one after the other on a busy machine."""


def test_a_ring_beside_a_replica_survives_the_death_of_a_member(tmp_path: Path) -> None:
    with Swarm(tmp_path) as swarm:
        [replica] = swarm.start("replica")
        ring = swarm.start("ring-1", "ring-2", "ring-3", config=STAGE)
        swarm.begin(
            [replica, *ring], 0, layers=4, steps=STEPS, batch_size=BATCH, deadline_max="60s"
        )
        replica.wait_for("applied", patience=PATIENCE_S, contributions=4)
        origin, victim = _roles(replica.status().run, ring)
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


def _roles(run: pb.RunStatus, ring: list[Peer]) -> tuple[Peer, Peer]:
    """Return the ring's origin and the first of its other members."""
    shards = {peer.peer_id: list(peer.shards) for peer in run.peers if peer.role == "stage"}
    assert sorted(shards) == sorted(peer.peer_id for peer in ring)
    hosted = [shard for some in shards.values() for shard in some]
    assert sorted(hosted) == ["block.0", "block.1", "block.2", "block.3", "embed", "head"]
    [origin] = [peer for peer in ring if "embed" in shards[peer.peer_id]]
    return origin, next(peer for peer in ring if peer is not origin)


def _is_within_a_step(run: pb.RunStatus) -> bool:
    at = run.round
    return at.phase == "training" and 0 < at.step < at.steps


def _check(chain: list[Commit], replica: PeerId, origin: PeerId, victim: PeerId) -> None:
    """Check that all hosts of a shard agree, and that no text token was counted twice."""
    authors = [{announce.signer for announce in commit.announces} for commit in chain]
    both = [i for i, some in enumerate(authors) if {replica, origin, victim} <= some]
    assert both and len(chain) > max(both) + 1
    for commit in chain[1:]:
        agreed = {entry.shard: entry.address for entry in commit.state}
        for announce in commit.announces:
            message = announce.message
            assert all(agreed[entry.shard] == entry.address for entry in message.state)
            assert message.round_tokens <= STEPS * BATCH * CONTEXT
            reads = announce.signer in (replica, origin)
            assert message.text_tokens == 0 or reads
    counted = sum(a.message.text_tokens for commit in chain for a in commit.announces)
    assert counted == chain[-1].weight
    assert counted <= (len(chain) - 1) * 2 * STEPS * BATCH * CONTEXT
