"""What must hold whatever happens: over a thousand simulated schedules of the real machine.

A failing seed tells its story with ``python tests/protocol/rounds/simulation.py SEED``.
"""

import random

import pytest
import simulation
from simulated_node import Node
from simulation import Monitor, Plan, Violation, World, rules_for

from skerry.protocol.ids import PeerId
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import following, machine
from skerry.protocol.rounds.state import Phase, new_state

CHUNK = 50
SEEDS = 500
STORY_LINES = 40


def hold(seed: int) -> World:
    try:
        return simulation.run(seed)[0]
    except Exception as error:
        story = tell(seed)
        pytest.fail(f"seed {seed}: {error}\n" + "\n".join(story[-STORY_LINES:]), pytrace=False)


def tell(seed: int) -> list[str]:
    world, monitor, plan = simulation.build(seed, trace=True)
    try:
        simulation.finish(world, monitor, plan)
    except Exception as error:
        world.story.append(repr(error))
    return world.story


def swarm(peers: int, rounds: int = 6, seed: int = 1, replay: int = 3) -> tuple[World, Monitor]:
    """Return a swarm without faults, all of it there from the start."""
    plan = Plan(peers, rounds, replay, 0.0, 0, False)
    world = World(random.Random(seed), rules_for(plan, peers), trace=False)
    for number in range(peers):
        node = Node(world, PeerId(f"p{number:02}"), 0.3)
        world.nodes[node.name] = node
        world.launch(node)
    monitor = Monitor(world)
    world.after(0.0, monitor.watch)
    return world, monitor


def until_round(world: World, number: int) -> None:
    reached = lambda: all(n.s.round >= number for n in world.live)  # noqa: E731
    assert world.run_until(reached, 500.0)


def test_an_owner_alone_starts_the_run_if_it_may():
    world, _ = swarm(1)
    until_done(world)
    assert world.live[0].s.chain.weight_of(world.live[0].s.at) == 6 * 30


def until_done(world: World) -> None:
    assert world.run_until(lambda: all(n.done for n in world.live), 500.0)
    world.run_until(lambda: False, world.now + simulation.DRAIN_S)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_schedule_keeps_the_invariants(first):
    for seed in range(first, first + CHUNK):
        hold(seed)


def test_the_schedules_are_rough_enough_to_say_something():
    seen: set[str] = set()
    peers: set[int] = set()
    for seed in range(150):
        world = hold(seed)
        peers.add(len(world.nodes))
        seen |= {note.text.split()[0] for _, note in world.notes}
        chain = world.live[0].s.chain
        path = list(chain.path(world.live[0].s.at))
        seen |= {"view"} if any(chain[c].message.view for c in path) else set()
        commits = {commit for commit, _ in world.shards}
        seen |= {"fork"} if len(commits) + 1 > len(path) else set()
        seen |= {"joined"} if any(chain[c].message.admissions for c in path[:-1]) else set()
    assert {2, 3, 12} <= peers
    # A healed state, a download, a dropped commit, a roster passed over, a compute process lost.
    assert {"state", "downloading", "nobody", "the", "view", "fork", "joined"} <= seen


@pytest.mark.parametrize("seed", [3, 11, 130])
def test_a_seed_tells_the_same_story_twice(seed):
    assert tell(seed) == tell(seed)


@pytest.mark.parametrize("name", ["settle", "retain", "_heal", "leave_round", "unban"])
def test_a_machine_with_a_part_missing_is_found_out(monkeypatch, name):
    def nothing(s, *rest):
        return []

    def remove_everything(s):
        return [act.Retain(frozenset())]

    monkeypatch.setattr(following, name, remove_everything if name == "retain" else nothing)
    if name == "unban":
        monkeypatch.setattr(machine, "unban", nothing)
        monkeypatch.setattr(following, "_has_applied", lambda *rest: False)
    with pytest.raises((AssertionError, KeyError)):
        for seed in range(300):
            simulation.run(seed)


def test_a_recorded_node_replays_exactly(monkeypatch):
    records: dict[PeerId, list] = {}
    real = machine.apply

    def recording(s, event, now):
        actions = real(s, event, now)
        records.setdefault(s.me, []).append((event, now, list(actions)))
        return actions

    monkeypatch.setattr(machine, "apply", recording)
    world, _ = swarm(3)
    until_done(world)
    for name, record in records.items():
        again = new_state(name, world.rules, lambda member: None, 0.0)
        assert all(real(again, event, now) == actions for event, now, actions in record)
        assert again.at == world.nodes[name].s.at


def test_without_faults_all_contribute_to_every_round():
    world, _ = swarm(4)
    until_done(world)
    chain = world.live[0].s.chain
    commits = [chain[c].message for c in chain.path(world.live[0].s.at)]
    assert [len(c.announces) for c in commits] == [4] * 6 + [0]
    assert not any(c.view for c in commits)
    assert not world.notes


def test_a_diverged_peer_heals_within_one_round_and_says_so():
    world, _ = swarm(3)
    until_round(world, 2)
    world.nodes[PeerId("p02")].diverges = True
    until_done(world)
    [(who, commit)] = world.diverged
    wrong_round = world.live[0].s.chain.round_of(commit)
    warnings = [(peer, note.text) for peer, note in world.notes if note.warning]
    assert [peer for peer, _ in warnings] == [who]
    assert f"before round {wrong_round + 1}: healing" in warnings[0][1]
    assert len({node.s.loaded for node in world.live}) == 1


@pytest.mark.parametrize("phase", ["training", "encoding", "collecting", "fetching", "applying"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_round_goes_on_when_its_leader_dies_in_any_phase(phase, seed):
    world, monitor = swarm(3, seed=seed)
    until_round(world, 2)

    def leading() -> list[Node]:
        return [n for n in world.live if n.s.phase == phase and n.s.leader == n.name]

    assert world.run_until(lambda: bool(leading()), 500.0)
    [leader] = leading()
    leader.crash()
    leader.gone = True
    world.changed_at = world.now
    until_done(world)
    assert len(world.live) == 2
    simulation.check_end(world)
    assert monitor.longest < monitor.bound


@pytest.mark.parametrize("seed", range(5))
def test_the_last_of_a_dead_roster_s_observers_goes_on(seed):
    world, _ = swarm(1, seed=seed)
    world.nodes[PeerId("p00")].step_s = 3.0
    assert world.run_until(lambda: world.live[0].s.phase is Phase.TRAINING, 100.0)
    for number in (1, 2):
        node = Node(world, PeerId(f"p{number:02}"), 0.3)
        world.nodes[node.name] = node
        world.launch(node)
    late = [world.nodes[PeerId(name)] for name in ("p01", "p02")]
    # The owner dies when the others are in step with it, but not yet taken in.
    assert world.run_until(lambda: all(n.s.phase is Phase.OBSERVING for n in late), 100.0)
    assert all(n.s.roster == (PeerId("p00"),) for n in late)
    world.nodes[PeerId("p00")].crash()
    until_done(world)
    assert len({n.s.loaded for n in late}) == 1
    simulation.check_end(world)


def test_a_stalled_swarm_is_a_violation():
    world, _ = swarm(2)
    until_round(world, 2)
    for node in world.live:
        node.handle = lambda event: None
    with pytest.raises(Violation, match="no progress"):
        world.run_until(lambda: False, 500.0)


def test_nobody_waits_for_a_paused_peer_which_follows_and_comes_back():
    world, _ = swarm(3, rounds=9)
    until_round(world, 3)
    pausing = world.nodes[PeerId("p01")]
    pausing.rest(True)
    first = pausing.s.round
    until_round(world, first + 1)
    began = world.now
    until_round(world, first + 4)
    assert (world.now - began) / 3 < world.rules.deadline_min
    assert pausing.s.phase is Phase.PAUSED
    pausing.rest(False)
    until_done(world)
    assert_trained_but_for(pausing, range(first + 1, first + 4))
    assert not [note for _, note in world.notes if note.warning]
    simulation.check_end(world)


def assert_trained_but_for(node: Node, rounds: range) -> None:
    chain = node.s.chain
    commits = [chain[c].message for c in chain.path(node.s.at) if chain.round_of(c)]
    without = {c.round for c in commits if node.name not in {a.signer for a in c.announces}}
    assert set(rounds) <= without < {c.round for c in commits}
    assert max(without) < len(commits)
    assert not {work for work in node.disk.durable if chain.round_of(work[1]) + 1 in rounds}


def test_a_run_of_one_stands_still_while_it_is_paused_also_over_a_restart():
    world, _ = swarm(1)
    [node] = world.live
    until_round(world, 3)
    node.rest(True)
    world.run_until(lambda: False, world.now + 5.0)
    reached = node.s.at
    node.crash()
    world.launch(node)
    world.run_until(lambda: False, world.now + 60.0)
    assert (node.s.phase, node.s.at) == (Phase.PAUSED, reached)
    node.rest(False)
    until_done(world)


def test_a_swarm_that_was_paused_altogether_goes_on():
    world, _ = swarm(3)
    until_round(world, 3)
    for node in world.live:
        node.rest(True)
    world.run_until(lambda: False, world.now + 60.0)
    assert {node.s.phase for node in world.live} == {Phase.PAUSED}
    for node in world.live:
        node.rest(False)
    world.changed_at = world.now
    until_done(world)
    simulation.check_end(world)
