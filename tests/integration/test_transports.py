"""p2pd and py-libp2p in one swarm: peers that know no common directory train as one."""

import importlib.util

import pytest
from swarm import Swarm

pytestmark = [
    pytest.mark.integration,
    pytest.mark.chaos,
    pytest.mark.skipif(
        importlib.util.find_spec("libp2p") is None,
        reason="py-libp2p is not installed (extra libp2p)",
    ),
]

ROUNDS = 3
PATIENCE_S = 240.0


def test_peers_of_both_transports_end_with_equal_digests(swarm: Swarm) -> None:
    """The two with py-libp2p are told of each other by the one with p2pd alone."""
    (first,) = swarm.start("p2pd", config='[listen]\ntransport = "p2pd"\n')
    others = swarm.start("py-1", "py-2", config='[listen]\ntransport = "py-libp2p"\n')
    members = [first, *others]
    assert ["p2pd" in peer.children for peer in members] == [True, False, False]
    swarm.begin(members, ROUNDS, deadline_min="120s", deadline_max="120s")
    end = swarm.finish(members, ROUNDS, PATIENCE_S)
    everyone = {peer.peer_id for peer in members}
    for commit in first.chain(swarm.run_id)[1:]:
        assert {announce.signer for announce in commit.announces} == everyone
    assert set(first.chain(swarm.run_id)[-1].roster) == everyone
    assert end.text_tokens == len(members) * ROUNDS * 100 * 2 * 32
