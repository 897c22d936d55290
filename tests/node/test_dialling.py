from ipaddress import ip_address

from skerry.node.net.dialling import to_dial, to_probe

OWN = {ip_address("127.0.0.1"), ip_address("192.168.1.2")}
CIRCUIT = "/ip4/51.10.0.1/tcp/1/p2p/R/p2p-circuit"


def test_direct_addresses_come_before_relayed_ones_in_their_order() -> None:
    found = to_dial((CIRCUIT, "/ip4/51.10.0.2/tcp/2", "/dns4/x.org/tcp/3", CIRCUIT), OWN)
    assert found == ("/ip4/51.10.0.2/tcp/2", "/dns4/x.org/tcp/3", CIRCUIT)


def test_loopback_of_another_machine_is_not_dialled() -> None:
    far = ("/ip4/127.0.0.1/tcp/1", "/ip4/192.168.7.7/tcp/1")
    assert to_dial(far, OWN) == far[1:]


def test_loopback_of_this_machine_is_dialled() -> None:
    here = ("/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.2/tcp/1")
    assert to_dial(here, OWN) == here
    assert to_dial(here[:1], OWN) == here[:1]


def test_probes_go_to_the_internet_and_to_our_own_network_only() -> None:
    addresses = (
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/10.0.0.1/tcp/1",
        "/ip4/192.168.1.77/tcp/1",
        "/ip4/192.168.2.77/tcp/1",
        "/ip4/51.10.0.2/tcp/1",
        CIRCUIT,
    )
    found = [str(endpoint) for endpoint in to_probe(addresses, OWN)]
    assert found == ["/ip4/192.168.1.77/tcp/1", "/ip4/51.10.0.2/tcp/1"]
