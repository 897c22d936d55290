"""A ring whose only full replica is gone loses its origin for good: it comes back elsewhere.

Real daemons. Another peer takes its place, from the stale copy that was kept of it. The planner
says who hosts what.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rings import PATIENCE_S, SETTINGS, SHARDS, STAGE, check_agreement, is_past
from swarm import Event, Peer, Swarm

pytestmark = pytest.mark.chaos

_MEMBERS = 3
"""Of the ring: only who has a stage contributes."""


def test_an_origin_comes_back_from_a_stale_copy(tmp_path: Path) -> None:
    with Swarm(tmp_path) as swarm:
        [replica] = swarm.start("replica")
        *ring, spare = swarm.start("ring-1", "ring-2", "ring-3", "spare", config=STAGE)
        peers = [*ring, spare]
        swarm.begin([replica, *ring], 0, deadline_max="60s", replay=2, **SETTINGS)
        replica.wait_for("applied", patience=PATIENCE_S, contributions=4)
        spare.client.join(swarm.token)
        _is_in_a_plan(spare)
        replica.wait_until(lambda run: run.digest_round > 4, "too far to replay", PATIENCE_S)
        replica.kill()
        spare.wait_for("peer-down", patience=PATIENCE_S, peer=replica.peer_id)
        _trains(spare, peers)

        lost = _origin(spare, peers)
        _is_copied_elsewhere(lost)
        lost.kill()
        rest = [peer for peer in peers if peer is not lost]
        origin, healed = _takes_over(rest)
        assert healed["rung"] == "shadow"
        assert {"embed", "head"} <= set(healed["shards"])
        _trains(origin, rest)

        left = swarm.stop()
        chain = origin.chain(swarm.run_id)
    check_agreement(chain)
    whole = [commit for commit in chain if len(commit.announces) >= _MEMBERS]
    assert sorted(entry.shard for entry in whole[-1].state) == SHARDS
    assert not left, f"left behind: {left}"


def _origin(told: Peer, peers: Sequence[Peer]) -> Peer:
    """Return who has embedding and head."""
    hosts = [peer.peer_id for peer in told.status().run.peers if "embed" in peer.shards]
    [found] = [peer for peer in peers if peer.peer_id in hosts]
    return found


def _is_in_a_plan(peer: Peer) -> None:
    """Wait until a plan gives a peer a place, if only that of a spare."""
    found = peer.log.wait(
        lambda event: event["event"] == "planned" and peer.peer_id in str(event),
        0,
        time.monotonic() + PATIENCE_S,
    )
    assert found, peer.story()


def _is_copied_elsewhere(peer: Peer) -> None:
    """Wait until somebody keeps a stale copy of an origin's stage."""
    found = peer.log.wait(
        lambda event: event["event"] == "note" and "keeps a copy of embed" in event["text"],
        0,
        time.monotonic() + PATIENCE_S,
    )
    assert found, peer.story()


def _takes_over(peers: Sequence[Peer]) -> tuple[Peer, Event]:
    """Wait until one of these peers has brought back embedding and head."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for peer in peers:
            found = peer.log.wait(_brings_back_embed, 0, time.monotonic() + 0.5)
            if found:
                return peer, found
    raise AssertionError("\n".join(peer.story() for peer in peers))


def _brings_back_embed(event: Event) -> bool:
    return event["event"] == "healed" and "embed" in event["shards"]


def _trains(told: Peer, peers: Sequence[Peer]) -> None:
    """Wait for a commit from now on that includes a whole ring of these peers."""
    names = {peer.peer_id for peer in peers}

    def is_whole(event: Event) -> bool:
        if event["event"] != "committed":
            return False
        included = {one["peer"] for one in event["included"]}
        return included <= names and len(included) == _MEMBERS

    found = told.log.wait(is_whole, told.mark(), time.monotonic() + PATIENCE_S)
    assert found, "\n".join(peer.story() for peer in peers)
    # Whoever dies next must not take payloads of this commit along that nobody else has yet.
    included = {one["peer"] for one in found["included"]}
    for peer in peers:
        if peer.peer_id in included:
            is_past(peer, found["round"])
