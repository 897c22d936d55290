"""A state that somebody downloads stays whole, with what is needed to catch up; bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.ids import Address
from skerry.protocol.leases import IDLE_S, MAX_ROUNDS, MAX_STATES, Leases


def state(number: int) -> frozenset[Address]:
    return frozenset({Address(f"a{number}"), Address(f"b{number}")})


def payloads(number: int) -> frozenset[Address]:
    return frozenset({Address(f"p{number}"), Address(f"q{number}")})


class Keeper:
    """Somebody who keeps the newest three states and the payloads of two rounds."""

    def __init__(self) -> None:
        self.leases = Leases()
        self.round = 0

    def go_on(self, rounds: int = 1, now: float = 0.0) -> frozenset[Address]:
        """Finish some rounds; returns what stays on disk."""
        for _ in range(rounds):
            self.round += 1
            states = [state(i) for i in range(max(0, self.round - 2), self.round + 1)]
            self.leases.offer(states)
            wanted = frozenset().union(*states, payloads(self.round), payloads(self.round - 1))
            kept = self.leases.retain(wanted, now)
            assert kept >= wanted
        return kept - wanted


def test_nothing_stays_that_nobody_asked_for():
    assert not Keeper().go_on(20)


def test_a_state_stays_whole_with_the_payloads_since_while_it_is_downloaded():
    keeper = Keeper()
    keeper.go_on(5)
    keeper.leases.asked(Address("a4"), 0.0)
    more = keeper.go_on(10, IDLE_S - 1)
    assert more == state(4).union(*(payloads(i) for i in range(4, 14)))
    keeper.leases.asked(Address("b4"), IDLE_S - 1)
    assert state(4) <= keeper.go_on(1, 2 * IDLE_S - 2)
    assert not keeper.go_on(1, 2 * IDLE_S)


@pytest.mark.parametrize("address", ["p5", "unknown"])
def test_payloads_are_nothing_to_hold(address):
    keeper = Keeper()
    keeper.go_on(5)
    keeper.leases.asked(Address(address), 0.0)
    assert not keeper.go_on(9)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), max_size=60))
def test_what_stays_is_bounded(asked):
    keeper = Keeper()
    keeper.go_on(3)
    for rounds, back in asked:
        keeper.leases.asked(Address(f"a{keeper.round - back}"), 0.0)
        more = keeper.go_on(rounds)
        states = {address for address in more if address[0] in "ab"}
        assert len(states) <= 2 * (MAX_STATES + 3)
        assert len(more - states) <= 2 * MAX_ROUNDS


def test_long_downloads_do_not_fill_the_disk():
    keeper = Keeper()
    keeper.go_on(5)
    keeper.leases.asked(Address("a5"), 0.0)
    more = keeper.go_on(5 * MAX_ROUNDS)
    assert len(more - state(5)) == 2 * MAX_ROUNDS
    assert state(5) <= more
