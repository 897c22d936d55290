"""A ring whose only full replica is gone loses stages: what nobody has any more is made anew.

Real daemons. First one stage goes for good, and a peer that stands by takes it over; then two
stages side by side go at once, and their peers come back.
"""

import time
from pathlib import Path

import pytest
from rings import PATIENCE_S, SETTINGS, SHARDS, STAGE, check_agreement, roles
from swarm import Peer, Swarm

pytestmark = pytest.mark.chaos


def test_a_ring_brings_back_what_nobody_has_any_more(tmp_path: Path) -> None:
    with Swarm(tmp_path) as swarm:
        [replica] = swarm.start("replica")
        *ring, spare = swarm.start("ring-1", "ring-2", "ring-3", "spare", config=STAGE)
        swarm.begin([replica, *ring], 0, deadline_max="60s", replay=2, **SETTINGS)
        replica.wait_for("applied", patience=PATIENCE_S, contributions=4)
        origin, body, lost = roles(replica.status().run, ring)
        spare.client.join(swarm.token)
        spare.wait_for("phase", patience=PATIENCE_S, phase="observing")
        origin.wait_until(lambda run: run.digest_round > 4, "too far to replay", PATIENCE_S)
        replica.kill()
        origin.wait_for("peer-down", patience=PATIENCE_S, peer=replica.peer_id)
        _all_contribute(origin, body, lost)

        lost.kill()
        assert spare.wait_for("healed", patience=PATIENCE_S)["rung"] == "swap"
        _all_contribute(origin, body, spare)

        body.kill()
        spare.kill()
        lost.restart()
        for peer in (body, spare):
            peer.restart()
        for peer in (lost, body, spare):
            peer.ready()
        _all_contribute(origin, body, spare)
        left = swarm.stop()
        chain = origin.chain(swarm.run_id)
    check_agreement(chain)
    assert sorted(entry.shard for entry in chain[-1].state) == SHARDS
    assert not left, f"left behind: {left}"


def _all_contribute(origin: Peer, *others: Peer) -> None:
    """Wait for a commit from now on that includes all of a ring."""
    ring = {origin.peer_id, *(peer.peer_id for peer in others)}
    since = origin.mark()
    found = origin.log.wait(
        lambda event: (
            event["event"] == "committed" and ring <= {one["peer"] for one in event["included"]}
        ),
        since,
        time.monotonic() + PATIENCE_S,
    )
    assert found, "\n".join(peer.story() for peer in (origin, *others))
