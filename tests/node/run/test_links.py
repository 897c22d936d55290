"""What is known of links: medians of one's own, and the worse of what both ends say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.node.run.links import LEAST_BYTES, Links, agreed
from skerry.pipeline.planning.request import MeasuredLink
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import MAX_LINKS, LinkFigures

A, B, C = (PeerId(name) for name in "abc")


def test_own_figures_are_medians_of_the_newest():
    links = Links()
    for took_s in (9.0, 0.1, 0.3, 0.2):
        links.answered(B, took_s)
    for took_s in (1.0, 2.0, 4.0):
        links.received(B, LEAST_BYTES, took_s)
    assert links.figures([A, B]) == (LinkFigures(B, 250_000, LEAST_BYTES // 2),)
    for _ in range(100):
        links.answered(B, 0.5)
        links.received(B, LEAST_BYTES, 8.0)
    assert links.figures([B]) == (LinkFigures(B, 500_000, LEAST_BYTES // 8),)


def test_what_is_small_says_nothing_of_a_rate():
    links = Links()
    links.received(B, LEAST_BYTES - 1, 1.0)
    assert not links.has_rate(B)
    assert links.figures([B]) == ()
    links.answered(B, 0.1)
    assert links.figures([B]) == (LinkFigures(B, 100_000, 0),)
    links.received(B, LEAST_BYTES, 0.0)
    assert links.has_rate(B)


def test_of_many_peers_no_more_are_told_than_fit():
    links, peers = Links(), [PeerId(f"p{i:03}") for i in range(2 * MAX_LINKS)]
    for peer in peers:
        links.answered(peer, 0.1)
    assert [one.peer for one in links.figures(peers)] == peers[:MAX_LINKS]


def test_the_worse_of_what_both_ends_say_counts():
    told = {A: (LinkFigures(B, 20_000, 10**6),), B: (LinkFigures(A, 80_000, 10**8),)}
    assert agreed(told, [A, B, C]) == (MeasuredLink(A, B, 0.04, 1e6),)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {A: (LinkFigures(B, 20_000, 10**6),)},
        {A: (LinkFigures(B, 20_000, 10**6),), B: (LinkFigures(C, 20_000, 10**6),)},
        {A: (LinkFigures(B, 20_000, 10**6),), B: (LinkFigures(A, 0, 10**6),)},
    ],
)
def test_what_one_end_alone_says_is_not_known(told):
    assert agreed(told, [A, B, C]) == ()


def test_a_rate_that_one_end_has_not_measured_is_not_known():
    told = {A: (LinkFigures(B, 20_000, 10**6),), B: (LinkFigures(A, 20_000, 0),)}
    assert agreed(told, [A, B]) == (MeasuredLink(A, B, 0.01, 0.0),)


figures = st.builds(LinkFigures, st.sampled_from([A, B, C]), st.integers(0, 2**62), st.integers(0))


@given(st.dictionaries(st.sampled_from([A, B, C]), st.lists(figures, max_size=4).map(tuple)))
def test_whatever_is_said_is_brought_into_bounds(told):
    for link in agreed(told, [A, B, C]):
        assert link.a < link.b
        assert 0.0001 <= link.latency_s <= 5.0
        assert link.bandwidth == 0.0 or 10e3 <= link.bandwidth <= 1.25e9


def test_the_own_uplink_is_what_most_of_the_others_say():
    links, honest = Links(), 1_000_000
    assert links.uplink_of(A) == 0.0
    links.told[B] = (LinkFigures(A, 1000, 0), LinkFigures(C, 1000, 77_777))
    assert links.uplink_of(A) == 0.0
    links.told[C] = (LinkFigures(A, 1000, honest),)
    assert links.uplink_of(A) == honest
    links.told[B] = (LinkFigures(A, 1000, 1000 * honest),)
    assert links.uplink_of(A) == honest, "one alone cannot raise it"
    links.told[B] = links.told[C] = (LinkFigures(A, 1000, 10**18),)
    assert links.uplink_of(A) <= 1.25e9
