"""Five real daemons, three of which lose the two others for several rounds."""

from pathlib import Path

import pytest
from faulty_swarm import FaultySwarm, change, part
from swarm import Peer, Swarm

from skerry.proto import control_pb2 as pb
from skerry.protocol.messages import Commit

pytestmark = pytest.mark.chaos

NAMES = ("a", "b", "c", "d", "e")
APART = 3
"""Rounds that each side trains by itself."""
LONG_S = 300.0


def test_three_against_two(tmp_path: Path) -> None:
    with Swarm(tmp_path, FaultySwarm(tmp_path)) as swarm:
        peers = swarm.start(*NAMES)
        # Rounds of seconds: it is rounds that are counted here, and some time is lost in noticing.
        swarm.begin(peers, 0, steps=500, deadline_min="10s", deadline_max="60s")
        for peer in peers:
            peer.wait_for("applied", patience=LONG_S, round=2)
        larger, smaller = peers[:3], peers[3:]
        part(larger, smaller)
        forked = [alone(side, side[0]) for side in (larger, smaller)]
        for side, first in zip((larger, smaller), forked, strict=True):
            for peer in side:
                peer.wait_for("applied", patience=LONG_S, round=first + APART)
        change(peers, unreachable=[])
        heads = [side[0].status().run for side in (larger, smaller)]
        winner = max(heads, key=lambda run: run.text_tokens)
        together(peers)
        chains = [peer.chain(swarm.run_id) for peer in peers]
        left = swarm.stop()
    check(chains, winner, [peer.peer_id for peer in peers])
    assert not left, f"left behind: {left}"


def alone(side: list[Peer], one: Peer) -> int:
    """Wait until a side trains by itself; return the round it does so in."""
    members = {peer.peer_id for peer in side}

    def is_apart(run: pb.RunStatus) -> bool:
        return {peer.peer_id for peer in run.peers if peer.in_roster} == members

    return one.wait_until(is_apart, "apart", LONG_S).round.round


def together(peers: list[Peer]) -> None:
    """Wait until one commit holds a contribution of each, and all have applied it."""
    marks = {peer.name: peer.mark() for peer in peers}
    applied = peers[0].wait_for("applied", marks["a"], LONG_S, contributions=len(peers))
    same = {key: applied[key] for key in ("round", "digest")}
    for peer in peers[1:]:
        peer.wait_for("applied", None, LONG_S, **same)


def check(chains: list[list[Commit]], winner: pb.RunStatus, everyone: list[str]) -> None:
    """Check that the heavier chain won, and that all were back in it within two rounds."""
    shortest = min(len(chain) for chain in chains)
    assert len({str(chain[: shortest - 1]) for chain in chains}) == 1
    [chain, *_] = chains
    healed = winner.digest_round
    assert chain[healed].weight == winner.text_tokens
    back = next(c for c in chain[healed:] if set(c.roster) == set(everyone))
    assert back.round <= healed + 2
    for commit, above in zip(chain[1:], chain, strict=False):
        included = sum(one.message.text_tokens for one in commit.announces)
        assert commit.weight == above.weight + included
