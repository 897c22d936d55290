"""Attempts to hold a node's places by being slow, over real libp2p streams (slow-loris).

Whoever opens a stream must say within a bounded time that it is a gRPC client. After that it may be
as slow as it likes: it takes places that nobody else would have had.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import p2pd_swarm
import pytest

from skerry.node.net.p2pd import P2pdTransport
from skerry.node.net.rpc import RpcClient, RpcServer
from skerry.node.net.rpc_errors import translate
from skerry.proto import peer_pb2 as pb
from skerry.proto.peer_pb2_grpc import PeerServicer
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId
from skerry.protocol.quota import QuotaLimits
from skerry.protocol.transport import CONTROL_PROTOCOL, ByteStream

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04" + bytes(5)
"""An empty frame of settings (RFC 9113, 6.5)."""
HALF_A_HEADER = bytes([0, 0, 200, 1, 4, 0, 0, 0, 1])
"""The first 9 of 209 bytes that begin a call."""
SHORT_S, LONG_S = 0.5, 600.0


class Servicer(PeerServicer):
    """Answers greetings."""

    async def Hello(self, request, context):
        return pb.HelloReply(protocol=request.protocol + 1)


@dataclass
class Scene:
    """A victim that serves, a friend that calls it, and an attacker."""

    victim: P2pdTransport
    friend: P2pdTransport
    attacker: P2pdTransport
    server: RpcServer
    told: list[tuple[PeerId, str]] = field(default_factory=list)

    async def attack(self, said: bytes = b"") -> ByteStream:
        stream = await self.attacker.open_stream(self.victim.peer_id, CONTROL_PROTOCOL)
        with suppress(PeerUnavailable):  # it may be refused before it has said anything
            await stream.write(said)
        return stream

    async def friend_is_served(self) -> None:
        client = RpcClient(self.friend)
        try:
            stub = client.stub(self.victim.peer_id, CONTROL_PROTOCOL)
            with translate(self.victim.peer_id):
                assert (await stub.Hello(pb.HelloRequest(protocol=1), timeout=60)).protocol == 2
        finally:
            await client.close()


@pytest.fixture
async def scene(tmp_path: Path, request) -> AsyncIterator[Scene]:
    async with p2pd_swarm.swarm(tmp_path, 3) as (victim, friend, attacker):
        told: list[tuple[PeerId, str]] = []
        server = RpcServer(
            victim,
            lambda peer: Servicer(),
            on_bad=lambda peer, reason: told.append((peer, reason)),
            silent_seconds=request.param,
        )
        await server.start()
        yield Scene(victim, friend, attacker, server, told)
        await server.close()


async def ended(stream: ByteStream) -> None:
    """Wait for the end of a stream; the test's own timeout is the limit."""
    with suppress(PeerUnavailable):
        while await stream.read(2**16):
            pass


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what announces itself by no event; the test's own timeout is the limit."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("scene", [SHORT_S], indirect=True)
async def test_stream_that_says_nothing_is_ended_by_name(scene: Scene) -> None:
    stream = await scene.attack(PREFACE[:1])
    await ended(stream)
    await until(lambda: bool(scene.told))
    assert scene.told == [(scene.attacker.peer_id, "silent")]
    await scene.friend_is_served()


@pytest.mark.parametrize("scene", [SHORT_S], indirect=True)
async def test_stream_that_speaks_byte_by_byte_gains_no_time(scene: Scene) -> None:
    stream = await scene.attack()

    async def dribble() -> None:
        with suppress(PeerUnavailable):
            for byte in PREFACE[:-1]:
                await stream.write(bytes([byte]))
                await asyncio.sleep(SHORT_S / 4)

    task = asyncio.create_task(dribble())
    await ended(stream)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: bool(scene.told))
    assert scene.told == [(scene.attacker.peer_id, "silent")]


@pytest.mark.parametrize("scene", [SHORT_S], indirect=True)
async def test_stream_that_falls_silent_after_its_preface_is_ended(scene: Scene) -> None:
    stream = await scene.attack(PREFACE)
    await ended(stream)
    await scene.friend_is_served()


@pytest.mark.parametrize("scene", [LONG_S], indirect=True)
async def test_calls_that_are_never_finished_hold_no_places_but_the_attackers_own(
    scene: Scene,
) -> None:
    places = QuotaLimits().streams
    slow = [await scene.attack(PREFACE + SETTINGS + HALF_A_HEADER) for _ in range(places)]
    await until(lambda: scene.server.traffic.received >= places * len(PREFACE))
    one_more = await scene.attack(PREFACE)
    await ended(one_more)
    await until(lambda: bool(scene.told))
    assert scene.told == [(scene.attacker.peer_id, "streams")]
    await scene.friend_is_served()
    assert scene.server.serving == 2
    for stream in slow:
        await stream.close()
