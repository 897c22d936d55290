"""Orders of the owner under loss, partition and death: in force everywhere at one round.

Equal digests are checked after every update (simulation.World.applied), and a digest depends on
the alpha it was made with; so whoever acts on an order a round early or late is found out.
"""

import random

import pytest
import simulation
from simulated_node import Node
from simulation import Monitor, Plan, Weather, World, rules_for

from skerry.protocol.ids import PeerId
from skerry.protocol.messages import ReadmitPeer, RemovePeer, SetOuterLr
from skerry.protocol.rounds.state import Phase

OWNER, STANDBY, THIRD, FOURTH = (PeerId(f"p{number:02}") for number in range(4))


def swarm(peers: int = 4, rounds: int = 9, seed: int = 1) -> World:
    plan = Plan(peers, rounds, rounds, 0.0, 0, False)
    world = World(random.Random(seed), rules_for(plan, peers), trace=False)
    for number in range(peers):
        node = Node(world, PeerId(f"p{number:02}"), 0.3)
        world.nodes[node.name] = node
        world.launch(node)
    world.after(0.0, Monitor(world).watch)
    return world


def until(world: World, condition, limit: float = 500.0) -> None:
    assert world.run_until(condition, world.now + limit)


def until_round(world: World, number: int, *names: PeerId) -> None:
    nodes = [world.nodes[name] for name in names] or world.live
    until(world, lambda: all(n.s.round >= number for n in nodes))


def until_done(world: World) -> Node:
    """Go on to the end; return a node that is there."""
    until(world, lambda: all(n.done or n.kept_out for n in world.live))
    world.run_until(lambda: False, world.now + simulation.DRAIN_S)
    simulation.check_end(world)
    return next(n for n in world.live if n.done)


def commits(node: Node) -> list:
    chain = node.s.chain
    return [chain[name].message for name in reversed(list(chain.path(node.s.at)))]


def rounds_of(node: Node, order) -> list[int]:
    """In which commits of the chain an order is."""
    found = [c.round for c in commits(node) if order.hash in {o.hash for o in c.orders}]
    return found


def trained_by(node: Node, peer: PeerId) -> set[int]:
    return {c.round for c in commits(node) if peer in {a.signer for a in c.announces}}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("issuer", [OWNER, STANDBY])
def test_an_order_gets_through_a_storm(seed, issuer):
    world = swarm(seed=seed)
    until_round(world, 3)
    world.weather = Weather(0.4, 0.3, 2.0)
    given = world.nodes[issuer].order(SetOuterLr(0.5))
    world.after(20.0, lambda: setattr(world, "weather", simulation.CALM))
    node = until_done(world)
    [round_] = rounds_of(node, given)
    assert round_ >= 3 and node.s.settings.outer_lr == 0.5


@pytest.mark.parametrize("seed", range(6))
def test_an_order_outlives_who_gave_it(seed):
    world = swarm(seed=seed)
    until_round(world, 3)
    owner, witness = world.nodes[OWNER], world.nodes[FOURTH]
    # Only one other peer hears of it, which need not be the leader.
    world.groups = {OWNER: 1, FOURTH: 1}
    given = owner.order(SetOuterLr(0.5))
    until(world, lambda: bool(witness.s.orders))
    owner.crash()
    owner.gone = True
    world.groups = {}
    world.changed_at = world.now
    node = until_done(world)
    assert len(rounds_of(node, given)) == 1


@pytest.mark.parametrize("seed", range(6))
def test_an_order_outlives_the_leader_that_was_told(seed):
    world = swarm(seed=seed)
    until_round(world, 3)
    given = world.nodes[OWNER].order(RemovePeer(FOURTH, "slow"))
    leader = next(n for n in world.live if n.s.leader == n.name)
    if leader.name == OWNER:
        world.restart_later(leader)
    leader.crash()
    leader.gone = leader.name != OWNER
    world.changed_at = world.now
    node = until_done(world)
    [round_] = rounds_of(node, given)
    assert not trained_by(node, FOURTH) & set(range(round_ + 1, 10))


@pytest.mark.parametrize("seed", range(6))
def test_an_order_of_the_losing_side_is_given_again_on_the_winning_one(seed):
    world = swarm(peers=5, rounds=12, seed=seed)
    until_round(world, 3)
    world.groups = {OWNER: 1, THIRD: 1}  # two against three
    world.changed_at = world.now
    given = world.nodes[OWNER].order(SetOuterLr(0.5))
    side = [world.nodes[OWNER], world.nodes[THIRD]]
    until(world, lambda: all(n.s.settings.outer_lr == 0.5 for n in side))
    reached = max(n.s.round for n in world.live)
    world.groups = {}
    world.changed_at = world.now
    until(world, lambda: any(n.s.settings.outer_lr is None for n in side))
    node = until_done(world)
    [round_] = rounds_of(node, given)
    assert round_ >= reached - 1 and node.s.settings.outer_lr == 0.5


@pytest.mark.parametrize("seed", range(6))
def test_two_sides_that_change_the_same_agree_in_the_end(seed):
    world = swarm(peers=5, rounds=12, seed=seed)
    until_round(world, 3)
    world.groups = {OWNER: 1, THIRD: 1}
    world.changed_at = world.now
    orders = [
        world.nodes[OWNER].order(SetOuterLr(0.5)),
        world.nodes[STANDBY].order(SetOuterLr(0.7)),
    ]
    until(world, lambda: {n.s.settings.outer_lr for n in world.live} == {0.5, 0.7})
    world.groups = {}
    world.changed_at = world.now
    node = until_done(world)
    assert [len(rounds_of(node, order)) for order in orders] == [1, 1]
    last = max(orders, key=lambda order: rounds_of(node, order))
    assert node.s.settings.outer_lr == last.message.change.lr


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("away", ["partition", "crash", "pause"])
def test_a_peer_that_is_removed_while_it_is_away_learns_it_when_it_returns(seed, away):
    world = swarm(seed=seed, rounds=12)
    until_round(world, 3)
    out = world.nodes[FOURTH]
    world.changed_at = world.now
    if away == "partition":
        world.groups = {FOURTH: 1}
    elif away == "crash":
        out.crash()
    else:
        out.pause()
    given = world.nodes[OWNER].order(RemovePeer(FOURTH, "gone for long"))
    until(world, lambda: FOURTH in world.nodes[THIRD].s.settings.removed)
    until_round(world, world.nodes[THIRD].s.round + 2, OWNER, STANDBY, THIRD)
    world.groups = {}
    world.changed_at = world.now
    world.launch(out)
    out.resume()
    node = until_done(world)
    assert out.kept_out and out.s.removal is not None
    assert out.s.removal.reason == "gone for long"
    notes = [note.text for peer, note in world.notes if peer == FOURTH and "removed" in note.text]
    assert len(notes) == 1
    assert not trained_by(node, FOURTH) & set(range(rounds_of(node, given)[0] + 1, 13))


@pytest.mark.parametrize("seed", range(4))
def test_a_peer_that_is_let_in_again_trains_again_and_nothing_is_lost(seed):
    world = swarm(seed=seed, rounds=14)
    until_round(world, 3)
    world.nodes[OWNER].order(RemovePeer(FOURTH, ""))
    out = world.nodes[FOURTH]
    until(world, lambda: out.kept_out)
    world.run_until(lambda: False, world.now + 6.0)
    until_round(world, world.nodes[OWNER].s.round + 1, OWNER)
    assert out.kept_out
    given = world.nodes[STANDBY].order(ReadmitPeer(FOURTH))
    node = until_done(world)
    assert out.done and max(trained_by(node, FOURTH)) > rounds_of(node, given)[0]


def test_a_standby_goes_on_without_the_owner():
    world = swarm()
    until_round(world, 3)
    world.nodes[OWNER].order(SetOuterLr(0.5))
    until(world, lambda: all(n.s.settings.outer_lr == 0.5 for n in world.live))
    world.nodes[OWNER].crash()
    world.nodes[OWNER].gone = True
    world.changed_at = world.now
    standby = world.nodes[STANDBY]
    standby.order(SetOuterLr(0.7))
    standby.order(RemovePeer(FOURTH, ""))
    node = until_done(world)
    assert node.s.settings.outer_lr == 0.7 and set(node.s.settings.removed) == {FOURTH}
    assert world.nodes[FOURTH].s.phase is Phase.REMOVED


def test_a_joiner_has_the_settings_of_the_others():
    world = swarm(peers=3)
    until_round(world, 3)
    world.nodes[OWNER].order(SetOuterLr(0.5))
    until(world, lambda: all(n.s.settings.outer_lr == 0.5 for n in world.live))
    late = Node(world, FOURTH, 0.3)
    world.nodes[FOURTH] = late
    world.launch(late)
    until_done(world)
    assert late.done and late.s.settings.outer_lr == 0.5


def test_a_restart_forgets_no_order():
    world = swarm(peers=2)
    until_round(world, 3)
    owner, standby = world.nodes[OWNER], world.nodes[STANDBY]
    world.groups = {STANDBY: 1}  # nobody else hears of it before it dies
    given = owner.order(SetOuterLr(0.5))
    owner.crash()
    world.run_until(lambda: False, world.now + 1.0)
    assert not standby.s.orders
    world.groups = {}
    world.changed_at = world.now
    world.launch(owner)
    node = until_done(world)
    assert len(rounds_of(node, given)) == 1


def test_a_witness_s_restart_forgets_no_order():
    world = swarm(peers=3)
    until_round(world, 3)
    owner, witness = world.nodes[OWNER], world.nodes[THIRD]
    world.groups = {STANDBY: 1}
    world.changed_at = world.now
    given = owner.order(SetOuterLr(0.5))
    until(world, lambda: bool(witness.disk.orders))
    for node in (owner, witness):
        node.crash()
    owner.gone = True
    world.groups = {}
    world.changed_at = world.now
    world.launch(witness)
    assert len(rounds_of(until_done(world), given)) == 1
