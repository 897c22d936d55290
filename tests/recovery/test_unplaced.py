"""What is said of lost stages and of peers to which no plan gives a place, in a simulated swarm."""

import pytest
import simulated_node
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
from skerry.protocol.rings.plan import Plan
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.candidates import Candidate
from skerry.protocol.rounds.state import Phase
from skerry.protocol.rounds.waiting import waiting_for
from skerry.recovery.unplaced import texts_without_plan, why_no_place

REPLICA_BYTES = STAGE.memory
SMALL = Offer(STAGE.role, 1)


@pytest.fixture(autouse=True)
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[act.MakePlan]:
    """Of those with room three make a ring; without them there is no plan."""
    asked: list[act.MakePlan] = []

    def planned(action: act.MakePlan, world: World) -> Plan | None:
        asked.append(action)
        able = [c.peer for c in action.candidates if c.offer == STAGE]
        small = [c.peer for c in action.candidates if c.offer == SMALL]
        return plan_of([able[:3]], [*able[3:], *small]) if len(able) >= 3 else None

    monkeypatch.setattr(simulated_node, "plan_for", planned)
    return asked


def joins(world: World, name: str, offer: Offer) -> Node:
    node = Node(world, PeerId(name), 0.3, offer)
    world.nodes[node.name] = node
    world.launch(node)
    return node


def observes(world: World, node: Node) -> None:
    until(world, lambda: node.s.phase is Phase.OBSERVING and node.s.roster)


@pytest.mark.parametrize(
    ("bypass", "until_then"), [(1, "microbatches pass over it"), (0, "its ring waits")]
)
def test_a_lost_stage_waits_for_a_joiner_and_a_peer_without_room_says_for_what(
    bypass, until_then
) -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=30)
    lose_a_block(world)
    small = joins(world, "p04", SMALL)
    observes(world, small)
    reaches(world, "p01", 3)
    asked = world.nodes[PeerId("p01")].s.plan_asked
    assert {one.peer for one in asked} == {"p01", "p02", "p04"}
    hosts = world.nodes[PeerId("p01")].s.hosts
    assert texts_without_plan(hosts, asked, REPLICA_BYTES, bypass) == (
        f"block.1 lost with peer {short(PeerId('p03'))}: nobody here has room: "
        f"waits for a joiner; until then {until_then}",
    )
    assert why_no_place(small.s) == (
        "a plan that gives this peer something to host: "
        f"block.1 lost with peer {short(PeerId('p03'))} still waits for room"
    )
    joins(world, "p05", STAGE)
    until_done(world)
    assert small.s.hosts.ringed == {"p01", "p02", "p05"}
    assert hosts.unhosted({"p01", "p02", "p05"}) == {"p03": (2,)}
    assert small.s.hosts.unhosted(small.s.hosts.ringed) == {}


def test_what_was_said_holds_until_a_plan_fits_again(asked_for) -> None:
    """A member goes and comes back, and goes once more; another one asks to join each time."""
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=60)
    until_ring(world)
    member = world.nodes[PeerId("p03")]
    told = []
    for joiner in ("p04", "p05"):
        asked_for.clear()
        member.crash()
        until(world, lambda: [action for action in asked_for if member.name not in _named(action)])
        small = joins(world, joiner, SMALL)
        until(world, lambda name=small.name: any(name in _named(a) for a in asked_for))
        small.say_goodbye()
        told.append([action.first for action in asked_for])
        world.launch(member)
        reaches(world, "p00", 4)
    for some in told:
        assert some[0] and not all(some)
    until_done(world)


def _named(action: act.MakePlan) -> set[PeerId]:
    return {one.peer for one in action.candidates}


def test_a_first_stage_that_is_lost_has_its_ring_wait() -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16)
    until_ring(world)
    s = world.nodes[PeerId("p00")].s
    rest = [Candidate(PeerId(peer), STAGE) for peer in ("p02", "p03")]
    [text] = texts_without_plan(s.hosts, rest, REPLICA_BYTES, 9)
    assert text.startswith(f"embed, head lost with peer {short(PeerId('p01'))}: ")
    assert text.endswith("until then its ring waits")


def test_who_makes_no_ring_with_those_who_are_here_says_so() -> None:
    world = swarm(Offer(), STAGE, rounds=6)
    lonely = world.nodes[PeerId("p01")]
    observes(world, lonely)
    text = "a plan that gives this peer something to host: those here make no ring with it yet"
    assert why_no_place(lonely.s) == text
    asked = (Candidate(PeerId("p00"), Offer()), Candidate(lonely.name, STAGE))
    small = STAGE.memory + 1
    assert texts_without_plan(lonely.s.hosts, asked, small, 1) == (
        f"{short(lonely.name)} waits for a joiner to share the model with: "
        "those who offer to host a part have no room for all of it",
    )
    assert texts_without_plan(lonely.s.hosts, asked[:1], small, 1) == ()
    assert why_no_place(world.nodes[PeerId("p00")].s) == ""


def test_who_stands_by_waits_for_a_stage_to_take_over() -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, STAGE, rounds=12)
    until_ring(world)
    spare = world.nodes[PeerId("p04")]
    observes(world, spare)
    until(world, lambda: spare.s.hosts.names(spare.name))
    assert why_no_place(spare.s) == ""
    assert waiting_for(spare.s) == ("a stage to take over: this peer stands by",)
    lose(world, "p03")
    until(world, lambda: spare.s.hosted)
    assert why_no_place(spare.s) == ""
