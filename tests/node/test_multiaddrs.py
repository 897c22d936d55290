from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.net.multiaddrs import (
    Endpoint,
    Scope,
    circuit,
    endpoint_of,
    is_relayed,
    network_of,
    relay_in,
    scope_of,
)
from skerry.protocol.signing import Signer

RELAY = Signer(Ed25519PrivateKey.from_private_bytes(b"r" * 32)).peer_id
DIRECT = "/ip4/198.51.100.7/tcp/4001"


def test_endpoint_of_a_direct_tcp_address() -> None:
    assert endpoint_of(DIRECT) == Endpoint(ip_address("198.51.100.7"), 4001)
    assert str(endpoint_of("/ip6/2001:db8::1/tcp/80")) == "/ip6/2001:db8::1/tcp/80"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/dns4/example.org/tcp/1",
        "/ip4/198.51.100.7/udp/1/quic-v1",
        "/ip4/198.51.100.7/tcp/0",
        "/ip4/198.51.100.7/tcp/65536",
        "/ip4/198.51.100.7/tcp/x",
        "/ip4/198.51.100.777/tcp/1",
        f"{DIRECT}/p2p/{RELAY}/p2p-circuit",
    ],
)
def test_endpoint_of_anything_else(address: str) -> None:
    assert endpoint_of(address) is None


@pytest.mark.parametrize(
    ("addresses", "network"),
    [
        (["/ip4/192.168.1.2/tcp/1", "/ip4/8.8.4.4/tcp/1", "/ip4/1.1.1.1/tcp/9"], "1.1.1.1/32"),
        (["/ip6/2606:4700:1:2:3:4:5:6/tcp/1"], "2606:4700:1:2::/64"),
        ([f"/ip4/8.8.8.8/tcp/1/p2p/{RELAY}/p2p-circuit", "/ip4/10.0.0.1/tcp/1"], ""),
        ([], ""),
    ],
)
def test_a_peer_s_public_network_is_what_it_shares_a_line_with(addresses, network) -> None:
    assert network_of(addresses) == network


@pytest.mark.parametrize(
    ("ip", "scope"),
    [
        ("127.0.0.2", Scope.LOOPBACK),
        ("::1", Scope.LOOPBACK),
        ("192.168.1.2", Scope.LOCAL),
        ("100.64.0.1", Scope.LOCAL),  # a provider's own NAT, RFC 6598
        ("169.254.1.1", Scope.LOCAL),
        ("fe80::1", Scope.LOCAL),
        ("224.0.1.1", Scope.LOCAL),
        ("51.10.0.1", Scope.PUBLIC),
        ("2a00::1", Scope.PUBLIC),
    ],
)
def test_scope(ip: str, scope: Scope) -> None:
    assert scope_of(ip_address(ip)) is scope


def test_a_circuit_names_its_relay() -> None:
    address = circuit(DIRECT, RELAY)
    assert is_relayed(address) and not is_relayed(DIRECT)
    assert relay_in(address) == (RELAY, DIRECT)


@pytest.mark.parametrize(
    "address", [DIRECT, f"{DIRECT}/p2p-circuit", f"{DIRECT}/p2p/rubbish/p2p-circuit"]
)
def test_no_relay_in(address: str) -> None:
    assert relay_in(address) is None
