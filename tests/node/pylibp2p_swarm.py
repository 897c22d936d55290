"""Real py-libp2p transports on loopback, for the tests of what runs over them."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.net.pylibp2p.host import HostOptions
from skerry.node.net.pylibp2p.transport import PyLibp2pTransport
from skerry.protocol.signing import peer_id_of

_PEER = Path(__file__).with_name("libp2p_peer.py")


async def start(key: Ed25519PrivateKey | None = None, port: int = 0):
    key = key or Ed25519PrivateKey.generate()
    return await PyLibp2pTransport.create(HostOptions(port=port), key)


@asynccontextmanager
async def swarm(count: int):
    """Start ``count`` transports; the first is connected to all others."""
    peers = [await start() for _ in range(count)]
    try:
        for other in peers[1:]:
            await peers[0].connect(other.peer_id, other.addresses)
        yield tuple(peers)
    finally:
        for peer in peers:
            await peer.close()


@pytest.fixture
async def pair():
    async with swarm(2) as peers:
        yield peers


class MortalPeer:
    """A peer in a process of its own."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.peer_id = peer_id_of(self._key.public_key().public_bytes_raw())
        self.addresses: tuple[str, ...] = ()
        self._process: Process | None = None

    async def revive(self) -> None:
        port = self.addresses[0].split("/")[-1] if self.addresses else "0"
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(_PEER), self._key.private_bytes_raw().hex(), port),
            stdin=DEVNULL,
            stdout=PIPE,
        )
        self.addresses = ((await self._process.stdout.readline()).decode().strip(),)

    async def kill(self) -> None:
        self._process.kill()
        await self._process.communicate()


@pytest.fixture
async def mortal():
    transport, peer = await start(), MortalPeer()
    await peer.revive()
    try:
        await transport.connect(peer.peer_id, peer.addresses)
        yield transport, peer
    finally:
        await peer.kill()
        await transport.close()
