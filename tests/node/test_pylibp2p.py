"""The py-libp2p transport over loopback: the common suite, p2pd as a peer, and rude strangers."""

from both_libraries import INSTALLED, REASON  # isort: skip  (before anything of either library)

import asyncio
import contextlib
import socket

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from transport_conformance import ECHO, HOLD, Pair, TransportConformance, echo, ended, exchange

if not INSTALLED:
    pytest.skip(REASON, allow_module_level=True)

import p2pd_swarm
import pylibp2p_swarm
from pylibp2p_swarm import start

from skerry.protocol.errors import NetworkError, PeerUnavailable
from skerry.protocol.signing import peer_id_of

pair, mortal = pylibp2p_swarm.pair, pylibp2p_swarm.mortal


class TestPyLibp2pTransport(TransportConformance):
    LARGE_BYTES = 2**22


async def test_p2pd_and_py_libp2p_open_streams_to_each_other(tmp_path):
    theirs, ours = await p2pd_swarm.start(tmp_path), await start()
    await ours.connect(theirs.peer_id, theirs.addresses)
    for opener, other in ((ours, theirs), (theirs, ours)):
        await other.handle(ECHO, echo)
        stream = await opener.open_stream(other.peer_id, ECHO)
        assert stream.peer == other.peer_id
        data = bytes(range(256)) * 4096
        assert await exchange(stream, data) == data
        await stream.close()
    await ours.close()
    await theirs.close()


@pytest.mark.chaos
class TestMixedPair(TransportConformance):
    """The common suite with p2pd at one end."""

    LARGE_BYTES = 2**22

    @pytest.fixture(params=["p2pd opens", "py-libp2p opens"])
    async def pair(self, request: pytest.FixtureRequest, tmp_path):
        theirs, ours = await p2pd_swarm.start(tmp_path), await start()
        left, right = (theirs, ours) if request.param == "p2pd opens" else (ours, theirs)
        await left.connect(right.peer_id, right.addresses)
        yield left, right
        await ours.close()
        await theirs.close()


def address_of(transport) -> tuple[str, int]:
    _, _, host, _, port = transport.addresses[0].split("/")
    return host, int(port)


async def test_identity_is_that_of_the_key_and_no_relay_is_in_use(pair: Pair):
    key = Ed25519PrivateKey.generate()
    transport = await start(key)
    assert transport.peer_id == peer_id_of(key.public_key().public_bytes_raw())
    await transport.connect(pair[0].peer_id, pair[0].addresses)
    assert await transport.relayed() == {pair[0].peer_id: False}
    await transport.close()
    with pytest.raises(PeerUnavailable):
        await transport.relayed()


async def test_used_port_is_said_so(pair: Pair):
    with pytest.raises(NetworkError, match="SK-NET-002"):
        await start(port=address_of(pair[0])[1])


async def test_a_peer_is_believed_only_with_its_key(pair: Pair):
    left, right = pair
    stranger = peer_id_of(bytes(range(32)))
    with pytest.raises(PeerUnavailable, match="handshake failed"):
        await left.connect(stranger, right.addresses)


async def test_strangers_that_say_nothing_or_rubbish_disturb_nobody(pair: Pair):
    left, right = pair
    await right.handle(ECHO, echo)
    stream = await left.open_stream(right.peer_id, ECHO)
    strangers = [await asyncio.open_connection(*address_of(right)) for _ in range(100)]
    for number, (_, writer) in enumerate(strangers):
        if number % 2:
            writer.write(b"\x13/multistream/1.0.0\n" + bytes([number]) * 50_000)
    for number, (reader, _) in enumerate(strangers):
        if number % 2:  # shed as soon as they are seen to make no sense
            with contextlib.suppress(ConnectionError):
                await reader.read()
    assert await exchange(stream, b"still here") == b"still here"
    third = await start()
    await third.connect(right.peer_id, right.addresses)
    await third.close()
    for _, writer in strangers:
        writer.close()


async def test_addresses_are_tried_until_one_leads_there(pair: Pair):
    left, right = pair
    third = await start()
    with socket.socket() as closed:  # bound, not listening: refuses
        closed.bind(("127.0.0.1", 0))
        wrong = (f"/ip4/127.0.0.1/tcp/{closed.getsockname()[1]}", *left.addresses)
        await third.connect(
            right.peer_id, (*wrong, "/ip4/192.0.2.1/udp/1/quic-v1", *right.addresses)
        )
    await third.close()


async def test_failed_thread_is_replaced_with_same_port_and_handlers(pair: Pair):
    left, right = pair
    back, told = asyncio.Event(), []

    async def hook() -> None:
        told.append("back")
        back.set()

    right.add_outage_hook(lambda: told.append("down"))
    right.add_restart_hook(hook)
    await right.handle(ECHO, echo)
    addresses = right.addresses
    stream = await left.open_stream(right.peer_id, ECHO)

    def fail() -> None:
        raise RuntimeError("on purpose")

    right._thread.soon(fail)  # whatever it is that fails there
    await back.wait()
    assert await ended(stream)
    assert told == ["down", "back"]
    assert (right.addresses, right.restarts, left.restarts) == (addresses, 1, 0)
    await left.connect(right.peer_id, right.addresses)
    again = await left.open_stream(right.peer_id, ECHO)
    assert await exchange(again, b"back") == b"back"
    await again.close()


async def test_opening_that_is_given_up_leaves_no_stream(pair: Pair):
    left, right = pair
    await right.handle(HOLD, ended)
    opening = [asyncio.create_task(left.open_stream(right.peer_id, HOLD)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in opening:
        task.cancel()
    await asyncio.wait(opening)
    stream = await left.open_stream(right.peer_id, HOLD)
    session = next(iter(left._host._connections.values()))[0].session
    while session.num_streams > 1:  # noqa: ASYNC110 (they are being reset in another thread)
        await asyncio.sleep(0.01)
    await stream.close()
