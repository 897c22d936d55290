"""The planner of healing: the first rung that applies, for every shard."""

import random
from collections import Counter

import pytest
from hypothesis import given
from surveys import GONE, PEERS, copies, ring, survey, surveys

from skerry.protocol.ids import PeerId
from skerry.recovery.healing import (
    MADE_UP,
    OLDEST_SHADOW,
    Rung,
    StageHealing,
    is_block,
    plan_healing,
)
from skerry.recovery.survey import Copy, LostStage, Place, Survey, Taker

A, B, C, *_ = PEERS
MIDDLE = ("block.4", "block.5")


def rungs(healing: StageHealing) -> dict[str, Rung]:
    return {one.shard: one.rung for one in healing.shards}


# -- the rungs, one after the other -------------------------------------------------------------


def test_a_live_host_comes_first_and_all_that_are_as_new_share_the_work():
    hosts = {shard: (Copy(B, 7), Copy(A, 7), Copy(C, 30)) for shard in MIDDLE}
    [healing] = plan_healing(survey(2, hosts=hosts, shadows=copies(MIDDLE, C)))
    assert rungs(healing) == dict.fromkeys(MIDDLE, Rung.COPY)
    assert [copy.peer for copy in healing.shards[0].sources] == [A, B]


def test_the_newest_shadow_comes_next_unless_it_is_too_old():
    held = {shard: (Copy(A, 40), Copy(B, 8)) for shard in MIDDLE}
    [healing] = plan_healing(survey(2, shadows=held))
    assert rungs(healing) == dict.fromkeys(MIDDLE, Rung.SHADOW)
    assert healing.shards[0].sources == (Copy(B, 8),)
    [too_old] = plan_healing(survey(2, shadows=copies(MIDDLE, B, OLDEST_SHADOW + 1)))
    assert rungs(too_old) == dict.fromkeys(MIDDLE, Rung.AVERAGE)


def test_a_stage_in_the_middle_is_averaged_and_one_at_an_end_copied():
    [middle] = plan_healing(survey(2))
    assert {(one.rung, one.made_of) for one in middle.shards} == {(Rung.AVERAGE, (1, 3))}
    [last] = plan_healing(survey(4))
    assert {(one.rung, one.made_of) for one in last.shards} == {(Rung.SWAP, (3,))}


@pytest.mark.parametrize(
    ("partners", "rung"), [({0: 1, 1: 0}, Rung.SWAP), ({3: 4, 4: 3}, Rung.AVERAGE)]
)
def test_the_second_stage_is_copied_only_if_the_first_has_learned_its_role(partners, rung):
    [second] = plan_healing(survey(1, partners=partners))
    assert set(rungs(second).values()) == {rung}


def test_a_stage_is_copied_from_the_one_that_took_its_place_wherever_that_stands():
    """Where the first stage has no blocks, the second is the model's end; others may be skipped."""
    partners = {1: 2, 2: 1, 4: 2}
    found = plan_healing(survey(1, 4, partners=partners))
    assert [healing.shards[0].made_of for healing in found] == [(2,), (2,)]
    [beside] = plan_healing(survey(2, 4, partners={4: 2}))[1:]
    assert (beside.shards[0].rung, beside.shards[0].made_of) == (Rung.SWAP, (3,))


def test_the_origin_comes_back_from_copies_its_neighbours_keep():
    shadows = copies(("embed",), A, 1) | copies(("head",), B, 1)
    [origin] = plan_healing(survey(0, shadows=shadows))
    assert rungs(origin) == {
        "embed": Rung.SHADOW,
        "block.0": Rung.SWAP,
        "block.1": Rung.SWAP,
        "head": Rung.SHADOW,
    }


def test_only_an_interpolated_stage_that_may_be_passed_over_trains_back_in():
    def trains_in(*lost: int, **changes: object) -> list[int]:
        return [one.trains_in for one in plan_healing(survey(*lost, bypass_steps=9, **changes))]

    assert trains_in(1, 2) == [9, 9]
    assert trains_in(1, 2, may_skip=False) == [0, 0]
    assert trains_in(0, 1) == [0, 9], "the first stage never is"
    assert trains_in(2, 4) == [0, 0], "an average and a copy of the stage beside it"
    assert trains_in(0, 1, 2, 3, 4) == [0] * 5


def test_stages_side_by_side_are_interpolated():
    found = plan_healing(survey(1, 2))
    assert {one.made_of for healing in found for one in healing.shards} == {(0, 3)}
    assert {rung for healing in found for rung in rungs(healing).values()} == {Rung.INTERPOLATE}


def test_a_stage_beside_one_with_a_shadow_is_averaged_after_that_one_is_back():
    second, first = ("block.4", "block.5"), ("block.2", "block.3")
    found = plan_healing(survey(1, 2, shadows=copies(second, A)))
    assert [healing.lost.stage for healing in found] == [2, 1]
    assert set(rungs(found[0]).values()) == {Rung.SHADOW}
    assert rungs(found[1]) == dict.fromkeys(first, Rung.AVERAGE)


@pytest.mark.parametrize(
    ("own", "shadow", "rung"),
    [
        (40, 41, Rung.CHECKPOINT),
        (40, 40, Rung.CHECKPOINT),
        (41, 40, Rung.SHADOW),
        (OLDEST_SHADOW + 1, OLDEST_SHADOW + 1, Rung.AVERAGE),
    ],
)
def test_of_the_own_disk_and_what_others_keep_the_newer_is_taken(own, shadow, rung):
    found = survey(2, checkpoints=copies(MIDDLE, A, own), shadows=copies(MIDDLE, B, shadow))
    [healing] = plan_healing(found)
    assert rungs(healing) == dict.fromkeys(MIDDLE, rung)


def test_when_all_is_lost_checkpoints_are_used_and_then_the_seed():
    everything = [shard for stage in ring(3) for shard in stage]
    old = copies(tuple(everything[1:]), A, OLDEST_SHADOW + 1)
    found = plan_healing(survey(0, 1, 2, stages=3, checkpoints=old))
    together = {shard: rung for healing in found for shard, rung in rungs(healing).items()}
    assert together.pop("embed") is Rung.SEED
    assert set(together.values()) == {Rung.CHECKPOINT}
    ancient = copies(("embed",), A, OLDEST_SHADOW + 1)
    [origin, *_] = plan_healing(survey(0, 1, 2, stages=3, shadows=ancient))
    assert rungs(origin)["embed"] is Rung.SHADOW


# -- whatever is left -------------------------------------------------------------------------


@given(surveys)
def test_every_lost_shard_gets_the_first_rung_that_applies(found: Survey):
    plan = plan_healing(found)
    assert sorted(one.lost.stage for one in plan) == [one.stage for one in found.lost]
    back: set[int] = set(range(len(found.stages))) - {one.stage for one in found.lost}
    for healing in plan:
        assert [one.shard for one in healing.shards] == list(found.stages[healing.lost.stage])
        for one in healing.shards:
            _is_the_first_that_applies(one.shard, one.rung, found)
            held = (found.hosts, found.shadows, found.checkpoints)
            known = [copy for some in held for copy in some.get(one.shard, ())]
            assert set(one.sources) <= set(known)
            assert bool(one.sources) != (one.rung in MADE_UP)
            assert set(one.made_of) <= back  # those it is made of are there, or came back before
            assert bool(one.made_of) == (one.rung in MADE_UP - {Rung.SEED})
        if not any(one.made_of for one in healing.shards):
            back.add(healing.lost.stage)


def _is_the_first_that_applies(shard: str, rung: Rung, found: Survey) -> None:
    stale = {Rung.SHADOW: found.shadows, Rung.CHECKPOINT: found.checkpoints}
    ages = {
        kind: min(copy.age for copy in known[shard])
        for kind, known in stale.items()
        if shard in known
    }
    if shard in found.hosts:
        assert rung is Rung.COPY
    elif min(ages.values(), default=OLDEST_SHADOW + 1) <= OLDEST_SHADOW or rung in stale:
        assert ages[rung] == min(ages.values())
    elif rung is Rung.SEED or not is_block(shard):
        assert rung is Rung.SEED and not ages


@given(surveys)
def test_the_plan_does_not_depend_on_the_order_of_what_is_known(found: Survey):
    turned = Survey(
        **{
            **{name: getattr(found, name) for name in Survey.__dataclass_fields__},
            "lost": found.lost[::-1],
            "shadows": {shard: some[::-1] for shard, some in found.shadows.items()},
        }
    )
    assert plan_healing(turned) == plan_healing(found)


# -- a swarm that loses peers in bursts -------------------------------------------------------


def test_a_ring_with_joiners_outlives_bursts_of_losses():
    """As long as peers come, every stage is hosted again, and nothing begins from the seed."""
    used: Counter[Rung] = Counter()
    for seed in range(20):
        dice = random.Random(seed)
        swarm = _Swarm(dice)
        for _ in range(100):
            swarm.lose(dice.choice([1, 1, 1, 2, 2, 6]))
            swarm.heal()
            swarm.join(dice.choice([0, 1, 2, 4]))
        swarm.join(12)
        swarm.heal()
        assert not swarm.lost
        used += swarm.used
    assert min(used[rung] for rung in (Rung.SHADOW, Rung.AVERAGE, Rung.SWAP)) > 20
    assert not used[Rung.SEED]


class _Swarm:
    """One ring of six stages and those who stand by; shadows lie on peers three stages on."""

    def __init__(self, dice: random.Random) -> None:
        self.dice, self.stages, self.born = dice, ring(6), 6
        self.hosts = {stage: PeerId(f"p{stage}") for stage in range(6)}
        self.room = {peer: 100 for peer in self.hosts.values()}
        self.lost: set[int] = set()
        self.used: Counter[Rung] = Counter()
        self.shadows: dict[int, PeerId] = {}
        self._place_shadows()

    def lose(self, count: int) -> None:
        for peer in self.dice.sample(sorted(self.room), min(count, len(self.room) - 2)):
            del self.room[peer]
            self.lost |= {stage for stage, host in self.hosts.items() if host == peer}
            self.shadows = {s: holder for s, holder in self.shadows.items() if holder != peer}

    def join(self, count: int) -> None:
        for _ in range(count):
            self.room[PeerId(f"p{self.born}")] = 200
            self.born += 1

    def heal(self) -> None:
        for healing in plan_healing(self._survey()):
            able = [peer for peer, room in self.room.items() if room >= 100]
            if not able:
                continue
            stage, taker = healing.lost.stage, self.dice.choice(able)
            self.used.update(one.rung for one in healing.shards)
            self.hosts[stage] = taker
            self.room[taker] -= 100
            self.lost.discard(stage)
        self._place_shadows()

    def _place_shadows(self) -> None:
        for stage, host in self.hosts.items():
            holder = self.hosts[(stage + 3) % 6]
            if stage not in self.lost and holder in self.room and holder != host:
                self.shadows[stage] = holder

    def _survey(self) -> Survey:
        kept = {"embed": (Copy(A, 0),), "head": (Copy(A, 0),)}
        copied = {
            shard: (Copy(holder, 5),)
            for stage, holder in self.shadows.items()
            for shard in self.stages[stage]
        }
        taker = Taker(A, Place.SPARE)
        return Survey(
            stages=self.stages,
            lost=tuple(LostStage(stage, GONE, taker) for stage in sorted(self.lost)),
            shadows=copied | kept,
            checkpoints={
                shard: (Copy(A, OLDEST_SHADOW + 1),) for stage in self.stages for shard in stage
            },
        )
