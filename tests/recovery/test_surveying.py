"""What a peer finds left of its ring, at the moment when it is to bring something back.

The swarm is that of the rounds' simulation: embedding and head are stage 0, each block is another.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import simulated_node
import simulated_planner
from simulated_node import Node
from simulated_planner import plan_of
from simulation import World
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

from skerry.protocol.ids import PeerId, short
from skerry.protocol.messages import Offer
from skerry.protocol.rings.plan import Hop, Path, Plan, Ring
from skerry.protocol.rounds import actions as act
from skerry.recovery.healing import Rung, plan_healing
from skerry.recovery.healing_words import sentences
from skerry.recovery.survey import Copy, LostStage, Place, Taker
from skerry.recovery.surveying import Remains, remains


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[tuple[PeerId, act.Renew, Remains]]:
    """Who brought back what, and what was left then."""
    seen: list[tuple[PeerId, act.Renew, Remains]] = []
    renew: Any = Node._renew

    def look(self: Node, action: act.Renew) -> None:
        seen.append((self.name, action, remains(self.s, action.commit, action.lost)))
        renew(self, action)

    monkeypatch.setattr(Node, "_renew", look)
    return seen


def test_a_block_that_nobody_has_is_made_of_the_one_beside_it(found) -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16)
    lose_a_block(world)
    until_done(world)
    [(taker, action, left)] = [one for one in found if one[1].lost]
    assert (taker, action.lost) == ("p02", ("block.1",))
    [healing] = plan_healing(left.survey)
    assert (healing.lost.stage, healing.lost.peer) == (2, "p03")
    assert healing.lost.taker == Taker(PeerId("p02"), Place.MOVED), "p01 has block.0 now"
    [shard] = healing.shards
    assert (shard.rung, shard.made_of) == (Rung.SWAP, (1,))
    [block] = left.blocks[1]
    named = {
        entry.shard: entry.address for entry in world.live[0].s.chain[action.commit].message.state
    }
    assert block.address == named["block.0"]
    assert left.stale == {}
    assert left.norms == {1: 1.0}, "as the host of block.0 has announced it"


def only_of_three(action: act.MakePlan, world: World) -> Plan | None:
    """One ring of three; who is left over stands by."""
    small = [c.peer for c in action.candidates if c.offer == STAGE]
    return plan_of([small[:3]], small[3:]) if len(small) >= 3 else None


def taken_over(found: list[tuple[PeerId, act.Renew, Remains]]) -> tuple[LostStage, str]:
    """Return who took what over, and its words."""
    [(_, _, left)] = [one for one in found if one[1].lost]
    [healing] = plan_healing(left.survey)
    [sentence] = sentences(healing, left.survey)
    return healing.lost, sentence


def test_who_stood_by_takes_over(monkeypatch, found) -> None:
    monkeypatch.setattr(simulated_node, "plan_for", only_of_three)
    world = swarm(Offer(), STAGE, STAGE, STAGE, STAGE, rounds=20)
    lose_a_block(world)
    until_done(world)
    lost, text = taken_over(found)
    assert lost == LostStage(2, PeerId("p03"), Taker(PeerId("p04"), Place.SPARE))
    assert text.endswith(f"on {short(PeerId('p04'))}, which stood by")


def test_where_nobody_has_room_the_next_one_that_joins_takes_over(monkeypatch, found) -> None:
    monkeypatch.setattr(simulated_node, "plan_for", only_of_three)
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=20)
    lose_a_block(world)
    reaches(world, "p01", 2)
    joins = Node(world, PeerId("p04"), 0.3, STAGE)
    world.nodes[joins.name] = joins
    world.launch(joins)
    until_done(world)
    lost, text = taken_over(found)
    assert lost == LostStage(2, PeerId("p03"), Taker(PeerId("p04"), Place.JOINER))
    assert text.endswith(f"on {short(PeerId('p04'))}, which has joined since")


def test_who_hosts_the_stage_beside_takes_over_and_keeps_its_own(found) -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=20)
    until_ring(world)
    lose(world, "p00")
    reaches(world, "p01", 6)
    lose(world, "p02")
    until_done(world)
    lost, text = taken_over(found)
    assert lost == LostStage(1, PeerId("p02"), Taker(PeerId("p01"), Place.NEIGHBOUR))
    assert text.endswith(f"on its neighbour {short(PeerId('p01'))}")


def test_what_others_have_trained_since_comes_back_from_the_own_disk_if_they_are_gone(
    found,
) -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=40)
    until_ring(world)
    lose(world, "p00")
    reaches(world, "p01", 4)
    first = world.nodes[PeerId("p03")]
    last = first.s.chain.round_of(first.s.at) + 1
    first.crash()
    until(world, lambda: world.nodes[PeerId("p02")].s.hosted == ("block.1",))
    reaches(world, "p01", 4)
    lose(world, "p02")
    world.launch(first)
    until_done(world)
    [(taker, action, left)] = [one for one in found if one[1].lost and one[0] == "p03"]
    [healing] = plan_healing(left.survey)
    assert healing.lost == LostStage(2, PeerId("p02"), Taker(PeerId("p03"), Place.SAME))
    [shard] = healing.shards
    [copy] = shard.sources
    behind = world.live[0].s.chain.round_of(action.commit) - last
    assert behind > 1
    assert shard.rung is Rung.CHECKPOINT
    assert copy == Copy(taker, behind * world.rules.chain.steps, last)
    [sentence] = sentences(healing, left.survey)
    assert sentence == (
        f"block.1 lost with peer {short(PeerId('p02'))}: no live host, own checkpoint of round "
        f"{last}, {behind} rounds old: restoring on {short(PeerId('p03'))}, "
        "which had it before"
    )


@pytest.mark.parametrize("swaps", [True, False])
def test_who_has_learned_the_lost_role_is_read_from_the_plans_that_were_followed(
    monkeypatch, found, swaps
) -> None:
    plain = simulated_planner.ring

    def swapping(peers: list[PeerId], rates: Mapping[PeerId, float]) -> Ring:
        ring = plain(peers, rates)
        if swaps and len(peers) == 3:  # those who are left later take both stages in order
            turned = (Hop(0, (0,)), Hop(2, (2,)), Hop(1, (1,)))
            return replace(ring, paths=(*ring.paths, Path(turned, 1)))
        return ring

    monkeypatch.setattr(simulated_planner, "ring", swapping)
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16)
    lose_a_block(world)
    until_done(world)
    [(_, _, left)] = [one for one in found if one[1].lost]
    assert left.survey.partners == ({1: 2, 2: 1} if swaps else {})
    [healing] = plan_healing(left.survey)
    assert (healing.shards[0].rung, healing.shards[0].made_of) == (Rung.SWAP, (1,))
    [sentence] = sentences(healing, left.survey)
    assert ("block.0 has learned its role" in sentence) == swaps


def test_who_is_left_brings_back_its_own_from_its_own_disk(found) -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16)
    lose_a_block(world)
    until_done(world)
    kept = [(name, action) for name, action, _ in found if not action.lost]
    assert [name for name, _ in kept] == ["p01"]
    [(_, action)] = kept
    assert {entry.shard for entry in action.wanted} == {"embed", "block.0", "head"}
    assert set(action.renewed) == {"embed", "head"}
