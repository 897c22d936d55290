"""Bytes per second by peer."""

import pytest

from skerry.node.page.rates import WINDOW_S, Rates
from skerry.node.run.facts import Traffic


def test_rate_is_the_growth_over_the_window() -> None:
    rates, traffic = Rates(), {"p": Traffic(sent=100, received=10)}
    assert rates.sample(0.0, traffic) == {}
    traffic["p"] = Traffic(sent=500, received=30)
    found = rates.sample(4.0, traffic)["p"]
    assert (found.up, found.down) == (100.0, 5.0)


def test_old_samples_are_forgotten() -> None:
    rates = Rates()
    for second in range(100):
        sent = 1000 * min(second, 50)
        found = rates.sample(float(second), {"p": Traffic(sent=sent)})
    assert found["p"].up == 0.0
    assert len(rates._samples) <= WINDOW_S + 1


def test_new_peer_has_no_rate_yet() -> None:
    rates = Rates()
    rates.sample(0.0, {})
    assert rates.sample(2.0, {"p": Traffic(sent=5)}) == {}


def test_asking_often_does_not_shorten_the_window() -> None:
    rates, found = Rates(), {}
    for tick in range(100):
        found = rates.sample(tick / 10, {"p": Traffic(sent=tick)})
    assert found["p"].up == pytest.approx(10.0)
