from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hivemind.utils.multiaddr import Multiaddr

from skerry.node.net.multiaddrs import circuit
from skerry.node.net.p2pd_client import _binary
from skerry.protocol.signing import Signer

RELAY = Signer(Ed25519PrivateKey.generate()).peer_id


def test_addresses_through_a_relay_are_encoded_as_go_libp2p_takes_them() -> None:
    data = _binary(circuit("/ip4/51.10.0.1/tcp/43565", RELAY))
    # ip4 4, tcp 6, p2p 421 with 38 bytes of an identity multihash, p2p-circuit 290 (multicodec)
    assert data[:8] == bytes.fromhex("04330a000106aa2d")
    assert data[8:16] == bytes.fromhex("a503260024080112")
    assert len(data) == 8 + 3 + 38 + 2 and data[-2:] == bytes.fromhex("a202")
    assert str(Multiaddr(data)) == circuit("/ip4/51.10.0.1/tcp/43565", RELAY)


def test_what_is_no_address_is_passed_over() -> None:
    assert _binary("/ip4/198.51.100.7/tcp/4001/p2p/rubbish/p2p-circuit") == b""
    assert _binary("/ip4/nowhere/tcp/1") == b""
