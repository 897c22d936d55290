"""Timing of one direction of a virtual link."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.link import Link, Passage, Wire


def test_perfect_link_takes_no_time() -> None:
    assert Wire(Link(), Random(0)).send(10**9, 5.0) == Passage(5.0, lost=False)


def test_bandwidth_is_shared_in_order() -> None:
    wire = Wire(Link(delay_s=0.1, bytes_per_s=1000.0), Random(0))
    assert wire.send(500, 0.0).at == pytest.approx(0.6)
    assert wire.send(1000, 0.0).at == pytest.approx(1.6)
    assert wire.send(1000, 5.0).at == pytest.approx(6.1)


def test_jitter_stays_within_its_bound_and_varies() -> None:
    wire = Wire(Link(delay_s=1.0, jitter_s=0.5), Random(0))
    arrivals = [wire.send(1, 0.0).at for _ in range(200)]
    assert all(1.0 <= at <= 1.5 for at in arrivals)
    assert max(arrivals) - min(arrivals) > 0.4


def test_each_loss_doubles_the_wait() -> None:
    wire = Wire(Link(loss=0.5, retransmit_s=1.0, max_retransmits=20), Random(1))
    arrivals = [wire.send(1, 0.0).at for _ in range(2000)]
    assert {0.0, 1.0, 3.0, 7.0} <= set(arrivals) <= {2.0**n - 1.0 for n in range(21)}
    assert arrivals.count(0.0) == pytest.approx(1000, rel=0.1)
    assert arrivals.count(1.0) == pytest.approx(500, rel=0.15)


def test_link_without_hope_gives_up() -> None:
    wire = Wire(Link(loss=1.0, retransmit_s=1.0, max_retransmits=3), Random(0))
    assert wire.send(1, 10.0) == Passage(25.0, lost=True)


def test_lost_transmissions_use_the_wire() -> None:
    link = Link(loss=1.0, retransmit_s=0.0, max_retransmits=3, bytes_per_s=10.0)
    wire = Wire(link, Random(0))
    wire.send(10, 0.0)
    wire.link = Link(bytes_per_s=10.0)
    assert wire.send(10, 0.0).at == pytest.approx(6.0)


@given(st.integers(), st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_same_seed_same_arrivals(seed: int, sizes: list[int]) -> None:
    link = Link(0.01, 0.02, loss=0.3, bytes_per_s=1e6)
    one, two = Wire(link, Random(seed)), Wire(link, Random(seed))
    for number, size in enumerate(sizes):
        passage = one.send(size, number * 0.1)
        assert passage == two.send(size, number * 0.1)
        assert passage.at >= number * 0.1 + size / 1e6


@pytest.mark.parametrize(
    "wrong", [{"delay_s": -1.0}, {"loss": 1.1}, {"loss": -0.1}, {"bytes_per_s": 0.0}]
)
def test_impossible_links_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no such link"):
        Link(**wrong)
