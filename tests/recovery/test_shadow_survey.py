"""Stale copies as the chain tells of them, in the swarm of the rounds' simulation."""

from dataclasses import replace
from typing import Any

import pytest
from simulated_node import Node, sign
from test_hosting_simulation import (
    STAGE,
    lose_a_block,
    reaches,
    swarm,
    until_done,
    until_ring,
)

from skerry.protocol.ids import Address, PeerId
from skerry.protocol.messages import Offer, ShadowCopy, ShardPayload
from skerry.protocol.rings.plan import Shadow
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.hosting import Hosts
from skerry.recovery import shadow_survey
from skerry.recovery.healing import Rung, plan_healing
from skerry.recovery.shadow_survey import HeldShadow, aged, believed, keepers, of_use
from skerry.recovery.surveying import Remains, remains

PART = ShardPayload("block.1", Address("aa" * 32), 10)
HOLDER = PeerId("p01")


def held(node: Node, number: int, holder: PeerId = HOLDER) -> HeldShadow:
    copy = ShadowCopy(node.s.rules.chain.run_id, "block.1", number, (PART,))
    return HeldShadow(holder, sign(copy, PeerId("p03")))


def test_steps_that_a_commit_counts_are_left_out_of_a_copy_and_others_make_it_younger() -> None:
    """They would count twice: the contribution they are in is applied to what is healed."""
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16)
    until_ring(world)
    reaches(world, "p00", 6)
    s = world.live[0].s
    goal = s.at
    commit = s.chain.get(goal)
    assert commit is not None
    author, number = commit.message.announces[0].signer, commit.message.round
    steps, run_id = s.rules.chain.steps, s.rules.chain.run_id
    assert steps >= 2

    def copy(signer: PeerId, number: int, step: int) -> HeldShadow:
        parts = (PART, replace(PART, size=3)) if step else (PART,)
        one = ShadowCopy(run_id, "block.1", number, parts, step)
        return HeldShadow(HOLDER, sign(one, signer))

    for one, part_count, age in [
        (copy(author, number, 1), 1, 0),
        (copy(author, number, 0), 1, 0),
        (copy(PeerId("stranger"), number, 1), 2, 0),
        (copy(author, number - 1, 1), 2, steps - 1),
        (copy(author, number - 2, 0), 1, 2 * steps),
    ]:
        assert len(of_use(one, s.chain, goal).parts) == part_count
        assert aged(one, s.chain, goal, steps).age == age


@pytest.fixture
def healers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Node, act.Renew, list[Remains]]]:
    """Who brings something back, and what is left with copies of the rounds 2, 4 and 1000."""
    seen: list[tuple[Node, act.Renew, list[Remains]]] = []
    renew: Any = Node._renew

    def look(self: Node, action: act.Renew) -> None:
        if action.lost:
            old, new = held(self, 2), held(self, 4, PeerId("p00"))
            drawn = [(), (old, new), (held(self, 1000), new)]
            left = [remains(self.s, action.commit, action.lost, some) for some in drawn]
            ages = [aged(one, self.s.chain, action.commit, 10).age for one in (old, new)]
            number = self.s.chain.round_of(action.commit)
            assert ages == [(number - 2) * 10, (number - 4) * 10]
            seen.append((self, action, left))
        renew(self, action)

    monkeypatch.setattr(Node, "_renew", look)
    return seen


def test_the_newest_copy_comes_before_a_stage_made_of_others(healers) -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16)
    lose_a_block(world)
    until_done(world)
    [(node, action, (none, two, newer))] = healers
    [made_up], [restored], [fresh] = (plan_healing(left.survey) for left in (none, two, newer))
    assert [one.rung for one in made_up.shards] == [Rung.SWAP]
    assert [one.rung for one in restored.shards] == [Rung.SHADOW]
    steps = node.s.rules.chain.steps
    [copy] = restored.shards[0].sources
    assert (copy.peer, copy.age) == (
        PeerId("p00"),
        (node.s.chain.round_of(action.commit) - 4) * steps,
    )
    assert fresh.shards[0].sources[0].age == 0, "what was made after the commit is as good as it"
    assert two.held["block.1"][0].copy.message.round == 4


def test_who_was_to_keep_a_copy_follows_from_all_recent_plans(healers, monkeypatch) -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16)
    until_ring(world)
    reaches(world, "p00", 6)
    s = world.live[0].s
    assert not any(keepers(s.chain, s.at, "block.1"))
    plan = s.hosts.plan
    assert plan is not None
    number = next(i for i, stage in enumerate(plan.stages) if "block.1" in stage.shards)
    object.__setattr__(plan, "shadows", (Shadow(number, PeerId("p03"), HOLDER),))
    assert isinstance(s.hosts, Hosts)
    assert {(PeerId("p03"), HOLDER)} in keepers(s.chain, s.at, "block.1")
    assert not any(keepers(s.chain, s.at, "embed"))


def test_copies_of_the_newest_plan_go_before_those_of_older_ones(healers, monkeypatch) -> None:
    """Who hosted the shard long ago could claim any age."""
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16)
    until_ring(world)
    reaches(world, "p00", 6)
    s, newest, old = world.live[0].s, PeerId("p03"), PeerId("p02")
    plans = (frozenset({(newest, HOLDER)}), frozenset({(old, HOLDER)}), frozenset())
    monkeypatch.setattr(shadow_survey, "keepers", lambda chain, goal, shard: plans)
    number = s.chain.round_of(s.at)

    def copy(signer: PeerId, round_number: int) -> HeldShadow:
        message = ShadowCopy(s.rules.chain.run_id, "block.1", round_number, (PART,))
        return HeldShadow(HOLDER, sign(message, signer))

    honest, liar = copy(newest, number - 2), copy(old, number)
    assert believed(s.chain, s.at, [liar, honest]) == (honest,)
    assert believed(s.chain, s.at, [liar]) == (liar,)
    assert believed(s.chain, s.at, [copy(newest, number + 3), liar]) == (liar,)
    assert believed(s.chain, s.at, [copy(HOLDER, number)]) == ()
