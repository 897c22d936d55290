"""Full replicas and rings in one swarm: what must hold, over a hundred simulated schedules.

The invariants are those of test_machine_simulation.py; besides, all hosts of a shard agree on it
after every commit. ``python tests/protocol/rounds/simulation.py SEED 80 mixed`` tells the story of
a seed that fails.
"""

import random
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import simulated_node
import simulation
from simulated_compute import SHARDS, Compute
from simulated_node import HEARTBEAT_S, Node, sign
from simulated_planner import USUAL_RATE, plan_of
from simulation import REPLICA_BYTES, Monitor, Plan, World, rules_for

from skerry.protocol.errors import ProtocolError
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Heartbeat, Offer, RoleOffer
from skerry.protocol.rings.plan import Shadow
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds import following, planning
from skerry.protocol.rounds.candidates import Candidate
from skerry.protocol.rounds.chain import Chain
from skerry.protocol.rounds.collecting import rejoin
from skerry.protocol.rounds.hosting import Hosts
from skerry.protocol.rounds.slowness import REST
from skerry.protocol.rounds.state import Phase
from skerry.recovery.standing import Standing

SEEDS, CHUNK = 100, 25
PLANNING_S = 5.0
"""Several rounds."""
STAGE = Offer(RoleOffer.STAGE, REPLICA_BYTES)


def swarm(*offers: Offer, rounds: int = 8, seed: int = 1) -> World:
    """Return a swarm without faults, all of it there from the start."""
    plan = Plan(len(offers), rounds, 3, 0.0, 0, False)
    world = World(random.Random(seed), rules_for(plan, len(offers)), trace=False)
    for number, offer in enumerate(offers):
        node = Node(world, PeerId(f"p{number:02}"), 0.3, offer)
        world.nodes[node.name] = node
        world.launch(node)
    world.after(0.0, Monitor(world).watch)
    return world


def until(world: World, condition) -> None:
    assert world.run_until(condition, 500.0)


def until_done(world: World) -> None:
    until(world, lambda: all(node.done for node in world.live))
    world.run_until(lambda: False, world.now + simulation.DRAIN_S)
    simulation.check_end(world)


def until_ring(world: World) -> None:
    """Go on until a ring trains."""
    ringed = lambda n: n.s.phase is Phase.TRAINING and n.s.hosting is not None  # noqa: E731
    until(world, lambda: sum(map(ringed, world.live)) >= 3)


def commits(world: World):
    chain = world.live[0].s.chain
    return [chain[c].message for c in reversed(list(chain.path(world.live[0].s.at)))]


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_mixed_schedule_keeps_the_invariants(first):
    plans = partial = 0
    for seed in range(first, first + CHUNK):
        world, _ = simulation.run(seed, mixed=True)
        found = commits(world)
        plans += sum(commit.plan is not None for commit in found)
        partial += sum(len(a.message.shards) < len(SHARDS) for c in found for a in c.announces)
    assert plans > CHUNK / 4
    assert partial > CHUNK


def test_a_ring_trains_beside_a_replica_and_its_text_tokens_count_once():
    world = swarm(Offer(), STAGE, STAGE, STAGE)
    until_done(world)
    found = commits(world)
    assert [c.round for c in found if c.plan is not None] == [0]
    for before, commit in pairwise(found[1:]):
        assert [len(a.message.shards) for a in commit.announces] == [4, 2, 1, 1]
        assert [bool(a.message.text_tokens) for a in commit.announces] == [True, True, False, False]
        assert commit.weight - before.weight == 2 * 30
        assert commit.cursor - before.cursor == 2 * 3, "a ring reads one slice of the text"
    held = {node.name: {e.shard for e in node.s.held} for node in world.live}
    assert [len(held[name]) for name in sorted(held)] == [4, 2, 1, 1]
    assert not [note for _, note in world.notes if note.warning]


def test_a_member_that_trains_nothing_holds_no_round_up(monkeypatch):
    """Its stage was passed over all round, say: nobody waits for a contribution of it."""

    def seconds() -> float:
        world = swarm(Offer(), STAGE, STAGE, STAGE)
        until(world, lambda: all(node.done for node in world.live))
        return world.now

    all_train, train = seconds(), Compute._train

    def nothing(compute: Compute, request: act.Train) -> ev.Trained:
        trained = train(compute, request)
        if compute.node.name == "p02":
            compute.work = None
        return trained

    monkeypatch.setattr(Compute, "_train", nothing)
    one_trains_nothing = seconds()
    assert one_trains_nothing < all_train + 8 * (HEARTBEAT_S + 0.5)


def test_who_can_host_everything_does_without_a_plan():
    world = swarm(Offer(), Offer(RoleOffer.AUTO, REPLICA_BYTES))
    until_done(world)
    assert not any(commit.plan for commit in commits(world))
    assert all(node.s.hosting is None for node in world.live)


def test_a_peer_that_nobody_can_share_the_model_with_waits_and_hosts_nothing():
    world = swarm(Offer(), STAGE, rounds=4)
    until_done(world)
    lonely = world.nodes[PeerId("p01")]
    assert lonely.s.held == () and lonely.name not in lonely.s.roster


def test_a_ring_that_loses_a_member_is_planned_anew_with_those_who_are_left():
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=12)
    until_ring(world)
    lost = world.nodes[PeerId("p03")]
    lost.crash()
    lost.gone = True
    world.changed_at = world.now
    until_done(world)
    hosts = world.live[0].s.hosts
    assert hosts.ringed == {"p01", "p02"}
    last = commits(world)[-1]
    assert {a.signer for a in last.announces} == {"p00", "p01", "p02"}


def stands(world: World, name: str) -> set[Standing | None]:
    """Return where the others say that a peer stands."""
    others = [node for node in world.live if node.name != name]
    return {node.state.register.standing(PeerId(name)) for node in others}


@pytest.mark.parametrize("seed", range(5))
def test_a_suspect_keeps_its_stages(seed):
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=24, seed=seed)
    until_ring(world)
    paused = world.nodes[PeerId("p03")]
    paused.pause()
    until(world, lambda: stands(world, "p03") == {Standing.SUSPECT})
    world.run_until(lambda: False, world.now + 2 * HEARTBEAT_S)
    assert stands(world, "p03") == {Standing.SUSPECT}
    paused.resume()
    world.changed_at = world.now
    until_done(world)
    assert stands(world, "p03") == {Standing.ALIVE}
    assert [c.round for c in commits(world) if c.plan is not None] == [0], "nothing was moved"


@pytest.mark.parametrize("seed", range(5))
def test_who_was_paused_for_so_long_that_it_was_given_up_is_fenced_until_it_has_healed(seed):
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=60, seed=seed)
    until_ring(world)
    paused = world.nodes[PeerId("p03")]
    paused.pause()
    others = [node for node in world.live if node is not paused]
    until(world, lambda: all(node.s.hosts.ringed == {"p01", "p02"} for node in others))
    assert stands(world, "p03") == {Standing.DEAD}
    paused.resume()
    world.changed_at = world.now
    fenced = []

    def is_back() -> bool:
        fenced.extend(
            node.name
            for node in others
            if paused.name in node.s.alive
            and node.state.register.standing(paused.name) is Standing.DEAD
        )
        return stands(world, "p03") == {Standing.ALIVE}

    until(world, is_back)
    assert set(fenced) == {node.name for node in others}, "heard, but not taken for alive"
    assert all(node.s.chain.round_of(paused.s.at) > 0 for node in others)
    until_done(world)
    assert paused.s.at == others[0].s.at


def test_the_ring_leads_itself_while_the_only_replica_is_away():
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=12)
    until_ring(world)
    replica = world.nodes[PeerId("p00")]
    replica.crash()
    reached = world.nodes[PeerId("p01")].s.round
    until(world, lambda: world.nodes[PeerId("p01")].s.round >= reached + 3)
    world.launch(replica)
    world.changed_at = world.now
    until_done(world)
    led = [commit for commit in commits(world) if commit.announces and not commit.view]
    assert len(led) < len(commits(world)), "the ring's members led where it was its turn"


def lose(world: World, *names: str) -> None:
    """These never come back."""
    for name in names:
        node = world.nodes[PeerId(name)]
        node.crash()
        node.gone = True
    world.changed_at = world.now


def reaches(world: World, name: str, rounds: int) -> None:
    """Go on until a peer is so many rounds further."""
    node = world.nodes[PeerId(name)]
    target = node.s.round + rounds
    until(world, lambda: node.s.round >= target)


def lose_a_block(world: World) -> None:
    """The replica goes, and after some rounds the only host of the last block."""
    until_ring(world)
    lose(world, "p00")
    reaches(world, "p01", 6)
    lose(world, "p03")


@pytest.mark.parametrize("seed", range(10))
def test_what_nobody_has_any_more_is_made_anew_where_the_plan_puts_it(seed):
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16, seed=seed)
    lose_a_block(world)
    until_done(world)
    assert world.renewed == 1
    last = commits(world)[-1]
    assert {entry.shard for entry in last.state} == set(SHARDS)
    assert {a.signer for a in last.announces} == {"p01", "p02"}


@pytest.mark.parametrize("seed", range(10))
def test_a_ring_that_cannot_train_is_repaired_by_a_commit_with_a_plan_alone(seed):
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=20, seed=seed)
    world.strict = True
    lose_a_block(world)
    until_done(world)
    repairs = [c for c in commits(world)[1:] if not c.announces]
    assert [commit.plan is not None for commit in repairs] == [True]
    assert repairs[0].roster == ("p01", "p02")
    assert world.renewed == 1
    assert {entry.shard for entry in commits(world)[-1].state} == set(SHARDS)


@pytest.mark.parametrize("seed", range(10))
def test_a_ring_that_is_here_again_after_a_round_without_it_is_taken_in(seed):
    """Its plan still fits, so there is no other; and alone, who is left trains nothing."""
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=20, seed=seed)
    world.strict = True
    until_ring(world)
    lose(world, "p00")
    reaches(world, "p01", 6)
    origin, *bodies = (world.nodes[PeerId(name)] for name in ("p01", "p02", "p03"))
    until(world, lambda: set(origin.s.announces) == {origin.name})
    for body in bodies:
        body.crash()
    until(world, lambda: len(origin.s.roster) < 3)
    for body in bodies:
        world.launch(body)
    until_done(world)
    assert {a.signer for a in commits(world)[-1].announces} == {"p01", "p02", "p03"}


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_that_takes_longer_than_a_round_is_followed(monkeypatch, seed):
    """Who stands by says at each round's begin that it is there, a moment after the others."""
    asked: list[float] = []
    lost: list[str] = []
    later = Node._later

    def with_spare(action: act.MakePlan, world: World):
        small = [c.peer for c in action.candidates if c.offer == STAGE]
        asked.append(world.now)
        return plan_of([small[:3]], small[3:]) if len(small) >= 3 else None

    def slowly(self: Node, seconds: float, do) -> None:
        is_plan = isinstance(do, partial) and any(isinstance(x, ev.Planned) for x in do.args)
        later(self, PLANNING_S if is_plan and lost else seconds, do)

    monkeypatch.setattr(simulated_node, "plan_for", with_spare)
    monkeypatch.setattr(Node, "_later", slowly)
    world = swarm(Offer(), STAGE, STAGE, STAGE, STAGE, rounds=24, seed=seed)
    until_ring(world)
    reaches(world, "p01", 4)
    asked.clear()
    lost.append("p02")
    lose(world, *lost)
    until_done(world)
    assert {a.signer for a in commits(world)[-1].announces} == {"p00", "p01", "p03", "p04"}
    assert len(asked) <= 2, "once, and perhaps by the leader of the next round, too"


def test_a_member_begins_anew_with_one_that_trains_once_in_a_view_in_which_nobody_has():
    """Or each might be through whenever the other begins."""
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=20)
    until_ring(world)
    reaches(world, "p02", 2)
    until(world, lambda: world.nodes[PeerId("p02")].s.phase is Phase.TRAINING)
    s = world.nodes[PeerId("p02")].s
    beat = Heartbeat(s.rules.chain.run_id, s.at, s.round, 0, Phase.TRAINING, 0, 1, 0.0, 0.0)

    def told_by(peer: str, view: int, phase: Phase = Phase.TRAINING) -> list[act.Action]:
        s.phase, s.training, s.view = Phase.COLLECTING, False, view
        return rejoin(s, PeerId(peer), replace(beat, phase=phase), world.now)

    assert told_by("p01", view=0) == [], "it may have been passed over"
    s.rejoined = -1  # as where it began late: it has not been
    [train] = told_by("p01", view=0)
    assert isinstance(train, act.Train)
    assert told_by("p00", view=1) == [], "that is a replica"
    assert told_by("p01", view=1, phase=Phase.COLLECTING) == []
    [train] = told_by("p01", view=1)
    assert isinstance(train, act.Train) and train.round == s.round
    assert s.phase is Phase.TRAINING
    assert told_by("p01", view=1) == []
    assert told_by("p01", view=2) != []


def test_only_the_leader_may_repair_and_only_by_a_plan():
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=20)
    world.strict = True
    lose_a_block(world)
    until_done(world)
    node = world.live[0]
    path = [node.s.chain[name] for name in reversed(list(node.s.chain.path(node.s.at)))]
    place = next(i for i, c in enumerate(path) if c.message.round and not c.message.announces)
    chain = Chain(world.rules.chain, lambda member: None, {})
    for signed in path[:place]:
        chain.add(signed)
    repair, signer = path[place].message, path[place].signer
    forged = {
        "announces": sign(replace(repair, plan=None), signer),
        "leader": sign(repair, next(p for p in repair.roster if p != signer)),
        "digest": sign(replace(repair, state=path[place - 1].message.state), signer),
    }
    for reason, signed in forged.items():
        with pytest.raises(ProtocolError) as error:
            chain.add(signed)
        assert error.value.reason == reason
    chain.add(path[place])


@pytest.mark.parametrize("seed", range(5))
def test_an_origin_that_is_copied_elsewhere_is_not_waited_for(seed):
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=20, seed=seed)
    world.strict = world.shadows = True
    until_ring(world)
    lose(world, "p00")
    reaches(world, "p02", 6)
    lose(world, "p01")
    until_done(world)
    repairs = [c for c in commits(world)[1:] if not c.announces]
    assert [commit.roster for commit in repairs] == [("p02", "p03")]
    assert world.renewed == 1
    assert {entry.shard for entry in commits(world)[-1].state} == set(SHARDS)


def test_where_who_keeps_a_copy_is_gone_another_plan_is_made():
    """It stood by, so that no ring lacks it: the next loss would find no copy."""
    ring, spare = [PeerId(f"p0{i}") for i in (1, 2, 3)], PeerId("p04")
    plan = plan_of([ring], [spare])
    hosts = Hosts(SHARDS).following(replace(plan, shadows=(Shadow(1, ring[1], spare),)))
    s = swarm(Offer(), STAGE).nodes[PeerId("p01")].s
    here = tuple(Candidate(peer, STAGE) for peer in ring)
    assert planning._fits(s, Hosts(SHARDS).following(plan), here)
    assert not planning._fits(s, hosts, here)
    assert planning._fits(s, hosts, (*here, Candidate(spare, STAGE)))


@pytest.mark.parametrize("copied", [True, False])
def test_in_a_ring_of_two_the_other_goes_on_with_who_joins_if_it_keeps_a_copy(copied):
    world = swarm(Offer(), STAGE, STAGE, rounds=20)
    world.strict, world.shadows = True, copied
    reaches(world, "p02", 3)
    lose(world, "p00")
    reaches(world, "p02", 6)
    left, stopped = world.nodes[PeerId("p02")], world.nodes[PeerId("p02")].s.round
    assert world.live[0].s.hosts.ringed == {"p01", "p02"}
    lose(world, "p01")
    joins = Node(world, PeerId("p03"), 0.3, STAGE)
    world.nodes[joins.name] = joins
    world.launch(joins)
    if not copied:
        assert not world.run_until(lambda: left.s.round > stopped + 1, 200.0)
        return
    until_done(world)
    assert world.renewed >= 1
    assert {a.signer for a in commits(world)[-1].announces} == {"p02", "p03"}
    assert {entry.shard for entry in commits(world)[-1].state} == set(SHARDS)


def test_an_origin_is_waited_for_if_its_copy_is_gone_with_it():
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=20)
    world.strict = world.shadows = True
    until_ring(world)
    lose(world, "p00")
    reaches(world, "p02", 6)
    origin, body, holder = (world.nodes[PeerId(name)] for name in ("p01", "p02", "p03"))
    origin.crash()
    holder.crash()
    stopped = body.s.round
    world.run_until(lambda: body.s.round > stopped + 1, 100.0)
    assert body.s.round <= stopped + 1
    for node in (origin, holder):
        world.launch(node)
    world.changed_at = world.now
    until_done(world)
    assert world.renewed == 0


def test_what_only_an_origin_has_is_waited_for():
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=14)
    world.strict = True
    until_ring(world)
    lose(world, "p00")
    reaches(world, "p02", 6)
    origin, body = world.nodes[PeerId("p01")], world.nodes[PeerId("p02")]
    origin.crash()
    stopped = body.s.round
    world.run_until(lambda: body.s.round > stopped + 1, 100.0)
    assert body.s.round <= stopped + 1
    world.launch(origin)
    world.changed_at = world.now
    until_done(world)
    assert world.renewed == 0


def test_a_diverged_host_of_a_stage_heals_its_shards_alone():
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=10)
    until_ring(world)
    body = world.nodes[PeerId("p02")]
    body.diverges = True
    until_done(world)
    assert [who for who, _ in world.diverged] == [body.name]
    warnings = {peer for peer, note in world.notes if note.warning}
    assert warnings == {body.name}


def test_a_member_that_is_slower_than_planned_is_planned_for_once():
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=40)
    slow = world.nodes[PeerId("p01")]
    slow.rate = 45.0
    until_done(world)
    plans = [(c.round, c.plan) for c in commits(world) if c.plan is not None]
    [(_, first), (later, second)] = plans
    assert later > REST
    assert first.rings[0].origin == slow.name
    told = [(member.peer, member.rate) for member in second.rings[0].members]
    assert told == [("p02", USUAL_RATE), ("p03", USUAL_RATE), (slow.name, slow.rate)]
    assert not [note for _, note in world.notes if note.warning]


def test_what_peers_say_of_their_speed_cannot_keep_a_swarm_planning():
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=60)
    liar, dice = world.nodes[PeerId("p02")], random.Random(1)

    def lie() -> None:
        liar.rate = dice.choice([1e-9, 1.0, 100.0, 1e12])
        world.after(1.0, lie)

    lie()
    until_done(world)
    planned = [c.round for c in commits(world) if c.plan is not None]
    assert len(planned) <= 1 + 60 // (REST + 1)
    assert all(b - a > REST for a, b in pairwise(planned[1:]))


@pytest.mark.parametrize("name", ["agrees", "hosting_at"])
def test_a_machine_that_knows_no_parts_is_found_out(monkeypatch, name):
    wrong = {"agrees": lambda s, commit: True, "hosting_at": lambda s, commit: None}
    monkeypatch.setattr(following, name, wrong[name])
    with pytest.raises((AssertionError, KeyError)):
        for seed in range(100):
            simulation.run(seed, mixed=True)
