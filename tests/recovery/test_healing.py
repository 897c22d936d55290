"""The planner of healing: the first rung that applies, for every shard, and a peer with room."""

import random
from collections import Counter

import pytest
from hypothesis import given
from surveys import GONE, PEERS, copies, ring, survey, surveys

from skerry.protocol.ids import PeerId, short
from skerry.recovery.healing import (
    MADE_UP,
    OLDEST_SHADOW,
    Place,
    Rung,
    StageHealing,
    is_block,
    plan_healing,
)
from skerry.recovery.healing_words import sentences
from skerry.recovery.survey import Candidate, Copy, LostStage, Survey

A, B, C, *_ = PEERS
MIDDLE = ("block.4", "block.5")


def rungs(healing: StageHealing) -> dict[str, Rung]:
    return {one.shard: one.rung for one in healing.shards}


def candidate(peer: PeerId, *stages: int, room: int = 100, load: float = 1.0, domain: str = ""):
    return Candidate(peer, stages, room, load, domain)


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
    assert not origin.bypassed


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


def test_when_all_is_lost_checkpoints_are_used_and_then_the_seed():
    everything = [shard for stage in ring(3) for shard in stage]
    old = copies(tuple(everything[1:]), A, 500)
    found = plan_healing(survey(0, 1, 2, stages=3, checkpoints=old))
    together = {shard: rung for healing in found for shard, rung in rungs(healing).items()}
    assert together.pop("embed") is Rung.SEED
    assert set(together.values()) == {Rung.CHECKPOINT}
    ancient = copies(("embed",), A, OLDEST_SHADOW + 1)
    [origin, *_] = plan_healing(survey(0, 1, 2, stages=3, shadows=ancient))
    assert rungs(origin)["embed"] is Rung.SHADOW


# -- who takes over -----------------------------------------------------------------------------


def test_a_spare_takes_over_one_that_holds_the_shadow_first():
    others = (candidate(A), candidate(B), candidate(C, 1))
    [healing] = plan_healing(survey(2, candidates=others, shadows=copies(MIDDLE, B)))
    assert (healing.place, healing.taker) == (Place.SPARE, B)


def test_a_spare_of_another_failure_domain_is_better():
    others = (candidate(A, domain="here"), candidate(B, domain="there"))
    beside = (candidate(C, 1, domain="here"),)
    [healing] = plan_healing(survey(2, candidates=others + beside))
    assert healing.taker == B


def test_without_a_spare_the_least_busy_neighbour_with_room_takes_over():
    others = (
        candidate(A, 1, load=3.0),
        candidate(B, 3, load=2.0),
        candidate(C, 3, load=1.0, room=99),
        candidate(PEERS[3], 0, load=0.1),
    )
    [healing] = plan_healing(survey(2, candidates=others))
    assert (healing.place, healing.taker) == (Place.NEIGHBOUR, B)


def test_where_no_neighbour_has_room_another_member_takes_over():
    lost = survey(3, candidates=(candidate(A, 0), candidate(B, 2, room=99)))
    [healing] = plan_healing(lost)
    assert (healing.place, healing.taker) == (Place.MEMBER, A)
    [sentence] = sentences(healing, lost)
    assert sentence.endswith(f" on {short(A)}")


def test_whoever_took_one_stage_has_less_room_for_the_next():
    found = plan_healing(survey(1, 3, candidates=(candidate(A, 2, room=150),)))
    assert [(one.place, one.taker) for one in found] == [(Place.NEIGHBOUR, A), (Place.JOINER, None)]


def test_a_stage_waits_for_a_joiner_and_is_passed_over_unless_it_is_the_first():
    waiting = plan_healing(survey(0, 2))
    assert {one.lost.stage: one.bypassed for one in waiting} == {0: False, 2: True}
    assert {one.taker for one in waiting} == {None}
    assert not any(one.bypassed for one in plan_healing(survey(2, may_skip=False)))


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
    young = min((copy.age for copy in found.shadows.get(shard, ())), default=OLDEST_SHADOW + 1)
    if shard in found.hosts:
        assert rung is Rung.COPY
    elif young <= OLDEST_SHADOW:
        assert rung is Rung.SHADOW
    elif rung is Rung.SEED:
        assert shard not in found.checkpoints
        assert shard not in found.shadows
    elif not is_block(shard):
        assert rung in (Rung.CHECKPOINT, Rung.SHADOW)


@given(surveys)
def test_takers_have_room_for_all_they_take(found: Survey):
    needed: Counter[PeerId] = Counter()
    for healing in plan_healing(found):
        assert (healing.taker is None) == (healing.place is Place.JOINER)
        if healing.taker is not None:
            needed[healing.taker] += healing.lost.needed_bytes
    room = {one.peer: one.free_bytes for one in found.candidates}
    assert all(total <= room[peer] for peer, total in needed.items())


@given(surveys)
def test_the_plan_does_not_depend_on_the_order_of_what_is_known(found: Survey):
    turned = Survey(
        **{
            **{name: getattr(found, name) for name in Survey.__dataclass_fields__},
            "lost": found.lost[::-1],
            "candidates": found.candidates[::-1],
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
            if healing.taker is None:
                continue
            assert healing.taker in self.room
            stage = healing.lost.stage
            self.used.update(one.rung for one in healing.shards)
            self.hosts[stage] = healing.taker
            self.room[healing.taker] -= 100
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
        return Survey(
            stages=self.stages,
            lost=tuple(LostStage(stage, GONE, 100) for stage in sorted(self.lost)),
            candidates=tuple(
                candidate(
                    peer,
                    *(s for s, host in self.hosts.items() if host == peer),
                    room=room,
                    load=self.dice.random(),
                )
                for peer, room in self.room.items()
            ),
            shadows=copied | kept,
            checkpoints={shard: (Copy(A, 900),) for stage in self.stages for shard in stage},
        )
