"""Two sides that trained apart: one chain wins by its text tokens, the others come over at once."""

import random
from collections.abc import Callable

import pytest
import simulation
from simulated_compute import STEPS, TOKENS_PER_BATCH
from simulated_node import Node
from simulation import Plan, World, rules_for

from skerry.protocol.ids import PeerId

REPLAY = 3
CLEAR_LEAD = 2 * STEPS * TOKENS_PER_BATCH * 3
"""Text tokens of two rounds of the larger side."""
LOOK_S = 0.1
LONG_S = 400.0
"""Of virtual time, for anything to happen at all."""


def divided(seed: int, sides: tuple[int, int], step_s: tuple[float, float]) -> World:
    """Return a swarm that has begun to train and is then cut in two."""
    peers = sum(sides)
    plan = Plan(peers, 100_000, REPLAY, 0.0, 0, True)
    world = World(random.Random(seed), rules_for(plan, peers), trace=False)
    for number in range(peers):
        side = int(number >= sides[0])
        node = Node(world, PeerId(f"p{number:02}"), step_s[side] * world.rng.uniform(0.9, 1.0))
        world.nodes[node.name] = node
        world.launch(node)
    until(world, lambda: all(node.s.round >= 2 for node in world.live))
    world.groups = {name: int(i >= sides[0]) for i, name in enumerate(world.nodes)}
    return world


def until(world: World, happened: Callable[[], bool]) -> None:
    limit = world.now + LONG_S
    while not happened():
        assert world.now < limit, "it did not happen"
        world.after(LOOK_S, lambda: None)  # time stands still where nothing happens
        world.run_until(lambda: False, world.now + LOOK_S)


def rejoin(world: World) -> tuple[Node, list[Node]]:
    """Mend the network; return who has the most text tokens, and those who are elsewhere."""
    world.groups.clear()
    first = max(world.live, key=lambda node: node.s.chain.rank(node.s.at))
    return first, elsewhere(first)


def elsewhere(first: Node) -> list[Node]:
    """Return those whose parameters are of another chain than those of ``first``."""
    chain = {*first.s.chain.path(first.s.at), first.s.chain[first.s.at].message.parent}
    return [node for node in first.world.live if node.s.at not in chain]


def weight(node: Node) -> int:
    return node.s.chain.weight_of(node.s.at)


def is_whole(world: World) -> bool:
    """Say whether all are in step, and in the roster of the round."""
    everyone = set(world.nodes)
    return all(set(node.s.roster) == everyone for node in world.live)


@pytest.mark.parametrize("first", range(0, 200, 50))
@simulation.all_decoded
def test_three_against_two_heal_within_two_rounds(first):
    """Rounds last several heartbeats, and one side may be much the slower."""
    assert sum(healed_in_time(seed) for seed in range(first, first + 50)) > 15


def healed_in_time(seed: int) -> bool:
    """Cut a swarm in two, mend it, and check; False if it was open which side has more."""
    dice = random.Random(seed)
    steps = (dice.choice([2.0, 3.0, 5.0]), dice.choice([2.0, 3.0]))
    world = divided(seed, (3, 2), steps)
    world.run_until(lambda: False, world.now + dice.uniform(40.0, 80.0))
    winner, others = rejoin(world)
    reached, head, ahead = winner.s.round, winner.s.at, weight(winner)
    # Else what was under way may have decided.
    is_clear = bool(others) and all(ahead - weight(node) > CLEAR_LEAD for node in others)
    until(world, lambda: not elsewhere(winner))
    assert winner.s.round <= reached + 2 or not is_clear, f"seed {seed}"
    until(world, lambda: is_whole(world))
    assert winner.s.round <= reached + 4 or not is_clear, f"seed {seed}"
    if is_clear:
        assert all(node.s.chain.is_ancestor(head, node.s.at) for node in world.live)
    simulation.check_chain(world, winner)
    return is_clear


@pytest.mark.parametrize("download_s", [0.0, 5.0])
@pytest.mark.parametrize("sides", [(1, 1), (3, 2), (2, 3)])
@pytest.mark.parametrize("seed", range(8))
@simulation.all_decoded
def test_short_rounds_do_not_keep_two_sides_apart(seed, sides, download_s):
    """By the time that a chain or a state is here, the others are rounds ahead."""
    world = divided(seed, sides, (0.1, 0.1))
    world.download_s = download_s
    world.run_until(lambda: False, world.now + 20.0)
    winner, others = rejoin(world)
    assert others and winner.s.round > 4 * REPLAY
    began = world.now
    until(world, lambda: is_whole(world))
    assert world.now - began < 3 * (world.rules.grace + download_s) + 5.0


@pytest.mark.parametrize("answer", [10, 256])
@simulation.all_decoded
def test_a_long_way_back_is_found_in_few_questions(answer, monkeypatch):
    """An answer holds a bounded number of commits: to ask for all of a chain leads nowhere."""
    world = divided(1, (1, 1), (0.1, 0.1))
    whole = Node.chain_from
    questions: list[int] = []

    def bounded(node: Node, first_round: int):
        questions.append(first_round)
        return whole(node, first_round)[:answer]

    monkeypatch.setattr(Node, "chain_from", bounded)
    until(world, lambda: all(node.s.round > 300 for node in world.live))
    world.run_until(lambda: False, world.now + 1.0)
    rejoin(world)
    until(world, lambda: is_whole(world))
    assert len(questions) < 2 * (8 + 320 // answer)
