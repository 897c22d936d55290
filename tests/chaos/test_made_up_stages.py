"""A ring of which no copies are kept loses stages for good: they are made of what is left.

Real daemons. A stage between two others goes, then two side by side; those who stand by take them
over. The planner says who hosts what.
"""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from rings import PATIENCE_S, SETTINGS, SHARDS, check_agreement, is_past
from swarm import Event, Peer, Swarm

from recovery_bench.stage_sizes import SIZES, STAGES
from recovery_bench.timeline import Injury, Recovery, recovery_of

pytestmark = pytest.mark.nightly

NO_COPIES = "\n[recovery]\nshadow_every = 0\n"


def test_where_no_copies_are_kept_stages_are_made_of_those_beside_them(tmp_path: Path) -> None:
    """One between two others is lost for good, then two side by side."""
    with Swarm(tmp_path) as swarm:
        [replica] = swarm.start("replica")
        [origin] = swarm.start("origin", config=_room(is_origin=True))
        others = swarm.start(*(f"peer-{n}" for n in range(1, 7)), config=_room(is_origin=False))
        peers = [origin, *others]
        members = [replica, *peers]
        swarm.begin(members, 0, sections=NO_COPIES, deadline_max="60s", replay=2, **SETTINGS)
        origin.wait_until(lambda run: run.digest_round > 4, "too far to replay", PATIENCE_S)
        _is_whole(members)
        replica.kill()
        origin.wait_for("peer-down", patience=PATIENCE_S, peer=replica.peer_id)

        one = _loses(peers, 2)
        assert one.recovery.rung == "average"
        [text] = one.told
        assert "no live host, no shadow: averaging block.1 and block.3 on " in text
        assert text.endswith(", which stood by")

        two = _loses(peers, 1, 2)
        assert two.recovery.rung == "interpolate"
        assert len(two.told) == 2
        for text in two.told:
            assert "nor a stage beside it: interpolating block.0 and block.3 on " in text
            assert "which stood by; it trains back in: half of the microbatches pass" in text
        left = swarm.stop()
        chain = origin.chain(swarm.run_id)
    check_agreement(chain)
    assert sorted(entry.shard for entry in chain[-1].state) == SHARDS
    assert not left, f"left behind: {left}"


def _room(*, is_origin: bool) -> str:
    """Return the settings of a peer with room for one block, or for the ends besides."""
    memory = SIZES["tiny"].memory(is_origin=is_origin)
    return f'[compute]\nrole = "stage"\nmemory = {memory}\n'


@dataclass(frozen=True, slots=True)
class _Lost:
    """What became of stages that were killed."""

    recovery: Recovery
    told: list[str]
    """What those who took them over say of it."""


def _loses(peers: Sequence[Peer], *stages: int) -> _Lost:
    """Kill the hosts of stages for good; return when a commit counts what has trained of them."""
    _is_whole(peers)
    hosted = {shard: one.peer_id for one in peers[0].status().run.peers for shard in one.shards}
    lost = {shard: hosted[shard] for shard in (f"block.{stage}" for stage in stages)}
    injury = Injury(time.time(), lost, comes_back=False)
    victims = [peer for peer in peers if peer.peer_id in lost.values()]
    for peer in victims:  # at once, or the first would be missed before the second is gone
        os.kill(peer.pid_of("daemon"), signal.SIGKILL)
    for peer in victims:
        peer.kill()
    deadline = time.monotonic() + PATIENCE_S
    while (found := recovery_of(injury, _logs(peers))) is None:
        assert time.monotonic() < deadline, "\n".join(peer.story() for peer in peers)
        peers[0].log.wait(_is_commit, peers[0].mark(), time.monotonic() + 1.0)
    told = [
        str(event["text"])
        for log in _logs(peers).values()
        for event in log
        if event["event"] == "healing" and event["time"] > injury.time
    ]
    return _Lost(found, told)


def _logs(peers: Sequence[Peer]) -> dict[str, list[Event]]:
    return {peer.peer_id: list(peer.log.events) for peer in peers}


def _is_commit(event: Event) -> bool:
    return event["event"] == "committed"


def _is_whole(peers: Sequence[Peer]) -> None:
    """Wait until a round in which a whole ring trained is applied by its members.

    Whoever dies next must not take payloads along that nobody else has yet.
    """

    def counts(event: Event) -> bool:
        return _is_commit(event) and len(event["included"]) >= STAGES

    deadline = time.monotonic() + PATIENCE_S
    found = peers[0].log.wait(counts, peers[0].mark(), deadline)
    assert found, "\n".join(peer.story() for peer in peers)
    included = {one["peer"] for one in found["included"]}
    for peer in peers:
        if peer.peer_id in included:
            is_past(peer, found["round"])
