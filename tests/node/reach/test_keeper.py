from ipaddress import ip_address

from skerry.node.net.multiaddrs import Endpoint
from skerry.node.reach.keeper import is_elsewhere, links_of, outward
from skerry.protocol.ids import PeerId

A, B = PeerId("a"), PeerId("b")
HOME, CAFE, BRIDGE = (ip_address(ip) for ip in ("192.168.1.2", "10.0.0.7", "172.17.0.1"))


def test_a_peer_is_direct_if_any_of_its_connections_is() -> None:
    direct, relayed = "/ip4/51.10.0.1/tcp/1", "/ip4/51.10.0.9/tcp/1/p2p/R/p2p-circuit"
    assert links_of([(A, relayed), (A, direct), (B, relayed)]) == {A: "direct", B: "relayed"}
    assert links_of([(A, direct), (A, relayed)]) == {A: "direct"}
    assert links_of([]) == {}


def test_a_machine_is_elsewhere_when_no_address_is_left() -> None:
    assert is_elsewhere({HOME}, {CAFE})
    assert not is_elsewhere({HOME, BRIDGE}, {CAFE, BRIDGE})
    assert not is_elsewhere({HOME}, {HOME, CAFE})


def test_a_machine_in_its_first_network_has_not_moved() -> None:
    assert not is_elsewhere((), {HOME})


def test_loopback_connects_to_nobody_else() -> None:
    own = [Endpoint(ip, 1) for ip in (HOME, ip_address("127.0.0.1"), ip_address("::1"))]
    assert outward(own) == {HOME}
