"""A ring whose only full replica is gone loses stages: what nobody has any more is made anew.

Real daemons. First one stage goes for good, and a peer that stands by takes it over, from the stale
copy that was kept of it; then two stages side by side go at once, and their peers come back.
"""

import time
from pathlib import Path

import pytest
from rings import PATIENCE_S, SETTINGS, SHARDS, STAGE, check_agreement, roles
from swarm import Event, Peer, Swarm

pytestmark = pytest.mark.chaos

_BODIES = 2
"""Of a ring of three."""


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
        _has_a_copy_elsewhere(lost)
        replica.kill()
        origin.wait_for("peer-down", patience=PATIENCE_S, peer=replica.peer_id)
        _all_contribute(origin, body, lost)

        lost.kill()
        assert spare.wait_for("healed", patience=PATIENCE_S)["rung"] == "shadow"
        _all_contribute(origin, body, spare)

        body.kill()
        spare.kill()
        lost.restart()
        for peer in (body, spare):
            peer.restart()
        for peer in (lost, body, spare):
            peer.ready()
        _all_contribute(origin, body, spare, lost)  # whoever of them has a stage now
        left = swarm.stop()
        chain = origin.chain(swarm.run_id)
    check_agreement(chain)
    whole = [commit for commit in chain if len(commit.announces) > _BODIES]
    assert sorted(entry.shard for entry in whole[-1].state) == SHARDS
    assert not left, f"left behind: {left}"


def _has_a_copy_elsewhere(peer: Peer) -> None:
    """Wait until somebody keeps a stale copy of what a peer hosts."""

    def is_kept(event: Event) -> bool:
        return event["event"] == "note" and "keeps a copy of" in event["text"]

    found = peer.log.wait(is_kept, 0, time.monotonic() + PATIENCE_S)
    assert found, peer.story()


def _all_contribute(origin: Peer, *others: Peer) -> None:
    """Wait for a commit from now on that includes a whole ring: its origin and two of the others.

    A ring has three members with a stage each, and only who has a stage contributes.
    """
    bodies = {peer.peer_id for peer in others}

    def is_whole(event: Event) -> bool:
        if event["event"] != "committed":
            return False
        included = {one["peer"] for one in event["included"]}
        return origin.peer_id in included and len(bodies & included) == _BODIES

    found = origin.log.wait(is_whole, origin.mark(), time.monotonic() + PATIENCE_S)
    assert found, "\n".join(peer.story() for peer in (origin, *others))
