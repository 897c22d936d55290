"""Two machines behind routers of their own train together, and nobody opens a port.

One lab with a relay and four homes, so that every pair meets for the first time: both kinds of
NAT, on either side. What was measured is printed (``-s`` shows it).
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from lab_swarm import LONG_S, LabSwarm
from natlab import NatLab
from swarm import Event, Peer, Swarm

from skerry.node.net.multiaddrs import Scope, endpoint_of
from skerry.proto import control_pb2 as pb
from skerry.protocol.ids import short

pytestmark = [pytest.mark.netns, pytest.mark.timeout(5400)]

HOMES = {"cone1": "cone", "cone2": "cone", "sym1": "sym", "sym2": "sym"}
PAIRS = [("cone1", "cone2"), ("cone1", "sym1"), ("sym2", "cone2"), ("sym1", "sym2")]
"""Who starts a run, and who joins it."""
ROUNDS = 3


@dataclass
class World:
    """The daemons by the machine that they run on."""

    lab: NatLab
    swarm: Swarm
    peers: dict[str, Peer]
    links: dict[tuple[str, str], str]
    """How each pair was connected in the end."""

    def at(self, *names: str) -> list[Peer]:
        """Return the daemons of machines, started side by side where none runs yet."""
        missing = [name for name in names if name not in self.peers]
        self.peers |= zip(missing, self.swarm.start(*missing), strict=True)
        return [self.peers[name] for name in names]

    def examined(self, name: str) -> dict[str, str]:
        """Return what ``skerry doctor`` says on a machine of how it is reached."""
        command = [sys.executable, "-P", "-m", "skerry.node.cli.main", "doctor", "--json"]
        told = subprocess.run(
            [*self.lab.inside(name), *command, f"--home={self.peers[name].home.path}"],
            capture_output=True,
            text=True,
        )
        checks = {check["name"]: check for check in json.loads(told.stdout or "[]")}
        assert "reachability" in checks, told.stderr
        return dict(checks["reachability"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, networks: None) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("nats")
    with NatLab(HOMES) as lab:
        local = LabSwarm(folder, lab)
        local.flags["open"] = ["--relay"]
        with Swarm(folder, local) as swarm:
            (relay,) = swarm.start("open")
            local.flags |= {name: [f"--relays={public_address(relay)}"] for name in HOMES}
            world = World(lab, swarm, {"open": relay}, {})
            yield world
            direct = sum(link == "direct" for link in world.links.values())
            print(f"\ndirect: {direct} of {len(world.links)} pairs")
            left = swarm.stop()
    assert not left, f"left behind: {left}"


def public_address(peer: Peer) -> str:
    status = peer.status()
    found = (a for a in status.addresses if (e := endpoint_of(a)) and e.scope is Scope.PUBLIC)
    return f"{next(found)}/p2p/{status.peer_id}"


def linked(one: Peer, other: Peer, link: str | None = None) -> Event:
    """Wait until ``one`` is connected to ``other``."""
    details = {"peer": other.peer_id} | ({"link": link} if link else {})
    return one.wait_for("link", patience=LONG_S, **details)


def known(peer: Peer) -> pb.ReachStatus:
    """Wait until a daemon knows how it is reached, and return that."""
    deadline = time.monotonic() + LONG_S
    while not is_known(reach := peer.status().reach):
        assert time.monotonic() < deadline, f"{reach}\n{peer.story()}"
        time.sleep(0.1)
    return reach


def is_known(reach: pb.ReachStatus) -> bool:
    led_to = reach.verdict == "reachable" or bool(reach.relays)
    return led_to and "unknown" not in (reach.verdict, reach.nat)


def port_of(peer: Peer) -> int:
    found = (endpoint_of(address) for address in peer.status().addresses)
    return next(endpoint.port for endpoint in found if endpoint is not None)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_pair_trains(world: World, first: str, second: str) -> None:
    pair = world.at(first, second)
    world.swarm.begin(pair, ROUNDS)
    world.swarm.finish(pair, ROUNDS, patience=LONG_S)
    entered = pair[1].wait_for("entered")["time"]
    met = pair[1].wait_for("peer-up", peer=pair[0].peer_id)["time"] - entered
    if HOMES[first] == HOMES[second] == "cone":
        direct = [linked(pair[0], pair[1], "direct"), linked(pair[1], pair[0], "direct")]
        after = max(event["time"] for event in direct) - entered
        told = f"direct after {after:.1f} s"
    else:
        told = linked(pair[1], pair[0])["link"]
    world.links[first, second] = told.split()[0]
    print(f"\n{first}-{second}: first connection {met:.1f} s after joining, {told}")
    for peer in pair:
        peer.client.leave()


@pytest.mark.parametrize("name", HOMES)
def test_doctor_tells_who_is_behind_a_nat(world: World, name: str) -> None:
    (relay, peer), kind = world.at("open", name), HOMES[name]
    reach = known(peer)
    nat = {"cone": "endpoint-independent", "sym": "symmetric"}[kind]
    told = (reach.verdict, reach.nat, list(reach.relays))
    assert told == ("not-reachable", nat, [relay.peer_id]), reach
    found = world.examined(name)
    assert found["detail"].startswith("not reachable from the internet: its router ")
    assert f"({nat} NAT)" in found["detail"]
    assert found["detail"].endswith(f"; others reach it through relay {short(relay.peer_id)}")
    if kind == "cone":
        assert (found["verdict"], found["fix"]) == ("pass", "")
    else:
        assert found["verdict"] == "warn"
        assert f"forward TCP port {port_of(peer)} in the router" in found["fix"]


def test_doctor_tells_who_is_reachable_and_relays(world: World) -> None:
    (relay, _) = world.at("open", "cone1")  # somebody must have asked for a place, and looked
    assert known(relay).verdict == "reachable"
    where, found = public_address(relay), world.examined("open")
    reached = f"reachable from the internet at {where.partition('/p2p/')[0]}"
    assert found["detail"] == f"{reached}; relays for others, as {where}"
    assert (found["verdict"], found["fix"]) == ("pass", "")
