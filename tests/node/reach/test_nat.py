from ipaddress import ip_address

from skerry.node.net.multiaddrs import Endpoint
from skerry.node.reach.nat import Nat, Observation, Standing, Verdict, judge
from skerry.protocol.ids import PeerId

PORT = 4001
INSIDE = {ip_address("192.168.1.2"), ip_address("127.0.0.1")}


def seen(by: str, ip: str, port: int, *answered: int) -> Observation:
    return Observation(PeerId(by), Endpoint(ip_address(ip), port), frozenset(answered))


def sure(by: str, port: int, ip: str = "51.10.1.1") -> Observation:
    return Observation(PeerId(by), Endpoint(ip_address(ip), port), frozenset(), exact=True)


def test_nothing_is_known_before_somebody_on_the_internet_has_looked() -> None:
    assert judge(INSIDE, PORT, []) == Standing()
    assert judge(INSIDE, PORT, [seen("a", "192.168.1.2", PORT, PORT)]) == Standing()


def test_a_router_that_keeps_the_port() -> None:
    found = judge(INSIDE, PORT, [seen("a", "51.10.1.1", PORT)])
    assert (found.verdict, found.nat) == (Verdict.NOT_REACHABLE, Nat.ENDPOINT_INDEPENDENT)
    assert found.outer == Endpoint(ip_address("51.10.1.1"), PORT)


def test_a_router_with_another_port_is_judged_by_two() -> None:
    one, two = seen("a", "51.10.1.1", 7000), seen("b", "51.10.1.1", 7000)
    assert judge(INSIDE, PORT, [one]).nat is Nat.UNKNOWN
    assert judge(INSIDE, PORT, [one, two]).nat is Nat.ENDPOINT_INDEPENDENT


def test_a_port_for_everyone_is_symmetric() -> None:
    one, two = seen("a", "51.10.1.1", 7000), seen("b", "51.10.1.1", 7001)
    found = judge(INSIDE, PORT, [one, two])
    assert (found.nat, found.observers) == (Nat.SYMMETRIC, 2)
    again = seen("a", "51.10.1.1", 7002)  # after a new connection
    assert judge(INSIDE, PORT, [one, again]).nat is Nat.SYMMETRIC


def test_a_second_look_of_one_observer_shows_a_symmetric_nat() -> None:
    assert judge(INSIDE, PORT, [sure("a", 7001), seen("a", "51.10.1.1", 7000)]).nat is Nat.SYMMETRIC
    # Of another network of before nothing follows.
    before = sure("a", PORT, "51.10.2.1")
    assert judge(INSIDE, PORT, [before, seen("a", "51.10.1.1", 7000)]).nat is Nat.UNKNOWN


def test_a_second_look_shows_that_only_the_port_of_the_first_was_another() -> None:
    found = judge(INSIDE, PORT, [sure("a", PORT), seen("a", "51.10.1.1", 7000)])
    assert found.nat is Nat.ENDPOINT_INDEPENDENT
    assert found.outer == Endpoint(ip_address("51.10.1.1"), PORT)


def test_a_forwarded_port_is_reachable_through_the_nat() -> None:
    found = judge(INSIDE, PORT, [seen("a", "51.10.1.1", 7000, PORT)])
    assert found.verdict is Verdict.REACHABLE
    assert [str(endpoint) for endpoint in found.open] == [f"/ip4/51.10.1.1/tcp/{PORT}"]


def test_an_address_of_our_own_is_no_nat() -> None:
    own = {ip_address("51.10.0.1")}
    found = judge(own, PORT, [seen("a", "51.10.0.1", 33333)])
    assert (found.verdict, found.nat) == (Verdict.NOT_REACHABLE, Nat.NONE)  # a firewall
    assert judge(own, PORT, [seen("a", "51.10.0.1", PORT, PORT)]).verdict is Verdict.REACHABLE


def test_what_was_seen_before_we_moved_counts_no_more() -> None:
    before = [seen("a", "51.10.1.1", 7000, PORT), seen("b", "51.10.1.1", 7001, PORT)]
    found = judge(INSIDE, PORT, [*before, seen("a", "51.10.9.9", PORT)])
    assert (found.verdict, found.nat) == (Verdict.NOT_REACHABLE, Nat.ENDPOINT_INDEPENDENT)
    assert found.open == ()


def test_each_internet_protocol_is_judged_by_its_own_addresses() -> None:
    four, six = seen("a", "51.10.1.1", PORT), seen("b", "2a00::1", PORT, PORT)
    found = judge({*INSIDE, ip_address("2a00::1")}, PORT, [four, six])
    assert [str(endpoint) for endpoint in found.open] == [f"/ip6/2a00::1/tcp/{PORT}"]
