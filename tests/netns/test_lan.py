"""Two machines in a local network without any way out, whose addresses change.

A token holds addresses of the moment; multicast DNS tells where its peers are now.
"""

import time
from pathlib import Path

import pytest
from lab_swarm import LONG_S, LabSwarm
from natlab import NatLab, lan_address
from swarm import Peer, Swarm

from skerry.protocol.token import decode_token

pytestmark = [pytest.mark.netns, pytest.mark.timeout(5400)]


def address(last: int, peer: Peer) -> str:
    port = peer.status().addresses[0].rpartition("/")[2]
    return f"/ip4/{lan_address(last)}/tcp/{port}"


def found(one: Peer, other: Peer, where: str) -> None:
    """Wait until ``one`` has found ``other`` there; an address of before may stand beside it."""
    deadline = time.monotonic() + LONG_S
    event = one.log.wait(
        lambda e: (
            e["event"] == "neighbour" and e["peer"] == other.peer_id and where in e["addresses"]
        ),
        one.since,
        deadline,
    )
    assert event is not None, one.story()


def trained_together(one: Peer, other: Peer) -> None:
    """Wait for another round of both, after which both hold the same."""
    marks = {peer.name: peer.mark() for peer in (one, other)}
    applied = one.wait_for("applied", marks[one.name], LONG_S, contributions=2)
    same = {key: applied[key] for key in ("round", "digest")}
    other.wait_for("applied", None, LONG_S, **same)


def test_peers_that_move_find_each_other(tmp_path: Path, networks: None) -> None:
    with (
        NatLab({}, together=("left", "right")) as lab,
        Swarm(tmp_path, LabSwarm(tmp_path, lab)) as swarm,
    ):
        left, right = swarm.start("left", "right")
        found(left, right, address(2, right))
        found(right, left, address(1, left))

        # Rounds that last seconds: who was away must catch up before they are forgotten.
        swarm.begin([left], rounds=0, peers=2, steps=1500)
        lab.move("left", 1, 7)
        now = address(7, left)
        found(right, left, now)
        assert not any(now in known for known in decode_token(swarm.token).bootstrap)
        right.client.join(swarm.token)
        trained_together(left, right)

        lab.move("right", 2, 8)
        now, before = address(8, right), address(2, right)
        left.wait_until(
            lambda run: any(
                peer.peer_id == right.peer_id
                and now in peer.addresses
                and before not in peer.addresses
                for peer in run.peers
            ),
            "told of a new address",
            LONG_S,
        )
        trained_together(right, left)
        left_behind = swarm.stop()
    assert not left_behind, f"left behind: {left_behind}"
