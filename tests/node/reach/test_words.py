from ipaddress import ip_address

import pytest

from skerry.node.net.multiaddrs import Endpoint
from skerry.node.reach.nat import Nat, Standing, Verdict
from skerry.node.reach.relays import Place
from skerry.node.reach.words import in_words
from skerry.protocol.ids import PeerId

RELAY = PeerId("12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5")
HIDDEN = Standing(Verdict.NOT_REACHABLE, Nat.ENDPOINT_INDEPENDENT, observers=1)


def place(size: int) -> Place:
    return Place(RELAY, ("/ip4/51.10.0.1/tcp/1",), 0.0, size, 120.0)


def test_reachable() -> None:
    found = in_words(
        Standing(Verdict.REACHABLE, open=(Endpoint(ip_address("51.10.0.1"), 4001),)), [], 4001, True
    )
    assert found.summary == "reachable from the internet at /ip4/51.10.0.1/tcp/4001"
    assert found.advice == ""


def test_loopback_only_and_nobody_asked_yet() -> None:
    assert "this machine only" in in_words(HIDDEN, [], 1, beyond=False).summary
    assert "not known yet" in in_words(Standing(), [], 1, beyond=True).summary


def test_without_a_relay_the_port_to_forward_is_named() -> None:
    found = in_words(HIDDEN, [], 4321, beyond=True)
    assert "no relay leads here" in found.summary and "TCP port 4321" in found.advice


def test_with_a_relay_a_usual_router_needs_nothing() -> None:
    found = in_words(HIDDEN, [place(2**32)], 1, beyond=True)
    assert found.summary.endswith("others reach it through relay MtimQ5") and not found.advice


@pytest.mark.parametrize("nat", [Nat.NONE, Nat.SYMMETRIC, Nat.UNKNOWN])
def test_what_keeps_holes_from_being_punched_is_worth_advice(nat: Nat) -> None:
    found = in_words(Standing(Verdict.NOT_REACHABLE, nat), [place(2**32)], 1, beyond=True)
    assert found.advice and found.summary != in_words(HIDDEN, [place(2**32)], 1, True).summary


def test_a_firewall_without_a_router_is_named() -> None:
    found = in_words(Standing(Verdict.NOT_REACHABLE, Nat.NONE), [place(2**32)], 4321, beyond=True)
    assert "TCP port 4321 in the firewall" in found.advice and "router" not in found.advice


def test_a_relay_that_is_too_small_is_told() -> None:
    found = in_words(HIDDEN, [place(131_072)], 1, beyond=True)
    assert "only 128 KiB" in found.summary and found.advice


def test_before_the_answers_a_place_is_there_already() -> None:
    found = in_words(Standing(), [place(2**32)], 1, beyond=True)
    assert found.summary.startswith("being found out") and "relay" in found.summary
    assert not found.advice


def test_a_relay_says_how_others_name_it() -> None:
    found = in_words(Standing(), [], 1, True, (f"/ip4/51.10.0.1/tcp/1/p2p/{RELAY}",))
    assert found.summary.endswith(f"relays for others, as /ip4/51.10.0.1/tcp/1/p2p/{RELAY}")
