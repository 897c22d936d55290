"""Real p2pd on loopback that ask one of them, which relays."""

import asyncio
from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.net.multiaddrs import Endpoint
from skerry.node.net.p2pd import P2pdOptions, P2pdTransport
from skerry.node.reach.asking import (
    NONCE_BYTES,
    REACH_PROTOCOL,
    ask_to_punch,
    look,
    take_place,
)
from skerry.node.reach.circuits import carries_payloads, start_transport
from skerry.node.reach.service import ReachService, local_host, seen_at
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId

pytestmark = pytest.mark.integration
OUTER = Endpoint(ip_address("51.10.1.1"), 4001)
NONCE = b"n" * NONCE_BYTES


@pytest.fixture
async def trio(tmp_path):
    """Yield a relay that answers questions, and two who are connected to it."""
    async with asyncio.TaskGroup() as group:
        starting = [
            group.create_task(start(tmp_path / name, name == "relay"))
            for name in ("relay", "a", "b")
        ]
    relay, *others = (task.result() for task in starting)
    service = ReachService(relay, lambda: OUTER, lambda peer: peer == others[0].peer_id)
    await service.start()
    for other in others:
        await other.connect(relay.peer_id, relay.addresses)
    yield relay, *others
    await service.close()
    for transport in (relay, *others):
        await transport.close()


async def start(folder, is_relay: bool) -> P2pdTransport:
    folder.mkdir()
    reachability = "public" if is_relay else "auto"
    options = P2pdOptions(run_dir=folder, nat=True, reachability=reachability)
    return await start_transport(options, Ed25519PrivateKey.generate())


async def test_questions_and_a_place(trio) -> None:
    relay, a, b = trio
    again, seen = await look(a, relay.peer_id, [a.daemon.port, 1])
    assert (seen.observer, seen.answered) == (relay.peer_id, {a.daemon.port})
    assert str(seen.seen.ip) == "127.0.0.1"
    assert again.exact and str(again.seen) == f"/ip4/127.0.0.1/tcp/{a.daemon.port}"

    # A relay's own start decides by chance what it lets pass; start_transport saw to it.
    assert await carries_payloads(relay)
    place = await take_place(a, relay.peer_id, relay.addresses)
    assert place.circuit_bytes >= 2**30 and not place.is_small
    with pytest.raises(PeerUnavailable):
        await take_place(a, PeerId("nobody"), ())
    with pytest.raises(ProtocolError, match="no-member"):
        await ask_to_punch(b, relay.peer_id, OUTER, NONCE)


async def test_rubbish_ends_its_stream_only(trio) -> None:
    relay, a, _ = trio
    for said in (b"\xff\xff\xff\x01", b"\xff\x7f", b"\x03\xff\xff\xff", b"\x05ab"):
        stream = await a.open_stream(relay.peer_id, REACH_PROTOCOL)
        await stream.write(said)
        await stream.close()
    assert await look(a, relay.peer_id, [])


def test_where_connections_come_from() -> None:
    a, b = PeerId("a"), PeerId("b")
    connections = (
        (a, "/ip4/51.10.0.1/tcp/1"),
        (a, "/ip4/51.10.0.1/tcp/1"),
        (a, "/ip4/51.10.0.9/tcp/1/p2p/R/p2p-circuit"),
        (b, "/ip4/51.10.0.2/tcp/2"),
        (a, ""),
    )
    assert [str(endpoint) for endpoint in seen_at(connections, a)] == ["/ip4/51.10.0.1/tcp/1"]
    assert [local_host(host) for host in ("0.0.0.0", "::", "192.0.2.1")] == [
        *("127.0.0.1", "::1", "192.0.2.1")
    ]
