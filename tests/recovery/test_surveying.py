"""What a peer finds left of its ring, at the moment when it is to bring something back.

The swarm is that of the rounds' simulation: embedding and head are stage 0, each block is another.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import simulated_planner
from simulated_node import Node
from test_hosting_simulation import (
    STAGE,
    lose_a_block,
    swarm,
    until_done,
)

from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Offer
from skerry.protocol.rings.plan import Hop, Path, Ring
from skerry.protocol.rounds import actions as act
from skerry.recovery.healing import Place, Rung, plan_healing
from skerry.recovery.healing_words import sentences
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
    assert (healing.place, healing.taker) == (Place.SPARE, "p02")  # its own stage goes elsewhere
    [shard] = healing.shards
    assert (shard.rung, shard.made_of) == (Rung.SWAP, (1,))
    [block] = left.blocks[1]
    named = {
        entry.shard: entry.address for entry in world.live[0].s.chain[action.commit].message.state
    }
    assert block.address == named["block.0"]
    assert left.stale == {}
    assert left.norms == {1: 1.0}, "as the host of block.0 has announced it"


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
