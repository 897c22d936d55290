"""What a node says of what it brings back, and of what it makes that. The swarm is simulated."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "protocol/rounds"))

import simulated_compute
import simulated_node
import simulated_planner
import simulation
from simulated_node import Node
from test_hosting_simulation import (
    STAGE,
    lose,
    lose_a_block,
    reaches,
    swarm,
    until,
    until_done,
    until_ring,
)

from skerry.node.net.fetch import Sources
from skerry.node.run.healing import Healer
from skerry.node.run.shadow_finding import ShadowFinder
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId, short
from skerry.protocol.manifest import parse_run_file
from skerry.protocol.messages import Offer, ShardPayload, ShardState
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds import actions as act

TRANSFER_S = 0.01


class Journal:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.trained_in: tuple[str, ...] = ()
        """What has to train back in, when all is done."""

    def write(self, event: str, **details: Any) -> None:
        self.lines.append((event, details))


class NoPeers:
    """What it asks for never comes."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def fetch_state(
        self, wanted: tuple[ShardState, ...], holders: tuple[PeerId, ...]
    ) -> tuple[tuple[ShardPayload, ...], Sources]:
        self.asked += [entry.shard for entry in wanted]
        await asyncio.sleep(TRANSFER_S)
        if any(entry.shard == "block.0" for entry in wanted):
            raise PeerUnavailable("SK-NET-001", "nobody")
        return tuple(ShardPayload(x.shard, x.address, 4) for x in wanted), Sources()


async def _told_by(state: Any, action: act.Renew) -> tuple[Journal, NoPeers]:
    """Try to bring something back, a second time if that fails, and train then."""
    journal, payloads = Journal(), NoPeers()
    context: Any = SimpleNamespace(
        state=SimpleNamespace(rounds=state),
        journal=journal,
        me=state.me,
        manifest=parse_run_file("", PeerId("owner")),
        store=SimpleNamespace(shadows=SimpleNamespace(copies={})),
        facts=SimpleNamespace(warning=""),
    )
    healer = Healer(context, payloads)  # type: ignore[arg-type]
    for _ in range(2):
        with suppress(PeerUnavailable):
            await healer.renew(action)
            break
    trained_in = healer.discharge()
    assert not healer.discharge()
    journal.trained_in = trained_in
    return journal, payloads


@pytest.fixture
def told(monkeypatch) -> list[tuple[Journal, NoPeers]]:
    """What was told by each peer of a simulated swarm that had to bring something back."""
    found: list[tuple[Journal, NoPeers]] = []
    renew: Any = Node._renew

    def look(self: Node, action: act.Renew) -> None:
        if action.lost:
            found.append(asyncio.run(_told_by(self.s, action)))
        renew(self, action)

    monkeypatch.setattr(Node, "_renew", look)
    return found


def test_what_is_lost_and_that_it_trains_again_is_said_once(told) -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16)
    lose_a_block(world)
    until_done(world)
    [(journal, payloads)] = told
    assert payloads.asked == ["block.0", "block.0"], "of which block.1 is made"
    [(first, lost), (second, healed)] = journal.lines
    assert (first, second) == ("healing", "healed")
    assert lost["text"].startswith(f"block.1 lost with peer {short('p03')}: no live host")
    assert healed["text"].startswith("block.1 trains again on")
    assert (healed["shards"], healed["rung"]) == (["block.1"], "swap")
    assert 0 < healed["transfer"] <= healed["seconds"] and healed["rebuild"] == 0
    assert journal.trained_in == ()


@pytest.fixture
def four_blocks(monkeypatch) -> None:
    """A larger model: five stages in a ring of three, the two in the middle on the second peer."""
    shards = ("embed", *(f"block.{number}" for number in range(4)), "head")
    for module in (simulated_compute, simulation, simulated_planner):
        monkeypatch.setattr(module, "SHARDS", shards)
    stages = (("embed", "head"), *((shard,) for shard in shards[1:-1]))
    monkeypatch.setattr(simulated_planner, "STAGES", stages)
    monkeypatch.setitem(simulated_planner.PARTS, 3, ((0, 1), (2, 3), (4,)))

    def planned(action: act.MakePlan, world: simulation.World) -> Plan | None:
        small = [c.peer for c in action.candidates if c.offer == STAGE]
        return simulated_planner.plan_of([small[:3]], small[3:]) if len(small) >= 3 else None

    monkeypatch.setattr(simulated_node, "plan_for", planned)


@pytest.mark.usefixtures("four_blocks")
def test_what_was_interpolated_has_to_train_back_in(told) -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, STAGE, rounds=20)
    until_ring(world)
    lose(world, "p00")
    reaches(world, "p01", 6)
    lose(world, "p02")
    until_done(world)
    assert {entry.shard for entry in world.live[0].s.held} == {"embed", "block.0", "head"}
    [(journal, payloads)] = told
    assert payloads.asked == ["block.0", "block.3"] * 2, "of which both are made"
    *lost, (event, healed) = journal.lines
    assert [(name, line["text"].split(" lost with ")[0]) for name, line in lost] == [
        ("healing", "block.1"),
        ("healing", "block.2"),
    ]
    for _, line in lost:
        assert "nor a stage beside it: interpolating block.0 and block.3 on " in line["text"]
        assert "half of the microbatches pass over it at first, none after 20" in line["text"]
    assert (event, healed["rung"]) == ("healed", "interpolate")
    assert journal.trained_in == ("block.1", "block.2")


def test_what_comes_back_from_the_own_disk_says_so(told) -> None:
    """Another peer had trained it since, and is gone, too."""
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=40)
    until_ring(world)
    lose(world, "p00")
    reaches(world, "p01", 4)
    first = world.nodes[PeerId("p03")]
    first.crash()
    until(world, lambda: world.nodes[PeerId("p02")].s.hosted == ("block.1",))
    reaches(world, "p01", 4)
    lose(world, "p02")
    world.launch(first)
    until_done(world)
    _, (journal, payloads) = told
    [(_, lost), (event, healed)] = journal.lines
    assert ": no live host, own checkpoint of round " in lost["text"]
    assert lost["text"].endswith(f"restoring on {short(PeerId('p03'))}, which had it before")
    assert (event, healed["rung"], healed["rebuild"]) == ("healed", "checkpoint", 0)
    assert (payloads.asked, journal.trained_in) == (["block.1"], ())


def test_embedding_and_head_are_waited_for_where_nobody_has_a_copy(told, monkeypatch) -> None:
    async def keeps_nothing(self: ShadowFinder, holder: PeerId, shards: object) -> list[object]:
        return []

    monkeypatch.setattr(ShadowFinder, "_ask", keeps_nothing)
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=20)
    world.strict = world.shadows = True
    until_ring(world)
    lose(world, "p00")
    reaches(world, "p02", 6)
    lose(world, "p01")
    until_done(world)
    [(journal, payloads)] = told
    assert payloads.asked == []
    [(event, line)] = journal.lines
    assert (event, line["text"]) == (
        "warning",
        "nobody here has a copy of embed, head: waiting for who does",
    )
