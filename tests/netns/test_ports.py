"""A router that maps ports when asked (UPnP or NAT-PMP): nobody opens one, and nobody relays."""

import shutil
import time
from pathlib import Path

import pytest
from lab_swarm import LONG_S, LabSwarm
from natlab import PORT_TOOLS, NatLab
from swarm import Peer, Swarm

from skerry.node.net.multiaddrs import Scope, endpoint_of

pytestmark = [pytest.mark.netns, pytest.mark.timeout(5400)]
ROUNDS = 3


def reached_from_outside(peer: Peer) -> str:
    """Wait until others have reached a daemon behind its router; return its public address."""
    deadline = time.monotonic() + LONG_S
    while (status := peer.status()).reach.verdict != "reachable":
        assert time.monotonic() < deadline, f"{status.reach}\n{peer.story()}"
        time.sleep(0.1)
    public = (a for a in status.addresses if (e := endpoint_of(a)) and e.scope is Scope.PUBLIC)
    return next(public)


def test_a_mapped_port_leads_even_a_symmetric_nat_straight_home(
    tmp_path: Path, networks: None
) -> None:
    missing = [tool for tool in PORT_TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with (
        NatLab({"mapped": "upnp", "hidden": "sym"}) as lab,
        Swarm(tmp_path, LabSwarm(tmp_path, lab)) as swarm,
    ):
        peers = swarm.start("open", "mapped", "hidden")
        swarm.begin(peers, 0, steps=40)
        _, mapped, hidden = peers
        where = reached_from_outside(mapped)
        assert where.startswith("/ip4/51.10.1.1/tcp/"), where
        hidden.wait_for("link", patience=LONG_S, peer=mapped.peer_id, link="direct")
        seen = hidden.mark()
        for _ in range(ROUNDS):
            applied = hidden.wait_for("applied", seen, LONG_S, contributions=3)
            seen = hidden.log.events.index(applied) + 1
        same = {key: applied[key] for key in ("round", "digest")}
        mapped.wait_for("applied", None, LONG_S, **same)
        assert not mapped.status().reach.relays
        left = swarm.stop()
    assert not left, f"left behind: {left}"
