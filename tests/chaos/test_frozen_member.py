"""A ring's member whose process only stands still: given up, fenced, healed and back.

Real daemons. While it is stopped the others go on without it, and what it still says of an older
round when it goes on counts nowhere; it brings its stage up to date and takes its place again.
"""

from pathlib import Path

import pytest
from rings import PATIENCE_S, SETTINGS, STAGE, check_agreement, roles
from swarm import Swarm

pytestmark = pytest.mark.chaos


def test_a_frozen_member_is_given_up_and_counts_again_once_it_has_healed(tmp_path: Path) -> None:
    with Swarm(tmp_path) as swarm:
        [replica] = swarm.start("replica")
        ring = swarm.start("ring-1", "ring-2", "ring-3", config=STAGE)
        swarm.begin([replica, *ring], 0, deadline_max="60s", **SETTINGS)
        replica.wait_for("applied", patience=PATIENCE_S, contributions=4)
        _, frozen, _ = roles(replica.status().run, ring)
        seen = replica.mark()
        with frozen.frozen():
            suspect = replica.wait_for("peer-suspect", seen, PATIENCE_S, peer=frozen.peer_id)
            assert suspect["evidence"]
            replica.wait_for("peer-dead", seen, PATIENCE_S, peer=frozen.peer_id)
            gone = replica.mark()
            for _ in range(2):
                found = replica.wait_for("applied", gone, PATIENCE_S)
                gone = replica.log.events.index(found) + 1
            without = found["round"]
        replica.wait_for("peer-alive", gone, PATIENCE_S, peer=frozen.peer_id)
        whole = replica.wait_for("applied", gone, PATIENCE_S, contributions=4)
        chain = replica.chain(swarm.run_id)
        left = swarm.stop()
    rounds = [
        commit.round
        for commit in chain
        if frozen.peer_id in {announce.signer for announce in commit.announces}
    ]
    assert without not in rounds
    assert whole["round"] in rounds
    check_agreement(chain)
    assert not left, f"left behind: {left}"
