"""What tests of rings share: how little its peers hold, who hosts what, and what must add up."""

import time

from swarm import Peer

from skerry.proto import control_pb2 as pb
from skerry.protocol.messages import Commit

SETTINGS = {"layers": 4, "steps": 20, "batch_size": 4}
SHARDS = ["block.0", "block.1", "block.2", "block.3", "embed", "head"]
_STEPS, _BATCH, _CONTEXT = 20, 4, 32
MOST_TOKENS = _STEPS * _BATCH * _CONTEXT
"""Text tokens that a replica trains in a round."""
STAGE = '[compute]\nrole = "stage"\nmemory = "800KB"\n'
"""Room for two of the model's four blocks, or for one beside embedding and head: three peers are
needed, and two cannot go on alone."""
PATIENCE_S = 300.0
"""For processes that import torch one after the other on a busy machine."""


def roles(run: pb.RunStatus, ring: list[Peer]) -> list[Peer]:
    """Return the peers of a ring in the order of their stages, the origin first."""
    shards = {peer.peer_id: sorted(peer.shards) for peer in run.peers if peer.role == "stage"}
    assert sorted(shards) == sorted(peer.peer_id for peer in ring)
    assert sorted(shard for some in shards.values() for shard in some) == SHARDS
    return sorted(
        ring, key=lambda peer: ("embed" not in shards[peer.peer_id], shards[peer.peer_id])
    )


def check_agreement(chain: list[Commit]) -> None:
    """Check that all hosts of a shard agreed, and that no text token was counted twice."""
    for commit in chain[1:]:
        agreed = {entry.shard: entry.address for entry in commit.state}
        for announce in commit.announces:
            message = announce.message
            assert all(agreed[entry.shard] == entry.address for entry in message.state)
            assert message.round_tokens <= MOST_TOKENS
            reads = message.shards[0].shard == "embed"
            assert message.text_tokens == 0 or reads
    counted = sum(a.message.text_tokens for commit in chain for a in commit.announces)
    assert counted == chain[-1].weight
    assert counted <= (len(chain) - 1) * 2 * MOST_TOKENS


def is_past(peer: Peer, number: int) -> None:
    """Wait until a peer begins a later round: it has applied what it is still to host."""
    found = peer.log.wait(
        lambda event: event["event"] == "began" and event["round"] > number,
        peer.since,
        time.monotonic() + PATIENCE_S,
    )
    assert found, peer.story()
