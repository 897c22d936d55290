"""Who is slower than planned: persistently, and never so often that plans follow each other."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.rings.plan import Hop, Member, Path, Plan, Ring, Stage
from skerry.protocol.rounds.hosting import plan_version
from skerry.protocol.rounds.slowness import (
    FINE,
    REST,
    ROUNDS,
    SLOW,
    SPREAD,
    Rates,
    Slowness,
    counted_on,
    planned_rates,
    shortfalls,
)

A, B, C, D, E = (PeerId(name) for name in "abcde")
PLANNED = {A: 100.0, B: 100.0, C: 50.0}


def rated(rates: Rates, version: int = 0) -> Plan:
    """A plan of one ring, a stage for each member, that counts on these speeds."""
    stages = tuple(Stage((f"block.{i}",)) for i in range(len(rates)))
    members = tuple(Member(peer, (i,), 2, rate) for i, (peer, rate) in enumerate(rates.items()))
    hops = tuple(Hop(i, (i,)) for i in range(len(rates)))
    return Plan(version, 32, stages, (Ring(members, (Path(hops, 1),), 1),))


class Run:
    """Rounds in which members tell speeds, and plans that follow from them at once."""

    def __init__(self, rates: Rates) -> None:
        self.plan, self.round, self.slowness = rated(rates), 0, Slowness()
        self.replanned: list[int] = []
        """Rounds after which another plan was in force."""

    def next_round(self, told: Rates) -> None:
        for peer, rate in told.items():
            self.slowness.hear(peer, rate)
        self.round += 1
        self.slowness.count_round(CommitHash(str(self.round)), self.plan, self.round)
        if self.slowness.due:
            rates = counted_on(self.plan, self.slowness.told, slow=True)
            self.plan = rated(rates, plan_version(self.round, 0))
            self.replanned.append(self.round)


def run(told: Rates, rounds: int, planned: Rates = PLANNED) -> Run:
    found = Run(planned)
    for _ in range(rounds):
        found.next_round(told)
    return found


def test_a_peer_that_stays_slow_is_planned_for_once():
    found = run({A: 100.0, B: 40.0, C: 50.0}, 100)
    assert found.replanned == [REST + 1]
    assert planned_rates(found.plan) == {A: 100.0, B: 40.0, C: 50.0}


def test_where_nobody_was_measured_all_count_as_planned_alike():
    usual = dict.fromkeys(PLANNED, 1e7)
    assert run({A: 200.0, B: 210.0, C: 190.0}, 50, usual).replanned == []
    found = run({A: 200.0, B: 210.0, C: 100.0}, 50, usual)
    assert found.replanned == [REST + 1]
    assert planned_rates(found.plan) == {A: 200.0, B: 210.0, C: 100.0}


def test_who_says_nothing_is_as_much_slower_than_planned_as_the_middle_one():
    plan = rated(dict.fromkeys((A, B, C), 1e7))
    rates = counted_on(plan, {A: 200.0, B: 100.0}, slow=True)
    assert rates == {A: 200.0, B: 100.0, C: 200.0}
    assert counted_on(plan, {A: 200.0, D: 1.0}, slow=False) == {A: 200.0}
    assert counted_on(None, {A: 200.0}, slow=True) == {}


def test_all_that_are_slower_alike_or_some_that_are_faster_change_nothing():
    assert run({A: 10.0, B: 10.0, C: 5.0}, 50).replanned == []
    assert run({A: 1000.0, B: 1000.0, C: 50.0}, 50).replanned == []


def test_a_plan_that_says_no_speeds_or_peers_that_say_none_are_let_be():
    assert run({}, 50).replanned == []
    assert run({A: 0.0, B: 0.0, C: 1.0}, 50).replanned == []
    assert run({A: 1.0, B: 100.0, C: 50.0}, 50, dict.fromkeys(PLANNED, 0.0)).replanned == []


def test_a_few_slow_rounds_are_forgotten_and_those_in_between_are_not():
    found = Run(PLANNED)
    slow, fine, between = 100 / (SLOW + 0.1), 100 / (FINE - 0.1), 100 / (SLOW + FINE) * 2
    for _ in range(20):
        for rate in (slow, slow, fine):
            found.next_round({A: 100.0, B: rate, C: 50.0})
    assert found.replanned == []
    for rate in (slow, between, slow, between, slow):
        found.next_round({A: 100.0, B: rate, C: 50.0})
    assert found.replanned == [found.round]


def test_the_same_round_counts_once():
    slowness, plan = Slowness(), rated(PLANNED)
    slowness.told = {A: 100.0, B: 1.0, C: 50.0}
    for _ in range(2 * ROUNDS):
        slowness.count_round(CommitHash("1"), plan, REST + 1)
    assert slowness.rounds == {B: 1} and not slowness.due


@pytest.mark.parametrize("told", [1e-300, 1e300])
def test_what_cannot_be_is_brought_into_bounds(told):
    plan = rated(PLANNED)
    times = shortfalls(plan, {A: told, B: 100.0, C: 50.0})
    assert max(times.values()) <= 2 * SPREAD
    rates = counted_on(plan, {A: told, B: 100.0, C: 50.0}, slow=False)
    assert 50.0 / SPREAD <= rates[A] <= 100.0 * SPREAD


speeds = st.floats(1e-6, 1e12)
ROUNDS_TOLD = st.lists(st.fixed_dictionaries({A: speeds, B: speeds}), max_size=60)


@settings(max_examples=50, deadline=None)
@given(ROUNDS_TOLD, st.integers(1, 10))
def test_whatever_two_of_five_say_causes_few_plans_and_far_apart(lies, again):
    """The others are honest: 21 plans for each liar, and there is a rest after each."""
    honest = {C: 80.0, D: 120.0, E: 100.0}
    found = Run(dict.fromkeys((A, B, C, D, E), 100.0))
    for lie in lies * again:
        before = planned_rates(found.plan)
        found.next_round({**honest, **lie})
        assert all(rate <= before[peer] for peer, rate in planned_rates(found.plan).items())
    assert all(b - a > REST for a, b in pairwise(found.replanned))
    assert len(found.replanned) <= 2 * 21


@settings(max_examples=50)
@given(st.lists(st.floats(1 / SLOW, 1.0), min_size=3, max_size=300))
def test_noise_within_the_bounds_causes_no_plan_at_all(noise):
    found = Run(dict.fromkeys(PLANNED, 100.0))
    for i, share in enumerate(noise):
        found.next_round({A: 100.0, B: 100.0, (A, B, C)[i % 3]: 100.0 * share})
    assert found.replanned == []
